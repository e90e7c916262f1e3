//! Cookies of the app, with what its route asks of them. Read as browsers read them (RFC 6265bis §5.6): attributes are
//! what stands behind the first semicolon, whatever quotes a value has; one that is too long is none.
//!
//! Name and value go out octet by octet as they came. `Domain` and `Path` are never touched, so a cookie named
//! `__Host-` stays one; it gets the `Secure` that its name promises, as `__Secure-` does.

use http::header::{Entry, HeaderMap, HeaderValue, SET_COOKIE};

use crate::domain::route::{CookieOptions, SameSite};

/// RFC 6265bis §5.6: longer values are as if the attribute were not there.
const MOST_OCTETS: usize = 1_024;
/// Names of which browsers take no cookie without `Secure` (RFC 6265bis §4.1.3; compared in any case, §5.7).
const SECURE_NAMES: [&[u8]; 2] = [b"__secure-", b"__host-"];

/// Gives every cookie what `options` ask for.
pub(super) fn harden(headers: &mut HeaderMap, options: CookieOptions) {
    if !headers.contains_key(SET_COOKIE) {
        return;
    }
    if let Entry::Occupied(mut cookies) = headers.entry(SET_COOKIE) {
        for cookie in cookies.iter_mut() {
            let hardened = hardened(cookie.as_bytes(), options);
            if let Some(value) = hardened.and_then(|value| HeaderValue::from_bytes(&value).ok()) {
                *cookie = value;
            }
        }
    }
}

/// What a browser reads of the attributes that matter here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Read {
    secure: bool,
    http_only: bool,
    /// The last one, if it is a word that browsers know.
    same_site: Option<SameSite>,
    /// How many there are that count.
    same_sites: usize,
}

impl Read {
    fn of<'a>(attributes: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut read = Self::default();
        for attribute in attributes {
            match kind(attribute) {
                Some(Kind::Secure) => read.secure = true,
                Some(Kind::HttpOnly) => read.http_only = true,
                Some(Kind::SameSite(site)) => {
                    read.same_sites += 1;
                    read.same_site = site;
                }
                None => {}
            }
        }
        read
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Secure,
    HttpOnly,
    SameSite(Option<SameSite>),
}

/// Which attribute this is, if it is one of these and counts.
fn kind(attribute: &[u8]) -> Option<Kind> {
    let mut halves = attribute.splitn(2, |b| *b == b'=');
    let name = trimmed(halves.next().unwrap_or_default());
    let value = trimmed(halves.next().unwrap_or_default());
    if value.len() > MOST_OCTETS {
        return None;
    }
    let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
    if is(b"secure") {
        Some(Kind::Secure)
    } else if is(b"httponly") {
        Some(Kind::HttpOnly)
    } else {
        is(b"samesite").then(|| Kind::SameSite(SameSite::from_word(value)))
    }
}

/// Without the blanks and tabs around it; other white space is no such thing here.
fn trimmed(mut octets: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = octets {
        octets = rest;
    }
    octets
}

/// The cookie with what it lacks; `None` if it lacks nothing.
fn hardened(cookie: &[u8], options: CookieOptions) -> Option<Vec<u8>> {
    let mut parts = cookie.split(|b| *b == b';');
    let pair = parts.next().unwrap_or_default();
    let read = Read::of(parts.clone());
    let same_site = options.same_site.or(read.same_site);
    let swaps_site =
        options.same_site.is_some() && (read.same_sites > 1 || read.same_site != options.same_site);
    let needs_secure = options.secure || same_site == Some(SameSite::None) || promises_secure(pair);
    let (adds_secure, adds_http_only) = (needs_secure && !read.secure, options.http_only && !read.http_only);
    if !(swaps_site || adds_secure || adds_http_only) {
        return None;
    }
    let mut hardened = Vec::with_capacity(cookie.len() + 40);
    hardened.extend_from_slice(pair);
    for part in parts.filter(|part| !(swaps_site && matches!(kind(part), Some(Kind::SameSite(_))))) {
        hardened.push(b';');
        hardened.extend_from_slice(part);
    }
    if adds_secure {
        hardened.extend_from_slice(b"; Secure");
    }
    if adds_http_only {
        hardened.extend_from_slice(b"; HttpOnly");
    }
    if let Some(site) = options.same_site.filter(|_| swaps_site) {
        hardened.extend_from_slice(b"; SameSite=");
        hardened.extend_from_slice(site.word().as_bytes());
    }
    Some(hardened)
}

/// Whether the name says that the cookie is secure. One without a name counts by its value, as browsers do.
fn promises_secure(pair: &[u8]) -> bool {
    let mut halves = pair.splitn(2, |b| *b == b'=');
    let first = trimmed(halves.next().unwrap_or_default());
    let name = if first.is_empty() { trimmed(halves.next().unwrap_or_default()) } else { first };
    SECURE_NAMES
        .iter()
        .any(|prefix| name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: CookieOptions =
        CookieOptions { secure: true, http_only: true, same_site: Some(SameSite::Lax) };
    const NOTHING: CookieOptions = CookieOptions { secure: false, http_only: false, same_site: None };

    fn of(cookie: &str, options: CookieOptions) -> String {
        let out = hardened(cookie.as_bytes(), options).unwrap_or_else(|| cookie.as_bytes().to_vec());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_is_missing_is_added_and_nothing_else_moves() {
        for (cookie, expected) in [
            ("a=1", "a=1; Secure; HttpOnly; SameSite=Lax"),
            ("a=1; Path=/; SECURE", "a=1; Path=/; SECURE; HttpOnly; SameSite=Lax"),
            ("a=1;httponly;secure;samesite=lax", "a=1;httponly;secure;samesite=lax"),
            ("a=1; SameSite=None; Secure", "a=1; Secure; HttpOnly; SameSite=Lax"),
            ("a=1; SameSite=Lax; SameSite=Strict", "a=1; Secure; HttpOnly; SameSite=Lax"),
            ("a=\"x; Secure\"; Path=/", "a=\"x; Secure\"; Path=/; Secure; HttpOnly; SameSite=Lax"),
            ("secure=httponly", "secure=httponly; Secure; HttpOnly; SameSite=Lax"),
            ("a=b=c, d=e ;Secure=no", "a=b=c, d=e ;Secure=no; HttpOnly; SameSite=Lax"),
            ("a=1; samesite", "a=1; Secure; HttpOnly; SameSite=Lax"),
            ("a=1; Same Site=None", "a=1; Same Site=None; Secure; HttpOnly; SameSite=Lax"),
            ("", "; Secure; HttpOnly; SameSite=Lax"),
        ] {
            assert_eq!(of(cookie, ALL), expected, "{cookie:?}");
            assert_eq!(of(&of(cookie, ALL), ALL), expected, "{cookie:?} twice");
        }
    }

    #[test]
    fn an_attribute_that_browsers_do_not_count_does_not_count() {
        let long = format!("a=1; Secure={}", "x".repeat(MOST_OCTETS + 1));
        let secure = CookieOptions { secure: true, ..NOTHING };
        assert_eq!(of(&long, secure), format!("{long}; Secure"));
        let fits = format!("a=1; Secure={}", "x".repeat(MOST_OCTETS));
        assert_eq!(of(&fits, secure), fits);
    }

    #[test]
    fn for_everybody_is_secure_and_so_is_what_its_name_says() {
        let none = CookieOptions { same_site: Some(SameSite::None), ..NOTHING };
        assert_eq!(of("a=1; SameSite=Strict", none), "a=1; Secure; SameSite=None");
        for (cookie, expected) in [
            ("a=1; SameSite=none", "a=1; SameSite=none; Secure"),
            ("a=1; SameSite=None; SameSite=Lax", "a=1; SameSite=None; SameSite=Lax"),
            ("__Host-a=1; Path=/", "__Host-a=1; Path=/; Secure"),
            (" __secure-a =1", " __secure-a =1; Secure"),
            ("=__Host-a=1", "=__Host-a=1; Secure"),
            ("x__Host-a=1; Domain=a.test", "x__Host-a=1; Domain=a.test"),
            ("a=__Host-a", "a=__Host-a"),
        ] {
            assert_eq!(of(cookie, NOTHING), expected, "{cookie:?}");
        }
    }

    #[test]
    fn every_line_is_hardened_and_octets_that_are_no_text_survive() {
        let mut headers = HeaderMap::new();
        headers.append(SET_COOKIE, HeaderValue::from_static("a=1"));
        headers.append(SET_COOKIE, HeaderValue::from_bytes(b"b=\xff\xfe; Path=/").unwrap());
        harden(&mut headers, CookieOptions { secure: true, ..NOTHING });
        let lines: Vec<_> = headers.get_all(SET_COOKIE).iter().map(HeaderValue::as_bytes).collect();
        assert_eq!(lines, [&b"a=1; Secure"[..], b"b=\xff\xfe; Path=/; Secure"]);
    }

    fn options() -> impl Strategy<Value = CookieOptions> {
        let sites = [None, Some(SameSite::Lax), Some(SameSite::Strict), Some(SameSite::None)];
        (any::<bool>(), any::<bool>(), proptest::sample::select(sites.to_vec()))
            .prop_map(|(secure, http_only, same_site)| CookieOptions { secure, http_only, same_site })
    }

    /// Anything that a header can carry, and mostly what looks like a cookie.
    fn cookie() -> impl Strategy<Value = Vec<u8>> {
        let words = "a = ; , \" Secure HTTPONLY SameSite None lax Strict __Host- __secure- Path=/ Domain=x é";
        let words: Vec<&str> = words.split(' ').chain([" ", "\t"]).collect();
        let likely = proptest::collection::vec(proptest::sample::select(words), 0..24)
            .prop_map(|words| words.concat().into_bytes());
        let octet = prop_oneof![Just(b'\t'), 0x20..0x7f_u8, 0x80..=0xff_u8];
        prop_oneof![4 => likely, 1 => proptest::collection::vec(octet, 0..60)]
    }

    fn read(cookie: &[u8]) -> Read {
        Read::of(cookie.split(|b| *b == b';').skip(1))
    }

    proptest! {
        #[test]
        fn name_and_value_are_never_touched_and_what_was_asked_is_there(cookie in cookie(), options in options()) {
            let out = hardened(&cookie, options).unwrap_or_else(|| cookie.clone());
            let pair = |cookie: &[u8]| cookie.split(|b| *b == b';').next().map(<[u8]>::to_vec);
            prop_assert_eq!(pair(&out), pair(&cookie));
            prop_assert!(HeaderValue::from_bytes(&out).is_ok());
            let (before, after) = (read(&cookie), read(&out));
            prop_assert!(after.secure || !(options.secure || before.secure));
            prop_assert!(after.http_only || !(options.http_only || before.http_only));
            prop_assert_eq!(after.same_site, options.same_site.or(before.same_site));
            prop_assert!(after.secure || after.same_site != Some(SameSite::None));
            prop_assert_eq!(hardened(&out, options), None, "once is enough");
            // Everything else stays, in its order.
            let others = |cookie: &[u8]| -> Vec<Vec<u8>> {
                let parts = cookie.split(|b| *b == b';').skip(1);
                parts.filter(|part| kind(part).is_none()).map(<[u8]>::to_vec).collect()
            };
            prop_assert_eq!(others(&out), others(&cookie));
        }
    }
}
