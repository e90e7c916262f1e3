//! The head of a request at the edge: no spelling of an identity header goes on, the named host is one,
//! and a path has one reading.

#![no_main]

use std::collections::BTreeSet;
use std::sync::LazyLock;

use http::header::{CONNECTION, COOKIE, HOST, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Uri, Version};
use libfuzzer_sys::fuzz_target;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use wicketgate::edge::headers::{Aliases, clean_request};
use wicketgate::edge::host::named;
use wicketgate::live::path::segments;
use wicketgate::telemetry::TraceContext;

static ALIASES: LazyLock<Aliases> =
    LazyLock::new(|| Aliases::of(&BTreeSet::from(["X-WebAuth-User".to_owned()])));

const FAMILIES: [&str; 5] = ["CLIENT_CERT", "WICKETGATE_", "X_FORWARDED", "X_ORIGINAL_", "X_REWRITE_"];
const NAMES: [&str; 6] =
    ["FORWARDED", "X_CLIENT_CERT", "X_REAL_IP", "X_WEBAUTH_USER", "SCRIPT_NAME", "PATH_INFO"];

fuzz_target!(|bytes: &[u8]| {
    let mut lines = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Request::new(&mut lines);
    if !head.parse(bytes).is_ok_and(|status| status.is_complete()) {
        return;
    }
    let mut headers = HeaderMap::new();
    for line in head.headers.iter() {
        let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(line.name.as_bytes()), HeaderValue::from_bytes(line.value))
        else {
            return;
        };
        headers.append(name, value);
    }
    let Ok(uri) = head.path.unwrap_or_default().parse::<Uri>() else { return };
    host(&uri, &headers);
    path(uri.path());
    if let Some(value) = headers.get("traceparent").and_then(|value| value.to_str().ok())
        && let Some(trace) = TraceContext::from_header(value)
    {
        assert_eq!(TraceContext::from_header(&trace.to_header()), Some(trace));
    }
    fields(headers);
});

fn host(uri: &Uri, headers: &HeaderMap) {
    for version in [Version::HTTP_10, Version::HTTP_11, Version::HTTP_2] {
        let Ok(found) = named(version, uri, headers) else { continue };
        let again = HeaderMap::from_iter([(HOST, HeaderValue::try_from(found.authority()).unwrap())]);
        assert_eq!(named(version, &Uri::from_static("/"), &again).as_ref(), Ok(&found));
    }
}

fn path(path: &str) {
    let Ok(found) = segments(path) else { return };
    for (at, segment) in found.iter().enumerate() {
        assert!(!segment.contains(['/', '\\', ';']) && !segment.chars().any(char::is_control));
        assert!(segment != "." && segment != ".." && (!segment.is_empty() || at + 1 == found.len()));
    }
    let parts: Vec<_> =
        found.iter().map(|segment| utf8_percent_encode(segment, NON_ALPHANUMERIC).to_string()).collect();
    assert_eq!(segments(&format!("/{}", parts.join("/"))).as_ref(), Ok(&found));
}

fn fields(mut headers: HeaderMap) {
    clean_request(&mut headers, &ALIASES);
    for name in headers.keys() {
        // As CGI and its heirs name it in the environment.
        let variable: String = name
            .as_str()
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' })
            .collect();
        let family = FAMILIES.iter().any(|family| variable.starts_with(family));
        assert!(!family && !NAMES.contains(&variable.as_str()), "{name}");
    }
    for name in [CONNECTION, TRANSFER_ENCODING, UPGRADE] {
        assert!(!headers.contains_key(name));
    }
    assert!(headers.get_all(COOKIE).iter().count() <= 1);
    let once = headers.clone();
    clean_request(&mut headers, &ALIASES);
    assert_eq!(headers, once);
}
