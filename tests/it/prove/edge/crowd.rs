//! Many visitors whose connections stay open, and what becomes of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// How long anything may take before it counts as failed.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long after its cause a connection may still be ended, and more.
const LATE: Duration = Duration::from_millis(1_500);
/// Connections that are opened at the same time.
const AT_ONCE: usize = 64;

/// Where visitors go.
#[derive(Clone, Debug)]
pub(super) struct Gate {
    pub(super) port: u16,
    pub(super) host: &'static str,
    /// The authority of its server certificate.
    pub(super) root: Vec<u8>,
}

/// What a visitor shows.
pub(super) struct Pass {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
}

/// How a visitor is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    One,
    Two,
    Tunnel,
}

impl Kind {
    /// The three of them in turn.
    pub(super) fn of(number: usize) -> Self {
        [Self::One, Self::Two, Self::Tunnel][number % 3]
    }
}

enum Line {
    One(http1::SendRequest<Empty<Bytes>>),
    Two(http2::SendRequest<Empty<Bytes>>),
    Tunnel { out: WriteHalf<TlsStream<TcpStream>>, echoed: watch::Receiver<u64>, sent: u64 },
}

/// One visitor.
pub(super) struct Visitor {
    pub(super) kind: Kind,
    gate: Gate,
    tls: Arc<ClientConfig>,
    line: tokio::sync::Mutex<Line>,
    closed: watch::Receiver<Option<Instant>>,
    is_out: AtomicBool,
    /// When the last exchange began that ended well.
    last_good: Mutex<Instant>,
}

/// Everybody, with their exchanges going on.
pub(super) struct Crowd {
    pub(super) visitors: Vec<Arc<Visitor>>,
    tally: Arc<Tally>,
    beats: JoinSet<()>,
    period: Duration,
    is_over: Arc<AtomicBool>,
}

#[derive(Default)]
struct Tally {
    exchanges: AtomicU64,
    failures: Mutex<Vec<String>>,
}

impl Crowd {
    /// Connects everybody, in the three kinds in turn, and has each speak once in a `period`.
    pub(super) async fn gather(gate: &Gate, passes: Vec<Pass>, period: Duration) -> Self {
        let mut opening = JoinSet::new();
        let mut visitors = Vec::with_capacity(passes.len());
        let mut passes = passes.into_iter().enumerate();
        loop {
            while opening.len() < AT_ONCE
                && let Some((number, pass)) = passes.next()
            {
                let gate = gate.clone();
                opening.spawn(async move { (number, Visitor::open(gate, Kind::of(number), pass).await) });
            }
            let Some(opened) = opening.join_next().await else { break };
            visitors.push(opened.unwrap());
        }
        visitors.sort_by_key(|(number, _)| *number);
        let visitors: Vec<_> = visitors.into_iter().map(|(_, visitor)| Arc::new(visitor)).collect();
        let tally = Arc::new(Tally::default());
        let (mut beats, is_over) = (JoinSet::new(), Arc::new(AtomicBool::new(false)));
        for (number, visitor) in visitors.iter().enumerate() {
            let first = period.mul_f64(number as f64 / visitors.len() as f64);
            beats.spawn(beat(visitor.clone(), tally.clone(), is_over.clone(), first, period));
        }
        Self { visitors, tally, beats, period, is_over }
    }

    /// Ends it when everybody who stays has spoken once more, after whatever might come late: how many
    /// exchanges there were, and what failed though it should not have, connections that are closed included.
    pub(super) async fn leave(mut self) -> (u64, Vec<String>) {
        tokio::time::sleep(LATE).await;
        let from = Instant::now();
        tokio::time::sleep(self.period + LATE).await;
        self.is_over.store(true, Ordering::SeqCst);
        while let Some(ended) = self.beats.join_next().await {
            ended.unwrap();
        }
        let mut failures = std::mem::take(&mut *self.tally.failures.lock());
        for visitor in self.visitors.iter().filter(|visitor| !visitor.is_out.load(Ordering::SeqCst)) {
            let kind = visitor.kind;
            failures.extend(visitor.closed.borrow().map(|_| format!("{kind:?}: closed")));
            let is_silent = *visitor.last_good.lock() < from;
            failures.extend(is_silent.then(|| format!("{kind:?}: silent in the end")));
        }
        (self.tally.exchanges.load(Ordering::Relaxed), failures)
    }
}

async fn beat(
    visitor: Arc<Visitor>,
    tally: Arc<Tally>,
    is_over: Arc<AtomicBool>,
    first: Duration,
    period: Duration,
) {
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + first, period);
    while !is_over.load(Ordering::SeqCst) {
        ticks.tick().await;
        let began = Instant::now();
        let outcome = visitor.exchange().await;
        if visitor.is_out.load(Ordering::SeqCst) {
            return;
        }
        tally.exchanges.fetch_add(1, Ordering::Relaxed);
        match outcome {
            Ok(200) => *visitor.last_good.lock() = began,
            Ok(status) => tally.failures.lock().push(format!("{:?}: {status}", visitor.kind)),
            Err(why) => tally.failures.lock().push(format!("{:?}: {why}", visitor.kind)),
        }
    }
}

impl Visitor {
    async fn open(gate: Gate, kind: Kind, pass: Pass) -> Self {
        let tls = Arc::new(settings(&gate, pass, kind));
        let stream = shake(&gate, tls.clone()).await.unwrap();
        let (end, closed) = watch::channel(None);
        let line = match kind {
            Kind::One => {
                let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
                tokio::spawn(async move {
                    let _ = connection.await;
                    end.send_replace(Some(Instant::now()));
                });
                Line::One(sender)
            }
            Kind::Two => {
                let io = TokioIo::new(stream);
                let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
                tokio::spawn(async move {
                    let _ = connection.await;
                    end.send_replace(Some(Instant::now()));
                });
                Line::Two(sender)
            }
            Kind::Tunnel => {
                let (back, out) = tokio::io::split(upgrade(&gate, stream).await);
                let (count, echoed) = watch::channel(0);
                tokio::spawn(async move {
                    read_echoes(back, &count).await;
                    end.send_replace(Some(Instant::now()));
                });
                Line::Tunnel { out, echoed, sent: 0 }
            }
        };
        let is_out = AtomicBool::new(false);
        let (line, last_good) = (tokio::sync::Mutex::new(line), Mutex::new(Instant::now()));
        Self { kind, gate, tls, line, closed, is_out, last_good }
    }

    /// From now on it is no failure when it does not get through.
    pub(super) fn is_to_go(&self) {
        self.is_out.store(true, Ordering::SeqCst);
    }

    /// A request on the open connection and its status, or an echo through the tunnel.
    pub(super) async fn exchange(&self) -> Result<u16, String> {
        let exchange = async {
            let mut line = self.line.lock().await;
            match &mut *line {
                Line::One(sender) => {
                    sender.ready().await.map_err(|error| format!("{error:?}"))?;
                    let request = Request::get("/").header("host", self.gate.host);
                    status(sender.send_request(request.body(Empty::new()).unwrap()).await).await
                }
                Line::Two(sender) => {
                    sender.ready().await.map_err(|error| format!("{error:?}"))?;
                    let request = Request::get(format!("https://{}/", self.gate.host));
                    status(sender.send_request(request.body(Empty::new()).unwrap()).await).await
                }
                Line::Tunnel { out, echoed, sent } => {
                    out.write_all(b"beat").await.map_err(|error| error.to_string())?;
                    out.flush().await.map_err(|error| error.to_string())?;
                    *sent += 4;
                    let all = echoed.wait_for(|count| *count >= *sent).await;
                    all.map(|_| 200).map_err(|_| "the tunnel ended".to_owned())
                }
            }
        };
        tokio::time::timeout(PATIENCE, exchange).await.map_err(|_| "no answer".to_owned())?
    }

    /// A request on a new connection: its status, or why the handshake failed.
    pub(super) async fn come_again(&self) -> Result<u16, String> {
        let visit = async {
            let mut tls = (*self.tls).clone();
            tls.alpn_protocols = vec![b"http/1.1".to_vec()];
            let stream = shake(&self.gate, Arc::new(tls)).await.map_err(|error| error.to_string())?;
            let handshake = http1::handshake::<_, Empty<Bytes>>(TokioIo::new(stream)).await;
            let (mut sender, connection) = handshake.map_err(|error| error.to_string())?;
            tokio::spawn(connection);
            let request = Request::get("/").header("host", self.gate.host);
            status(sender.send_request(request.body(Empty::new()).unwrap()).await).await
        };
        tokio::time::timeout(PATIENCE, visit).await.map_err(|_| "no answer".to_owned())?
    }

    /// When its connection was closed.
    ///
    /// # Errors
    /// It is open still.
    pub(super) async fn closed(&self) -> Result<Instant, String> {
        let mut closed = self.closed.clone();
        let when = tokio::time::timeout(PATIENCE, closed.wait_for(Option::is_some)).await;
        when.ok().and_then(Result::ok).and_then(|when| *when).ok_or_else(|| "it stays open".to_owned())
    }
}

async fn status(answer: hyper::Result<Response<Incoming>>) -> Result<u16, String> {
    let answer = answer.map_err(|error| format!("{error:?}"))?;
    let status = answer.status().as_u16();
    answer.into_body().collect().await.map_err(|error| format!("{status} and then {error:?}"))?;
    Ok(status)
}

fn settings(gate: &Gate, pass: Pass, kind: Kind) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(gate.root.clone())).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let mut config = builder.with_client_auth_cert(pass.chain, pass.key).unwrap();
    config.alpn_protocols = vec![if kind == Kind::Two { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
    config
}

async fn shake(gate: &Gate, tls: Arc<ClientConfig>) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(("127.0.0.1", gate.port)).await?;
    stream.set_nodelay(true)?;
    let name = ServerName::try_from(gate.host).unwrap();
    TlsConnector::from(tls).connect(name, stream).await
}

/// Opens a WebSocket: everything behind its head is the tunnel.
async fn upgrade(gate: &Gate, mut stream: TlsStream<TcpStream>) -> TlsStream<TcpStream> {
    let head = format!(
        "GET /ws HTTP/1.1\r\nhost: {}\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n",
        gate.host
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(stream.read_u8().await.unwrap());
    }
    assert!(answer.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&answer));
    stream
}

async fn read_echoes(mut back: ReadHalf<TlsStream<TcpStream>>, count: &watch::Sender<u64>) {
    let mut buffer = [0; 256];
    while let Ok(octets @ 1..) = back.read(&mut buffer).await {
        count.send_modify(|count| *count += octets as u64);
    }
}
