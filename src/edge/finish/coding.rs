//! Whether an answer is compressed, and how (RFC 9110 §8.4, §12.5.3): what is text, is not small, and is not coded
//! already, for visitors who take it.

use std::sync::Arc;

use http::header::{
    ACCEPT_ENCODING, ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE,
    CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue, VARY,
};
use http::{Method, Request, Response, StatusCode, Version};
use hyper::body::Body;
use tokio::sync::Semaphore;

use super::packer::Packer;
use crate::edge::answer::AnswerBody;

/// Octets from which compressing pays.
const LEAST_OCTETS: u64 = 1_024;
/// A weight of 1, in thousandths (RFC 9110 §12.4.2).
const FULL_WEIGHT: u16 = 1_000;

/// Types that shrink, beside `text/…` and what ends in `+json` or `+xml`.
const TYPES: [&str; 16] = [
    "application/javascript",
    "application/json",
    "application/rtf",
    "application/sql",
    "application/toml",
    "application/vnd.ms-fontobject",
    "application/wasm",
    "application/x-javascript",
    "application/x-ndjson",
    "application/xml",
    "application/yaml",
    "font/otf",
    "font/ttf",
    "image/bmp",
    "image/vnd.microsoft.icon",
    "image/x-icon",
];
/// Streams of events are small pieces for which somebody waits.
const EVENTS: &str = "text/event-stream";

/// Fields in which the app vouches for the octets that it sends (RFC 9530, and what came before it).
const VOUCHING: [HeaderName; 4] = [
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("content-md5"),
];

/// How an answer is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    /// RFC 8878, within the window that RFC 9659 allows.
    Zstd,
    /// RFC 1952.
    Gzip,
}

impl Coding {
    /// As it stands in the header.
    const fn word(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
        }
    }
}

/// What of a request matters here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::edge) struct Asked {
    /// What the visitor likes best of what we have, if anything.
    coding: Option<Coding>,
    is_head: bool,
}

impl Asked {
    pub(super) fn of<B>(request: &Request<B>) -> Self {
        // The end of an answer of HTTP/1.0 without a length cannot be told from a connection that broke off.
        let is_wanted = request.version() >= Version::HTTP_11 && !is_kept_as_it_is(request.headers());
        let coding = is_wanted.then(|| chosen(request.headers())).flatten();
        Self { coding, is_head: request.method() == Method::HEAD }
    }
}

/// Compresses the answer if both it and the visitor are for it. Answers that depend on what a visitor takes say so,
/// compressed or not.
pub(super) fn compress(
    mut response: Response<AnswerBody>,
    asked: Asked,
    room: &Arc<Semaphore>,
) -> Response<AnswerBody> {
    if response.status() == StatusCode::NOT_MODIFIED {
        // It speaks of what the visitor keeps, which may be compressed (RFC 9110 §15.4.5).
        let headers = response.headers_mut();
        put_vary(headers);
        if asked.coding.is_some() {
            weaken(headers);
        }
        return response;
    }
    if !is_compressible(&response) {
        return response;
    }
    put_vary(response.headers_mut());
    let Some(coding) = asked.coding else { return response };
    if asked.is_head {
        weaken(response.headers_mut());
        return response;
    }
    if response.body().is_end_stream() {
        return response;
    }
    let Ok(place) = room.clone().try_acquire_owned() else { return response };
    let Some(packer) = Packer::new(coding) else { return response };
    let headers = response.headers_mut();
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding.word()));
    headers.remove(CONTENT_LENGTH);
    // Ranges would be those of what the app has.
    headers.remove(ACCEPT_RANGES);
    weaken(headers);
    response.map(|body| body.packed(packer, place))
}

/// What the visitor likes best; the stronger one of two that are liked as much.
fn chosen(headers: &HeaderMap) -> Option<Coding> {
    let mut weights = Weights::default();
    for line in headers.get_all(ACCEPT_ENCODING) {
        line.to_str().unwrap_or_default().split(',').for_each(|member| weights.take(member));
    }
    let (zstd, gzip) = (weights.of(weights.zstd), weights.of(weights.gzip));
    let (coding, weight) = if zstd >= gzip { (Coding::Zstd, zstd) } else { (Coding::Gzip, gzip) };
    // Who has named it and likes it better has it as it is.
    (weight > 0 && weight >= weights.identity.unwrap_or(0)).then_some(coding)
}

/// What was named, in thousandths.
#[derive(Default)]
struct Weights {
    zstd: Option<u16>,
    gzip: Option<u16>,
    identity: Option<u16>,
    /// Of what was not named.
    others: Option<u16>,
}

impl Weights {
    /// One member of the list. What is malformed counts as not there.
    fn take(&mut self, member: &str) {
        let (name, parameter) = member.split_once(';').unwrap_or((member, "q=1"));
        let Some(weight) = weight(parameter) else { return };
        let name = name.trim();
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        let place = if is("zstd") {
            &mut self.zstd
        } else if is("gzip") || is("x-gzip") {
            &mut self.gzip
        } else if is("identity") {
            &mut self.identity
        } else if name == "*" {
            &mut self.others
        } else {
            return;
        };
        *place = Some(weight);
    }

    fn of(&self, named: Option<u16>) -> u16 {
        named.or(self.others).unwrap_or(0)
    }
}

/// `q=` and 0 to 1, with at most three decimals (RFC 9110 §12.4.2).
fn weight(parameter: &str) -> Option<u16> {
    let (name, value) = parameter.trim().split_once('=')?;
    if !name.eq_ignore_ascii_case("q") {
        return None;
    }
    let (whole, decimals) = value.split_once('.').unwrap_or((value, ""));
    if decimals.len() > 3 || !decimals.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let thousandths = format!("{decimals:0<3}").parse::<u16>().ok()?;
    match (whole, thousandths) {
        ("0", thousandths) => Some(thousandths),
        ("1", 0) => Some(FULL_WEIGHT),
        _ => None,
    }
}

fn is_compressible(response: &Response<AnswerBody>) -> bool {
    let (status, headers) = (response.status(), response.headers());
    let has_no_body = status.is_informational()
        || [StatusCode::NO_CONTENT, StatusCode::RESET_CONTENT, StatusCode::PARTIAL_CONTENT].contains(&status);
    let is_settled = headers.contains_key(CONTENT_ENCODING)
        || headers.contains_key(CONTENT_RANGE)
        || VOUCHING.into_iter().any(|name| headers.contains_key(name));
    let said = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    let length = said.or_else(|| response.body().size_hint().exact());
    !has_no_body
        && !is_settled
        && !is_kept_as_it_is(headers)
        && length.is_none_or(|length| length >= LEAST_OCTETS)
        && headers.get(CONTENT_TYPE).is_some_and(shrinks)
}

/// Whether nobody on the way may change the content (RFC 9111 §5.2.1.6, §5.2.2.6).
fn is_kept_as_it_is(headers: &HeaderMap) -> bool {
    has_member(headers, CACHE_CONTROL, "no-transform")
}

fn has_member(headers: &HeaderMap, name: HeaderName, member: &str) -> bool {
    let lines = headers.get_all(name).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).any(|part| part.trim().eq_ignore_ascii_case(member))
}

fn shrinks(kind: &HeaderValue) -> bool {
    let Ok(kind) = kind.to_str() else { return false };
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let is_text = kind.starts_with("text/") && kind != EVENTS;
    is_text || kind.ends_with("+json") || kind.ends_with("+xml") || TYPES.contains(&kind.as_str())
}

fn put_vary(headers: &mut HeaderMap) {
    if !has_member(headers, VARY, "accept-encoding") && !has_member(headers, VARY, "*") {
        headers.append(VARY, HeaderValue::from_static("Accept-Encoding"));
    }
}

/// The tag is no longer of these very octets (RFC 9110 §8.8.1).
fn weaken(headers: &mut HeaderMap) {
    let Some(tag) = headers.get(ETAG).filter(|tag| !tag.as_bytes().starts_with(b"W/")) else { return };
    match HeaderValue::from_bytes(&[b"W/", tag.as_bytes()].concat()) {
        Ok(weak) if tag.as_bytes().starts_with(b"\"") => drop(headers.insert(ETAG, weak)),
        // It is no tag.
        _ => drop(headers.remove(ETAG)),
    }
}

#[cfg(test)]
mod tests;
