//! The agent's side of EST (RFC 7030).

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use url::Url;

use super::directory::Pair;
use crate::cli::remote::client_tls;
use crate::domain::{Fingerprint, Secret};
use crate::pki::{cms, transfer};

/// For one exchange, connecting included.
const WITHIN: Duration = Duration::from_secs(60);
/// Longest answer, in octets.
const MAX_ANSWER: usize = 256 * 1024;
/// Longest that we let a server send us away for.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(24 * 3600);

/// A door, as one device sees it.
pub(super) struct Door {
    url: Url,
    tls: Arc<ClientConfig>,
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub(super) enum EstError {
    /// It was not reached, or broke off. Whether it did anything is not known.
    #[error("the door could not be asked")]
    Unreached(#[source] anyhow::Error),
    /// It said no.
    #[error("the door refused: {said} ({status})")]
    Refused {
        /// The HTTP status.
        status: StatusCode,
        /// In the door's words.
        said: String,
        /// When to come back.
        retry_after: Option<Duration>,
    },
    /// It said something else than a certificate.
    #[error("the door's answer is no certificate of ours: {0}")]
    Nonsense(String),
}

impl Door {
    /// The door at `url`, trusted by `server_ca` (PEM) or the system's roots; `pair` is shown when it asks.
    pub(super) fn new(url: &Url, server_ca: Option<&Path>, pair: Option<&Pair>) -> anyhow::Result<Self> {
        anyhow::ensure!(url.scheme() == "https", "the door must be an https URL");
        let builder = client_tls(server_ca)?;
        let tls = match pair {
            Some(pair) => {
                let chain = pair.chain.iter().map(|der| CertificateDer::from(der.clone())).collect();
                let key = PrivateKeyDer::Pkcs8(pair.key.expose().clone().into());
                builder.with_client_auth_cert(chain, key)?
            }
            None => builder.with_no_client_auth(),
        };
        Ok(Self { url: url.clone(), tls: Arc::new(tls) })
    }

    /// The certificates of the authorities, DER.
    pub(super) async fn authorities(&self) -> Result<Vec<Vec<u8>>, EstError> {
        self.ask("cacerts", None, None).await
    }

    /// A first certificate, for the token of an invitation.
    pub(super) async fn enrol(
        &self,
        name: &str,
        token: &Secret<String>,
        request: &[u8],
    ) -> Result<Vec<Vec<u8>>, EstError> {
        let basic = Secret::new(STANDARD.encode(format!("{name}:{}", token.expose())));
        self.ask("simpleenroll", Some(request), Some(basic)).await
    }

    /// The successor of the certificate that is shown in the handshake.
    pub(super) async fn renew(&self, request: &[u8]) -> Result<Vec<Vec<u8>>, EstError> {
        self.ask("simplereenroll", Some(request), None).await
    }

    async fn ask(
        &self,
        operation: &str,
        request: Option<&[u8]>,
        basic: Option<Secret<String>>,
    ) -> Result<Vec<Vec<u8>>, EstError> {
        let exchange = tokio::time::timeout(WITHIN, self.exchange(operation, request, basic)).await;
        let exchange = exchange.map_err(|_| EstError::Unreached(anyhow::anyhow!("it took too long")))?;
        let answer = exchange.map_err(EstError::Unreached)?;
        let status = answer.status();
        if status != StatusCode::OK {
            return Err(EstError::Refused { status, retry_after: retry_after(&answer), said: said(&answer) });
        }
        let der = transfer::decode(answer.body()).map_err(|error| EstError::Nonsense(error.to_string()))?;
        cms::certificates(&der).map_err(|error| EstError::Nonsense(error.to_string()))
    }

    async fn exchange(
        &self,
        operation: &str,
        request: Option<&[u8]>,
        basic: Option<Secret<String>>,
    ) -> anyhow::Result<Response<Bytes>> {
        let host = self.url.host_str().context("the door's URL has no host")?;
        let port = self.url.port_or_known_default().unwrap_or(443);
        // RFC 6761 §6.3: names below localhost are this host, whatever the resolver knows of them.
        let address = if host.ends_with(".localhost") { "localhost" } else { host };
        let stream = TcpStream::connect((address, port)).await;
        let stream = stream.with_context(|| format!("cannot reach {host}:{port}"))?;
        let name = ServerName::try_from(host.to_owned())?;
        let stream = tokio_rustls::TlsConnector::from(self.tls.clone()).connect(name, stream).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let authority = self.url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        let method = if request.is_some() { Method::POST } else { Method::GET };
        let mut head = Request::builder()
            .method(method)
            .uri(format!("/.well-known/est/{operation}"))
            .header(header::HOST, authority);
        if let Some(basic) = basic {
            head = head.header(header::AUTHORIZATION, format!("Basic {}", basic.expose()));
        }
        let body = match request {
            Some(der) => {
                head = head.header(header::CONTENT_TYPE, "application/pkcs10");
                // The same key for the same request: an answer that got lost is given again.
                head = head.header("idempotency-key", Fingerprint::of(der).to_string());
                transfer::encode(der)
            }
            None => String::new(),
        };
        let answer = sender.send_request(head.body(Full::new(Bytes::from(body)))?).await?;
        let (parts, body) = answer.into_parts();
        let body = Limited::new(body, MAX_ANSWER).collect().await;
        let body = body.map_err(|error| anyhow::anyhow!("the answer broke off: {error}"))?.to_bytes();
        Ok(Response::from_parts(parts, body))
    }
}

/// RFC 9110 §10.2.3, the form in seconds.
fn retry_after(answer: &Response<Bytes>) -> Option<Duration> {
    let value = answer.headers().get(header::RETRY_AFTER)?.to_str().ok()?;
    Some(Duration::from_secs(value.trim().parse().ok()?).min(MAX_RETRY_AFTER))
}

/// The first line of a refusal, without what a terminal would obey.
fn said(answer: &Response<Bytes>) -> String {
    let text = String::from_utf8_lossy(answer.body());
    text.lines().next().unwrap_or_default().chars().filter(|c| !c.is_control()).take(300).collect()
}
