//! What a path says, and whatever else some reader may take it for. Pure and total.
//!
//! It goes on as it came, so where a backend may read it differently from us, there could be a way around
//! a policy: such a path is refused ([`BadPath`]), or `route_table` looks at every reading.

use std::borrow::Cow;
use std::iter;

use percent_encoding::percent_decode_str;

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

/// Octets of everything that the segments of a path may be taken for, at most: twice the longest path.
pub(super) const MOST_OCTETS: usize = 64 * 1024;

/// The segments of a path in their plainest reading (decoded, without parameters), without the leading
/// empty one. A trailing slash yields a last empty segment.
///
/// # Errors
/// As [`BadPath`] says.
pub fn segments(path: &str) -> Result<Vec<Cow<'_, str>>, BadPath> {
    parts(path)?.map(|part| part.map(|(_, name)| name)).collect()
}

/// The same one by one, each behind what it was written as.
pub(super) fn parts(
    path: &str,
) -> Result<impl Iterator<Item = Result<(&str, Cow<'_, str>), BadPath>>, BadPath> {
    let mut rest = path.strip_prefix('/').ok_or(BadPath::NotAbsolute)?.split('/').peekable();
    Ok(iter::from_fn(move || {
        let raw = rest.next()?;
        Some(plainest(raw, rest.peek().is_none()).map(|name| (raw, name)))
    }))
}

fn plainest(raw: &str, is_last: bool) -> Result<Cow<'_, str>, BadPath> {
    if raw.is_empty() && !is_last {
        return Err(BadPath::EmptySegment);
    }
    let plain = match raw {
        "." | ".." => return Err(BadPath::DotSegment),
        // Most are like that, and a path may have thousands.
        _ if raw.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'%' | b';' | b'\\')) => {
            return Ok(Cow::Borrowed(raw));
        }
        _ if raw.contains('%') => decode(raw)?,
        _ => Cow::Borrowed(raw),
    };
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

pub(super) fn decode(raw: &str) -> Result<Cow<'_, str>, BadPath> {
    let octets = raw.as_bytes();
    let hex = |at: usize| octets.get(at).is_some_and(u8::is_ascii_hexdigit);
    let whole = octets.iter().enumerate().all(|(at, b)| *b != b'%' || (hex(at + 1) && hex(at + 2)));
    if !whole {
        return Err(BadPath::Encoding);
    }
    percent_decode_str(raw).decode_utf8().map_err(|_| BadPath::Encoding)
}

/// Whether nobody takes the segment for anything but what it says.
pub(super) fn is_plain(raw: &str) -> bool {
    let octets = raw.as_bytes();
    let is_odd = |(at, octet): (usize, &u8)| match octet {
        b'%' | b';' | b'(' | b'?' | b'#' => true,
        b':' => octets[at..].starts_with(STREAM.as_bytes()),
        _ => false,
    };
    let last = octets.len().saturating_sub(SCRIPT.len());
    !octets.iter().enumerate().any(is_odd)
        && !raw.ends_with(['.', ' '])
        && !octets[last..].eq_ignore_ascii_case(SCRIPT.as_bytes())
}

/// A file system's mark of what belongs to a file (NTFS): `board::$INDEX_ALLOCATION` is `board`.
const STREAM: &str = ":$";
/// A front controller, which its app takes out of the path: `/index.php/board` is `/board`.
const SCRIPT: &str = ".php";

/// Everything that some reader may take a segment for. Backends keep needless escapes or undo them, some of
/// them twice; cut parameters (`;x`) before or after that; cut what follows a `?` or `#` that was escaped;
/// drop dots and spaces from the end, and the name of a stream (Windows). Nothing for a plain segment. `left` is
/// how many octets they may have together.
///
/// # Errors
/// As [`BadPath`] says, where one of them would leave the segment, or there are too many.
pub(super) fn names(raw: &str, left: &mut usize) -> Result<Vec<String>, BadPath> {
    if is_plain(raw) {
        return Ok(Vec::new());
    }
    // Many a router compares what came with what a link would say (RFC 3986 §6.2.2.2).
    let mut names = vec![decode(&keep_needless(raw))?.into_owned()];
    let mut at = 0;
    // Every step shortens, so that it ends.
    while let Some(name) = names.get(at).cloned() {
        *left = left.checked_sub(name.len()).ok_or(BadPath::Ambiguous)?;
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

/// Whether some take the segment out of a path before anybody else sees it: ASP.NET's `(S(…))`, wherever it
/// stands in a name, and the script that a path goes through.
pub(super) fn drops(name: &str) -> bool {
    let last = name.len().saturating_sub(SCRIPT.len());
    is_cookieless(name) || name.get(last..).is_some_and(|end| end.eq_ignore_ascii_case(SCRIPT))
}

/// `(S(…))` and its like, by which a session goes without a cookie.
fn is_cookieless(name: &str) -> bool {
    matches!(name.as_bytes(), [b'(', letter, b'(', ..] if letter.is_ascii_alphabetic()) && name.contains("))")
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
