//! The API's client of the command line: over the admin socket of this host, or to a server by URL and token.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use bytes::Bytes;
use clap::Args;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::client::WantsClientCert;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use rustls_platform_verifier::BuilderVerifierExt;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use url::Url;

use crate::config::Config;
use crate::domain::Secret;

/// How to reach the admin role.
#[derive(Debug, Args)]
pub(crate) struct Reach {
    /// URL of the admin server [default: the admin socket on this host]
    #[arg(long, global = true, env = "WICKETGATE_SERVER", value_name = "URL")]
    server: Option<Url>,
    /// File with the API token for --server [default: $WICKETGATE_TOKEN]
    #[arg(long, global = true, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// PEM file with the root certificate of the admin server [default: the system's roots]
    #[arg(long, global = true, value_name = "FILE")]
    server_ca: Option<PathBuf>,
}

/// A connection target with its credentials.
pub(crate) struct Client {
    target: Target,
    token: Option<Secret<String>>,
}

enum Target {
    Socket(PathBuf),
    Server { url: Url, tls: Arc<rustls::ClientConfig> },
}

/// An answer of the API.
pub(crate) struct Answer {
    /// The JSON document; null when there is none.
    pub(crate) body: Value,
    /// The version of what was read, for `If-Match`.
    pub(crate) etag: Option<String>,
}

impl Client {
    /// A client as the options say; the configuration is asked for the socket only.
    pub(crate) fn new(
        reach: &Reach,
        config: impl FnOnce() -> anyhow::Result<Config>,
    ) -> anyhow::Result<Self> {
        let Some(url) = &reach.server else {
            return Ok(Self { target: Target::Socket(config()?.admin_socket()), token: None });
        };
        if url.scheme() != "https" {
            bail!("--server must be an https URL");
        }
        let token = match &reach.token_file {
            Some(path) => {
                std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?
            }
            None => std::env::var("WICKETGATE_TOKEN")
                .context("--server needs --token-file or $WICKETGATE_TOKEN")?,
        };
        let token = Some(Secret::new(token.trim().to_owned()));
        Ok(Self { target: Target::Server { url: url.clone(), tls: Arc::new(tls(reach)?) }, token })
    }

    /// Sends one request. A refusal becomes an error that says what the server said.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        etag: Option<&str>,
    ) -> anyhow::Result<Answer> {
        match &self.target {
            Target::Socket(socket) => {
                let stream = UnixStream::connect(socket).await.with_context(|| {
                    format!(
                        "cannot reach {}; is `wicketgate serve` running, and are you root or its admin user?",
                        socket.display()
                    )
                })?;
                self.exchange(stream, "localhost", method, path, body, etag).await
            }
            Target::Server { url, tls } => {
                let host = url.host_str().context("--server has no host")?;
                let port = url.port_or_known_default().unwrap_or(443);
                let stream = TcpStream::connect((host, port))
                    .await
                    .with_context(|| format!("cannot reach {host}:{port}"))?;
                let name = ServerName::try_from(host.to_owned())?;
                let stream = tokio_rustls::TlsConnector::from(tls.clone()).connect(name, stream).await?;
                let authority = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
                self.exchange(stream, &authority, method, path, body, etag).await
            }
        }
    }

    async fn exchange<S>(
        &self,
        stream: S,
        authority: &str,
        method: Method,
        path: &str,
        body: Option<&Value>,
        etag: Option<&str>,
    ) -> anyhow::Result<Answer>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path).header(header::HOST, authority);
        request = request.header(header::ACCEPT, "application/json");
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {}", token.expose()));
        }
        if let Some(etag) = etag {
            request = request.header(header::IF_MATCH, etag);
        }
        let body = match body {
            Some(body) => {
                request = request.header(header::CONTENT_TYPE, "application/json");
                serde_json::to_vec(body)?
            }
            None => Vec::new(),
        };
        let answer = sender.send_request(request.body(Full::new(Bytes::from(body)))?).await?;
        let status = answer.status();
        let etag = answer.headers().get(header::ETAG).and_then(|etag| etag.to_str().ok()).map(str::to_owned);
        let bytes = answer.into_body().collect().await?.to_bytes();
        let body = if bytes.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&bytes).unwrap_or(Value::Null)
        };
        if status.is_success() { Ok(Answer { body, etag }) } else { Err(refusal(status, &body)) }
    }
}

/// What a problem document says, in a sentence.
fn refusal(status: StatusCode, body: &Value) -> anyhow::Error {
    let text = |key: &str| body.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut sentence = match (text("title"), text("detail")) {
        (title, detail) if title.is_empty() && detail.is_empty() => format!("the server answered {status}"),
        (title, detail) if detail.is_empty() => title,
        (_, detail) => detail,
    };
    for error in body.get("errors").and_then(Value::as_array).into_iter().flatten() {
        let part = |key: &str| error.get(key).and_then(Value::as_str).unwrap_or_default();
        sentence.push_str(&format!("\n  {}: {}", part("pointer"), part("detail")));
    }
    let code = text("code");
    if code.is_empty() { anyhow::anyhow!("{sentence}") } else { anyhow::anyhow!("{sentence} [{code}]") }
}

fn tls(reach: &Reach) -> anyhow::Result<rustls::ClientConfig> {
    Ok(client_tls(reach.server_ca.as_deref())?.with_no_client_auth())
}

/// TLS to a server that is trusted by the roots in a PEM file, or by the system's.
pub(crate) fn client_tls(
    server_ca: Option<&Path>,
) -> anyhow::Result<rustls::ConfigBuilder<rustls::ClientConfig, WantsClientCert>> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder =
        rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let Some(path) = server_ca else { return Ok(builder.with_platform_verifier()?) };
    let mut roots = rustls::RootCertStore::empty();
    let unreadable = || format!("cannot read {}", path.display());
    for certificate in CertificateDer::pem_file_iter(path).with_context(unreadable)? {
        roots.add(certificate.with_context(unreadable)?)?;
    }
    Ok(builder.with_root_certificates(roots))
}
