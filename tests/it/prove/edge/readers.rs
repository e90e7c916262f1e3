//! How backends read paths: each in its own way, and none as we do. The fuzz target `route_table` reads as they do, too.

use wicketgate::live::RouteData;

/// How a backend may read the path that it gets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader {
    pub(super) name: &'static str,
    /// `;x` is no part of a segment, before or after it is decoded.
    cuts: Option<Cut>,
    decodes: bool,
    backslash_is_slash: bool,
    /// Empty segments vanish, `.` and `..` are carried out.
    resolves: bool,
    ignores_case: bool,
    /// The path ends at the first of these, if escapes were undone.
    ends_at: &'static [char],
    /// Escapes are undone twice.
    decodes_twice: bool,
    /// Dots and spaces at the end of a segment, streams, and segments in double brackets do not count.
    trims: bool,
    /// The name of a script does not count.
    goes_through_scripts: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    Before,
    After,
}

pub(super) const PLAIN: Reader = Reader {
    name: "plain",
    cuts: None,
    decodes: true,
    backslash_is_slash: false,
    resolves: false,
    ignores_case: false,
    ends_at: &[],
    decodes_twice: false,
    trims: false,
    goes_through_scripts: false,
};

pub(super) const READERS: [Reader; 14] = [
    PLAIN,
    Reader { name: "undecoded", decodes: false, ..PLAIN },
    Reader { name: "nginx", resolves: true, ..PLAIN },
    Reader { name: "express", ignores_case: true, ..PLAIN },
    Reader { name: "servlet", cuts: Some(Cut::Before), resolves: true, ..PLAIN },
    Reader { name: "late cutter", cuts: Some(Cut::After), resolves: true, ..PLAIN },
    Reader { name: "windows", backslash_is_slash: true, resolves: true, ignores_case: true, ..PLAIN },
    Reader { name: "c", ends_at: &['\0'], resolves: true, ..PLAIN },
    Reader { name: "php", goes_through_scripts: true, resolves: true, ..PLAIN },
    Reader { name: "proxy behind a proxy", decodes_twice: true, resolves: true, ..PLAIN },
    Reader { name: "rewriter", ends_at: &['?', '#'], resolves: true, ..PLAIN },
    Reader {
        name: "asp.net",
        trims: true,
        backslash_is_slash: true,
        resolves: true,
        ignores_case: true,
        ..PLAIN
    },
    Reader {
        name: "all of it",
        cuts: Some(Cut::After),
        decodes_twice: true,
        ends_at: &['\0', '?', '#'],
        trims: true,
        goes_through_scripts: true,
        backslash_is_slash: true,
        resolves: true,
        ignores_case: true,
        ..PLAIN
    },
    Reader { name: "undecoded express", decodes: false, ignores_case: true, ..PLAIN },
];

impl Reader {
    /// The segments that it sees; none if it cannot read the path.
    fn read(&self, path: &str) -> Option<Vec<String>> {
        let cut = |segment: &str| segment.split(';').next().unwrap_or_default().to_owned();
        let mut text = path.to_owned();
        if self.cuts == Some(Cut::Before) {
            text = text.split('/').map(cut).collect::<Vec<_>>().join("/");
        }
        if self.decodes {
            text = decoded(&text)?;
        }
        if self.backslash_is_slash {
            text = text.replace('\\', "/");
        }
        if self.decodes_twice {
            text = decoded(&text)?;
        }
        text.truncate(text.find(self.ends_at).unwrap_or(text.len()));
        if self.cuts == Some(Cut::After) {
            text = text.split('/').map(cut).collect::<Vec<_>>().join("/");
        }
        let mut segments: Vec<String> = Vec::new();
        for segment in text.strip_prefix('/')?.split('/') {
            let segment = if self.trims { trimmed(segment) } else { segment };
            match segment {
                _ if self.trims && segment.starts_with("(S(") && segment.ends_with("))") => {}
                _ if self.goes_through_scripts && segment.to_ascii_lowercase().ends_with(".php") => {}
                "" | "." if self.resolves => {}
                ".." if self.resolves => drop(segments.pop()),
                other => segments.push(other.to_owned()),
            }
        }
        Some(segments)
    }

    /// The route of the place where it looks; none where there is none. Some readers take names for the same
    /// that we do not, and what they look for may be any of several.
    pub(super) fn routes<'r>(
        &self,
        routes: &'r [RouteData],
        path: &str,
    ) -> Option<Vec<Option<&'r RouteData>>> {
        let segments = self.read(path)?;
        let same = |one: &str, other: &str| match self.ignores_case {
            true => one.eq_ignore_ascii_case(other),
            false => one == other,
        };
        let covers = |route: &&RouteData| {
            // Who does not undo escapes looks for what a link says.
            let prefix = &route.path_prefix;
            let prefix = if self.decodes { decoded(prefix).unwrap() } else { prefix.clone() };
            let wanted: Vec<_> = prefix.split('/').skip(1).filter(|part| !part.is_empty()).collect();
            wanted.len() <= segments.len()
                && wanted.iter().zip(&segments).all(|(one, other)| same(one, other))
        };
        let depth = |route: &RouteData| route.path_prefix.split('/').filter(|part| !part.is_empty()).count();
        let covering: Vec<_> = routes.iter().filter(covers).collect();
        let Some(deepest) = covering.iter().map(|route| depth(route)).max() else { return Some(vec![None]) };
        Some(covering.into_iter().filter(|route| depth(route) == deepest).map(Some).collect())
    }
}

/// Without dots and spaces at its end, unless it climbs.
fn trimmed(segment: &str) -> &str {
    let segment = segment.find(":$").map_or(segment, |at| segment[..at].trim_end_matches(':'));
    if segment == ".." { segment } else { segment.trim_end_matches([' ', '.']) }
}

/// Percent-decoded; none where that is not text.
fn decoded(text: &str) -> Option<String> {
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, more)) = rest.split_first() {
        let pair = more.get(..2).filter(|pair| pair.iter().all(u8::is_ascii_hexdigit));
        let pair = pair.and_then(|pair| std::str::from_utf8(pair).ok());
        match pair.and_then(|pair| u8::from_str_radix(pair, 16).ok()).filter(|_| *first == b'%') {
            Some(octet) => {
                octets.push(octet);
                rest = &more[2..];
            }
            None => {
                octets.push(*first);
                rest = more;
            }
        }
    }
    String::from_utf8(octets).ok()
}
