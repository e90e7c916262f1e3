//! OCSP over plain HTTP (RFC 6960 appendix A, RFC 9919 §5): GET with the request in the path, and POST.

use std::error::Error;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_TYPE, ETAG, EXPIRES, IF_NONE_MATCH, LAST_MODIFIED, RETRY_AFTER,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt, Limited};
use percent_encoding::percent_decode_str;

use crate::domain::UtcTime;
use crate::live::{OcspAnswer, OcspAnswers, OcspRefusal};
use crate::pki::ocsp::{ErrorStatus, MAX_REQUEST_OCTETS, OcspRequest, error_response};

/// Where it is served, below the listener's root.
pub const PATH: &str = "/pki/ocsp";
/// A whole POST must arrive within this.
const BODY_WITHIN: Duration = Duration::from_secs(5);
/// Caches on the way may keep an answer for this long: they hear of no revocation.
const KEEP: Duration = Duration::from_secs(300);

const REQUEST_TYPE: &str = "application/ocsp-request";
const RESPONSE_TYPE: HeaderValue = HeaderValue::from_static("application/ocsp-response");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// Base64 as clients write it: with padding, or without.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Whether this path is ours.
pub fn is_asked(path: &str) -> bool {
    path.strip_prefix(PATH).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Answers one request whose path [`is_asked`].
pub async fn answer<B>(
    answers: &OcspAnswers,
    request: Request<B>,
    source: IpAddr,
    now: UtcTime,
) -> Response<Bytes>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let (head, body) = request.into_parts();
    let reads = matches!(head.method, Method::GET | Method::HEAD);
    let question = match head.method {
        Method::GET | Method::HEAD => in_path(head.uri.path()),
        Method::POST => in_body(&head.headers, body).await,
        _ => return method_not_allowed(),
    };
    let der = match question {
        Ok(der) => der,
        Err(status) => return plain(status),
    };
    let Ok(request) = OcspRequest::from_der(&der) else { return refused(ErrorStatus::MalformedRequest) };
    match answers.answer(&request, source, now).await {
        // The answer to a POST, or to a nonce, is one asker's (RFC 9919 §5, RFC 9110 §9.3.3).
        Ok(answer) if reads && request.plain().is_some() => shared(&answer, &head.headers, now),
        Ok(answer) => respond(StatusCode::OK, answer.der, NO_STORE),
        Err(OcspRefusal::Unauthorized) => refused(ErrorStatus::Unauthorized),
        Err(OcspRefusal::Limited { wait }) => later(StatusCode::TOO_MANY_REQUESTS, wait),
        Err(OcspRefusal::Unavailable { wait }) => later(StatusCode::SERVICE_UNAVAILABLE, wait),
    }
}

/// The request in the path of a GET. RFC 6960 appendix A.1.1: base64, then percent-encoded; some clients
/// leave its slashes as they are. Nothing, when it is not base64.
///
/// # Errors
/// 414 when it is longer than any request.
pub fn in_path(path: &str) -> Result<Vec<u8>, StatusCode> {
    let text = path.strip_prefix(PATH).and_then(|rest| rest.strip_prefix('/')).unwrap_or_default();
    // Three characters for each of base64's in the worst case.
    if text.len() > MAX_REQUEST_OCTETS * 4 {
        return Err(StatusCode::URI_TOO_LONG);
    }
    let base64: Vec<u8> = percent_decode_str(text).collect();
    // What is not base64 is not a request either, and answered as such.
    Ok(BASE64.decode(base64).unwrap_or_default())
}

async fn in_body<B>(headers: &HeaderMap, body: B) -> Result<Vec<u8>, StatusCode>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let named = headers.get(CONTENT_TYPE).map(|value| value.to_str().unwrap_or_default());
    let essence = named.map(|value| value.split(';').next().unwrap_or_default().trim());
    if essence.is_some_and(|essence| !essence.eq_ignore_ascii_case(REQUEST_TYPE)) {
        return Err(StatusCode::UNSUPPORTED_MEDIA_TYPE);
    }
    let limited = Limited::new(body, MAX_REQUEST_OCTETS);
    match tokio::time::timeout(BODY_WITHIN, limited.collect()).await {
        Err(_) => Err(StatusCode::REQUEST_TIMEOUT),
        Ok(Err(_)) => Err(StatusCode::PAYLOAD_TOO_LARGE),
        Ok(Ok(collected)) => Ok(collected.to_bytes().to_vec()),
    }
}

/// An answer for everyone, to be kept on the way for a short while, and never past its end.
fn shared(answer: &OcspAnswer, headers: &HeaderMap, now: UtcTime) -> Response<Bytes> {
    let keep = answer.next_update.since(now).min(KEEP);
    let etag = format!("\"{}\"", answer.tag);
    let known = headers.get_all(IF_NONE_MATCH).iter().any(|value| {
        value.to_str().is_ok_and(|list| list.split(',').any(|tag| ["*", &etag].contains(&tag.trim())))
    });
    let (status, body) =
        if known { (StatusCode::NOT_MODIFIED, Bytes::new()) } else { (StatusCode::OK, answer.der.clone()) };
    let caching = format!("public, max-age={}, no-transform, must-revalidate", keep.as_secs());
    let mut response = respond(status, body, value(&caching));
    let headers = response.headers_mut();
    headers.insert(ETAG, value(&etag));
    headers.insert(LAST_MODIFIED, date(answer.this_update));
    headers.insert(EXPIRES, date(now.plus(keep)));
    response
}

/// OCSP's own errors travel in a 200, where clients look for them.
fn refused(status: ErrorStatus) -> Response<Bytes> {
    respond(StatusCode::OK, Bytes::copy_from_slice(&error_response(status)), NO_STORE)
}

fn later(status: StatusCode, wait: Duration) -> Response<Bytes> {
    let body = Bytes::copy_from_slice(&error_response(ErrorStatus::TryLater));
    let mut response = respond(status, body, NO_STORE);
    // A started second is a whole one.
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
    response
}

fn respond(status: StatusCode, body: Bytes, caching: HeaderValue) -> Response<Bytes> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, RESPONSE_TYPE);
    headers.insert(CACHE_CONTROL, caching);
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

fn plain(status: StatusCode) -> Response<Bytes> {
    let reason = status.canonical_reason().unwrap_or_default();
    let mut response = respond(status, Bytes::from(format!("{reason}\n")), NO_STORE);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response
}

fn method_not_allowed() -> Response<Bytes> {
    let mut response = plain(StatusCode::METHOD_NOT_ALLOWED);
    response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD, POST"));
    response
}

fn date(at: UtcTime) -> HeaderValue {
    let since = Duration::from_secs(u64::try_from(at.as_unix()).unwrap_or(0));
    value(&httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + since))
}

/// Text of our own making, ASCII throughout.
fn value(text: &str) -> HeaderValue {
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""))
}
