//! Connections to the door: shaken here, served by the admin server, and watched here meanwhile, so that
//! one whose certificate does not pass any more ends within a second like every other.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::server::TlsStream;
use tokio_util::sync::{CancellationToken, DropGuard, WaitForCancellationFutureOwned};

use super::carrier::Carrier;
use super::connection::Visit;
use super::protocol::CUT_AFTER;
use crate::live::{Site, SiteKind};

/// A connection to the door, after its handshake. Its socket is served by an edge thread until the
/// [`super::Edge`] is dropped; whoever takes it should be done with it by then.
pub struct DoorConnection {
    /// The finished TLS stream.
    pub stream: Guarded,
    /// Who called.
    pub peer: SocketAddr,
}

impl DoorConnection {
    /// The certificate that the visitor presented, and whose key they hold. Not an identity.
    pub fn leaf(&self) -> Option<CertificateDer<'static>> {
        let presented = self.stream.inner.get_ref().1.peer_certificates()?;
        presented.first().map(|leaf| leaf.clone().into_owned())
    }
}

/// A stream that breaks off when its certificate does not pass any more.
pub struct Guarded {
    inner: Box<TlsStream<Carrier>>,
    /// For whoever reads and whoever writes: each may be another task.
    cut: [Pin<Box<WaitForCancellationFutureOwned>>; 2],
    /// Says that the stream has ended.
    _gone: DropGuard,
}

const READ: usize = 0;
const WRITE: usize = 1;

impl Guarded {
    /// Does something with the stream until it is cut. Wakes whoever waits on this side, then, too.
    fn until_cut<T>(
        &mut self,
        side: usize,
        cx: &mut Context<'_>,
        work: impl FnOnce(Pin<&mut TlsStream<Carrier>>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if self.cut[side].as_mut().poll(cx).is_ready() {
            let why = "the certificate does not pass any more";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, why)));
        }
        work(Pin::new(&mut *self.inner), cx)
    }
}

impl AsyncRead for Guarded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.until_cut(READ, cx, |inner, cx| inner.poll_read(cx, buffer))
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        self.until_cut(WRITE, cx, |inner, cx| inner.poll_write(cx, octets))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.until_cut(WRITE, cx, |inner, cx| inner.poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.until_cut(WRITE, cx, |inner, cx| inner.poll_shutdown(cx))
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.until_cut(WRITE, cx, |inner, cx| inner.poll_write_vectored(cx, pieces))
    }
}

/// Gives a connection to the door to whoever serves it. Gets it back when nobody does, to say so.
pub(super) fn hand_over(
    visit: &Rc<Visit>,
    stream: Box<TlsStream<Carrier>>,
    peer: SocketAddr,
    site: &Site,
) -> Option<Box<TlsStream<Carrier>>> {
    let shared = &visit.worker.shared;
    let is_open = site.kind == SiteKind::Door && !shared.door_is_shut.load(Ordering::Acquire);
    let Some(door) = shared.door.as_ref().filter(|_| is_open) else { return Some(stream) };
    let (cut, gone) = (CancellationToken::new(), CancellationToken::new());
    let stream = Guarded {
        inner: stream,
        cut: [(); 2].map(|()| Box::pin(cut.clone().cancelled_owned())),
        _gone: gone.clone().drop_guard(),
    };
    // Before whoever takes it can have it.
    visit.set_handed_over(true);
    match door.try_send(DoorConnection { stream, peer }) {
        Ok(()) => {
            tokio::task::spawn_local(watch(visit.clone(), cut, gone));
            None
        }
        Err(error) => {
            visit.set_handed_over(false);
            Some(error.into_inner().stream.inner)
        }
    }
}

/// Cuts a connection that has lost who was behind it, who may be the one that has just revoked it: the
/// answer to that has until then. A drain leaves it to whoever serves it.
async fn watch(visit: Rc<Visit>, cut: CancellationToken, gone: CancellationToken) {
    let signal = visit.signal().clone();
    let lost = async {
        while !(signal.take_doubt() && visit.has_lost_identity()) {
            signal.woken().await;
        }
        tokio::time::sleep(CUT_AFTER).await;
    };
    tokio::select! {
        () = gone.cancelled() => {}
        () = lost => cut.cancel(),
    }
}
