//! The HTTP client under the ACME engine: timeouts, our name, the configured root, a bounded body; and
//! a note of what the last answer's headers said, which the engine drops.
//!
//! A connection serves one request. An order takes a dozen of them every few weeks, and a pooled
//! connection that died unnoticed would leave us not knowing whether a POST arrived.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use http::header::{DATE, HOST, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use parking_lot::Mutex;
use rustls::ClientConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;

use crate::domain::UtcTime;

/// For TCP and TLS together.
const CONNECT_WITHIN: Duration = Duration::from_secs(15);
/// For the whole request.
const ANSWER_WITHIN: Duration = Duration::from_secs(45);
/// Longer answers are refused; a chain is a few KiB.
const MAX_BODY: usize = 1024 * 1024;
/// How we name ourselves (RFC 8555 §6.1).
pub(super) const OUR_NAME: HeaderValue =
    HeaderValue::from_static(concat!("wicketgate/", env!("CARGO_PKG_VERSION")));
/// When to look again at renewal information that does not say it.
const DEFAULT_LOOK_SECONDS: u64 = 6 * 3600;

/// What the last answer said beside its body.
#[derive(Clone, Debug, Default)]
pub(super) struct Exchange {
    /// Its status.
    pub(super) status: Option<StatusCode>,
    /// `Retry-After`, as a span.
    pub(super) retry_after: Option<Duration>,
    /// `Date`: the authority's clock.
    pub(super) date: Option<UtcTime>,
}

/// Why there was no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum HttpFault {
    /// The URL is not https, or has no host.
    #[error("{0} is not an https URL")]
    Url(String),
    /// No connection.
    #[error("{host} cannot be reached: {detail}")]
    Connect { host: String, detail: String },
    /// The connection broke, or took too long.
    #[error("{host} did not answer: {detail}")]
    Answer { host: String, detail: String },
    /// The directory answered with an error.
    #[error("{host} answered {status}")]
    Status { host: String, status: StatusCode },
}

/// The client. Cheap to clone; clones share the note of the last answer.
#[derive(Clone)]
pub(super) struct AcmeHttp {
    tls: Arc<ClientConfig>,
    last: Arc<Mutex<Exchange>>,
}

impl AcmeHttp {
    /// A client that trusts the system's roots and those in `extra_roots` (PEM).
    pub(super) fn new(extra_roots: Option<&[u8]>) -> Result<Self, rustls::Error> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let extra: Vec<CertificateDer<'static>> =
            extra_roots.into_iter().flat_map(CertificateDer::pem_slice_iter).filter_map(Result::ok).collect();
        if extra_roots.is_some() && extra.is_empty() {
            return Err(rustls::Error::General("the root file holds no certificate".to_owned()));
        }
        let verifier = rustls_platform_verifier::Verifier::new_with_extra_roots(extra, provider.clone())?;
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        Ok(Self { tls: Arc::new(tls), last: Arc::default() })
    }

    /// The same client with a note of its own, for one order.
    pub(super) fn fresh(&self) -> Self {
        Self { tls: self.tls.clone(), last: Arc::default() }
    }

    /// What the last answer said.
    pub(super) fn last(&self) -> Exchange {
        self.last.lock().clone()
    }

    async fn exchange(self, request: Request<BodyWrapper<Bytes>>) -> Result<BytesResponse, HttpFault> {
        *self.last.lock() = Exchange::default();
        let host = request.uri().host().unwrap_or_default().to_owned();
        let (is_get, uri) = (request.method() == Method::GET, request.uri().clone());
        let port = uri.port_u16().unwrap_or(443);
        if uri.scheme_str() != Some("https") || host.is_empty() {
            return Err(HttpFault::Url(uri.to_string()));
        }
        let unanswered = |detail: String| HttpFault::Answer { host: host.clone(), detail };
        let (method, begun) = (request.method().clone(), Instant::now());
        let answer = timeout(ANSWER_WITHIN, self.send(&host, port, request)).await;
        let status =
            answer.as_ref().ok().and_then(|sent| sent.as_ref().ok()).map(|(head, _)| head.status.as_u16());
        tracing::debug!(
            acme.method = %method, acme.url = %uri, http.status = status,
            elapsed_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
            "Asked the ACME authority"
        );
        let (mut parts, body) = answer.map_err(|_| unanswered("it took too long".to_owned()))??;
        let exchange = read_headers(parts.status, &parts.headers);
        let status = parts.status;
        if is_get && status.is_success() && exchange.retry_after.is_none() {
            // The engine refuses renewal information that does not say when to look again.
            parts.headers.insert(RETRY_AFTER, HeaderValue::from(DEFAULT_LOOK_SECONDS));
        }
        *self.last.lock() = exchange;
        // The engine reads the directory whatever its status, so an error page would be "not JSON".
        let body = if status.is_success() {
            body
        } else if is_get {
            return Err(HttpFault::Status { host, status });
        } else {
            problem(status, body)
        };
        Ok(BytesResponse { parts, body: Box::new(body) })
    }

    async fn send(
        &self,
        host: &str,
        port: u16,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Result<(http::response::Parts, Bytes), HttpFault> {
        let unreachable = |detail: String| HttpFault::Connect { host: host.to_owned(), detail };
        let unanswered = |detail: String| HttpFault::Answer { host: host.to_owned(), detail };
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(bare.to_owned()).map_err(|error| unreachable(error.to_string()))?;
        let connect = async {
            let tcp = TcpStream::connect((bare, port)).await?;
            tcp.set_nodelay(true)?;
            TlsConnector::from(self.tls.clone()).connect(name, tcp).await
        };
        let stream = timeout(CONNECT_WITHIN, connect).await;
        let stream = stream.map_err(|_| unreachable("it took too long".to_owned()))?;
        let stream = stream.map_err(|error| unreachable(error.to_string()))?;
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|error| unanswered(error.to_string()))?;
        // The connection is driven here and nowhere else: when we stop waiting, it is gone.
        let talk = async {
            let answer = sender.send_request(ours(request).await).await?;
            let (parts, body) = answer.into_parts();
            let body = Limited::new(body, MAX_BODY).collect().await;
            Ok::<_, hyper::Error>((parts, body))
        };
        tokio::pin!(connection);
        tokio::pin!(talk);
        let mut closed = false;
        let (parts, body) = loop {
            tokio::select! {
                answer = &mut talk => break answer.map_err(|error| unanswered(error.to_string()))?,
                end = &mut connection, if !closed => {
                    if let Err(error) = end {
                        return Err(unanswered(error.to_string()));
                    }
                    closed = true;
                }
            }
        };
        let body = body.map_err(|error| unanswered(error.to_string()))?;
        Ok((parts, body.to_bytes()))
    }
}

impl HttpClient for AcmeHttp {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let this = self.clone();
        Box::pin(async move { this.exchange(request).await.map_err(|fault| Error::Other(Box::new(fault))) })
    }
}

/// The engine's request with our name on it, and a relative target as HTTP/1.1 wants it.
async fn ours(request: Request<BodyWrapper<Bytes>>) -> Request<Full<Bytes>> {
    let (mut parts, body) = request.into_parts();
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    if let Some(host) = parts.uri.authority().and_then(|host| HeaderValue::from_str(host.as_str()).ok()) {
        parts.headers.insert(HOST, host);
    }
    parts.headers.insert(USER_AGENT, OUR_NAME);
    if let Some(target) = parts.uri.path_and_query().and_then(|target| target.as_str().parse().ok()) {
        parts.uri = target;
    }
    Request::from_parts(parts, Full::new(body))
}

fn read_headers(status: StatusCode, headers: &HeaderMap) -> Exchange {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok()).map(str::trim);
    let date = |text: &str| {
        let time = httpdate::parse_http_date(text).ok()?.duration_since(UNIX_EPOCH).ok()?;
        Some(UtcTime::from_unix(i64::try_from(time.as_secs()).ok()?))
    };
    let now = text(DATE).and_then(date);
    // RFC 9110 §10.2.3: seconds, or a date; a date is measured by the clock that wrote it.
    let retry_after = text(RETRY_AFTER).and_then(|text| match text.parse::<u64>() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => Some(date(text)?.since(now?)),
    });
    Exchange { status: Some(status), retry_after, date: now }
}

/// An error body as the engine can read it: a page that is not a problem document becomes one.
fn problem(status: StatusCode, body: Bytes) -> Bytes {
    let is_problem = serde_json::from_slice::<serde_json::Value>(&body)
        .is_ok_and(|value| value.get("type").is_some_and(serde_json::Value::is_string));
    if is_problem {
        return body;
    }
    let text: String = String::from_utf8_lossy(&body)
        .chars()
        .filter(|character| !character.is_control())
        .take(200)
        .collect();
    let document = serde_json::json!({
        "type": "about:blank", "status": status.as_u16(), "detail": format!("HTTP {status}: {text}"),
    });
    Bytes::from(document.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_read_as_seconds_and_as_a_date() {
        let mut headers = HeaderMap::new();
        headers.insert(DATE, HeaderValue::from_static("Mon, 23 Nov 2026 12:00:00 GMT"));
        for (value, seconds) in [("120", 120), ("Mon, 23 Nov 2026 12:05:00 GMT", 300)] {
            headers.insert(RETRY_AFTER, HeaderValue::from_static(value));
            let exchange = read_headers(StatusCode::OK, &headers);
            assert_eq!(exchange.retry_after, Some(Duration::from_secs(seconds)));
            assert_eq!(exchange.date.unwrap().to_string(), "2026-11-23T12:00:00Z");
        }
    }

    #[test]
    fn an_error_page_becomes_a_problem_document() {
        let page = Bytes::from_static(b"<html>\r\nService busy</html>");
        let read: instant_acme::Problem =
            serde_json::from_slice(&problem(StatusCode::SERVICE_UNAVAILABLE, page)).unwrap();
        assert_eq!(read.status, Some(503));
        assert!(read.detail.unwrap().contains("Service busy"));
        let real = Bytes::from_static(br#"{"type":"urn:ietf:params:acme:error:badNonce"}"#);
        assert_eq!(problem(StatusCode::BAD_REQUEST, real.clone()), real);
    }
}
