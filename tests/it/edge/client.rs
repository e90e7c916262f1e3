//! Visitors: TLS with or without a device, HTTP/1.1, HTTP/2, or raw bytes.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::fixture::{Device, World};

/// How long anything in a test may take.
pub const PATIENCE: Duration = Duration::from_secs(5);

pub type Body = BoxBody<Bytes, hyper::Error>;

/// The protocol to ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Http {
    One,
    Two,
}

/// An HTTP connection of a visitor.
pub enum Visitor {
    One(hyper::client::conn::http1::SendRequest<Body>),
    Two(hyper::client::conn::http2::SendRequest<Body>),
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: http::HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{}: {:?}", self.status, self.body))
    }

    /// The code of a refusal.
    pub fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }

    /// All values of a header that the backend saw.
    pub fn seen(&self, name: &str) -> Vec<String> {
        let json = self.json();
        let lines = json["headers"].as_array().unwrap().iter();
        lines
            .filter(|line| line[0].as_str() == Some(name))
            .map(|line| line[1].as_str().unwrap().to_owned())
            .collect()
    }
}

/// TLS settings of a visitor.
pub fn tls(world: &World, device: Option<&Device>, alpn: &[&[u8]]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(world.server_ca.clone())).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match device {
        Some(device) => builder.with_client_auth_cert(device.chain.clone(), device.key.clone_key()).unwrap(),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    config
}

/// A finished handshake.
pub async fn shake(world: &World, host: &str, config: ClientConfig) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(world.edge.https_addresses()[0]).await?;
    shake_over(stream, host, config).await
}

/// A finished handshake with a visitor at this address, which is of this host: 127.0.0.2, for example.
pub async fn shake_from(
    world: &World,
    from: Ipv4Addr,
    host: &str,
    config: ClientConfig,
) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = dial(from, world.edge.https_addresses()[0]).await?;
    shake_over(stream, host, config).await
}

async fn shake_over(
    stream: TcpStream,
    host: &str,
    config: ClientConfig,
) -> std::io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from(host.to_owned()).unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    tokio::time::timeout(PATIENCE, connector.connect(name, stream)).await?
}

/// A connection from one address to another.
pub async fn dial(from: Ipv4Addr, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::from((from, 0)))?;
    socket.connect(to).await
}

pub async fn connect(world: &World, host: &str, device: Option<&Device>, http: Http) -> Visitor {
    let stream = shake(world, host, tls(world, device, alpn(http))).await.unwrap();
    visitor(stream, http).await
}

/// A visitor at this address.
pub async fn connect_from(
    world: &World,
    from: Ipv4Addr,
    host: &str,
    device: Option<&Device>,
    http: Http,
) -> std::io::Result<Visitor> {
    let stream = shake_from(world, from, host, tls(world, device, alpn(http))).await?;
    Ok(visitor(stream, http).await)
}

fn alpn(http: Http) -> &'static [&'static [u8]] {
    match http {
        Http::One => &[b"http/1.1"],
        Http::Two => &[b"h2"],
    }
}

async fn visitor(stream: TlsStream<TcpStream>, http: Http) -> Visitor {
    match http {
        Http::One => {
            let (sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
            tokio::spawn(connection.with_upgrades());
            Visitor::One(sender)
        }
        Http::Two => {
            let (sender, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                    .await
                    .unwrap();
            tokio::spawn(connection);
            Visitor::Two(sender)
        }
    }
}

/// An HTTP/2 visitor that takes the heads of answers and not one octet of a body.
pub async fn connect_without_window(world: &World, host: &str) -> Visitor {
    let stream = shake(world, host, tls(world, None, &[b"h2"])).await.unwrap();
    let (sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(0)
        .handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    Visitor::Two(sender)
}

impl Visitor {
    pub async fn send(&mut self, request: Request<Body>) -> Result<Response<Incoming>, hyper::Error> {
        let answer = async {
            match self {
                Self::One(sender) => {
                    sender.ready().await?;
                    sender.send_request(request).await
                }
                Self::Two(sender) => {
                    sender.ready().await?;
                    sender.send_request(request).await
                }
            }
        };
        tokio::time::timeout(PATIENCE, answer).await.expect("an answer within patience")
    }

    pub async fn ask(&mut self, request: Request<Body>) -> Answer {
        read(self.send(request).await.expect("an answer")).await
    }

    pub async fn get(&mut self, host: &str, path: &str) -> Answer {
        let request = request(self.is_h2(), Method::GET, host, path);
        self.ask(request).await
    }

    /// A request in this connection's protocol.
    pub fn request(&self, method: Method, host: &str, path: &str) -> Request<Body> {
        request(self.is_h2(), method, host, path)
    }

    fn is_h2(&self) -> bool {
        matches!(self, Self::Two(_))
    }

    /// Waits until the connection is closed, and says whether that came within `patience`.
    pub async fn closes_within(&mut self, patience: Duration) -> bool {
        let closed = async {
            loop {
                let ready = match self {
                    Self::One(sender) => sender.is_closed(),
                    Self::Two(sender) => sender.is_closed(),
                };
                if ready {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(patience, closed).await.is_ok()
    }
}

pub fn request(is_h2: bool, method: Method, host: &str, path: &str) -> Request<Body> {
    let builder = match is_h2 {
        true => Request::builder().uri(format!("https://{host}{path}")),
        false => Request::builder().uri(path).header("host", host),
    };
    builder.method(method).body(empty()).unwrap()
}

pub fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed()
}

/// A body that ends with its sender.
pub fn pieces() -> (mpsc::UnboundedSender<Frame<Bytes>>, Body) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (sender, Pieces(receiver).boxed())
}

struct Pieces(mpsc::UnboundedReceiver<Frame<Bytes>>);

impl hyper::body::Body for Pieces {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.0.poll_recv(cx).map(|piece| piece.map(Ok))
    }
}

/// The next frame of an answer.
pub async fn frame(body: &mut Incoming) -> Result<Frame<Bytes>, hyper::Error> {
    tokio::time::timeout(PATIENCE, body.frame()).await.expect("a frame in time").expect("another frame")
}

pub async fn read(response: Response<Incoming>) -> Answer {
    let (parts, body) = response.into_parts();
    let body = tokio::time::timeout(PATIENCE, body.collect()).await.expect("a body").unwrap().to_bytes();
    Answer { status: parts.status.as_u16(), headers: parts.headers, body }
}

/// Sends raw bytes over HTTP/1.1 TLS and reads until the edge closes.
pub async fn raw(world: &World, host: &str, device: Option<&Device>, bytes: &[u8]) -> String {
    let mut stream = shake(world, host, tls(world, device, &[b"http/1.1"])).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    read_all(&mut stream).await
}

/// The same over a TCP connection that is there.
pub async fn raw_over(stream: TcpStream, host: &str, config: ClientConfig, bytes: &[u8]) -> String {
    let name = ServerName::try_from(host.to_owned()).unwrap();
    let connecting = TlsConnector::from(Arc::new(config)).connect(name, stream);
    let mut stream = tokio::time::timeout(PATIENCE, connecting).await.expect("a handshake").unwrap();
    stream.write_all(bytes).await.unwrap();
    read_all(&mut stream).await
}

/// Everything until the end of the stream.
pub async fn read_all(stream: &mut (impl AsyncReadExt + Unpin)) -> String {
    let mut all = Vec::new();
    let mut buffer = [0; 4096];
    let reading = async {
        while let Ok(octets @ 1..) = stream.read(&mut buffer).await {
            all.extend_from_slice(&buffer[..octets]);
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.expect("an end within patience");
    String::from_utf8_lossy(&all).into_owned()
}

/// Polls until `condition` holds.
pub async fn until(what: &str, condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("in vain: {what}"));
}
