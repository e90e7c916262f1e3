//! How the edge says no: the only place where failures become HTTP.
//!
//! Browsers get a small page that says what happened and what to do next, everyone else
//! `application/problem+json` (RFC 9457). Nothing that a peer wrote is repeated.

use std::fmt::Write as _;
use std::sync::LazyLock;
use std::time::Duration;

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{
    ACCEPT, CACHE_CONTROL, CONNECTION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, RETRY_AFTER,
    VARY, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderValue, Response, StatusCode, Version};

use super::headers::BadFraming;
use super::permit::Denied;
use super::rate::Limited;
use super::upstream::NoWire;
use crate::domain::route::Maintenance;
use crate::live::path::BadPath;
use crate::live::{Cause, Refusal};
use crate::telemetry::metrics::Limit;

/// The stable code of a refusal at the edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// The route needs a certificate and none came.
    CertificateRequired,
    /// The certificate is past its end.
    CertificateExpired,
    /// The certificate was revoked.
    CertificateRevoked,
    /// The certificate is not one of ours, or not for this.
    CertificateUntrusted,
    /// The person is known and may not come in here.
    AccessDenied,
    /// The request cannot be understood in exactly one way.
    BadRequest,
    /// No route leads there.
    NotFound,
    /// The visitor was too slow.
    RequestTimeout,
    /// The body is too large.
    PayloadTooLarge,
    /// The connection was made for another site.
    MisdirectedRequest,
    /// Too many requests.
    RateLimited,
    /// The head is too large.
    HeadersTooLarge,
    /// The app does not answer.
    UpstreamUnavailable,
    /// The edge cannot take it now.
    Overloaded,
    /// The edge has not heard from its authority for too long.
    PolicyStale,
    /// The app answers too slowly.
    UpstreamTimeout,
    /// The route is closed for a while.
    Maintenance,
}

impl Code {
    /// The problem's type (RFC 9457 §3.1.1).
    pub fn urn(self) -> String {
        format!("urn:wicketgate:problem:{}", self.name())
    }

    /// The code as clients read it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::CertificateRequired => "certificate_required",
            Self::CertificateExpired => "certificate_expired",
            Self::CertificateRevoked => "certificate_revoked",
            Self::CertificateUntrusted => "certificate_untrusted",
            Self::AccessDenied => "access_denied",
            Self::BadRequest => "bad_request",
            Self::NotFound => "not_found",
            Self::RequestTimeout => "request_timeout",
            Self::PayloadTooLarge => "payload_too_large",
            Self::MisdirectedRequest => "misdirected_request",
            Self::RateLimited => "rate_limited",
            Self::HeadersTooLarge => "headers_too_large",
            Self::UpstreamUnavailable => "upstream_unavailable",
            Self::Overloaded => "overloaded",
            Self::PolicyStale => "policy_stale",
            Self::UpstreamTimeout => "upstream_timeout",
            Self::Maintenance => "maintenance",
        }
    }

    /// The status it comes with.
    pub const fn status(self) -> StatusCode {
        match self {
            Self::CertificateRequired
            | Self::CertificateExpired
            | Self::CertificateRevoked
            | Self::CertificateUntrusted
            | Self::AccessDenied => StatusCode::FORBIDDEN,
            Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::PayloadTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::MisdirectedRequest => StatusCode::MISDIRECTED_REQUEST,
            Self::RateLimited => StatusCode::TOO_MANY_REQUESTS,
            Self::HeadersTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::UpstreamUnavailable => StatusCode::BAD_GATEWAY,
            Self::Overloaded | Self::PolicyStale | Self::Maintenance => StatusCode::SERVICE_UNAVAILABLE,
            Self::UpstreamTimeout => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    /// What happened, in a heading.
    const fn title(self) -> &'static str {
        match self {
            Self::CertificateRequired => "This page needs a certificate",
            Self::CertificateExpired => "This device's certificate has expired",
            Self::CertificateRevoked => "This device's certificate was revoked",
            Self::CertificateUntrusted => "This certificate is not known here",
            Self::AccessDenied => "You may not come in here",
            Self::BadRequest => "The request is not clear",
            Self::NotFound => "There is nothing here",
            Self::RequestTimeout => "The request took too long",
            Self::PayloadTooLarge => "That is too large",
            Self::MisdirectedRequest => "Wrong connection for this site",
            Self::RateLimited => "Too many requests",
            Self::HeadersTooLarge => "The request's head is too large",
            Self::UpstreamUnavailable => "The app does not answer",
            Self::Overloaded => "Not available right now",
            Self::PolicyStale => "Access cannot be checked right now",
            Self::UpstreamTimeout => "The app takes too long",
            Self::Maintenance => "Closed for maintenance",
        }
    }

    /// What happened and what to do next, in two sentences.
    const fn advice(self) -> &'static str {
        match self {
            Self::CertificateRequired => {
                "Your browser did not present a client certificate. If this device has one, close all \
                 windows of this site and choose it when asked; else enrol the device first."
            }
            Self::CertificateExpired => {
                "The certificate that this device presented is past its end. Renew it, then open this page again."
            }
            Self::CertificateRevoked => {
                "The certificate that this device presented was taken back and will not pass again. \
                 If that is a surprise, ask your administrator; else enrol the device anew."
            }
            Self::CertificateUntrusted => {
                "The presented certificate was not issued here, or not for signing in. Choose another \
                 one, or enrol this device."
            }
            Self::AccessDenied => {
                "Your certificate is in order, but you are not among those who may use this page. \
                 Ask your administrator for access."
            }
            Self::BadRequest => "The request can be read in more than one way, so it was not passed on.",
            Self::NotFound => "No app is connected to this address.",
            Self::RequestTimeout => "The rest of the request did not arrive in time. Try again.",
            Self::PayloadTooLarge => "The request's body is larger than this site takes.",
            Self::MisdirectedRequest => "This site wants a connection of its own. Open the page again.",
            Self::RateLimited => {
                "There were too many requests in a short time. Wait a moment, then try again."
            }
            Self::HeadersTooLarge => {
                "Cookies or other headers are too large. Delete this site's cookies and try again."
            }
            Self::UpstreamUnavailable => {
                "The app behind this address could not be reached. Try again in a minute."
            }
            Self::Overloaded => {
                "This part of the gate is not taking visitors at the moment. Try again in a minute."
            }
            Self::PolicyStale => {
                "The gate cannot tell for certain who may come in, and lets nobody in meanwhile. Try again in a \
                 minute; if that does not help, tell whoever runs it."
            }
            Self::UpstreamTimeout => {
                "The app behind this address did not answer in time. Try again in a minute."
            }
            Self::Maintenance => "Somebody is working on the app behind this address. Come again later.",
        }
    }

    /// Whether the way on leads through the door.
    const fn leads_to_the_door(self) -> bool {
        matches!(
            self,
            Self::CertificateRequired
                | Self::CertificateExpired
                | Self::CertificateRevoked
                | Self::CertificateUntrusted
        )
    }
}

/// One refusal: what the visitor is told, and what the log is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    code: Code,
    detail: Option<&'static str>,
    refusal: Option<Refusal>,
    limit: Option<Limit>,
    /// After which it is worth trying again, as far as that is known.
    wait: Option<Duration>,
    /// Whether the connection ends, whatever the code says.
    is_last: bool,
    /// What is said in place of the code's advice.
    notice: Option<Box<Notice>>,
}

/// What an administrator has to say. Escaped wherever it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Notice(String);

impl Problem {
    /// A refusal with nothing to add to its code.
    pub const fn new(code: Code) -> Self {
        Self { code, detail: None, refusal: None, limit: None, wait: None, is_last: false, notice: None }
    }

    /// `bad_request`, with the fault in one clause.
    pub const fn bad_request(detail: &'static str) -> Self {
        let code = Code::BadRequest;
        Self {
            code,
            detail: Some(detail),
            refusal: None,
            limit: None,
            wait: None,
            is_last: false,
            notice: None,
        }
    }

    /// The stable code.
    pub const fn code(&self) -> Code {
        self.code
    }

    /// Why nobody passes: the certificate's fault, what the policy misses, or for whom it was too much.
    pub const fn cause(&self) -> Option<&'static str> {
        match (&self.refusal, self.limit, self.code) {
            (Some(refusal), ..) => Some(refusal.cause.name()),
            (None, Some(limit), _) => Some(limit.word()),
            (None, None, Code::CertificateRequired) => Some("none"),
            (None, None, Code::AccessDenied) => Some("policy"),
            _ => None,
        }
    }

    /// The limit that the request is over, if it is.
    pub const fn limit(&self) -> Option<Limit> {
        self.limit
    }

    /// What happened and what to do next, for people.
    fn advice(&self) -> &str {
        self.notice.as_deref().map_or(self.code.advice(), |Notice(text)| text.as_str())
    }

    /// Whether the connection ends with it, where it otherwise would not.
    pub(super) const fn set_last(&mut self, is_last: bool) {
        self.is_last = is_last;
    }

    /// The refused certificate, if there is one.
    pub const fn refusal(&self) -> Option<&Refusal> {
        self.refusal.as_ref()
    }

    /// Whether a connection of this version must end with this answer: after a certificate refusal,
    /// because a browser that has just imported its certificate would go on anonymously; after a broken
    /// request of HTTP/1, because what follows it cannot be told apart from it. Not where somebody known
    /// may not have this one thing: whatever else they do on the connection goes on. And not after too many
    /// requests, unless they go on and on.
    pub fn ends_connection(&self, version: Version) -> bool {
        let is_by_certificate = self.code != Code::AccessDenied || self.refusal.is_some();
        let is_broken = matches!(self.code, Code::RequestTimeout | Code::PayloadTooLarge | Code::BadRequest);
        self.is_last
            || (self.code.status() == StatusCode::FORBIDDEN && is_by_certificate)
            || (is_broken && version < Version::HTTP_2)
    }
}

impl From<Denied> for Problem {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Stale => Self::new(Code::PolicyStale),
            Denied::CertificateRequired => Self::new(Code::CertificateRequired),
            Denied::NotAllowed(_) => Self::new(Code::AccessDenied),
            Denied::Unclear => Self::bad_request("path or method can be read in more than one way"),
            Denied::Refused(refusal) => Self {
                code: code_of(refusal.cause),
                detail: Some(refusal.cause.name()),
                refusal: Some(refusal),
                ..Self::new(Code::AccessDenied)
            },
        }
    }
}

impl From<Limited> for Problem {
    fn from(limited: Limited) -> Self {
        let Limited { limit, wait } = limited;
        Self { limit: Some(limit), wait: Some(wait), ..Self::new(Code::RateLimited) }
    }
}

impl From<&Maintenance> for Problem {
    fn from(maintenance: &Maintenance) -> Self {
        let notice = maintenance.message.clone().map(|text| Box::new(Notice(text)));
        Self { wait: maintenance.retry_after(), notice, ..Self::new(Code::Maintenance) }
    }
}

impl From<BadPath> for Problem {
    fn from(fault: BadPath) -> Self {
        Self::bad_request(match fault {
            BadPath::NotAbsolute => "the path does not start with /",
            BadPath::EmptySegment => "the path has an empty segment",
            BadPath::DotSegment => "the path has a dot segment",
            BadPath::HiddenSeparator => "the path hides a separator",
            BadPath::Control => "the path has a control character",
            BadPath::Encoding => "the path is badly encoded",
            BadPath::Ambiguous => "the path can be read as another route's",
        })
    }
}

impl From<BadFraming> for Problem {
    fn from(fault: BadFraming) -> Self {
        Self::bad_request(match fault {
            BadFraming::Length => "the content-length is not one number",
            BadFraming::Coding => "the transfer coding is not chunked alone",
        })
    }
}

impl From<NoWire> for Problem {
    fn from(none: NoWire) -> Self {
        match none {
            NoWire::Unavailable => Self::new(Code::UpstreamUnavailable),
            // A place becomes free with the next answer.
            NoWire::Busy => Self { wait: Some(Duration::from_secs(1)), ..Self::new(Code::Overloaded) },
            NoWire::Late => Self::new(Code::UpstreamTimeout),
        }
    }
}

/// [`Cause::code`] as a value; an unknown name counts as untrusted.
fn code_of(cause: Cause) -> Code {
    match cause.code() {
        "certificate_expired" => Code::CertificateExpired,
        "certificate_revoked" => Code::CertificateRevoked,
        "access_denied" => Code::AccessDenied,
        _ => Code::CertificateUntrusted,
    }
}

/// Whether whoever sent these headers reads pages (RFC 9110 §12.5.1; weights are of no use here).
pub(super) fn wants_page(headers: &HeaderMap) -> bool {
    const PAGE: &[u8] = b"text/html";
    let names_page = |value: &HeaderValue| {
        value.as_bytes().windows(PAGE.len()).any(|window| window.eq_ignore_ascii_case(PAGE))
    };
    headers.get_all(ACCEPT).iter().any(names_page)
}

/// The answer to a refused request. HTTP/1 is told to close where [`Problem::ends_connection`];
/// for HTTP/2 the connection's owner sends GOAWAY.
pub(super) fn refuse(
    problem: &Problem,
    version: Version,
    wants_page: bool,
    door_url: Option<&str>,
) -> Response<Bytes> {
    let door_url = door_url.filter(|_| problem.code.leads_to_the_door());
    let (kind, body) = match wants_page {
        true => ("text/html; charset=utf-8", page(problem, door_url)),
        false => ("application/problem+json", json(problem, door_url)),
    };
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = problem.code.status();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(VARY, HeaderValue::from_static("Accept"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    if let Some(wait) = problem.wait {
        headers.insert(RETRY_AFTER, HeaderValue::from(whole_seconds(wait)));
    }
    if wants_page {
        headers.insert(CONTENT_SECURITY_POLICY, POLICY.clone());
    }
    if version < Version::HTTP_2 && problem.ends_connection(version) {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// RFC 9110 §10.2.3: whole seconds; too soon would be refused again.
fn whole_seconds(wait: Duration) -> u64 {
    (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1)
}

fn json(problem: &Problem, door_url: Option<&str>) -> String {
    let code = problem.code;
    let mut value = serde_json::json!({
        "type": code.urn(),
        "title": code.title(),
        "status": code.status().as_u16(),
        "code": code.name(),
        "detail": problem.detail.unwrap_or(problem.advice()),
    });
    if let Some(serial) = problem.refusal.as_ref().and_then(|refusal| refusal.serial) {
        value["serial"] = serial.to_string().into();
    }
    if let Some(limit) = problem.limit {
        value["limit"] = limit.word().into();
    }
    if let Some(door) = door_url {
        value["door"] = door.into();
    }
    value.to_string()
}

fn page(problem: &Problem, door_url: Option<&str>) -> String {
    let code = problem.code;
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <meta name=\"robots\" content=\"noindex\"><title>{title}</title><style>{STYLE}</style></head>\
         <body><main><p class=\"status\">{status}</p><h1>{title}</h1><p>{advice}</p>",
        title = escape(code.title()),
        status = code.status().as_u16(),
        advice = escape(problem.advice()),
    );
    // Writing to a String does not fail.
    if let Some(url) = door_url {
        let _ = write!(page, "<p><a href=\"{}\">Go to the door</a></p>", escape(url));
    }
    page.push_str("<dl>");
    let _ = write!(page, "<dt>Code</dt><dd>{}</dd>", code.name());
    if let Some(refusal) = &problem.refusal {
        let _ = write!(page, "<dt>Cause</dt><dd>{}</dd>", refusal.cause.name());
        if let Some(serial) = refusal.serial {
            let _ = write!(page, "<dt>Certificate</dt><dd>{serial}</dd>");
        }
    }
    if let Some(limit) = problem.limit {
        let _ = write!(page, "<dt>Limit</dt><dd>{}</dd>", limit.word());
    }
    page.push_str("</dl></main></body></html>\n");
    page
}

/// Text as HTML content or a quoted attribute.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

const STYLE: &str = ":root{color-scheme:light dark}\
body{margin:0;min-height:100vh;display:grid;place-items:center;font:1rem/1.5 system-ui,sans-serif;\
background:light-dark(#f6f6f3,#16181b);color:light-dark(#1c1e21,#e8e8e4)}\
main{max-width:34rem;padding:2rem 1.5rem}\
.status{margin:0;font-variant-numeric:tabular-nums;color:light-dark(#5b5f66,#a3a8b0)}\
h1{margin:.25rem 0 1rem;font-size:1.6rem;line-height:1.25}\
a{color:light-dark(#0b57a4,#8fc1ff)}\
dl{display:grid;grid-template-columns:auto 1fr;gap:.25rem 1rem;margin-top:2rem;font-size:.875rem;\
color:light-dark(#5b5f66,#a3a8b0)}dd{margin:0;overflow-wrap:anywhere;font-family:ui-monospace,monospace}";

/// Allows the one inline style by its hash, and nothing else.
static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let hash = STANDARD.encode(digest::digest(&digest::SHA256, STYLE.as_bytes()));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'"
    );
    HeaderValue::try_from(policy).unwrap_or_else(|_| HeaderValue::from_static("default-src 'none'"))
});

#[cfg(test)]
mod tests;
