//! The data plane: TLS at the door, who is behind it, which route it may take, and the way to the
//! upstream and back. Never touches the database; works from `live` alone.
//!
//! One file per station, in the order of a request: `listener`, `caller` (`proxy_header`), `handshake` (from which
//! `passthrough` branches off), `connection` (with `facts`, `index`, `io`, `protocol`, `stream`; `guard` with `frames`
//! and `pace` say who is too slow, or too busy), `request` (`forwarded`, `host`, `permit`), `forward` (`headers`,
//! `assertion`, `trace`, `limits`, `introduce`, `upstream`), `answer`, `websocket`, `tunnel`. Who comes too often is told so by
//! `rate`. Before a configuration serves, `trial` asks it as a `stranger` would. Refusals become HTTP in `respond`
//! and nowhere else. Each thread has a runtime, sockets and an upstream pool of its own.

mod access_log;
mod answer;
mod assertion;
mod caller;
mod carrier;
mod connection;
mod cork;
mod door;
mod drain;
mod facts;
mod finish;
mod forward;
pub mod forwarded;
pub mod frames;
mod guard;
mod handshake;
pub mod headers;
pub mod host;
mod index;
mod introduce;
mod io;
mod limits;
mod listener;
pub mod ocsp;
mod ongoing;
mod pace;
mod passthrough;
pub mod permit;
mod plain;
mod protocol;
pub mod proxy_header;
mod rate;
mod request;
pub mod respond;
mod settings;
mod spans;
mod stranger;
mod stream;
mod trace;
mod trial;
mod tunnel;
mod turns;
mod upstream;
mod websocket;
mod worker;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;
use tokio::task::LocalSet;
use tokio_util::sync::CancellationToken;

pub use door::{DoorConnection, Guarded};
pub use drain::Drained;
pub use listener::{BindError, EdgeSockets, Inherited, Sockets};
pub use settings::{EdgeSettings, Limits};

use index::Ending;
use listener::Speech;
use stranger::Strangers;
use trace::Ids;
use trial::Trial;
use worker::{Shared, Worker};

use crate::clock::SharedClock;
use crate::domain::Entropy;
use crate::live::Holder;
use crate::telemetry::metrics::EdgeMetrics;
use crate::telemetry::{Spans, line};

/// How often certificates that have ended are looked for, and idle upstream connections closed.
const SWEEP_EVERY: Duration = Duration::from_millis(250);
/// Sweeps from one to the next in which limits forget whom they need not remember.
const FORGET_EVERY: u32 = 4;

/// A running edge.
pub struct Edge {
    shared: Arc<Shared>,
    https: Vec<SocketAddr>,
    http: Vec<SocketAddr>,
    /// Ends the threads when the edge is dropped.
    threads: CancellationToken,
}

impl Edge {
    /// Opens all listeners and starts to serve what `holder` holds.
    ///
    /// * `door` — who takes connections to the door; without it they are answered 503.
    ///
    /// # Errors
    /// [`BindError`] with the address and the reason; nothing is left open then.
    #[expect(clippy::unused_async, reason = "the promise of the signature: binding may wait one day")]
    pub async fn bind(
        settings: EdgeSettings,
        holder: Arc<Holder>,
        clock: SharedClock,
        entropy: Arc<dyn Entropy>,
        door: Option<mpsc::Sender<DoorConnection>>,
        metrics: Arc<EdgeMetrics>,
    ) -> Result<Self, BindError> {
        let sockets = EdgeSockets::open(&settings, Inherited::default())?;
        let edge = Self::on(sockets, settings, holder, clock, entropy, door, metrics)?;
        edge.open();
        Ok(edge)
    }

    /// As [`Edge::bind`], on sockets that are there; accepts nothing before [`Edge::open`].
    ///
    /// # Errors
    /// [`BindError`].
    pub fn on(
        sockets: EdgeSockets,
        settings: EdgeSettings,
        holder: Arc<Holder>,
        clock: SharedClock,
        entropy: Arc<dyn Entropy>,
        door: Option<mpsc::Sender<DoorConnection>>,
        metrics: Arc<EdgeMetrics>,
    ) -> Result<Self, BindError> {
        let threads = settings.threads.max(1);
        let EdgeSockets { https, http } = sockets;
        let addresses = |sockets: &[Sockets]| sockets.iter().map(|s| s.address).collect::<Vec<_>>();
        let (https_addresses, http_addresses) = (addresses(&https), addresses(&http));
        let https_port = settings
            .https_public_port
            .or_else(|| https_addresses.first().map(SocketAddr::port))
            .unwrap_or(443);
        let strangers = Strangers::make().map_err(BindError::Strangers)?;
        let trial = Trial {
            // Nobody visits.
            settings: EdgeSettings { spans: Spans::default(), ..settings.clone() },
            clock: clock.clone(),
            entropy: entropy.clone(),
            strangers: strangers.clone(),
        };
        holder.try_with(Arc::new(trial));
        let shared = Shared { https_port, ..Shared::new(settings, holder, clock, door, metrics) };
        let shared = Arc::new(shared);
        let watcher: Weak<Shared> = Arc::downgrade(&shared);
        shared.holder.on_change({
            let watcher = watcher.clone();
            move |changes| {
                if let Some(shared) = watcher.upgrade() {
                    shared.index.changed(changes);
                }
            }
        });
        shared.holder.on_publish(move || {
            if let Some(shared) = watcher.upgrade() {
                shared.index.doubt_all();
                shared.published.notify_one();
            }
        });
        let edge = Self {
            shared: shared.clone(),
            https: https_addresses,
            http: http_addresses,
            threads: CancellationToken::new(),
        };
        if edge.shared.holder.snapshot().is_some() {
            // What a restart has brought back was tried by nobody yet.
            edge.shared.published.notify_one();
        }
        let mut own: Vec<Listeners> = std::iter::repeat_with(Vec::new).take(threads).collect();
        share(https, Speech::Tls, &mut own)?;
        share(http, Speech::Plain, &mut own)?;
        for (number, listeners) in own.into_iter().enumerate() {
            let runtime = Builder::new_current_thread().enable_all().build().map_err(BindError::Thread)?;
            let ids = Ids::seeded(&*entropy);
            let (shared, end) = (shared.clone(), edge.threads.clone());
            // One thread asks for all.
            let asking = (number == 0).then(|| (edge.reachable_at(), strangers.clone()));
            // A test listens to its own edge; everybody else has one listener for all threads.
            #[cfg(feature = "test-util")]
            let dispatch = tracing::dispatcher::get_default(Clone::clone);
            std::thread::Builder::new()
                .name(format!("edge-{number}"))
                .spawn(move || {
                    #[cfg(feature = "test-util")]
                    let _listens = tracing::dispatcher::set_default(&dispatch);
                    run(&runtime, || Worker::new(shared, ids), listeners, asking, end);
                })
                .map_err(BindError::Thread)?;
        }
        Ok(edge)
    }

    /// Where TLS is spoken, with real ports.
    pub fn https_addresses(&self) -> &[SocketAddr] {
        &self.https
    }

    /// Where plain HTTP is spoken, with real ports.
    pub fn http_addresses(&self) -> &[SocketAddr] {
        &self.http
    }

    /// Where this host reaches its own https listeners.
    fn reachable_at(&self) -> Vec<SocketAddr> {
        let reachable = |address: &SocketAddr| match (address.ip().is_unspecified(), address) {
            (true, SocketAddr::V4(_)) => SocketAddr::new(Ipv4Addr::LOCALHOST.into(), address.port()),
            (true, SocketAddr::V6(_)) => SocketAddr::new(Ipv6Addr::LOCALHOST.into(), address.port()),
            (false, _) => *address,
        };
        self.https.iter().map(reachable).collect()
    }

    /// Begins to accept.
    pub fn open(&self) {
        let _ = self.shared.open.set(());
    }

    /// Says whether anybody takes connections to the door; if not, they are answered 503.
    pub fn shut_door(&self, is_shut: bool) {
        self.shared.door_is_shut.store(is_shut, Ordering::Release);
    }

    /// Accepts no more; what is in the queues is served. Connections go on until [`Edge::leave`].
    pub fn stop_accepting(&self) {
        self.shared.stop.cancel();
    }

    /// Ends every connection that is served here, at once.
    pub fn cut(&self) {
        self.shared.index.end_all(Ending::Cut);
    }

    /// Stops accepting, lets exchanges in flight finish within `drain_timeout`, cuts the rest. Returns
    /// when no connection is left (but for the door's, which are not the edge's any more).
    pub async fn drain(&self) -> Drained {
        drain::drain(&self.shared, Ending::Drain).await
    }

    /// As [`Edge::drain`], for an edge that others go on from: who is idle may ask for one thing more, within half of
    /// `drain_timeout`, and is told with the answer to come anew; tunnels last until they are cut.
    pub async fn leave(&self) -> Drained {
        drain::drain(&self.shared, Ending::Leave).await
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        self.shared.stop.cancel();
        self.threads.cancel();
    }
}

type Listeners = Vec<(std::net::TcpListener, Speech)>;

/// Gives every socket a thread and every thread a socket of each address. Inherited ones may be fewer than threads
/// or more: then some are shared, and some threads have several; none may be closed, for it has a queue of its own.
fn share(addresses: Vec<Sockets>, speech: Speech, own: &mut [Listeners]) -> Result<(), BindError> {
    let threads = own.len();
    for Sockets { address, sockets, .. } in addresses {
        for at in 0..threads.max(sockets.len()) {
            let copy = sockets[at % sockets.len()].try_clone();
            let copy = copy.map_err(|cause| BindError::Listen { address, cause })?;
            own[at % threads].push((copy, speech));
        }
    }
    Ok(())
}

/// One thread, from its first connection to the end of the edge.
fn run(
    runtime: &Runtime,
    worker: impl FnOnce() -> Rc<Worker>,
    listeners: Listeners,
    asking: Option<(Vec<SocketAddr>, Strangers)>,
    end: CancellationToken,
) {
    let local = LocalSet::new();
    local.block_on(runtime, async move {
        let worker = worker();
        let is_first = asking.is_some();
        if let Some((addresses, strangers)) = asking {
            tokio::task::spawn_local(trial::keep_asking(worker.clone(), addresses, strangers));
            tokio::task::spawn_local(upstream::health::watch(worker.clone()));
            tokio::task::spawn_local(upstream::discovery::watch(worker.clone()));
        }
        for (socket, speech) in listeners {
            match TcpListener::from_std(socket) {
                // A drain is over when nobody listens any more, either.
                Ok(listener) => {
                    drop(worker.shared.tasks.spawn_local(listener::accept(worker.clone(), listener, speech)))
                }
                Err(error) => tracing::error!(%error, "a listener could not be registered"),
            }
        }
        let mut tick = tokio::time::interval(SWEEP_EVERY);
        let mut sweeps = 0_u32;
        // The last confirmation that was found too old.
        let mut stale_since = None;
        loop {
            tokio::select! {
                () = end.cancelled() => return line::flush(),
                _ = tick.tick() => {
                    line::flush();
                    worker.pool.sweep();
                    if let Some(snapshot) = worker.shared.holder.snapshot() {
                        // Also where nobody asks: what is not in force any more is let go.
                        worker.derived(&snapshot.configuration);
                    }
                    if is_first {
                        worker.shared.metrics.targets.set(worker.shared.upstreams.status());
                        worker.shared.metrics.names.set(worker.shared.upstreams.names());
                        sweeps = sweeps.wrapping_add(1);
                    }
                    if is_first && sweeps.is_multiple_of(FORGET_EVERY) {
                        worker.shared.rate.sweep();
                    }
                    let now = worker.shared.clock.now();
                    worker.shared.index.expire(now);
                    let register = worker.shared.holder.register();
                    let is_stale = !register.is_fresh(now, worker.shared.settings.max_stale);
                    let stale = is_stale.then(|| register.as_of());
                    // What goes on under a register that nobody confirms ends like what is asked for anew.
                    // Once for each confirmation: one may come and grow old between two looks.
                    if std::mem::replace(&mut stale_since, stale) != stale && is_stale {
                        worker.shared.index.doubt_all();
                    }
                }
            }
        }
    });
}
