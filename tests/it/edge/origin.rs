//! Targets that are not plain HTTP/1.1 over TCP: TLS with or without a question for a certificate, Unix sockets,
//! HTTP/2. They note every connection, and whose certificate came with it.

use std::path::PathBuf;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::{Body, Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;
use wicketgate::domain::{Secret, Serial, UtcTime};
use wicketgate::live::UpstreamIdentityData;
use wicketgate::live::configuration::{DerData, KeyData};

use super::client::Http;
use super::fixture::{Authority, Random};
use super::upstream::{Backend, answer};

type Answer = UnsyncBoxBody<Bytes, hyper::Error>;

/// One connection that a target has taken.
#[derive(Default)]
pub struct Seen {
    /// The certificate that came with it.
    pub leaf: Option<Vec<u8>>,
    pub requests: AtomicU64,
    pub is_closed: AtomicBool,
    leaves: Notify,
}

impl Seen {
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::SeqCst)
    }

    pub fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::SeqCst)
    }

    /// Says goodbye (GOAWAY), and finishes what is under way.
    pub fn leaves(&self) {
        self.leaves.notify_one();
    }
}

/// A target. `/flow` answers at once and sends every piece of the body back, with trailers of all kinds at its end;
/// everything else is the echo backend's.
#[derive(Clone)]
pub struct Origin {
    /// As an upstream names it.
    pub target: String,
    pub backend: Backend,
    http: Http,
    connections: Arc<Mutex<Vec<Arc<Seen>>>>,
    /// Requests that were dropped before they had an answer.
    pub dropped: Arc<AtomicU64>,
    /// A connection says goodbye after so many requests.
    pub leaves_after: Arc<AtomicU64>,
    /// Streams that a new connection takes.
    pub most_streams: Arc<AtomicU32>,
}

/// What a target shows of itself.
pub struct Shows<'a> {
    pub authority: &'a Authority,
    pub name: &'a str,
    pub is_expired: bool,
    /// Whose certificates it asks for, and does without none.
    pub clients: Option<&'a Authority>,
    pub alpn: &'a [&'a [u8]],
}

impl<'a> Shows<'a> {
    pub fn of(authority: &'a Authority, name: &'a str) -> Self {
        Self { authority, name, is_expired: false, clients: None, alpn: &[b"h2", b"http/1.1"] }
    }

    fn config(&self) -> Arc<ServerConfig> {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![self.name.to_owned()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        if self.is_expired {
            params.not_after = rcgen::date_time_ymd(2020, 1, 1);
        }
        let issuer = Issuer::from_params(&self.authority.params, &self.authority.key);
        let leaf = params.signed_by(&key, &issuer).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = match self.clients {
            None => builder.with_no_client_auth(),
            Some(clients) => {
                let mut roots = RootCertStore::empty();
                roots.add(CertificateDer::from(clients.der.clone())).unwrap();
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
                builder.with_client_cert_verifier(verifier.unwrap())
            }
        };
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let mut config = builder.with_single_cert(vec![leaf.der().clone()], key).unwrap();
        config.alpn_protocols = self.alpn.iter().map(|name| name.to_vec()).collect();
        Arc::new(config)
    }
}

/// What the edge shows of itself from now on, until `not_after`.
pub fn identity(authority: &Authority, generation: u64, not_after: &str) -> UpstreamIdentityData {
    let not_after: UtcTime = not_after.parse().unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.serial_number = Some(rcgen::SerialNumber::from_slice(Serial::random(&Random).as_octets()));
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.not_after = time::OffsetDateTime::from_unix_timestamp(not_after.as_unix()).unwrap();
    let issuer = Issuer::from_params(&authority.params, &authority.key);
    let chain = vec![DerData(params.signed_by(&key, &issuer).unwrap().der().to_vec())];
    UpstreamIdentityData { generation, chain, key: KeyData(Secret::new(key.serialize_der())) }
}

/// An authority's certificate as an upstream's options name it.
pub fn pem(authority: &Authority) -> String {
    let body = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &authority.der);
    let lines: Vec<_> = body.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

impl Origin {
    fn new(target: String, http: Http) -> Self {
        Self {
            target,
            backend: Backend::behind("127.0.0.1:0".parse().unwrap()),
            http,
            connections: Arc::default(),
            dropped: Arc::default(),
            leaves_after: Arc::new(AtomicU64::new(u64::MAX)),
            most_streams: Arc::new(AtomicU32::new(200)),
        }
    }

    /// Over TCP, without TLS.
    pub async fn plain(http: Http) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = Self::new(format!("http://{}", listener.local_addr().unwrap()), http);
        let own = origin.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(own.clone().serve(stream, None));
            }
        });
        origin
    }

    /// With TLS, under this name.
    pub async fn tls(http: Http, shows: Shows<'_>, host: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let origin = Self::new(format!("https://{host}:{port}"), http);
        let (own, acceptor) = (origin.clone(), TlsAcceptor::from(shows.config()));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (own, acceptor) = (own.clone(), acceptor.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let presented = stream.get_ref().1.peer_certificates();
                    let leaf = presented.and_then(|chain| chain.first()).map(|leaf| leaf.to_vec());
                    own.serve(stream, leaf).await;
                });
            }
        });
        origin
    }

    /// At a Unix socket in this folder.
    pub fn unix(http: Http, folder: &tempfile::TempDir) -> Self {
        let path: PathBuf = folder.path().join("app.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let origin = Self::new(format!("unix:{}", path.display()), http);
        let own = origin.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(own.clone().serve(stream, None));
            }
        });
        origin
    }

    /// Every connection so far, in the order in which they came.
    pub fn connections(&self) -> Vec<Arc<Seen>> {
        self.connections.lock().clone()
    }

    async fn serve<S>(self, stream: S, leaf: Option<Vec<u8>>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let seen = Arc::new(Seen { leaf, ..Seen::default() });
        self.connections.lock().push(seen.clone());
        let (own, noted) = (self.clone(), seen.clone());
        let service = service_fn(move |request| own.clone().take(noted.clone(), request));
        let io = TokioIo::new(stream);
        match self.http {
            Http::One => {
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(io, service)
                    .with_upgrades()
                    .await;
            }
            Http::Two => {
                let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                builder.max_concurrent_streams(self.most_streams.load(Ordering::SeqCst));
                let mut connection = pin!(builder.serve_connection(io, service));
                tokio::select! {
                    _ = connection.as_mut() => {}
                    () = seen.leaves.notified() => {
                        connection.as_mut().graceful_shutdown();
                        let _ = connection.await;
                    }
                }
            }
        }
        seen.is_closed.store(true, Ordering::SeqCst);
    }

    async fn take(
        self,
        seen: Arc<Seen>,
        request: Request<Incoming>,
    ) -> Result<Response<Answer>, std::io::Error> {
        if seen.requests.fetch_add(1, Ordering::SeqCst) + 1 == self.leaves_after.load(Ordering::SeqCst) {
            seen.leaves();
        }
        if request.uri().path().ends_with("/flow") {
            return Ok(flow(request));
        }
        let unanswered = Dropped { count: self.dropped.clone(), is_answered: false };
        let answered = answer(self.backend, request).await?;
        unanswered.answered();
        Ok(answered.map(|body| body.map_err(|never| match never {}).boxed_unsync()))
    }
}

/// A request without an answer.
struct Dropped {
    count: Arc<AtomicU64>,
    is_answered: bool,
}

impl Dropped {
    fn answered(mut self) {
        self.is_answered = true;
    }
}

impl Drop for Dropped {
    fn drop(&mut self) {
        if !self.is_answered {
            self.count.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// Answers before the request has ended, says what the head was like, and how the trailers were.
fn flow(request: Request<Incoming>) -> Response<Answer> {
    let (parts, incoming) = request.into_parts();
    let mut answer = Response::builder()
        .header("seen-scheme", parts.uri.scheme_str().unwrap_or("none"))
        .header("seen-authority", parts.uri.authority().map_or("none", |authority| authority.as_str()));
    for name in ["te", "trailer", "host"] {
        if let Some(value) = parts.headers.get(name) {
            answer = answer.header(format!("seen-{name}"), value);
        }
    }
    let back = Back { incoming, trailers: Some(HeaderMap::new()) };
    answer.body(back.boxed_unsync()).unwrap()
}

/// A body on its way back. Its trailers are those that came, as `seen-…`, a status, and some that nobody may say.
struct Back {
    incoming: Incoming,
    trailers: Option<HeaderMap>,
}

impl Body for Back {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = &mut *self;
        let Some(trailers) = this.trailers.as_mut() else { return Poll::Ready(None) };
        let mut said = HeaderMap::new();
        match Pin::new(&mut this.incoming).poll_frame(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
            Poll::Ready(Some(Ok(frame))) => match frame.into_trailers() {
                Ok(came) => said = came,
                Err(data) => return Poll::Ready(Some(Ok(data))),
            },
            Poll::Ready(None) => {}
        }
        for (name, value) in &said {
            let name = http::HeaderName::try_from(format!("seen-{name}")).unwrap();
            trailers.append(name, value.clone());
        }
        for (name, value) in [("grpc-status", "0"), ("client-cert", "forged"), ("x_webauth_user", "forged")] {
            trailers.insert(http::HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        Poll::Ready(this.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))))
    }
}
