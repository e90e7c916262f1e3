//! Whom backends are told of: the head of a visitor, an empty line, and what they present. Whatever the octets, what is
//! written of them is one byte sequence of RFC 8941 that says the same octets; and beside it nothing is left that a
//! visitor said under that name.

#![no_main]

use std::collections::BTreeSet;
use std::sync::LazyLock;

use http::{HeaderMap, HeaderName, HeaderValue};
use libfuzzer_sys::fuzz_target;
use wicketgate::edge::headers::{Aliases, byte_sequence, clean_request, clean_trailers};

static ALIASES: LazyLock<Aliases> = LazyLock::new(|| Aliases::of(&BTreeSet::new()));

/// RFC 4648 §4.
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const OURS: HeaderName = HeaderName::from_static("client-cert");

fuzz_target!(|octets: &[u8]| {
    let mut lines = [httparse::EMPTY_HEADER; 64];
    let Ok(httparse::Status::Complete((length, lines))) = httparse::parse_headers(octets, &mut lines) else {
        written(octets);
        return;
    };
    let value = written(&octets[length..]);
    let mut headers = HeaderMap::new();
    for line in lines {
        let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(line.name.as_bytes()), HeaderValue::from_bytes(line.value))
        else {
            return;
        };
        headers.append(name, value);
    }
    let mut trailers = headers.clone();
    clean_trailers(&mut trailers, &ALIASES);
    assert!(!trailers.keys().any(speaks_of_certificates), "{trailers:?}");
    clean_request(&mut headers, &ALIASES);
    assert!(!headers.keys().any(speaks_of_certificates), "{headers:?}");
    headers.insert(OURS, value.clone());
    let said: Vec<_> = headers.iter().filter(|(name, _)| speaks_of_certificates(name)).collect();
    assert_eq!(said, [(&OURS, &value)]);
});

/// The octets as they are sent, once they have been read again.
fn written(der: &[u8]) -> HeaderValue {
    let value = byte_sequence(der).unwrap();
    assert_eq!(read(value.as_bytes()).as_deref(), Some(der));
    value
}

/// RFC 8941 §4.2.7, with the padding and the zero bits that some readers insist on.
fn read(value: &[u8]) -> Option<Vec<u8>> {
    let text = value.strip_prefix(b":")?.strip_suffix(b":")?;
    if text.len() % 4 != 0 {
        return None;
    }
    let end = text.iter().position(|octet| *octet == b'=').unwrap_or(text.len());
    let (digits, padding) = text.split_at(end);
    if padding.len() > 2 || padding.iter().any(|octet| *octet != b'=') {
        return None;
    }
    let (mut octets, mut bits, mut held) = (Vec::new(), 0_u32, 0_u32);
    for digit in digits {
        let place = ALPHABET.iter().position(|letter| letter == digit)?;
        held = (held << 6) | u32::try_from(place).ok()?;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            octets.push(u8::try_from(held >> bits).ok()?);
            held &= (1 << bits) - 1;
        }
    }
    (held == 0).then_some(octets)
}

/// As CGI and its heirs name it in the environment.
fn speaks_of_certificates(name: &HeaderName) -> bool {
    let fold = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    let variable: String = name.as_str().chars().map(fold).collect();
    variable.starts_with("CLIENT_CERT") || variable == "X_CLIENT_CERT"
}
