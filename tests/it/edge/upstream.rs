//! A backend that says what it saw.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response, StatusCode, header};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use serde_json::json;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub type Body = BoxBody<Bytes, Infallible>;

/// Octets of a large answer.
pub const LARGE: usize = 4 * 1024 * 1024;
/// Octets of an answer that the edge hands over at once.
pub const MEDIUM: usize = 64 * 1024;

/// What makes the backend reset a tunnel.
pub const DIE: &[u8] = b"die";

/// The echo backend. `/silent` never answers, `/drip` drips until it is cut, `/ws` upgrades and echoes (`/count/ws`
/// waits for the end and says how much came), `/wrong-accept` upgrades with the answer to another key, `/no-ws` says
/// in a 403 what arrived, `/hang-up` closes without an answer, `/large` is [`LARGE`] octets, `/medium` [`MEDIUM`]; everything else says
/// what arrived.
#[derive(Clone)]
pub struct Backend {
    pub address: SocketAddr,
    pub requests: Arc<AtomicU64>,
    pub connections: Arc<AtomicU64>,
    pub open_tunnels: Arc<AtomicUsize>,
    /// Requests whose body broke off.
    pub broken: Arc<AtomicU64>,
}

impl Backend {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let backend = Self::behind(listener.local_addr().unwrap());
        let own = backend.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                own.connections.fetch_add(1, Ordering::SeqCst);
                let own = own.clone();
                tokio::spawn(async move {
                    let service = service_fn(move |request| answer(own.clone(), request));
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .with_upgrades()
                        .await;
                });
            }
        });
        backend
    }

    /// One to which somebody else brings the requests.
    pub fn behind(address: SocketAddr) -> Self {
        Self {
            address,
            requests: Arc::default(),
            connections: Arc::default(),
            open_tunnels: Arc::default(),
            broken: Arc::default(),
        }
    }

    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::SeqCst)
    }
}

pub async fn answer(backend: Backend, request: Request<Incoming>) -> Result<Response<Body>, std::io::Error> {
    backend.requests.fetch_add(1, Ordering::SeqCst);
    let path = request.uri().path().to_owned();
    if path.ends_with("/silent") {
        std::future::pending::<()>().await;
    }
    if path.ends_with("/hang-up") {
        return Err(std::io::Error::other("as asked"));
    }
    if path.ends_with("/drip") {
        let drops = stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            Some((Ok(Frame::data(Bytes::from_static(b"drip"))), ()))
        });
        return Ok(Response::new(BodyExt::boxed(SyncBody(StreamBody::new(Box::pin(drops))))));
    }
    if path.ends_with("/large") {
        return Ok(Response::new(Full::new(Bytes::from(vec![b'x'; LARGE])).boxed()));
    }
    if path.ends_with("/medium") {
        return Ok(Response::new(Full::new(Bytes::from(vec![b'x'; MEDIUM])).boxed()));
    }
    if path.ends_with("/ws") || path.ends_with("/wrong-accept") {
        return Ok(upgrade(backend, request));
    }
    let refuses = path.ends_with("/no-ws");
    let mut answer = echo(backend, request).await;
    if refuses {
        *answer.status_mut() = StatusCode::FORBIDDEN;
    }
    Ok(answer)
}

fn upgrade(backend: Backend, request: Request<Incoming>) -> Response<Body> {
    let path = request.uri().path();
    let key = match path.ends_with("/wrong-accept") {
        true => None,
        false => request.headers().get(header::SEC_WEBSOCKET_KEY),
    };
    let accept = accept(key.map_or(&b"another's"[..], |key| key.as_bytes()));
    let counts = path.ends_with("/count/ws");
    tokio::spawn(async move {
        let Ok(upgraded) = hyper::upgrade::on(request).await else { return };
        backend.open_tunnels.fetch_add(1, Ordering::SeqCst);
        speak(upgraded, counts).await;
        backend.open_tunnels.fetch_sub(1, Ordering::SeqCst);
    });
    Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(header::CONNECTION, "upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_ACCEPT, accept)
        .body(Full::default().boxed())
        .unwrap()
}

/// RFC 6455 §4.2.2.
fn accept(key: &[u8]) -> String {
    let text = [key, b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"].concat();
    STANDARD.encode(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &text))
}

async fn speak(upgraded: Upgraded, counts: bool) {
    let mut stream = TokioIo::new(upgraded);
    let (mut buffer, mut count) = ([0; 1024], 0);
    while let Ok(octets @ 1..) = stream.read(&mut buffer).await {
        count += octets;
        if buffer[..octets] == *DIE {
            let stream = stream.into_inner().downcast::<TokioIo<TcpStream>>().unwrap().io.into_inner();
            return SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
        }
        if !counts && stream.write_all(&buffer[..octets]).await.is_err() {
            return;
        }
    }
    if counts {
        let _ = stream.write_all(count.to_string().as_bytes()).await;
        let _ = stream.shutdown().await;
    }
}

async fn echo(backend: Backend, request: Request<Incoming>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let (body, trailers) = match body.collect().await {
        Ok(whole) => {
            let trailers = whole.trailers().cloned().unwrap_or_default();
            (whole.to_bytes().len(), trailers)
        }
        Err(_) => {
            backend.broken.fetch_add(1, Ordering::SeqCst);
            (0, http::HeaderMap::new())
        }
    };
    let lines = |map: &http::HeaderMap| -> Vec<(String, String)> {
        map.iter().map(|(n, v)| (n.to_string(), String::from_utf8_lossy(v.as_bytes()).into_owned())).collect()
    };
    let seen = json!({
        "method": parts.method.as_str(),
        "target": parts.uri.to_string(),
        "headers": lines(&parts.headers),
        "trailers": lines(&trailers),
        "body": body,
    });
    Response::builder()
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::CONNECTION, "x-hop")
        .header("x-hop", "for the proxy only")
        .body(Full::new(Bytes::from(seen.to_string())).boxed())
        .unwrap()
}

/// `BoxBody` wants `Sync`; one task at a time polls it here.
struct SyncBody<B>(B);

impl<B: hyper::body::Body<Data = Bytes, Error = Infallible> + Unpin> hyper::body::Body for SyncBody<B> {
    type Data = Bytes;
    type Error = Infallible;
    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        std::pin::Pin::new(&mut self.0).poll_frame(cx)
    }
}
