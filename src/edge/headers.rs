//! What of a head goes on, both ways. On every route: hop-by-hop fields and every alias of an
//! identity field are taken out, and only then are ours put in.

use std::collections::{BTreeSet, HashSet};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{
    CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};

/// RFC 9440 §2.2: the client's leaf.
pub(super) const CLIENT_CERT: HeaderName = HeaderName::from_static("client-cert");
/// RFC 9440 §2.3: what stands above it.
pub(super) const CLIENT_CERT_CHAIN: HeaderName = HeaderName::from_static("client-cert-chain");
/// Our signed statement.
pub(super) const ASSERTION: HeaderName = HeaderName::from_static("wicketgate-assertion");
/// The visitor's address as proxies wrote it before RFC 7239.
pub(super) const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// The scheme the visitor used.
pub(super) const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// The host the visitor named.
pub(super) const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

const HOPS: usize = 11;
/// RFC 9110 §7.6.1, and what older peers take for the same. `Expect` and `Trailer` speak about
/// a body that we send in our own way; see [`Announced`] for where trailers go on.
const HOP_BY_HOP: [HeaderName; HOPS] = [
    CONNECTION,
    TRANSFER_ENCODING,
    UPGRADE,
    TE,
    TRAILER,
    EXPECT,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("http2-settings"),
];

/// Families of names that only we may set, or nobody: the last two name another path or host than the
/// request does, and backends that believe them serve that under the policy of this one.
const OWN_PREFIXES: [&str; 5] = ["client-cert", "wicketgate-", "x-forwarded", "x-original-", "x-rewrite-"];
/// Single names of both kinds. WSGI servers take `SCRIPT_NAME` off the path, and some read `CONTENT_LENGTH` from
/// whatever they can read as that; the fields that frame a message are spelt in one way only.
const OWN_NAMES: [&str; 17] = [
    "content-length",
    "transfer-encoding",
    "forwarded",
    "x-real-ip",
    "true-client-ip",
    "client-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "cf-connecting-ip",
    "fastly-client-ip",
    "x-client-cert",
    "script-name",
    "x-script-name",
    "path-info",
    "x-path-info",
    "x-host",
    "x-envoy-original-path",
];

/// Names that carry an identity, in the one spelling in which they compare.
pub struct Aliases {
    names: HashSet<String>,
    /// First characters that any of the names has; most fields are told apart by this alone.
    initials: [bool; 128],
}

impl Aliases {
    /// The fixed names and every route's plain header.
    pub fn of(plain: &BTreeSet<String>) -> Self {
        let names: HashSet<String> =
            plain.iter().map(|name| canonical(name)).chain(OWN_NAMES.map(str::to_owned)).collect();
        let mut initials = [false; 128];
        for name in names.iter().map(String::as_str).chain(OWN_PREFIXES) {
            if let Some(seen) = name.bytes().next().and_then(|b| initials.get_mut(usize::from(b))) {
                *seen = true;
            }
        }
        Self { names, initials }
    }

    /// Whether a backend could take `name` for a field that only we set, or nobody.
    pub fn covers(&self, name: &HeaderName) -> bool {
        // Ours to send, and read by `framing`.
        if *name == CONTENT_LENGTH {
            return false;
        }
        let name = name.as_str();
        // Header names are lower case here; a first character that is none folds to `-`.
        let initial = name.bytes().next().map_or(0, |b| if b.is_ascii_alphanumeric() { b } else { b'-' });
        if !self.initials.get(usize::from(initial)).is_some_and(|seen| *seen) {
            return false;
        }
        let is_canonical = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if is_canonical {
            return self.covers_canonical(name);
        }
        self.covers_canonical(&canonical(name))
    }

    fn covers_canonical(&self, name: &str) -> bool {
        OWN_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) || self.names.contains(name)
    }
}

/// CGI and its heirs turn every character but letters and digits into `_`, so all of these are one.
fn canonical(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect()
}

/// A certificate as RFC 9440 writes it: a byte sequence (RFC 8941 §3.3.5).
pub fn byte_sequence(der: &[u8]) -> Option<HeaderValue> {
    HeaderValue::try_from(format!(":{}:", STANDARD.encode(der))).ok()
}

/// Takes out of a request what must not go on.
pub fn clean_request(headers: &mut HeaderMap, aliases: &Aliases) {
    remove_hop_by_hop(headers);
    remove_aliases(headers, aliases);
    join_cookies(headers);
}

/// Takes out of trailers, both ways, what must not go on: as of a head, and what has no business in trailers
/// (RFC 9110 §6.5.1), because some backends read them as if they had come in the head.
pub fn clean_trailers(trailers: &mut HeaderMap, aliases: &Aliases) {
    remove_hop_by_hop(trailers);
    remove_aliases(trailers, aliases);
    for name in [CONTENT_LENGTH, HOST] {
        trailers.remove(name);
    }
}

fn remove_aliases(headers: &mut HeaderMap, aliases: &Aliases) {
    let foreign: Vec<HeaderName> = headers.keys().filter(|name| aliases.covers(name)).cloned().collect();
    for name in foreign {
        headers.remove(name);
    }
}

/// What a request's head says about trailers, for where they go on: cleaning takes it out.
pub(super) struct Announced {
    /// Its sender takes them.
    takes: bool,
    /// Those that come, as far as they go on.
    names: Option<HeaderValue>,
}

impl Announced {
    /// Read before the head is cleaned.
    pub(super) fn of(headers: &HeaderMap, aliases: &Aliases) -> Self {
        let may_go_on = |name: &HeaderName| {
            let stays = HOP_BY_HOP.into_iter().chain([CONTENT_LENGTH, HOST]).any(|other| other == *name);
            !stays && !aliases.covers(name)
        };
        let names: Vec<_> = tokens(headers, TRAILER)
            .filter_map(|token| HeaderName::from_bytes(token.as_bytes()).ok())
            .filter(may_go_on)
            .collect();
        let joined = names.iter().map(HeaderName::as_str).collect::<Vec<_>>().join(", ");
        Self {
            takes: tokens(headers, TE).any(|token| token.eq_ignore_ascii_case("trailers")),
            names: HeaderValue::try_from(joined).ok().filter(|_| !names.is_empty()),
        }
    }

    /// Says it in a head that goes on.
    pub(super) fn put(self, headers: &mut HeaderMap) {
        if self.takes {
            headers.insert(TE, HeaderValue::from_static("trailers"));
        }
        if let Some(names) = self.names {
            headers.insert(TRAILER, names);
        }
    }
}

/// Why the framing of a request cannot be passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadFraming {
    /// Not one number, written in digits (RFC 9110 §8.6).
    #[error("the content-length is not one number")]
    Length,
    /// The octets are coded in a way that we would have to undo (RFC 9112 §6.1).
    #[error("the transfer coding is not chunked alone")]
    Coding,
}

/// Leaves at most one length, one number in digits, and no coding but chunked: what a backend reads otherwise
/// than we do begins here. HTTP/2 knows no coding, and its peers take lengths for a hint.
///
/// # Errors
/// As [`BadFraming`] says.
pub fn settle_framing(headers: &mut HeaderMap) -> Result<(), BadFraming> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    if let Some(only) = codings.next()
        && (!only.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked") || codings.next().is_some())
    {
        return Err(BadFraming::Coding);
    }
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let Some(first) = lengths.next() else { return Ok(()) };
    let is_number = !first.is_empty() && first.as_bytes().iter().all(u8::is_ascii_digit);
    // RFC 9112 §6.3: the same value twice may be taken as one; here it is nobody's to take as two.
    let mut is_alone = true;
    for again in lengths {
        is_alone = false;
        if again != first {
            return Err(BadFraming::Length);
        }
    }
    if !is_number {
        return Err(BadFraming::Length);
    }
    if !is_alone {
        let only = first.clone();
        headers.insert(CONTENT_LENGTH, only);
    }
    Ok(())
}

/// Takes out of an answer what was meant for us alone.
pub(super) fn clean_response(headers: &mut HeaderMap) {
    // RFC 9112 §6.3: a length beside a transfer coding says nothing, and must not go on.
    if headers.contains_key(TRANSFER_ENCODING) {
        headers.remove(CONTENT_LENGTH);
    }
    let trailer = headers.get(TRAILER).cloned();
    remove_hop_by_hop(headers);
    if let Some(trailer) = trailer {
        headers.insert(TRAILER, trailer);
    }
}

fn remove_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        for name in named_in_connection(headers) {
            // Framing and target are not the sender's to take away.
            if name != CONTENT_LENGTH && name != HOST {
                headers.remove(name);
            }
        }
    }
    // Most heads have none of them, and looking is cheaper than removing.
    let mut found = [false; HOPS];
    for name in headers.keys() {
        if let Some(at) = hop_by_hop(name) {
            found[at] = true;
        }
    }
    for (name, _) in HOP_BY_HOP.into_iter().zip(found).filter(|(_, is_found)| *is_found) {
        headers.remove(name);
    }
}

/// The place among [`HOP_BY_HOP`].
fn hop_by_hop(name: &HeaderName) -> Option<usize> {
    let may_be = matches!(name.as_str().as_bytes(), [b'c' | b't' | b'u' | b'e' | b'p' | b'k' | b'h', ..]);
    if !may_be {
        return None;
    }
    HOP_BY_HOP.iter().position(|other| other == name)
}

fn named_in_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    let tokens = tokens(headers, CONNECTION);
    tokens.filter_map(|token| HeaderName::from_bytes(token.as_bytes()).ok()).collect()
}

/// The members of a list.
fn tokens(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}

/// RFC 9113 §8.2.3: the crumbs of an HTTP/2 cookie are one field for HTTP/1.
fn join_cookies(headers: &mut HeaderMap) {
    let mut crumbs = headers.get_all(COOKIE).iter();
    let (Some(first), Some(second)) = (crumbs.next(), crumbs.next()) else { return };
    let mut joined = first.as_bytes().to_vec();
    for crumb in std::iter::once(second).chain(crumbs) {
        joined.extend_from_slice(b"; ");
        joined.extend_from_slice(crumb.as_bytes());
    }
    if let Ok(value) = HeaderValue::from_bytes(&joined) {
        headers.insert(COOKIE, value);
    }
}

/// Whether the request asks for a WebSocket and for nothing else (RFC 6455 §4.1).
pub(super) fn asks_for_websocket(headers: &HeaderMap) -> bool {
    let mut upgrades = headers.get_all(UPGRADE).iter();
    let websocket = upgrades.next().is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"));
    websocket && upgrades.next().is_none() && named_in_connection(headers).contains(&UPGRADE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers
    }

    fn aliases() -> Aliases {
        Aliases::of(&BTreeSet::from(["x-webauth-user".to_owned()]))
    }

    #[test]
    fn every_spelling_of_an_identity_field_is_taken_out() {
        for name in [
            "client-cert",
            "client_cert",
            "client.cert",
            "client-cert-chain",
            "client_cert_chain",
            "wicketgate-assertion",
            "wicketgate_assertion",
            "wicketgate-anything-later",
            "x-webauth-user",
            "x_webauth_user",
            "x-webauth_user",
            "x~webauth!user",
            "x-forwarded-for",
            "x_forwarded_for",
            "x-forwarded-prefix",
            "x-forwarded",
            "forwarded",
            "x-real-ip",
            "x_real_ip",
            "true-client-ip",
            "x-client-ip",
            "cf_connecting_ip",
            "script_name",
            "path-info",
            "x-original-url",
            "x_rewrite_url",
        ] {
            let mut headers = HeaderMap::new();
            headers.append(HeaderName::from_static(name), HeaderValue::from_static("forged"));
            headers.append(HeaderName::from_static(name), HeaderValue::from_static("twice"));
            clean_request(&mut headers, &aliases());
            assert!(headers.is_empty(), "{name}");
        }
    }

    #[test]
    fn what_frames_a_request_is_one_number_or_chunked() {
        let settled = |lines: &[(&'static str, &'static str)]| {
            let mut headers = map(lines);
            settle_framing(&mut headers).map(|()| headers.get_all(CONTENT_LENGTH).iter().count())
        };
        assert_eq!(settled(&[]), Ok(0));
        assert_eq!(settled(&[("transfer-encoding", "Chunked")]), Ok(0));
        assert_eq!(settled(&[("content-length", "5"), ("content-length", "5")]), Ok(1));
        for value in ["", "+5", "5,5", "0x5", "5 5"] {
            assert_eq!(settled(&[("content-length", value)]), Err(BadFraming::Length), "{value:?}");
        }
        assert_eq!(settled(&[("content-length", "5"), ("content-length", "05")]), Err(BadFraming::Length));
        for value in ["gzip, chunked", "identity", "chunked, chunked", ""] {
            assert_eq!(settled(&[("transfer-encoding", value)]), Err(BadFraming::Coding), "{value:?}");
        }
        let mut aliases_of_framing = map(&[("content_length", "5"), ("transfer_encoding", "chunked")]);
        clean_request(&mut aliases_of_framing, &aliases());
        assert!(aliases_of_framing.is_empty());
    }

    #[test]
    fn other_fields_go_on() {
        let mut headers = map(&[("accept", "*/*"), ("x-request-id", "1"), ("authorization", "Basic eA==")]);
        clean_request(&mut headers, &aliases());
        assert_eq!(headers.len(), 3);
    }

    #[test]
    fn fields_named_in_connection_end_here_but_framing_and_host_stay() {
        let mut headers = map(&[
            ("connection", "keep-alive, X-Secret , content-length"),
            ("connection", "host, client-cert"),
            ("x-secret", "1"),
            ("client-cert", ":AA==:"),
            ("keep-alive", "timeout=5"),
            ("content-length", "3"),
            ("host", "a.example"),
            ("te", "trailers"),
        ]);
        clean_request(&mut headers, &aliases());
        let left: BTreeSet<_> = headers.keys().map(HeaderName::as_str).collect();
        assert_eq!(left, BTreeSet::from(["content-length", "host"]));
    }

    #[test]
    fn trailers_lose_identities_framing_and_what_concerns_a_connection() {
        let mut trailers = map(&[
            ("grpc-status", "0"),
            ("x-checksum", "1"),
            ("client-cert", ":AA==:"),
            ("wicketgate_assertion", "forged"),
            ("x_webauth~user", "forged"),
            ("x-forwarded-for", "::1"),
            ("connection", "x-named"),
            ("x-named", "1"),
            ("te", "trailers"),
            ("trailer", "host"),
            ("host", "elsewhere"),
            ("content-length", "7"),
            ("content_length", "7"),
            ("transfer-encoding", "chunked"),
        ]);
        clean_trailers(&mut trailers, &aliases());
        let left: BTreeSet<_> = trailers.keys().map(HeaderName::as_str).collect();
        assert_eq!(left, BTreeSet::from(["grpc-status", "x-checksum"]));
    }

    #[test]
    fn trailers_are_announced_as_far_as_they_go_on() {
        let announced = |lines: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            Announced::of(&map(lines), &aliases()).put(&mut headers);
            let value = |name: HeaderName| {
                headers.get(name).map(|value: &HeaderValue| value.to_str().unwrap().to_owned())
            };
            (value(TE), value(TRAILER))
        };
        assert_eq!(announced(&[]), (None, None));
        assert_eq!(announced(&[("te", "gzip, Trailers")]), (Some("trailers".into()), None));
        assert_eq!(announced(&[("te", "gzip")]), (None, None));
        let named =
            [("trailer", "X-Checksum, client_cert, Host"), ("trailer", "te, x-webauth-user,x-two, ,")];
        assert_eq!(announced(&named), (None, Some("x-checksum, x-two".into())));
    }

    #[test]
    fn crumbs_become_one_cookie() {
        let mut headers = map(&[("cookie", "a=1"), ("cookie", "b=2"), ("cookie", "c=3")]);
        clean_request(&mut headers, &aliases());
        assert_eq!(headers.get_all(COOKIE).iter().collect::<Vec<_>>(), ["a=1; b=2; c=3"]);
    }

    #[test]
    fn only_a_plain_websocket_is_an_upgrade() {
        assert!(asks_for_websocket(&map(&[("connection", "keep-alive, Upgrade"), ("upgrade", "WebSocket")])));
        for lines in [
            &[("upgrade", "websocket")][..],
            &[("connection", "upgrade"), ("upgrade", "h2c")],
            &[("connection", "upgrade"), ("upgrade", "websocket, h2c")],
            &[("connection", "upgrade"), ("upgrade", "websocket"), ("upgrade", "h2c")],
        ] {
            assert!(!asks_for_websocket(&map(lines)), "{lines:?}");
        }
    }
}
