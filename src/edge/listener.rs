//! Sockets: one per thread and address, shared port (SO_REUSEPORT), or those that somebody hands over; and the
//! loop that accepts.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::rc::Rc;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::OwnedSemaphorePermit;
use tracing::warn;

use super::caller;
use super::rate::Slot;
use super::settings::EdgeSettings;
use super::worker::{Shared, Worker};
use crate::telemetry::metrics::Limit;

/// Waiting connections per socket; the kernel caps it at net.core.somaxconn.
const BACKLOG: i32 = 4096;
/// Octets of an answer that the kernel keeps for a visitor beyond those that are on their way.
const UNSENT: u32 = 128 * 1024;
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

/// Sockets that listen already, in the order of the settings' addresses. Where there are none, they are opened.
#[derive(Default)]
pub struct Inherited {
    /// For https.
    pub https: Vec<Vec<StdListener>>,
    /// For plain HTTP.
    pub http: Vec<Vec<StdListener>>,
}

/// Where an edge will accept. Connections wait in the kernel until it does.
pub struct EdgeSockets {
    pub(super) https: Vec<Sockets>,
    pub(super) http: Vec<Sockets>,
}

/// The sockets of one address; at least one.
pub struct Sockets {
    configured: SocketAddr,
    pub(super) address: SocketAddr,
    pub(super) sockets: Vec<StdListener>,
}

impl EdgeSockets {
    /// Takes what is inherited, and opens every other address once for each thread.
    ///
    /// # Errors
    /// The first address that cannot be had, with the reason.
    pub fn open(settings: &EdgeSettings, inherited: Inherited) -> Result<Self, BindError> {
        let threads = settings.threads.max(1);
        let https = open(&settings.https, inherited.https, threads)?;
        Ok(Self { https, http: open(&settings.http, inherited.http, threads)? })
    }

    /// Those for https.
    pub fn https(&self) -> &[Sockets] {
        &self.https
    }

    /// Those for plain HTTP.
    pub fn http(&self) -> &[Sockets] {
        &self.http
    }
}

impl Sockets {
    /// The address as the settings have it, where a port may be 0.
    pub fn configured(&self) -> SocketAddr {
        self.configured
    }

    /// The sockets.
    pub fn sockets(&self) -> &[StdListener] {
        &self.sockets
    }
}

fn open(
    addresses: &[SocketAddr],
    inherited: Vec<Vec<StdListener>>,
    threads: usize,
) -> Result<Vec<Sockets>, BindError> {
    let inherited = inherited.into_iter().chain(std::iter::repeat_with(Vec::new));
    let one = |(address, inherited): (&SocketAddr, Vec<StdListener>)| {
        let sockets = match inherited.is_empty() {
            true => open_one(*address, addresses, threads),
            false => take(*address, inherited),
        };
        let sockets = sockets.and_then(|sockets| bound_unsent(&sockets.sockets).map(|()| sockets));
        sockets.map_err(|cause| BindError::Listen { address: *address, cause })
    };
    addresses.iter().zip(inherited).map(one).collect()
}

/// Connections have it from the socket that they were accepted from. Who reads slowly would otherwise be given
/// megabytes in advance, each of them copied and kept by the kernel; what is on its way is not bounded by it.
fn bound_unsent(sockets: &[StdListener]) -> std::io::Result<()> {
    sockets.iter().try_for_each(|socket| SockRef::from(socket).set_tcp_notsent_lowat(UNSENT))
}

/// Whoever opened them may have them blocking.
fn take(configured: SocketAddr, sockets: Vec<StdListener>) -> std::io::Result<Sockets> {
    let mut address = configured;
    for socket in &sockets {
        socket.set_nonblocking(true)?;
        address = socket.local_addr()?;
    }
    Ok(Sockets { configured, address, sockets })
}

fn open_one(configured: SocketAddr, all: &[SocketAddr], threads: usize) -> std::io::Result<Sockets> {
    let mut address = configured;
    // `[::]` alone takes IPv4 visitors as well; beside `0.0.0.0` it must leave them to it.
    let only_v6 = all.iter().any(|other| other.is_ipv4() && other.port() == address.port());
    if address.port() != 0 {
        // With SO_REUSEPORT alone, a second process of the same user would share the port unnoticed.
        let probe = socket(address, only_v6)?;
        probe.bind(&address.into())?;
        probe.listen(1)?;
    }
    let mut sockets = Vec::with_capacity(threads);
    for _ in 0..threads {
        let socket = socket(address, only_v6)?;
        socket.set_reuse_port(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        let listener = StdListener::from(socket);
        address = listener.local_addr()?;
        sockets.push(listener);
    }
    Ok(Sockets { configured, address, sockets })
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

/// Accepts from the edge's opening until it stops, one connection permit each. Who comes too often is sent away
/// here, where it costs least: nothing is read, signed or answered.
pub(super) async fn accept(worker: Rc<Worker>, listener: TcpListener, speech: Speech) {
    let stop = worker.shared.stop.clone();
    tokio::select! {
        biased;
        // Whoever waits in the queue is somebody else's visitor still.
        () = stop.cancelled() => return,
        _ = worker.shared.open.wait() => {}
    }
    loop {
        // The permit first: beyond the bound, visitors wait in the kernel and cost us nothing.
        let permit = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            permit = worker.shared.permits.clone().acquire_owned() => permit,
        };
        let Ok(permit) = permit else { return };
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => take_in(&worker, permit, stream, peer, speech),
            Err(error) => {
                warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(AFTER_FAILURE).await;
            }
        }
    }
    accept_the_rest(&worker, listener, speech);
}

/// Takes in whoever is in the queue, once: the kernel refuses them when the last copy of the socket closes.
/// Beyond the bound of connections they are left to it, or to whoever has another copy.
fn accept_the_rest(worker: &Rc<Worker>, listener: TcpListener, speech: Speech) {
    // Asked directly: the runtime knows of new ones only after its next turn.
    let Ok(listener) = listener.into_std() else { return };
    for _ in 0..BACKLOG {
        let Ok(permit) = worker.shared.permits.clone().try_acquire_owned() else { return };
        match listener.accept() {
            Ok((stream, peer)) => {
                let stream = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
                if let Ok(stream) = stream {
                    take_in(worker, permit, stream, peer, speech);
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            Err(_) => {} // this one is gone; there may be others
        }
    }
}

fn take_in(
    worker: &Rc<Worker>,
    permit: OwnedSemaphorePermit,
    stream: TcpStream,
    peer: SocketAddr,
    speech: Speech,
) {
    // Of whom a load balancer speaks is known later.
    let slot = match caller::speaks_for_others(&worker.shared, peer) {
        true => None,
        false => match admit(&worker.shared, &stream, peer, speech) {
            Ok(slot) => slot,
            Err(SentAway) => return,
        },
    };
    let own = worker.clone();
    worker.shared.tasks.spawn_local(async move {
        serve(own, stream, peer, (speech, slot)).await;
        drop(permit);
    });
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
            let turns = worker.turns.clone();
            turns.take(&Rc::default(), Box::pin(super::plain::serve(worker, stream, visitor))).await;
            drop(slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream as StdStream;

    use super::*;

    #[test]
    fn the_kernel_keeps_little_for_those_who_read_slowly() {
        // One socket: which of several takes a connection is the kernel's choice.
        let https = vec!["127.0.0.1:0".parse().unwrap()];
        let own = EdgeSettings { https, threads: 1, ..EdgeSettings::default() };
        let given = StdListener::bind("127.0.0.1:0").unwrap();
        let inherited = Inherited { https: vec![vec![given]], ..Inherited::default() };
        for inherited in [Inherited::default(), inherited] {
            let sockets = EdgeSockets::open(&own, inherited).unwrap();
            let listener = &sockets.https[0].sockets[0];
            listener.set_nonblocking(false).unwrap();
            let _visitor = StdStream::connect(listener.local_addr().unwrap()).unwrap();
            let (accepted, _) = listener.accept().unwrap();
            assert_eq!(SockRef::from(&accepted).tcp_notsent_lowat().unwrap(), UNSENT);
        }
    }
}
