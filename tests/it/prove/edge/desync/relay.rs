//! Stands between the edge and a backend, and keeps what the edge sends, octet by octet.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The way to one backend.
pub(super) struct Relay {
    pub(super) port: u16,
    lines: Arc<Mutex<Vec<Line>>>,
}

/// One connection that the edge opened.
#[derive(Clone, Default)]
pub(super) struct Line {
    /// Everything the edge sent.
    pub(super) sent: Vec<u8>,
    /// How much that was when the backend changed to another protocol.
    pub(super) tunnel: Option<usize>,
    /// Whether the edge sends nothing more.
    pub(super) is_closed: bool,
}

impl Relay {
    /// A relay to the backend at `port` on loopback.
    pub(super) async fn start(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let relay = Self { port: listener.local_addr().unwrap().port(), lines: Arc::default() };
        let lines = relay.lines.clone();
        tokio::spawn(async move {
            while let Ok((edge, _)) = listener.accept().await {
                tokio::spawn(carry(edge, port, lines.clone()));
            }
        });
        relay
    }

    /// Every connection so far.
    pub(super) fn lines(&self) -> Vec<Line> {
        self.lines.lock().clone()
    }
}

async fn carry(edge: TcpStream, port: u16, lines: Arc<Mutex<Vec<Line>>>) {
    let Ok(backend) = TcpStream::connect(("127.0.0.1", port)).await else { return };
    let _ = (edge.set_nodelay(true), backend.set_nodelay(true));
    let at = {
        let mut lines = lines.lock();
        lines.push(Line::default());
        lines.len() - 1
    };
    let (mut from_edge, mut to_edge) = edge.into_split();
    let (mut from_backend, mut to_backend) = backend.into_split();
    let there = async {
        let mut buffer = vec![0; 16 * 1024];
        while let Ok(octets @ 1..) = from_edge.read(&mut buffer).await {
            lines.lock()[at].sent.extend_from_slice(&buffer[..octets]);
            if to_backend.write_all(&buffer[..octets]).await.is_err() {
                break;
            }
        }
        lines.lock()[at].is_closed = true;
        let _ = to_backend.shutdown().await;
    };
    let back = async {
        let mut buffer = vec![0; 16 * 1024];
        while let Ok(octets @ 1..) = from_backend.read(&mut buffer).await {
            if buffer[..octets].starts_with(b"HTTP/1.1 101 ") {
                let mut lines = lines.lock();
                let line = &mut lines[at];
                line.tunnel = line.tunnel.or(Some(line.sent.len()));
            }
            if to_edge.write_all(&buffer[..octets]).await.is_err() {
                break;
            }
        }
        let _ = to_edge.shutdown().await;
    };
    tokio::join!(there, back);
}
