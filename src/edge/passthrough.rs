//! Connections that are not ours to read: their ClientHello names a site whose target has the certificate. Octets
//! both ways, from the first of the ClientHello on, until both sides have ended, nothing moves for too long, or the
//! site is one no more.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf, copy_bidirectional_with_sizes};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use super::access_log;
use super::forward::hash;
use super::index::{Ending, Place};
use super::introduce;
use super::upstream::{Lease, Line, dial};
use super::worker::{Shared, Worker};
use crate::live::Passthrough;

/// How often an open connection is looked at: whether anything moves, and whether its site is still there.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// While the edge drains, a connection on which nothing moved for so long is between two exchanges.
const QUIET: Duration = Duration::from_millis(500);
/// One copy buffer, each way: a TLS record.
const BUFFER: usize = 16 * 1024;
/// RFC 8446 §6: a fatal alert in the clear, `internal_error`.
const INTERNAL_ERROR: [u8; 7] = [0x15, 0x03, 0x03, 0x00, 0x02, 0x02, 0x50];

/// A connection to be passed through.
#[derive(Debug)]
pub(super) struct Passage {
    pub(super) site: Arc<Passthrough>,
    pub(super) stream: TcpStream,
    /// What the visitor has said: the ClientHello, and whatever came with it.
    pub(super) said: Vec<u8>,
}

/// How a connection came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Both sides have ended.
    Closed,
    /// One broke off.
    Broken,
    /// Nothing moved for too long.
    Idle,
    /// The edge stopped.
    Drained,
    /// The site is not there any more, or leads elsewhere.
    Withdrawn,
    /// No target took it.
    Unavailable,
}

impl End {
    /// The word in the log.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Broken => "broken",
            Self::Idle => "idle",
            Self::Drained => "drained",
            Self::Withdrawn => "withdrawn",
            Self::Unavailable => "upstream_unavailable",
        }
    }
}

/// Serves a connection to its end.
pub(super) async fn serve(worker: Rc<Worker>, passage: Passage, peer: SocketAddr) {
    let Passage { site, stream, said } = passage;
    let (shared, began, octets) = (&worker.shared, Instant::now(), Octets::default());
    let place = shared.index.enter(None);
    if shared.stop.is_cancelled() {
        // Out of the queue: it has asked for nothing yet.
        place.signal().end(Ending::Leave);
    }
    shared.metrics.passed_connections.rise();
    octets.add_in(said.len());
    let mut visitor = Counted { stream, octets: &octets };
    let end = pass(&worker, &place, &site, &mut visitor, &said, peer).await;
    shared.metrics.passed_connections.fall();
    access_log::passed_through(peer, &site, end, [octets.incoming.get(), octets.outgoing.get()], began);
}

async fn pass(
    worker: &Worker,
    place: &Place,
    site: &Passthrough,
    visitor: &mut Counted<'_>,
    said: &[u8],
    peer: SocketAddr,
) -> End {
    let patience = worker.shared.settings.body_timeout;
    let opened = {
        let door = &*visitor;
        let opening = async {
            let (mut target, lease) = open(worker, site, door, peer).await.ok_or(End::Unavailable)?;
            match timeout(patience, target.write_all(said)).await {
                Ok(Ok(())) => Ok((target, lease)),
                Ok(Err(_)) | Err(_) => Err(End::Broken),
            }
        };
        tokio::select! {
            biased;
            opened = opening => opened,
            end = given_up(place, &door.stream) => Err(end),
        }
    };
    match opened {
        Ok((mut target, _lease)) => copy(&worker.shared, place, site, visitor, &mut target).await,
        Err(End::Unavailable) => {
            // Not in the target's name, which has its own; but a closed door looks like a broken one.
            let _ = timeout(patience, visitor.write_all(&INTERNAL_ERROR)).await;
            End::Unavailable
        }
        Err(end) => end,
    }
}

/// Nobody waits for the target any more: the visitor has left, before any handshake could be done, or the edge ends.
async fn given_up(place: &Place, visitor: &TcpStream) -> End {
    let left = async {
        // More that was said hides an end behind it.
        if let Ok(1..) = visitor.peek(&mut [0]).await {
            std::future::pending::<()>().await;
        }
    };
    let ends = async {
        loop {
            match place.signal().ending() {
                Ending::Not | Ending::Leave => place.signal().woken().await,
                Ending::Drain => return sleep(QUIET).await,
                Ending::Cut => return,
            }
        }
    };
    tokio::select! {
        () = left => End::Broken,
        () = ends => End::Drained,
    }
}

/// A connection to a target, with the visitor's address before anything else if it wants that.
async fn open(
    worker: &Worker,
    site: &Passthrough,
    visitor: &Counted<'_>,
    peer: SocketAddr,
) -> Option<(Line, Lease)> {
    let snapshot = worker.shared.holder.snapshot()?;
    let derived = worker.derived(&snapshot.configuration);
    let group = derived.groups.get(&site.upstream.name)?;
    let header = introduce::address(group, peer, visitor.stream.local_addr().ok());
    dial(worker, group, hash(&peer.ip().to_canonical()), header.as_deref()).await
}

async fn copy(
    shared: &Shared,
    place: &Place,
    site: &Passthrough,
    visitor: &mut Counted<'_>,
    target: &mut Line,
) -> End {
    let (octets, idle_timeout) = (visitor.octets, shared.settings.idle_timeout);
    let (mut moved, mut moved_at) = (octets.all(), Instant::now());
    // A side that has ended is told to the other, which may go on.
    let mut copying = pin!(copy_bidirectional_with_sizes(visitor, target, BUFFER, BUFFER));
    let mut look_every = LOOK_EVERY.min(idle_timeout);
    loop {
        tokio::select! {
            biased;
            done = copying.as_mut() => return if done.is_ok() { End::Closed } else { End::Broken },
            () = place.signal().woken() => {}
            () = sleep(look_every) => {}
        }
        if octets.all() != moved {
            (moved, moved_at) = (octets.all(), Instant::now());
        }
        let still = moved_at.elapsed();
        match place.signal().ending() {
            Ending::Cut => return End::Drained,
            // What goes on inside cannot be seen; whoever is silent waits for nothing, most likely.
            Ending::Leave if still >= shared.grace() => return End::Drained,
            Ending::Drain if still >= QUIET => return End::Drained,
            Ending::Leave | Ending::Drain => look_every = QUIET,
            Ending::Not if still >= idle_timeout => return End::Idle,
            Ending::Not => {}
        }
        if !is_in_force(shared, site) {
            return End::Withdrawn;
        }
    }
}

/// Whether a new connection would go the same way.
fn is_in_force(shared: &Shared, site: &Passthrough) -> bool {
    let snapshot = shared.holder.snapshot();
    let now = snapshot.as_ref().and_then(|snapshot| snapshot.configuration.passthrough(site.host.as_str()));
    now.is_some_and(|now| {
        now.upstream.name == site.upstream.name && now.upstream.targets == site.upstream.targets
    })
}

/// What a visitor has sent and taken.
#[derive(Debug, Default)]
struct Octets {
    incoming: Cell<u64>,
    outgoing: Cell<u64>,
}

impl Octets {
    fn add_in(&self, octets: usize) {
        self.incoming.set(self.incoming.get() + octets as u64);
    }

    fn add_out(&self, octets: usize) {
        self.outgoing.set(self.outgoing.get() + octets as u64);
    }

    fn all(&self) -> u64 {
        self.incoming.get() + self.outgoing.get()
    }
}

/// A visitor's socket, counting.
struct Counted<'a> {
    stream: TcpStream,
    octets: &'a Octets,
}

impl AsyncRead for Counted<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        self.octets.add_in(buffer.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Counted<'_> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, octets))?;
        self.octets.add_out(written);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
