//! The way of octets to a target: TCP, TLS over it, or a Unix socket.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::io::Errno;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::discovery::is_allowed;
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
/// * `own` — listeners of this process, which no name leads to.
/// * `preamble` — what is said before anything else.
///
/// # Errors
/// As [`Refused`] says. There is no deadline here.
pub(super) async fn connect(
    target: &Target,
    own: &[SocketAddr],
    preamble: Option<&[u8]>,
) -> Result<Line, Refused> {
    match &target.place {
        Place::Tcp { host, port } => {
            let mut stream = match target.address {
                Some(address) => TcpStream::connect(address).await?,
                None if target.is_named() => named((host.as_str(), *port), own).await?,
                None => TcpStream::connect((host.as_str(), *port)).await?,
            };
            stream.set_nodelay(true)?;
            stream.write_all(preamble.unwrap_or_default()).await?;
            Ok(Line::Tcp(stream))
        }
        Place::Unix(path) => {
            let mut stream = unix(path).await?;
            stream.write_all(preamble.unwrap_or_default()).await?;
            Ok(Line::Unix(stream))
        }
    }
}

/// To the first of the addresses behind a name that takes a connection, of those that a name may lead to: whoever
/// writes the name into DNS is not always whoever wrote it into the upstream.
async fn named(place: (&str, u16), own: &[SocketAddr]) -> Result<TcpStream, Refused> {
    let mut last = None;
    for address in lookup_host(place).await? {
        let address = SocketAddr::new(address.ip().to_canonical(), address.port());
        if !is_allowed(address, own) {
            continue;
        }
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = Some(error),
        }
    }
    let nowhere = || {
        Refused::theirs(
            "the name stands for no address that is used: none, or only link-local, unspecified or multicast ones, or a listener of our own",
        )
    };
    Err(last.map_or_else(nowhere, Refused::from))
}

/// Connects to `target`, as its upstream wants it. With `identity`, that is what is shown where TLS is spoken; an
/// upstream that wants one to be shown is not reached without.
///
/// * `own` — listeners of this process, which no name leads to.
/// * `preamble` — what is said before anything else, TLS included.
///
/// # Errors
/// As [`Refused`] says. There is no deadline here.
pub(super) async fn dial(
    upstream: &Upstream,
    target: &Target,
    identity: Option<&UpstreamIdentity>,
    (own, preamble): (&[SocketAddr], Option<&[u8]>),
) -> Result<Line, Refused> {
    match (connect(target, own, preamble).await?, &target.tls_name) {
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

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_name_leads_to_no_listener_of_ours() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let place = ("localhost", address.port());
        assert!(named(place, &[]).await.is_ok());
        for own in [address, SocketAddr::from(([0, 0, 0, 0], address.port()))] {
            assert!(named(place, &[own]).await.is_err(), "{own}");
        }
        let refused = named(("0.0.0.0", address.port()), &[]).await.err().unwrap();
        assert!(!refused.is_ours && refused.cause.contains("no address that is used"), "{}", refused.cause);
    }
}
