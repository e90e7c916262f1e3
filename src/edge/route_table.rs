//! Which route a path belongs to. Pure and total; called by `request` after the host is settled.
//!
//! Policies hang on path prefixes, so a path that a backend could read differently from us is a way
//! around a policy. Such paths are refused ([`BadPath`]); the rest is compared segment by segment, and
//! whatever some reader may take a segment for (`names`) has to lead to the same route. Where there is one
//! route for all paths, they need not be read at all.

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
    /// `.` or `..`, plain or encoded, once or twice.
    #[error("the path has a dot segment")]
    DotSegment,
    /// `\`, `%2f` or `%5c`, encoded once or twice.
    #[error("the path hides a separator")]
    HiddenSeparator,
    /// A control character, plain or encoded.
    #[error("the path has a control character")]
    Control,
    /// A `%` that encodes nothing, or octets that are not UTF-8.
    #[error("the path is badly encoded")]
    Encoding,
    /// Some readers arrive at another route.
    #[error("the path can be read as another route's")]
    Ambiguous,
}

/// What a segment may be taken for, at most; more than anybody needs.
const MOST_NAMES: usize = 24;
/// Segments with more than one reading, at most.
const MOST_UNPLAIN: usize = 64;

/// The segments of a path in their plainest reading (decoded, without parameters), without the leading
/// empty one. A trailing slash yields a last empty segment.
///
/// # Errors
/// As [`BadPath`] says.
pub fn segments(path: &str) -> Result<Vec<Cow<'_, str>>, BadPath> {
    let rest = path.strip_prefix('/').ok_or(BadPath::NotAbsolute)?;
    let count = rest.split('/').count();
    rest.split('/').enumerate().map(|(at, raw)| plainest(raw, at + 1 == count)).collect()
}

fn plainest(raw: &str, is_last: bool) -> Result<Cow<'_, str>, BadPath> {
    if raw.is_empty() && !is_last {
        return Err(BadPath::EmptySegment);
    }
    let plain = if raw.contains('%') { decode(raw)? } else { Cow::Borrowed(raw) };
    check(&plain)?;
    // Servlet containers cut parameters before they resolve dots: `/a/..;x/b` is `/b` to them.
    let name = match plain.find(';') {
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

/// What no reading of a segment may hold.
fn check(name: &str) -> Result<(), BadPath> {
    if name.contains(['/', '\\']) {
        return Err(BadPath::HiddenSeparator);
    }
    if name.chars().any(char::is_control) {
        return Err(BadPath::Control);
    }
    Ok(())
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

/// Whether readers may take the segment for anything but what it says.
fn is_plain(raw: &str) -> bool {
    let last = raw.len().saturating_sub(SCRIPT.len());
    !raw.contains(['%', ';', '(', '?', '#'])
        && !raw.ends_with(['.', ' '])
        && !raw.contains(STREAM)
        && !raw.get(last..).is_some_and(|end| end.eq_ignore_ascii_case(SCRIPT))
}

/// A file system's mark of what belongs to a file (NTFS): `board::$INDEX_ALLOCATION` is `board`.
const STREAM: &str = ":$";
/// A front controller, which its app takes out of the path: `/index.php/board` is `/board`.
const SCRIPT: &str = ".php";

/// Everything that some reader may take a segment for. Backends keep needless escapes or undo them, some of
/// them twice; cut parameters (`;x`) before or after that; cut what follows a `?` or `#` that was escaped;
/// drop dots and spaces from the end, and the name of a stream (Windows). Nothing for a plain segment.
///
/// # Errors
/// As [`BadPath`] says, where one of them would leave the segment, or there are too many.
fn names(raw: &str) -> Result<Vec<String>, BadPath> {
    if is_plain(raw) {
        return Ok(Vec::new());
    }
    // Many a router compares what came with what a link would say (RFC 3986 §6.2.2.2).
    let mut names = vec![decode(&keep_needless(raw))?.into_owned()];
    let mut at = 0;
    // Every step shortens, so that it ends.
    while let Some(name) = names.get(at).cloned() {
        check(&name)?;
        // What is left of `. ` is nothing, and of `.. ` a way up.
        if !name.is_empty() && name.trim_end_matches([' ', '.']).is_empty() {
            return Err(BadPath::DotSegment);
        }
        // Of these nothing is left, and the path goes on as if they had not been there.
        let of_stream = name.find(STREAM).map(|at| name[..at].trim_end_matches(':'));
        if name.starts_with(';') || of_stream == Some("") {
            return Err(BadPath::EmptySegment);
        }
        // `pro/(S(x))tected` is `protected` once it is out.
        if is_cookieless(&name) && !name.ends_with("))") {
            return Err(BadPath::Ambiguous);
        }
        let until = |mark: Option<usize>| Cow::Borrowed(mark.map_or(&*name, |at| &name[..at]));
        let steps = [
            // As those do who let stand what is no escape.
            percent_decode_str(&name).decode_utf8_lossy(),
            until(name.find(';')),
            until(name.find(['?', '#'])),
            Cow::Borrowed(of_stream.unwrap_or(&name)),
            Cow::Borrowed(name.trim_end_matches([' ', '.'])),
        ];
        for next in steps {
            if !next.is_empty() && !names.iter().any(|known| *known == next) {
                names.push(next.into_owned());
            }
        }
        if names.len() > MOST_NAMES {
            return Err(BadPath::Ambiguous);
        }
        at += 1;
    }
    Ok(names)
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

/// The route with the longest prefix of whole segments, if any.
///
/// # Errors
/// As [`BadPath`] says; nothing is matched then.
pub fn select<'a>(site: &'a Site, path: &str) -> Result<Option<&'a Arc<Route>>, BadPath> {
    unanimous(&site.routes, |route| &route.path_prefix, path)
}

/// The route that every reading of the path selects. The path goes on as it came, so where readings differ,
/// a backend could serve under one route's policy what belongs to another.
fn unanimous<'a, T>(
    routes: &'a [T],
    prefix: impl Fn(&T) -> &str,
    path: &str,
) -> Result<Option<&'a T>, BadPath> {
    let plainest = segments(path)?;
    if let [only] = routes
        && prefix(only) == "/"
    {
        return Ok(Some(only));
    }
    let readings = match path.split('/').filter(|raw| !is_plain(raw)).count() {
        // Nothing to be read otherwise, but for letter case.
        0 => Vec::new(),
        1..=MOST_UNPLAIN => path.split('/').skip(1).map(names).collect::<Result<Vec<_>, _>>()?,
        _ => return Err(BadPath::Ambiguous),
    };
    let table = Table { routes, prefix: &prefix };
    let chosen = table.choose(&plainest, &readings)?;
    let is_dropped = |at: &usize| readings[*at].iter().any(|name| drops(name));
    let places = 0..readings.len();
    if places.clone().any(|at| is_dropped(&at)) {
        let (names, others): (Vec<_>, Vec<_>) = places
            .filter(|at| !is_dropped(at))
            .map(|at| (plainest[at].clone(), readings[at].clone()))
            .unzip();
        if table.choose(&names, &others)? != chosen {
            return Err(BadPath::Ambiguous);
        }
    }
    Ok(chosen.map(|at| &routes[at]))
}

/// Whether some take the segment out of a path before anybody else sees it: ASP.NET's `(S(…))`, wherever it
/// stands in a name, and the script that a path goes through.
fn drops(name: &str) -> bool {
    let last = name.len().saturating_sub(SCRIPT.len());
    is_cookieless(name) || name.get(last..).is_some_and(|end| end.eq_ignore_ascii_case(SCRIPT))
}

/// `(S(…))` and its like, by which a session goes without a cookie.
fn is_cookieless(name: &str) -> bool {
    matches!(name.as_bytes(), [b'(', letter, b'(', ..] if letter.is_ascii_alphabetic()) && name.contains("))")
}

/// Routes, longest prefix first.
struct Table<'t, T, P> {
    routes: &'t [T],
    prefix: &'t P,
}

impl<T, P: Fn(&T) -> &str> Table<'_, T, P> {
    /// The place of the route that all readings of the segments select. `readings` are those of each segment,
    /// or none at all if each has only one.
    fn choose(&self, plainest: &[Cow<'_, str>], readings: &[Vec<String>]) -> Result<Option<usize>, BadPath> {
        let prefixes = || self.routes.iter().map(self.prefix).enumerate();
        let chosen = prefixes().find(|(_, prefix)| {
            covers(prefix, |at, wanted| plainest.get(at).is_some_and(|name| name == wanted))
        });
        let depth = chosen.map_or(0, |(_, prefix)| depth(prefix));
        let certain = chosen.is_none_or(|(_, prefix)| {
            covers(prefix, |at, wanted| {
                readings.get(at).is_none_or(|names| names.iter().all(|name| name == wanted))
            })
        });
        // Whoever is not sure of letter case, or of any segment, must not arrive at a route of this depth.
        let has_rival = prefixes().any(|(at, prefix)| {
            Some(at) != chosen.map(|(at, _)| at)
                && self::depth(prefix) >= depth
                && covers(prefix, |at, wanted| {
                    plainest.get(at).is_some_and(|name| is_alike(name, wanted))
                        || readings
                            .get(at)
                            .is_some_and(|names| names.iter().any(|name| is_alike(name, wanted)))
                })
        });
        if certain && !has_rival { Ok(chosen.map(|(at, _)| at)) } else { Err(BadPath::Ambiguous) }
    }
}

/// Whether a reader who does not tell letter case apart takes one name for the other.
fn is_alike(one: &str, other: &str) -> bool {
    one.eq_ignore_ascii_case(other)
        || (!one.is_ascii()
            && (one.to_lowercase() == other.to_lowercase() || one.to_uppercase() == other.to_uppercase()))
}

/// How many segments a prefix has.
fn depth(prefix: &str) -> usize {
    if prefix == "/" { 0 } else { prefix.matches('/').count() }
}

/// Whether every segment of `prefix` (`/` or `/a/b`), decoded, `is` what stands at its place.
fn covers(prefix: &str, is: impl Fn(usize, &str) -> bool) -> bool {
    let Some(rest) = prefix.strip_prefix('/').filter(|rest| !rest.is_empty()) else { return prefix == "/" };
    rest.split('/').enumerate().all(|(at, wanted)| decode(wanted).is_ok_and(|wanted| is(at, &wanted)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn covers(prefix: &str, path: &str) -> bool {
        let segments = segments(path).unwrap();
        super::covers(prefix, |at, wanted| segments.get(at).is_some_and(|name| name == wanted))
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
    fn what_is_hidden_twice_is_refused_as_well() {
        for (path, fault) in [
            ("/a/%252e%252e/b", BadPath::DotSegment),
            ("/a/.%25252e/b", BadPath::DotSegment),
            ("/a/..%252fb", BadPath::HiddenSeparator),
            ("/a/%255c..%255cb", BadPath::HiddenSeparator),
            ("/a/..%3fx/b", BadPath::DotSegment),
            ("/%253bx/a", BadPath::EmptySegment),
            ("/::$DATAx/a", BadPath::EmptySegment),
            ("/%3a:$DATA(S(x))/a", BadPath::EmptySegment),
            ("/a/...", BadPath::DotSegment),
            ("/a/.%20/b", BadPath::DotSegment),
            ("/a%2500", BadPath::Control),
            ("/a%252f%25", BadPath::HiddenSeparator),
            ("/a%252f%25ff", BadPath::HiddenSeparator),
        ] {
            assert_eq!(unanimous(&["/a", "/"], |prefix| prefix, path), Err(fault), "{path}");
            // Whatever it leads to, it is ruled by the same.
            assert_eq!(unanimous(&["/"], |prefix| prefix, path), Ok(Some(&"/")), "{path}");
        }
        let deep = format!("/%{}61", "25".repeat(100));
        assert_eq!(unanimous(&["/a", "/"], |prefix| prefix, &deep), Err(BadPath::Ambiguous));
        let many = "/%20x".repeat(65);
        assert_eq!(unanimous(&["/a", "/"], |prefix| prefix, &many), Err(BadPath::Ambiguous));
        for path in [
            "/wiki/What%3f",
            "/wiki/100%25",
            "/wiki/(S(x))",
            "/wiki/(draft)-x",
            "/wiki/index.php/x",
            "/wiki/a.%20b",
            "/wiki/%2561",
        ] {
            assert_eq!(unanimous(&["/wiki", "/"], |prefix| prefix, path), Ok(Some(&"/wiki")), "{path}");
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
            "/%70ub%256cic/x",
            "/pub%256cic/x",
            "/public./x",
            "/public%20/x",
            "/public%3fx",
            "/public%23/x",
            "/public/admin%2e",
            "/(S(x))/public/x",
            "/public/(S(x))/admin",
            "/public/ad/(S(x))min",
            "/index.php/public/x",
            "/%69ndex.PHP/public",
            "/public/index.php/admin",
            "/public:$i30:$INDEX_ALLOCATION/x",
            "/public/admin::$INDEX_ALLOCATION",
            "/tw%C4%B1n",
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

    /// What selection means: whichever reading each segment gets, it is the same one, or the same none.
    fn model<'a>(prefixes: &'a [String], path: &str) -> Result<Option<&'a String>, BadPath> {
        let cut = |name: &str| name.split(';').next().unwrap().to_owned();
        let decoded = |name: &str| name.replace("%3b", ";");
        let mut readings = vec![String::new()];
        for raw in path.split('/').skip(1) {
            let names = [cut(&decoded(raw)), decoded(&cut(raw)), decoded(raw), raw.to_owned()];
            let longer = |path: &String| names.clone().map(|name| format!("{path}/{name}"));
            readings = readings.iter().flat_map(longer).collect();
            readings.sort();
            readings.dedup();
        }
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
