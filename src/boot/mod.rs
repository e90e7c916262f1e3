//! The composition root: configuration -> keys -> edge -> database -> services -> listeners, in this
//! order, and back in reverse. Building is separate from running: what cannot be bound or opened is
//! an error here, with its address or file, before anything is served.
//!
//! The edge comes first and lives alone: with its own copy of the snapshot it serves while the
//! database is away, and the control plane joins when the database is back.

mod automation;
mod console;
mod control;
mod handover;
mod health;
mod initialise;
mod plain;
mod plane;
mod recover;
mod running;
mod sockets;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::clock::{ForwardOnly, SharedClock};
use crate::config::{Config, DatabaseUrl, EdgeLimits, KeySource, TlsVersion};
use crate::domain::Entropy;
use crate::edge::{DoorConnection, Edge, EdgeSettings, Limits};
use crate::keys::{Kek, KeyFault, Purpose, Vault, Vaults};
use crate::live::journal::{Journal, JournalFault};
use crate::live::{Holder, TlsPolicy};
use crate::store::{Store, StoreError};
use crate::telemetry::metrics::MetricsError;
use crate::telemetry::otlp::{self, Exporter};
use crate::telemetry::{Metrics, Spans};

pub use control::{Control, ControlError};
pub use handover::{Predecessor, TakeOverError};
pub use initialise::initialise;
pub use running::Running;
pub use sockets::Given;

use plain::Listening;
use plane::Plane;
use sockets::{Service, Sockets};

/// Connections waiting to be taken over by the admin role.
const DOOR_QUEUE: usize = 64;
/// A clock that is corrected by less is nobody's concern.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(60);
/// How often the clock is looked at.
const LOOK_AT_CLOCK_EVERY: Duration = Duration::from_secs(10);

/// How a process starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// On an installation that `wicketgate init` made.
    Existing,
    /// Makes the installation if it is not there (`wicketgate demo`).
    CreateIfMissing,
}

/// Why the process does not start.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// A key-encryption key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyFault),
    /// The data directory cannot be used.
    #[error("the data directory {path} cannot be used")]
    DataDir {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        cause: std::io::Error,
    },
    /// The TLS settings do not fit together.
    #[error("edge.tls: {0}")]
    Tls(String),
    /// The edge's copy of the snapshot cannot be trusted.
    #[error(transparent)]
    Snapshot(#[from] JournalFault),
    /// The metrics cannot be set up.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// The edge cannot listen.
    #[error(transparent)]
    Bind(#[from] crate::edge::BindError),
    /// Another listener cannot listen.
    #[error("cannot listen on {address} for {purpose}")]
    Listen {
        /// Where.
        address: String,
        /// What for.
        purpose: &'static str,
        /// Why.
        #[source]
        cause: std::io::Error,
    },
    /// The control plane cannot start.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The process that serves does not hand over.
    #[error(transparent)]
    TakeOver(#[from] TakeOverError),
}

/// What a process begins with that was there before.
#[derive(Default)]
pub struct Legacy {
    /// Sockets that listen already.
    pub given: Vec<Given>,
    /// The process that is to be replaced.
    pub predecessor: Option<Arc<Predecessor>>,
}

/// Starts everything that role `all` is made of.
///
/// # Errors
/// As [`BootError`] says; whatever was started is stopped again.
pub async fn start(
    config: Config,
    clock: SharedClock,
    entropy: Arc<dyn Entropy>,
    start: Start,
) -> Result<Running, BootError> {
    let mut running = Box::pin(start_from(config, clock, entropy, start, Legacy::default())).await?;
    running.open().await?;
    Ok(running)
}

/// The same from what was there before, up to the moment in which [`Running::open`] makes it the one that serves.
///
/// # Errors
/// As [`BootError`] says; a process that was to be replaced goes on when this one has ended.
pub async fn start_from(
    config: Config,
    clock: SharedClock,
    entropy: Arc<dyn Entropy>,
    start: Start,
    legacy: Legacy,
) -> Result<Running, BootError> {
    let config = Arc::new(config);
    let vaults = Arc::new(vaults(&config)?);
    let tls = tls_policy(&config)?;
    let directory = config.server.data_dir.join("edge");
    private_directory(&config.server.data_dir)?;
    private_directory(&directory)?;
    let Legacy { given, predecessor } = legacy;
    if let Some(predecessor) = &predecessor {
        predecessor.stand_back().await?;
    }

    let kek: Arc<dyn crate::domain::Seal> = Arc::new(server_kek(&config)?);
    // Who is let in is decided by a time that does not run backwards, not even over a restart.
    let edge_time = ForwardOnly::over(clock.clone());
    let edge_clock: SharedClock = edge_time.clone();
    let journal = Journal::at(&directory, "local", kek).alone();
    let holder = Holder::restore(tls.clone(), edge_clock.clone(), journal)?;
    edge_time.has_been(holder.register().as_of());
    let (door, door_connections) = mpsc::channel::<DoorConnection>(DOOR_QUEUE);
    let metrics = Metrics::new(clock.now())?;
    let sockets = Arc::new(Sockets::new(given));
    let (spans, exporter) = spans(&config, &metrics);
    let settings = EdgeSettings { spans, ..edge_settings(&config) };
    let edge_sockets = sockets.of_edge(&settings)?;
    let (held, numbers) = (holder.clone(), metrics.edge.clone());
    let edge =
        Edge::on(edge_sockets, settings, held, edge_clock.clone(), entropy.clone(), Some(door), numbers)?;
    let edge = Arc::new(edge);

    let mut tasks = JoinSet::new();
    let stop = CancellationToken::new();
    tasks.spawn(watch_clock(edge_time, stop.clone()));
    if let Some(exporter) = exporter {
        tasks.spawn(exporter.run(stop.clone()));
    }
    let control = Arc::new(ArcSwapOption::empty());
    let listening = Listening::until(&stop);
    let about = health::Health { holder: holder.clone(), metrics: metrics.clone(), control: control.clone() };
    let listener = listener(&sockets, Service::Health, config.health.listen)?;
    let health = health::listen(listener, about, &mut tasks, &listening)
        .map_err(|cause| not_listening(Service::Health, config.health.listen, cause))?;
    if let Some(address) = config.pki.listen {
        let listener = self::listener(&sockets, Service::Pki, address)?;
        plain::serve_documents(listener, holder.clone(), clock.clone(), &mut tasks, &listening)
            .map_err(|cause| not_listening(Service::Pki, address, cause))?;
    }

    let parts = control::Parts {
        config: config.clone(),
        clock,
        entropy,
        vaults,
        tls,
        holder: holder.clone(),
        edge: edge.clone(),
        metrics,
        edge_clock,
        sockets: sockets.clone(),
        predecessor: predecessor.clone(),
    };
    let plane = Plane::new(parts, start, door_connections, control);
    plane.begin().await?;
    sockets.close_unclaimed();
    Ok(Running {
        config,
        holder,
        edge,
        plane,
        sockets,
        listening,
        predecessor,
        is_given: Arc::default(),
        no_successor: CancellationToken::new(),
        health,
        stop,
        tasks,
    })
}

fn listener(sockets: &Sockets, service: Service, address: SocketAddr) -> Result<TcpListener, BootError> {
    sockets.listener(service, address).map_err(|cause| not_listening(service, address, cause))
}

fn not_listening(service: Service, address: SocketAddr, cause: std::io::Error) -> BootError {
    BootError::Listen { address: address.to_string(), purpose: service.in_words(), cause }
}

/// Says when the host's clock runs behind the time that the edge goes by, and when it does not any more.
async fn watch_clock(time: Arc<ForwardOnly>, stop: CancellationToken) {
    let mut was_behind = false;
    while !stop.is_cancelled() {
        let behind = time.set_back();
        let is_behind = behind > CLOCK_TOLERANCE;
        if is_behind && !was_behind {
            tracing::error!(
                behind_seconds = behind.as_secs(),
                "The clock was set back: what had ended stays ended, and if it is behind by more than \
                 edge.max_stale_seconds protected routes are closed. Set it right, or restart if it is right now"
            );
        } else if was_behind && !is_behind {
            tracing::info!("The clock is right again");
        }
        was_behind = is_behind;
        let pause = tokio::time::sleep(LOOK_AT_CLOCK_EVERY);
        tokio::select! { () = pause => {} () = stop.cancelled() => return }
    }
}

/// Where spans go, and what sends them on; nowhere unless a collector is configured.
fn spans(config: &Config, metrics: &Metrics) -> (Spans, Option<Exporter>) {
    let settings = &config.telemetry.otlp;
    let Some(endpoint) = &settings.endpoint else { return (Spans::default(), None) };
    let (spans, exporter) = otlp::exporter(endpoint, settings.sample_ratio, metrics.spans.clone());
    (spans, Some(exporter))
}

fn edge_settings(config: &Config) -> EdgeSettings {
    let edge = &config.edge;
    let threads = edge.threads.map_or_else(
        || std::thread::available_parallelism().map_or(1, usize::from),
        |threads| usize::try_from(threads).unwrap_or(1),
    );
    EdgeSettings {
        https: edge.https.clone(),
        http: edge.http.clone(),
        proxy_protocol_from: edge.proxy_protocol_from.clone(),
        trusted_proxies: edge.trusted_proxies.clone(),
        https_public_port: None,
        threads,
        handshake_timeout: edge.handshake_timeout,
        header_timeout: edge.header_timeout,
        body_timeout: edge.body_timeout,
        min_rate: edge.min_rate,
        idle_timeout: edge.idle_timeout,
        total_timeout: edge.total_timeout,
        drain_timeout: edge.drain_timeout,
        max_stale: edge.max_stale,
        self_check_every: edge.self_check_every,
        dns_servers: edge.dns.servers.clone(),
        own_listeners: config.listeners().into_iter().map(|(_, address)| address).collect(),
        max_connections: usize::try_from(edge.max_connections).unwrap_or(usize::MAX),
        max_header_bytes: usize::try_from(edge.max_header_bytes).unwrap_or(usize::MAX),
        max_body: Some(edge.max_body_bytes),
        limits: limits(&edge.limits),
        ..EdgeSettings::default()
    }
}

fn limits(limits: &EdgeLimits) -> Limits {
    Limits {
        handshakes_per_second: limits.handshakes_per_second,
        handshakes_per_second_per_source: limits.handshakes_per_second_per_source,
        connections_per_source: limits.connections_per_source,
        requests_per_second_per_source: limits.requests_per_second_per_source,
        requests_per_second_per_device: limits.requests_per_second_per_device,
        requests_per_second_per_person: limits.requests_per_second_per_person,
        exempt: limits.exempt.clone(),
    }
}

fn tls_policy(config: &Config) -> Result<TlsPolicy, BootError> {
    let tls = &config.edge.tls;
    let codes: Vec<_> = tls.suites.iter().map(|suite| suite.code()).collect();
    let speaks = |version| tls.versions.contains(&version);
    TlsPolicy::with_suites(&codes, speaks(TlsVersion::V13), speaks(TlsVersion::V12)).map_err(BootError::Tls)
}

/// Reads both key-encryption keys.
///
/// # Errors
/// [`KeyFault`], with what to do about it.
pub fn vaults(config: &Config) -> Result<Vaults, KeyFault> {
    Ok(Vaults {
        server: Vault::new(server_kek(config)?),
        authority: Vault::new(kek(Purpose::Authority, &config.keys.authority)?),
    })
}

fn server_kek(config: &Config) -> Result<Kek, KeyFault> {
    kek(Purpose::Server, &config.keys.server)
}

fn kek(purpose: Purpose, source: &KeySource) -> Result<Kek, KeyFault> {
    match source {
        KeySource::File(path) => Kek::from_file(purpose, path),
        KeySource::Inline(text) => Kek::from_text(purpose, text, "the configuration"),
    }
}

/// Opens the configured database.
///
/// # Errors
/// [`StoreError::Unavailable`].
pub async fn open_store(config: &Config, start: Start) -> Result<Store, StoreError> {
    let url = database_url(config);
    match start {
        Start::Existing => Store::open(&url, config.database.max_connections).await,
        Start::CreateIfMissing => Store::create(&url, config.database.max_connections).await,
    }
}

/// The configured database, as the store takes it. A PostgreSQL URL may hold a password.
pub fn database_url(config: &Config) -> String {
    match &config.database.url {
        DatabaseUrl::Sqlite(path) => format!("sqlite:{}", path.display()),
        DatabaseUrl::Postgres(url) => url.expose().clone(),
    }
}

/// Makes a directory that only its owner may enter; one that is there stays as it is.
///
/// # Errors
/// [`BootError::DataDir`].
pub fn private_directory(path: &std::path::Path) -> Result<(), BootError> {
    use std::os::unix::fs::DirBuilderExt;
    let fault = |cause| BootError::DataDir { path: path.to_owned(), cause };
    match std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path) {
        Ok(()) => Ok(()),
        Err(cause) => Err(fault(cause)),
    }
}
