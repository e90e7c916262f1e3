//! Which route a path belongs to. Pure and total; called by `request` after the host is settled.
//!
//! Policies hang on path prefixes, so a path that a backend could read differently from us is a way
//! around a policy. Such paths are refused ([`BadPath`]); the rest is compared segment by segment,
//! percent-decoded, and has to select the same route with path parameters (`;x`) cut off or kept, with
//! needless escapes (`%61`) undone or not, and with letter case told apart or not.

use std::borrow::Cow;
use std::sync::Arc;

use percent_encoding::percent_decode_str;

use crate::live::{Route, Site};

/// The path can be read in more than one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPath {
    /// Not `/…`.
    #[error("the path does not start with /")]
    NotAbsolute,
    /// `//`, which some merge and some keep.
    #[error("the path has an empty segment")]
    EmptySegment,
    /// `.` or `..`, plain or encoded.
    #[error("the path has a dot segment")]
    DotSegment,
    /// `\`, `%2f` or `%5c`.
    #[error("the path hides a separator")]
    HiddenSeparator,
    /// A control character, plain or encoded.
    #[error("the path has a control character")]
    Control,
    /// A `%` that encodes nothing, or octets that are not UTF-8.
    #[error("the path is badly encoded")]
    Encoding,
    /// Readers who cut parameters, keep needless escapes, or do not tell letter case apart, arrive at another
    /// route.
    #[error("the path can be read as another route's")]
    Ambiguous,
}

/// How a reader takes path parameters (`;x`) and escapes. Backends differ; see [`select`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    /// Parameters cut off, encoded (`%3b`) or not: the strictest reading, which also finds hidden dots.
    Cut,
    /// Parameters cut off before decoding, so `%3b` is part of a name.
    CutPlain,
    /// Parameters are part of the name.
    Kept,
    /// Escapes are part of the name, where it could be written without them: many a router compares what
    /// came with what a link would say, although both mean the same (RFC 3986 §6.2.2.2).
    Undecoded,
}

/// The segments of a path in their plainest reading, without the leading empty one.
/// A trailing slash yields a last empty segment.
///
/// # Errors
/// As [`BadPath`] says.
pub fn segments(path: &str) -> Result<Vec<Cow<'_, str>>, BadPath> {
    read(path, Reading::Cut)
}

fn read(path: &str, reading: Reading) -> Result<Vec<Cow<'_, str>>, BadPath> {
    let rest = path.strip_prefix('/').ok_or(BadPath::NotAbsolute)?;
    let count = rest.split('/').count();
    rest.split('/').enumerate().map(|(at, raw)| segment(raw, at + 1 == count, reading)).collect()
}

fn segment(raw: &str, is_last: bool, reading: Reading) -> Result<Cow<'_, str>, BadPath> {
    if raw.is_empty() && !is_last {
        return Err(BadPath::EmptySegment);
    }
    let cut = match reading {
        Reading::CutPlain => raw.find(';').map_or(raw, |at| &raw[..at]),
        Reading::Cut | Reading::Kept | Reading::Undecoded => raw,
    };
    let plain = match reading {
        _ if !cut.contains('%') => Cow::Borrowed(cut),
        Reading::Undecoded => decode(&keep_needless(cut))?.into_owned().into(),
        Reading::Cut | Reading::CutPlain | Reading::Kept => decode(cut)?,
    };
    if plain.contains(['/', '\\']) {
        return Err(BadPath::HiddenSeparator);
    }
    if plain.chars().any(char::is_control) {
        return Err(BadPath::Control);
    }
    // Servlet containers cut parameters before they resolve dots: `/a/..;x/b` is `/b` to them.
    let name = match plain.find(';').filter(|_| reading == Reading::Cut) {
        None => plain,
        Some(at) => match plain {
            Cow::Borrowed(text) => Cow::Borrowed(&text[..at]),
            Cow::Owned(mut text) => {
                text.truncate(at);
                Cow::Owned(text)
            }
        },
    };
    match name.as_ref() {
        "." | ".." => Err(BadPath::DotSegment),
        "" if !raw.is_empty() => Err(BadPath::EmptySegment), // `/;x/` is `//` after the cut
        _ => Ok(name),
    }
}

/// Escapes the percent sign of escapes that nobody has to write, so that they outlive [`decode`].
fn keep_needless(raw: &str) -> String {
    let mut kept = String::with_capacity(raw.len() + 8);
    for (at, part) in raw.split('%').enumerate() {
        if at > 0 {
            let octet = part.get(..2).and_then(|hex| u8::from_str_radix(hex, 16).ok());
            kept.push_str(if octet.is_some_and(may_be_plain) { "%25" } else { "%" });
        }
        kept.push_str(part);
    }
    kept
}

/// RFC 3986 §3.3: what a segment holds as it is, apart from escapes.
fn may_be_plain(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&octet)
}

fn decode(raw: &str) -> Result<Cow<'_, str>, BadPath> {
    let octets = raw.as_bytes();
    let hex = |at: usize| octets.get(at).is_some_and(u8::is_ascii_hexdigit);
    let whole = octets.iter().enumerate().all(|(at, b)| *b != b'%' || (hex(at + 1) && hex(at + 2)));
    if !whole {
        return Err(BadPath::Encoding);
    }
    percent_decode_str(raw).decode_utf8().map_err(|_| BadPath::Encoding)
}

/// The route with the longest prefix of whole segments, if any.
///
/// # Errors
/// As [`BadPath`] says; nothing is matched then.
pub fn select<'a>(site: &'a Site, path: &str) -> Result<Option<&'a Arc<Route>>, BadPath> {
    unanimous(&site.routes, |route| &route.path_prefix, path)
}

/// The route that every reading of the path selects: parameters cut off or kept, needless escapes undone
/// or not, letter case told apart or not. The path goes on as it came, so where readings differ, a backend could serve under
/// one route's policy what belongs to another.
fn unanimous<'a, T>(
    routes: &'a [T],
    prefix: impl Fn(&T) -> &str,
    path: &str,
) -> Result<Option<&'a T>, BadPath> {
    let plainest = segments(path)?;
    // Routes are sorted longest prefix first.
    let exactly =
        |segments: &[Cow<'_, str>]| routes.iter().position(|route| matches(prefix(route), segments, str::eq));
    let chosen = exactly(&plainest);
    let depth = chosen.map_or(0, |at| depth(prefix(&routes[at])));
    let has_rival = |segments: &[Cow<'_, str>]| {
        routes.iter().enumerate().any(|(at, route)| {
            Some(at) != chosen
                && self::depth(prefix(route)) >= depth
                && matches(prefix(route), segments, str::eq_ignore_ascii_case)
        })
    };
    if has_rival(&plainest) {
        return Err(BadPath::Ambiguous);
    }
    if path.contains([';', '%']) {
        for reading in [Reading::CutPlain, Reading::Kept, Reading::Undecoded] {
            let segments = read(path, reading)?;
            if exactly(&segments) != chosen || has_rival(&segments) {
                return Err(BadPath::Ambiguous);
            }
        }
    }
    Ok(chosen.map(|at| &routes[at]))
}

/// How many segments a prefix has.
fn depth(prefix: &str) -> usize {
    if prefix == "/" { 0 } else { prefix.matches('/').count() }
}

/// Whether `prefix` (`/` or `/a/b`) covers the path with these segments, names being the `same`.
fn matches(prefix: &str, segments: &[Cow<'_, str>], same: impl Fn(&str, &str) -> bool) -> bool {
    let Some(rest) = prefix.strip_prefix('/').filter(|rest| !rest.is_empty()) else { return prefix == "/" };
    let mut own = segments.iter();
    rest.split('/').all(|wanted| {
        own.next().is_some_and(|segment| match decode(wanted) {
            Ok(plain) => same(segment, &plain),
            Err(_) => false,
        })
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn covers(prefix: &str, path: &str) -> bool {
        matches(prefix, &segments(path).unwrap(), str::eq)
    }

    #[test]
    fn prefixes_match_whole_segments_only() {
        for (prefix, path, expected) in [
            ("/", "/", true),
            ("/", "/anything/below", true),
            ("/app", "/app", true),
            ("/app", "/app/", true),
            ("/app", "/app/x", true),
            ("/app", "/apple", false),
            ("/app/x", "/app", false),
            ("/app", "/%61pp/x", true),
            ("/app", "/app;v=1/x", true),
            ("/App", "/app", false),
            ("/a%20b", "/a b/c", true),
        ] {
            assert_eq!(covers(prefix, path), expected, "{prefix} {path}");
        }
    }

    #[test]
    fn paths_that_can_be_read_twice_are_refused() {
        for (path, fault) in [
            ("", BadPath::NotAbsolute),
            ("*", BadPath::NotAbsolute),
            ("//x", BadPath::EmptySegment),
            ("/a//b", BadPath::EmptySegment),
            ("/a/;x/b", BadPath::EmptySegment),
            ("/a/../b", BadPath::DotSegment),
            ("/a/..", BadPath::DotSegment),
            ("/./a", BadPath::DotSegment),
            ("/a/%2e%2E/b", BadPath::DotSegment),
            ("/a/.%2e;x/b", BadPath::DotSegment),
            ("/a/..;/b", BadPath::DotSegment),
            ("/a/..%3bx/b", BadPath::DotSegment),
            ("/a\\b", BadPath::HiddenSeparator),
            ("/a%2fb", BadPath::HiddenSeparator),
            ("/a%2F..%2Fb", BadPath::HiddenSeparator),
            ("/a%5Cb", BadPath::HiddenSeparator),
            ("/a%00", BadPath::Control),
            ("/a%0d%0ab", BadPath::Control),
            ("/a%zz", BadPath::Encoding),
            ("/a%2", BadPath::Encoding),
            ("/%c0%ae%c0%ae/b", BadPath::Encoding),
        ] {
            assert_eq!(segments(path), Err(fault), "{path}");
        }
    }

    #[test]
    fn paths_that_other_readers_route_elsewhere_are_refused() {
        let prefixes =
            ["/public/admin", "/public", "/Mixed", "/a%20b", "/%C3%a9", "/twin", "/TWIN", "/a;b", "/"];
        let select = |path| unanimous(&prefixes, |prefix| prefix, path).map(Option::<&&str>::copied);
        for (path, expected) in [
            ("/public/x", Some("/public")),
            ("/public/x;v=1", Some("/public")),
            ("/public/X%3bv=1", Some("/public")),
            ("/Other;x/PUBLIC", Some("/")),
            ("/Mixed/x", Some("/Mixed")),
            ("/public/administration", Some("/public")),
            ("/public/%78%2d", Some("/public")),
            ("/a%20b", Some("/a%20b")),
            ("/%c3%A9/x", Some("/%C3%a9")),
        ] {
            assert_eq!(select(path), Ok(expected), "{path}");
        }
        for path in [
            "/Public/x",
            "/PUBLIC",
            "/mixed",
            "/public/Admin",
            "/twin",
            "/TWIN/x",
            "/public;x/y",
            "/public%3bx/y",
            "/public%3Bx/y",
            "/public/admin;x",
            "/public;x/admin",
            "/a;b/c",
            "/a%3bb;c",
            "/pub%6cic/x",
            "/%61%20b",
            "/public/%61dmin",
        ] {
            assert_eq!(select(path), Err(BadPath::Ambiguous), "{path}");
        }
        assert_eq!(unanimous(&["/a"], |prefix| prefix, "/b"), Ok(None));
        assert_eq!(unanimous(&["/a"], |prefix| prefix, "/A"), Err(BadPath::Ambiguous));
    }

    /// The longest prefixes that cover the path, written without regard for cost.
    fn longest<'a>(prefixes: &'a [String], path: &str, folds: bool) -> Vec<&'a String> {
        let fold = |text: &str| if folds { text.to_ascii_lowercase() } else { text.to_owned() };
        let split = |text: &str| -> Vec<String> { fold(text).split('/').map(str::to_owned).collect() };
        let path = split(path);
        let covering = prefixes.iter().filter(|prefix| {
            let prefix = split(prefix);
            prefix == ["", ""] || (path.len() >= prefix.len() && path[..prefix.len()] == prefix[..])
        });
        let most = covering.clone().map(String::len).max();
        covering.filter(|prefix| Some(prefix.len()) == most).collect()
    }

    /// What selection means: every reading yields the same one, or the same none.
    fn model<'a>(prefixes: &'a [String], path: &str) -> Result<Option<&'a String>, BadPath> {
        let cut = |path: &str| -> String {
            let names: Vec<_> = path.split('/').map(|raw| raw.split(';').next().unwrap()).collect();
            names.join("/")
        };
        let decoded = |path: &str| path.replace("%3b", ";");
        let readings = [cut(&decoded(path)), decoded(&cut(path)), decoded(path), path.to_owned()];
        let answers: Vec<_> = readings
            .iter()
            .flat_map(|reading| [false, true].map(|folds| longest(prefixes, reading, folds)))
            .collect();
        match answers[0][..] {
            _ if answers.iter().any(|answer| *answer != answers[0]) => Err(BadPath::Ambiguous),
            [] => Ok(None),
            [one] => Ok(Some(one)),
            _ => Err(BadPath::Ambiguous),
        }
    }

    proptest! {
        #[test]
        fn selection_agrees_with_the_plain_model(
            prefixes in proptest::collection::btree_set("(/|(/[abA]([bB]|;b)?){1,3})", 0..6),
            path in "(/[abA]([bB]|;b|%3bb|;%3b)?){1,4}/?",
        ) {
            let mut sorted: Vec<String> = prefixes.into_iter().collect();
            sorted.sort_by(|a, b| b.len().cmp(&a.len()).then(a.cmp(b)));
            prop_assert_eq!(unanimous(&sorted, |prefix| prefix, &path), model(&sorted, &path));
        }

        #[test]
        fn no_text_panics(path in any::<String>()) {
            let _ = segments(&path);
            let _ = unanimous(&["/a", "/"], |prefix| prefix, &path);
        }
    }
}
