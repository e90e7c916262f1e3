//! Which route a path belongs to. Pure and total; called by `request` after the host is settled.
//!
//! Policies hang on path prefixes, so a path that a backend could read differently from us is a way
//! around a policy. Such paths are refused ([`BadPath`]); the rest is compared segment by segment in
//! the plainest reading: percent-decoded, path parameters (`;x`) cut off.

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
}

/// The segments of a path in their plainest reading, without the leading empty one.
/// A trailing slash yields a last empty segment.
///
/// # Errors
/// As [`BadPath`] says.
pub fn segments(path: &str) -> Result<Vec<Cow<'_, str>>, BadPath> {
    let rest = path.strip_prefix('/').ok_or(BadPath::NotAbsolute)?;
    let count = rest.split('/').count();
    rest.split('/').enumerate().map(|(at, raw)| segment(raw, at + 1 == count)).collect()
}

fn segment(raw: &str, is_last: bool) -> Result<Cow<'_, str>, BadPath> {
    if raw.is_empty() && !is_last {
        return Err(BadPath::EmptySegment);
    }
    let plain = if raw.contains('%') { decode(raw)? } else { Cow::Borrowed(raw) };
    if plain.contains(['/', '\\']) {
        return Err(BadPath::HiddenSeparator);
    }
    if plain.chars().any(char::is_control) {
        return Err(BadPath::Control);
    }
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
    let segments = segments(path)?;
    // Routes are sorted longest prefix first.
    Ok(site.routes.iter().find(|route| matches(&route.path_prefix, &segments)))
}

/// Whether `prefix` (`/` or `/a/b`) covers the path with these segments.
fn matches(prefix: &str, segments: &[Cow<'_, str>]) -> bool {
    let Some(rest) = prefix.strip_prefix('/').filter(|rest| !rest.is_empty()) else { return prefix == "/" };
    let mut own = segments.iter();
    rest.split('/').all(|wanted| {
        own.next().is_some_and(|segment| match decode(wanted) {
            Ok(plain) => *segment == plain,
            Err(_) => false,
        })
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn covers(prefix: &str, path: &str) -> bool {
        matches(prefix, &segments(path).unwrap())
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

    /// What the match means, written without regard for cost.
    fn model<'a>(prefixes: &'a [String], path: &str) -> Option<&'a String> {
        let path: Vec<_> = path.split('/').collect();
        prefixes
            .iter()
            .filter(|prefix| {
                let prefix: Vec<_> = prefix.split('/').collect();
                prefix == ["", ""] || (path.len() >= prefix.len() && path[..prefix.len()] == prefix[..])
            })
            .max_by_key(|prefix| prefix.len())
    }

    proptest! {
        #[test]
        fn selection_agrees_with_the_plain_model(
            prefixes in proptest::collection::btree_set("(/|(/[ab]{1,2}){1,3})", 0..6),
            path in "(/[ab]{1,2}){1,4}/?",
        ) {
            let mut sorted: Vec<String> = prefixes.into_iter().collect();
            sorted.sort_by(|a, b| b.len().cmp(&a.len()).then(a.cmp(b)));
            let path_segments = segments(&path).unwrap();
            let selected = sorted.iter().find(|prefix| matches(prefix, &path_segments));
            prop_assert_eq!(selected, model(&sorted, &path));
        }

        #[test]
        fn no_text_panics(path in any::<String>()) {
            let _ = segments(&path);
        }
    }
}
