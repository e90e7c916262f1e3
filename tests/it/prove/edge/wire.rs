//! Requests octet by octet: HTTP/1.1 as no client library would write it, over TLS as none would send it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// One TLS connection that speaks HTTP/1.1.
pub(super) struct Raw {
    stream: TlsStream<Crumbled>,
    unread: Vec<u8>,
}

/// An answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
    /// Whether the connection ends with it.
    pub(super) is_last: bool,
}

impl Answer {
    /// What the backend saw, if it answered.
    pub(super) fn seen(&self) -> Option<Value> {
        serde_json::from_slice::<Value>(&self.body).ok().filter(|value| value.get("target").is_some())
    }
}

impl Raw {
    /// Shakes hands under `name`, sending the ClientHello as it is or in records of one octet.
    pub(super) async fn connect(
        port: u16,
        name: &str,
        tls: ClientConfig,
        crumbled: bool,
    ) -> io::Result<Self> {
        let socket = TcpStream::connect(("127.0.0.1", port)).await?;
        socket.set_nodelay(true)?;
        let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
        let socket = Crumbled { inner: socket, unsent: Vec::new(), is_over: !crumbled };
        let shaken = TlsConnector::from(Arc::new(tls)).connect(name, socket);
        let stream = tokio::time::timeout(PATIENCE, shaken).await??;
        Ok(Self { stream, unread: Vec::new() })
    }

    /// Whether the key was agreed on with a share that a quantum computer does not help with.
    pub(super) fn is_post_quantum(&self) -> bool {
        let group = self.stream.get_ref().1.negotiated_key_exchange_group();
        group.is_some_and(|group| group.name() == rustls::NamedGroup::X25519MLKEM768)
    }

    /// Sends these octets and reads one answer.
    pub(super) async fn ask(&mut self, request: &[u8]) -> io::Result<Answer> {
        let answer = async {
            self.stream.write_all(request).await?;
            self.stream.flush().await?;
            self.read().await
        };
        tokio::time::timeout(PATIENCE, answer).await?
    }

    async fn read(&mut self) -> io::Result<Answer> {
        let mut buffer = [0; 8_192];
        loop {
            let mut headers = [httparse::EMPTY_HEADER; 64];
            let mut head = httparse::Response::new(&mut headers);
            if let httparse::Status::Complete(start) = head.parse(&self.unread).map_err(io::Error::other)? {
                let value = |name: &str| {
                    let found = head.headers.iter().find(|line| line.name.eq_ignore_ascii_case(name));
                    found.map(|line| String::from_utf8_lossy(line.value).into_owned())
                };
                let length = value("content-length").and_then(|length| length.parse::<usize>().ok());
                let length = length.ok_or_else(|| io::Error::other("an answer without a length"))?;
                if self.unread.len() >= start + length {
                    let is_last = value("connection").is_some_and(|value| value.contains("close"));
                    let status = head.code.unwrap_or(0);
                    let body = self.unread[start..start + length].to_vec();
                    self.unread.drain(..start + length);
                    return Ok(Answer { status, body, is_last });
                }
            }
            match self.stream.read(&mut buffer).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                octets => self.unread.extend_from_slice(&buffer[..octets]),
            }
        }
    }
}

/// A socket that puts every octet of the first flight into a record of its own (RFC 8446 §5.1 allows it).
struct Crumbled {
    inner: TcpStream,
    unsent: Vec<u8>,
    is_over: bool,
}

impl Crumbled {
    fn poll_unsent(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.unsent.is_empty() {
            let written = std::task::ready!(Pin::new(&mut self.inner).poll_write(cx, &self.unsent))?;
            self.unsent.drain(..written);
        }
        Poll::Ready(Ok(()))
    }
}

/// The records in `octets`, each octet of their content in one of its own.
fn crumbs(octets: &[u8]) -> Vec<u8> {
    let (mut rest, mut crumbs) = (octets, Vec::new());
    while let [kind, major, minor, high, low, content @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(content.len());
        for octet in &content[..length] {
            crumbs.extend([*kind, *major, *minor, 0, 1, *octet]);
        }
        rest = &content[length..];
    }
    crumbs
}

impl AsyncWrite for Crumbled {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        std::task::ready!(self.poll_unsent(cx))?;
        if self.is_over {
            return Pin::new(&mut self.inner).poll_write(cx, octets);
        }
        self.unsent = crumbs(octets);
        // A pending rest goes out with the flush that follows.
        let _ = self.poll_unsent(cx)?;
        Poll::Ready(Ok(octets.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        std::task::ready!(self.poll_unsent(cx))?;
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

impl AsyncRead for Crumbled {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.inner).poll_read(cx, buffer);
        // The first flight is over when the other side speaks.
        self.is_over |= buffer.filled().len() > before;
        read
    }
}
