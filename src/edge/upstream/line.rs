//! The way of octets to a target: TCP, TLS over it, or a Unix socket.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::io::Errno;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::domain::upstream::Protocol;
use crate::live::configuration::Place;
use crate::live::{Target, Upstream, UpstreamIdentity};

/// Between two looks at a socket whose queue is full.
const ASK_AGAIN: Duration = Duration::from_millis(5);

/// One connection's octets.
pub(in crate::edge) enum Line {
    Tcp(TcpStream),
    Unix(UnixStream),
    /// Large, and a line changes hands.
    Tls(Box<TlsStream<TcpStream>>),
}

/// Why there is no connection to a target.
#[derive(Clone, Debug)]
pub(super) struct Refused {
    pub(super) cause: String,
    /// For want of something of ours: it says nothing of the target.
    pub(super) is_ours: bool,
}

impl Refused {
    pub(super) fn ours(cause: impl Into<String>) -> Self {
        Self { cause: cause.into(), is_ours: true }
    }

    pub(super) fn theirs(cause: impl Into<String>) -> Self {
        Self { cause: cause.into(), is_ours: false }
    }
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        let lacking = [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::NOBUFS];
        let is_lacking = |code| lacking.iter().any(|lack| lack.raw_os_error() == code);
        let is_ours =
            error.kind() == io::ErrorKind::AddrNotAvailable || error.raw_os_error().is_some_and(is_lacking);
        Self { cause: error.to_string(), is_ours }
    }
}

/// Connects to `target`, without TLS.
///
/// * `preamble` — what is said before anything else.
///
/// # Errors
/// As [`Refused`] says. There is no deadline here.
pub(super) async fn connect(target: &Target, preamble: Option<&[u8]>) -> Result<Line, Refused> {
    match &target.place {
        Place::Tcp { host, port } => {
            Ok(Line::Tcp(tcp((host.as_str(), *port), target.address, preamble).await?))
        }
        Place::Unix(path) => {
            let mut stream = unix(path).await?;
            stream.write_all(preamble.unwrap_or_default()).await?;
            Ok(Line::Unix(stream))
        }
    }
}

async fn tcp(
    place: (&str, u16),
    address: Option<SocketAddr>,
    preamble: Option<&[u8]>,
) -> io::Result<TcpStream> {
    let mut stream = match address {
        Some(address) => TcpStream::connect(address).await?,
        None => TcpStream::connect(place).await?,
    };
    stream.set_nodelay(true)?;
    stream.write_all(preamble.unwrap_or_default()).await?;
    Ok(stream)
}

/// Connects to `target`, as its upstream wants it. With `identity`, that is what is shown where TLS is spoken; an
/// upstream that wants one to be shown is not reached without.
///
/// * `preamble` — what is said before anything else, TLS included.
///
/// # Errors
/// As [`Refused`] says. There is no deadline here.
pub(super) async fn dial(
    upstream: &Upstream,
    target: &Target,
    identity: Option<&UpstreamIdentity>,
    preamble: Option<&[u8]>,
) -> Result<Line, Refused> {
    match (connect(target, preamble).await?, &target.tls_name) {
        (Line::Tcp(stream), Some(_)) => Box::pin(shake(upstream, target, identity, stream)).await,
        (line, _) => Ok(line),
    }
}

/// Other than TCP, a full queue does not make callers wait.
async fn unix(path: &Path) -> io::Result<UnixStream> {
    loop {
        match UnixStream::connect(path).await {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => tokio::time::sleep(ASK_AGAIN).await,
            outcome => return outcome,
        }
    }
}

async fn shake(
    upstream: &Upstream,
    target: &Target,
    identity: Option<&UpstreamIdentity>,
    stream: TcpStream,
) -> Result<Line, Refused> {
    let nobody = || Refused::ours("this host trusts no authority that could vouch for the target");
    let tls = upstream.tls.as_deref().ok_or_else(nobody)?;
    let name = tls.name(target).cloned().ok_or_else(nobody)?;
    let (config, presented) = match identity {
        Some(identity) => {
            let (config, presented) = tls.presenting(identity);
            (config, Some(presented))
        }
        None => {
            let unnamed = || Refused::ours("the edge may not call here without its own certificate");
            (tls.anonymous().ok_or_else(unnamed)?, None)
        }
    };
    let stream = TlsConnector::from(config).connect(name, stream).await?;
    if presented.is_some_and(|presented| presented.is_unfit()) {
        return Err(Refused::theirs(
            "the target takes no signature of the kind that the edge's own key makes",
        ));
    }
    let agreed = stream.get_ref().1.alpn_protocol();
    if upstream.options.protocol == Protocol::Http2 && agreed != Some(b"h2".as_slice()) {
        return Err(Refused::theirs(
            "the target does not agree to HTTP/2 (ALPN h2): turn it on there, or set the upstream's protocol to http1",
        ));
    }
    Ok(Line::Tls(Box::new(stream)))
}

impl AsyncRead for Line {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Line {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, octets),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, octets),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, octets),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, pieces),
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, pieces),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, pieces),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.is_write_vectored(),
            Self::Unix(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
