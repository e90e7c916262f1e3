//! Visitors at a steady pace, on connections that they keep, and what becomes of each request. None is sent twice:
//! whoever finds a connection closed *before* anything of the request went out comes again, as every client does
//! (RFC 9110 §9.2.2, RFC 9113 §6.8); everything else that is no answer is a failure, a refused connection included.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use crate::edge::client::Http;

/// Between two requests of one visitor.
const PERIOD: Duration = Duration::from_millis(100);
/// Of as many visitors one speaks HTTP/2.
const EACH_OF: u64 = 4;
/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

type Body = Empty<Bytes>;

/// Where they go.
pub(super) struct Goal {
    address: SocketAddr,
    host: &'static str,
    one: TlsConnector,
    two: TlsConnector,
}

impl Goal {
    /// `host` at `address`, verified under `root`, as the device with this chain and key.
    pub(super) fn new(
        address: SocketAddr,
        host: &'static str,
        root: &[u8],
        chain: &[CertificateDer<'static>],
        key: &PrivateKeyDer<'static>,
    ) -> Arc<Self> {
        let connector = |protocol: &[u8]| {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from(root.to_vec())).unwrap();
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let mut config = ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(roots)
                .with_client_auth_cert(chain.to_vec(), key.clone_key())
                .unwrap();
            config.alpn_protocols = vec![protocol.to_vec()];
            TlsConnector::from(Arc::new(config))
        };
        Arc::new(Self { address, host, one: connector(b"http/1.1"), two: connector(b"h2") })
    }

    async fn connect(&self, http: Http) -> Result<Sender, String> {
        let failed = |error: std::io::Error| format!("no connection: {error}");
        let stream = TcpStream::connect(self.address).await.map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        let connector = if http == Http::One { &self.one } else { &self.two };
        let name = ServerName::try_from(self.host).unwrap();
        let stream = TokioIo::new(connector.connect(name, stream).await.map_err(failed)?);
        let failed = |error: hyper::Error| format!("no connection: {error:?}");
        Ok(match http {
            Http::One => {
                let (sender, connection) = http1::handshake(stream).await.map_err(failed)?;
                tokio::spawn(connection);
                Sender::One(sender)
            }
            Http::Two => {
                let executor = TokioExecutor::new();
                let (sender, connection) = http2::handshake(executor, stream).await.map_err(failed)?;
                tokio::spawn(connection);
                Sender::Two(sender)
            }
        })
    }

    fn request(&self, http: Http) -> Request<Body> {
        let builder = match http {
            Http::One => Request::builder().uri("/steady").header(header::HOST, self.host),
            Http::Two => Request::builder().uri(format!("https://{}/steady", self.host)),
        };
        builder.body(Empty::new()).unwrap()
    }
}

/// A connection that is open.
enum Sender {
    One(http1::SendRequest<Body>),
    Two(http2::SendRequest<Body>),
}

impl Sender {
    /// The answer; `None` if nothing of the request has gone out.
    async fn send(&mut self, request: Request<Body>) -> Result<Option<Response<Incoming>>, String> {
        let sent = match self {
            Self::One(sender) => match sender.ready().await {
                Ok(()) => sender.try_send_request(request).await,
                Err(_) => return Ok(None),
            },
            Self::Two(sender) => match sender.ready().await {
                Ok(()) => sender.try_send_request(request).await,
                Err(_) => return Ok(None),
            },
        };
        match sent {
            Ok(response) => Ok(Some(response)),
            Err(mut error) => match error.take_message() {
                Some(_) => Ok(None),
                None => Err(format!("no answer: {:?}", error.into_error())),
            },
        }
    }
}

/// What became of it.
#[derive(Default)]
pub(super) struct Tally {
    answered: AtomicU64,
    came_again: AtomicU64,
    connections: AtomicU64,
    failures: Mutex<Vec<String>>,
    is_over: AtomicBool,
}

impl Tally {
    /// Requests that were answered 200, to their end.
    pub(super) fn answered(&self) -> u64 {
        self.answered.load(Ordering::SeqCst)
    }

    /// Requests of which nothing had gone out when the connection was found to be closed.
    pub(super) fn came_again(&self) -> u64 {
        self.came_again.load(Ordering::SeqCst)
    }

    /// Connections that were opened.
    pub(super) fn connections(&self) -> u64 {
        self.connections.load(Ordering::SeqCst)
    }

    pub(super) fn failures(&self) -> Vec<String> {
        self.failures.lock().clone()
    }
}

/// All of them.
pub(super) struct Visitors {
    pub(super) tally: Arc<Tally>,
    tasks: JoinSet<()>,
}

impl Visitors {
    /// As many as it takes for so many requests a second.
    pub(super) fn come(goal: &Arc<Goal>, per_second: u64) -> Self {
        let tally = Arc::new(Tally::default());
        let mut tasks = JoinSet::new();
        let count = (per_second * u64::try_from(PERIOD.as_millis()).unwrap()).div_ceil(1_000);
        for number in 0..count {
            let http = if number % EACH_OF == 0 { Http::Two } else { Http::One };
            let visitor = Visitor { goal: goal.clone(), http, tally: tally.clone() };
            tasks.spawn(visitor.go());
        }
        Self { tally, tasks }
    }

    /// Waits for so many answers.
    pub(super) async fn are_answered(&self, more: u64) {
        let from = self.tally.answered();
        while self.tally.answered() < from + more && self.tally.failures.lock().is_empty() {
            tokio::time::sleep(PERIOD / 10).await;
        }
    }

    /// They leave, after what they are at.
    pub(super) async fn leave(mut self) -> Arc<Tally> {
        self.tally.is_over.store(true, Ordering::SeqCst);
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(panicked) = ended {
                self.tally.failures.lock().push(panicked.to_string());
            }
        }
        self.tally
    }
}

/// One of them.
struct Visitor {
    goal: Arc<Goal>,
    http: Http,
    tally: Arc<Tally>,
}

impl Visitor {
    async fn go(self) {
        // Who was kept waiting makes up for it: requests do not become fewer because answers are late.
        let mut ticks = tokio::time::interval(PERIOD);
        let mut kept = None;
        while !self.tally.is_over.load(Ordering::SeqCst) {
            ticks.tick().await;
            let outcome = tokio::time::timeout(PATIENCE, self.ask(&mut kept)).await;
            match outcome.unwrap_or_else(|_| Err("no answer in time".to_owned())) {
                Ok(()) => {
                    self.tally.answered.fetch_add(1, Ordering::SeqCst);
                }
                Err(why) => self.tally.failures.lock().push(format!("{:?}: {why}", self.http)),
            }
        }
    }

    async fn ask(&self, kept: &mut Option<Sender>) -> Result<(), String> {
        loop {
            let mut sender = match kept.take() {
                Some(sender) => sender,
                None => {
                    self.tally.connections.fetch_add(1, Ordering::SeqCst);
                    self.goal.connect(self.http).await?
                }
            };
            let Some(response) = sender.send(self.goal.request(self.http)).await? else {
                self.tally.came_again.fetch_add(1, Ordering::SeqCst);
                continue;
            };
            let (parts, body) = response.into_parts();
            body.collect().await.map_err(|error| format!("{}, and then {error:?}", parts.status))?;
            if parts.status != 200 {
                return Err(format!("it was answered {}", parts.status));
            }
            if parts.headers.get(header::CONNECTION).is_none_or(|value| value != "close") {
                *kept = Some(sender);
            }
            return Ok(());
        }
    }
}
