//! Sockets: one per thread and address, shared port (SO_REUSEPORT), and the loop that accepts.

use std::net::{SocketAddr, TcpListener as StdListener};
use std::rc::Rc;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tracing::warn;

use super::caller;
use super::rate::Slot;
use super::worker::{Shared, Worker};
use crate::telemetry::metrics::Limit;

/// Waiting connections per socket; the kernel caps it at net.core.somaxconn.
const BACKLOG: i32 = 4096;
/// How long to wait after the kernel could not give us a connection (out of files, mostly).
const AFTER_FAILURE: Duration = Duration::from_millis(50);

/// A listener could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The address is taken, not ours, or not allowed.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address as configured.
        address: SocketAddr,
        /// Why.
        #[source]
        cause: std::io::Error,
    },
    /// What the edge tries itself with could not be made.
    #[error("cannot make what the edge tries itself with: {0}")]
    Strangers(String),
    /// A thread or its runtime could not be started.
    #[error("cannot start an edge thread")]
    Thread(#[source] std::io::Error),
}

/// The sockets of one address, one for each thread.
pub(super) struct Sockets {
    pub(super) address: SocketAddr,
    pub(super) per_thread: Vec<StdListener>,
}

/// Opens every address `threads` times.
///
/// # Errors
/// The first address that cannot be had, with the reason.
pub(super) fn open(addresses: &[SocketAddr], threads: usize) -> Result<Vec<Sockets>, BindError> {
    addresses
        .iter()
        .map(|address| {
            open_one(*address, addresses, threads)
                .map_err(|cause| BindError::Listen { address: *address, cause })
        })
        .collect()
}

fn open_one(address: SocketAddr, all: &[SocketAddr], threads: usize) -> std::io::Result<Sockets> {
    // `[::]` alone takes IPv4 visitors as well; beside `0.0.0.0` it must leave them to it.
    let only_v6 = all.iter().any(|other| other.is_ipv4() && other.port() == address.port());
    if address.port() != 0 {
        // With SO_REUSEPORT alone, a second process of the same user would share the port unnoticed.
        let probe = socket(address, only_v6)?;
        probe.bind(&address.into())?;
        probe.listen(1)?;
    }
    let mut address = address;
    let mut per_thread = Vec::with_capacity(threads);
    for _ in 0..threads {
        let socket = socket(address, only_v6)?;
        socket.set_reuse_port(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        let listener = StdListener::from(socket);
        address = listener.local_addr()?;
        per_thread.push(listener);
    }
    Ok(Sockets { address, per_thread })
}

fn socket(address: SocketAddr, only_v6: bool) -> std::io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(only_v6)?;
    }
    Ok(socket)
}

/// What is spoken on a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Speech {
    /// TLS, then HTTP.
    Tls,
    /// Plain HTTP.
    Plain,
}

/// Accepts until the edge stops, one connection permit each. Who comes too often is sent away here, where it costs
/// least: nothing is read, signed or answered.
pub(super) async fn accept(worker: Rc<Worker>, listener: TcpListener, speech: Speech) {
    let stop = worker.shared.stop.clone();
    loop {
        // The permit first: beyond the bound, visitors wait in the kernel and cost us nothing.
        let permit = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            permit = worker.shared.permits.clone().acquire_owned() => permit,
        };
        let Ok(permit) = permit else { return };
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                // Of whom a load balancer speaks is known later.
                let speaks_for_others = caller::speaks_for_others(&worker.shared, peer);
                let slot = match speaks_for_others {
                    true => None,
                    false => match admit(&worker.shared, &stream, peer, speech) {
                        Ok(slot) => slot,
                        Err(SentAway) => continue,
                    },
                };
                let own = worker.clone();
                worker.shared.tasks.spawn_local(async move {
                    serve(own, stream, peer, (speech, slot)).await;
                    drop(permit);
                });
            }
            Err(error) => {
                warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(AFTER_FAILURE).await;
            }
        }
    }
}

/// Nobody is served who comes too often, or with too many connections.
struct SentAway;

/// The place of one more connection, if those are counted. One that is too much is closed without an answer.
fn admit(
    shared: &Shared,
    stream: &TcpStream,
    visitor: SocketAddr,
    speech: Speech,
) -> Result<Option<Slot>, SentAway> {
    match place(shared, visitor, speech) {
        Ok(slot) => Ok(slot),
        Err(limit) => {
            shared.metrics.limited.count(limit);
            shared.rate.closed(limit, visitor.ip().to_canonical());
            // Without a goodbye, which the kernel would remember for a minute.
            let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
            Err(SentAway)
        }
    }
}

fn place(shared: &Shared, visitor: SocketAddr, speech: Speech) -> Result<Option<Slot>, Limit> {
    if shared.is_own_call(visitor) {
        return Ok(None);
    }
    let source = shared.rate.counted(visitor.ip());
    let slot = shared.rate.connect(source)?;
    match speech {
        Speech::Tls => shared.rate.shake(source)?,
        Speech::Plain => {}
    }
    Ok(slot)
}

async fn serve(
    worker: Rc<Worker>,
    mut stream: TcpStream,
    peer: SocketAddr,
    (speech, mut slot): (Speech, Option<Slot>),
) {
    // Answers are written whole; waiting for more would only delay them.
    let _ = stream.set_nodelay(true);
    let Some(visitor) = caller::of(&worker.shared, &mut stream, peer).await else { return };
    if caller::speaks_for_others(&worker.shared, peer) {
        slot = match admit(&worker.shared, &stream, visitor, speech) {
            Ok(slot) => slot,
            Err(SentAway) => return,
        };
    }
    match speech {
        Speech::Tls => super::connection::serve(worker, stream.into(), visitor, slot).await,
        Speech::Plain => {
            super::plain::serve(worker, stream, visitor).await;
            drop(slot);
        }
    }
}
