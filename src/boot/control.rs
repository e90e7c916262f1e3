//! The control plane: rows, the authority, the feed, jobs and the admin server. Needs the database,
//! which the edge does not.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::handover::{Predecessor, TakeOverError};
use super::initialise::{ensure_door, ensure_upstream_identity, initialise};
use super::plane::Door;
use super::sockets::Sockets;
use super::{Start, automation, console, open_store, recover};
use crate::activate::{Activation, Enforce};
use crate::admin::{OcspDesk, OcspLimits};
use crate::ca::{Ca, CheckpointError, CrlError, InitError, ServerLeafError, UpstreamIdentityError};
use crate::clock::SharedClock;
use crate::config::Config;
use crate::domain::Entropy;
use crate::edge::Edge;
use crate::jobs::refresh_live::{RefreshError, RefreshLive};
use crate::jobs::{self, Jobs};
use crate::keys::{KeyFault, Vaults};
use crate::live::{Feed, Holder, TlsPolicy};
use crate::mail::Mailer;
use crate::mail::smtp::SmtpFault;
use crate::store::data_keys::VaultError;
use crate::store::settings::INSTALLATION_ID;
use crate::store::{Store, StoreError};
use crate::telemetry::Metrics;

/// How long a job may finish its step when the process ends.
const JOBS_WITHIN: Duration = Duration::from_secs(4);

/// OCSP answers signed a second, for everyone together: what one core does beside its other work.
const OCSP_PER_SECOND: NonZeroU32 = NonZeroU32::MIN.saturating_add(2_999);

/// What the control plane is made of, kept for another try while the database is away.
pub(super) struct Parts {
    pub(super) config: Arc<Config>,
    pub(super) clock: SharedClock,
    pub(super) entropy: Arc<dyn Entropy>,
    pub(super) vaults: Arc<Vaults>,
    pub(super) tls: TlsPolicy,
    pub(super) holder: Arc<Holder>,
    pub(super) edge: Arc<Edge>,
    pub(super) metrics: Arc<Metrics>,
    /// The time by which people are let in.
    pub(super) edge_clock: SharedClock,
    pub(super) sockets: Arc<Sockets>,
    /// Whose connections have not all gone yet.
    pub(super) predecessor: Option<Arc<Predecessor>>,
}

/// A running control plane.
pub struct Control {
    store: Store,
    ca: Ca,
    refresh: Arc<RefreshLive>,
    jobs: Jobs,
    mailer: Mailer,
    door_url: Option<String>,
    console_url: String,
    stop: CancellationToken,
    tasks: Mutex<JoinSet<()>>,
}

/// Why the control plane does not start.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The database cannot be reached or read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is a database, but no installation in it.
    #[error("there is no installation in this database yet; run `wicketgate init`")]
    NotInitialised,
    /// The data keys do not open.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// A key could not seal.
    #[error(transparent)]
    Key(#[from] KeyFault),
    /// An authority could not be made.
    #[error(transparent)]
    Init(#[from] InitError),
    /// The key of the audit could not be made.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A local server certificate could not be made.
    #[error(transparent)]
    ServerLeaf(#[from] ServerLeafError),
    /// The edge's client certificate for upstreams could not be made.
    #[error(transparent)]
    UpstreamIdentity(#[from] UpstreamIdentityError),
    /// A revocation list could not be published.
    #[error(transparent)]
    Crl(#[from] CrlError),
    /// The console or its socket cannot listen.
    #[error("cannot listen on {address} for the console")]
    Listen {
        /// Where.
        address: String,
        /// Why.
        #[source]
        cause: std::io::Error,
    },
    /// The console's TLS side cannot be built.
    #[error("the console's TLS cannot be set up")]
    Tls(#[source] crate::live::tls::TlsFault),
    /// The mail settings do not make a mail server.
    #[error(transparent)]
    Smtp(#[from] SmtpFault),
    /// A configured root certificate cannot be read.
    #[error("{key}: {path} cannot be read")]
    Roots {
        /// The key that names it.
        key: &'static str,
        /// Where.
        path: std::path::PathBuf,
        /// Why.
        #[source]
        cause: std::io::Error,
    },
    /// The ACME client cannot be set up.
    #[error(transparent)]
    Acme(#[from] crate::acme::AcmeSetupError),
    /// The jobs could not be started.
    #[error(transparent)]
    Jobs(#[from] jobs::StartError),
    /// The edge could not be brought up to date.
    #[error(transparent)]
    Refresh(#[from] RefreshError),
    /// The process that is to be replaced does not follow.
    #[error(transparent)]
    TakeOver(#[from] TakeOverError),
}

impl ControlError {
    /// Whether waiting for the database may help.
    pub fn is_database_away(&self) -> bool {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(self);
        while let Some(error) = cause {
            if let Some(StoreError::Unavailable(_)) = error.downcast_ref::<StoreError>() {
                return true;
            }
            cause = error.source();
        }
        // Transparent variants have no source of their own.
        matches!(
            self,
            Self::Store(StoreError::Unavailable(_))
                | Self::Vault(VaultError::Store(StoreError::Unavailable(_)))
                | Self::Jobs(jobs::StartError::Store(StoreError::Unavailable(_)))
        )
    }
}

/// Starts the control plane; when it succeeds, the connections of `door` are its own until it is drained.
pub(super) async fn start(parts: &Parts, start: Start, door: &Door) -> Result<Control, ControlError> {
    let Parts { config, clock, entropy, vaults, holder, .. } = parts;
    let store = open_store(config, start).await?;
    prepare_schema(&store, config, parts).await?;
    if start == Start::Existing && store.setting(INSTALLATION_ID).await?.is_none() {
        return Err(ControlError::NotInitialised);
    }
    store.open_vaults(vaults, &**entropy, clock.now()).await?;
    let epoch = holder.register().epoch();
    recover::catch_up(&store, holder, clock.now()).await?;

    let feed = Feed::new();
    feed.connect(holder.clone());
    if let Some(predecessor) = &parts.predecessor {
        feed.connect(predecessor.clone());
    }
    let door_url =
        config.door.host.as_ref().map(|host| origin(host.as_str(), parts.edge.https_addresses()[0].port()));
    let refresh =
        RefreshLive::new(store.clone(), vaults.clone(), feed, clock.clone(), door_url.clone(), epoch);
    let publish_crls = Activation::new("publish_crls");
    let base_url = base_url(parts);
    let enforce: Arc<dyn Enforce> = refresh.clone();
    let ca = Ca::new(store.clone(), vaults.clone(), entropy.clone(), enforce, publish_crls.clone(), base_url);
    let ca = ca.counting(parts.metrics.ca.clone());
    if start == Start::CreateIfMissing {
        initialise(&store, vaults, &ca, config, clock.now()).await?;
    } else {
        ca.ensure_profiles(clock.now()).await?;
        ensure_door(&store, &ca, config, clock.now()).await?;
    }
    let limits = OcspLimits { per_source: config.pki.ocsp_per_second, in_all: OCSP_PER_SECOND };
    holder.ocsp().connect(Arc::new(OcspDesk::new(ca.clone(), clock.clone(), limits)));
    // None of these may keep the console away, from which they can be mended; jobs will try again.
    tolerate("A local server certificate was not renewed", ca.renew_local_certificates(clock.now()).await)?;
    tolerate("A revocation list was not published", ca.publish_crls(clock.now()).await)?;
    let identity = ensure_upstream_identity(&store, &ca, clock.now()).await;
    tolerate("The edge's client certificate for upstreams was not renewed", identity)?;
    tolerate("The edge is not up to date", refresh.refresh().await)?;
    if let Some(predecessor) = &parts.predecessor {
        predecessor.check()?;
    }

    let bound = console::bind(parts, &ca).await?;
    let mailer = automation::mailer(parts, &store, door_url.clone())?;
    let jobs = automation::start_jobs(parts, &store, &ca, refresh.clone(), &mailer, publish_crls).await?;
    let stop = CancellationToken::new();
    let mut tasks = JoinSet::new();
    let (running, ending) = (refresh.clone(), stop.clone());
    tasks.spawn(async move {
        tokio::select! { () = running.run() => {} () = ending.cancelled() => {} }
    });
    let ground = console::Ground {
        parts,
        store: &store,
        ca: &ca,
        enforce: refresh.clone(),
        jobs: &jobs,
        mailer: &mailer,
        door_url: door_url.clone(),
    };
    let console_url = bound.serve(ground, door, &mut tasks, &stop);
    Ok(Control { store, ca, refresh, jobs, mailer, door_url, console_url, stop, tasks: Mutex::new(tasks) })
}

/// Logs a failure that is not the database's, and goes on.
fn tolerate<T, E: Into<ControlError>>(what: &str, result: Result<T, E>) -> Result<(), ControlError> {
    let Err(error) = result.map_err(Into::into) else { return Ok(()) };
    if error.is_database_away() {
        return Err(error);
    }
    tracing::error!(error = &error as &dyn std::error::Error, "{what}");
    Ok(())
}

/// SQLite migrates itself, after keeping a copy; on PostgreSQL only `wicketgate migrate` does.
async fn prepare_schema(store: &Store, config: &Config, parts: &Parts) -> Result<(), ControlError> {
    if !store.is_sqlite() {
        return Ok(store.check_schema().await?);
    }
    let kept = config.server.data_dir.join(format!("before-migration-{}.db", parts.clock.now().as_unix()));
    Ok(store.migrate(Some(&kept)).await?)
}

/// Where lists and authority certificates are fetched: as configured, else at the edge's own http listener.
fn base_url(parts: &Parts) -> String {
    match (&parts.config.pki.base_url, parts.edge.http_addresses().first()) {
        // Nobody else can reach it, so nobody else needs the lists. (A demo, a trial.)
        (None, Some(http)) if http.ip().is_loopback() => format!("http://127.0.0.1:{}", http.port()),
        _ => parts.config.pki_base_url(),
    }
}

/// `https://host[:port]`, the default port left out.
pub(super) fn origin(host: &str, port: u16) -> String {
    if port == 443 { format!("https://{host}") } else { format!("https://{host}:{port}") }
}

impl Control {
    /// The rows.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The authority.
    pub fn ca(&self) -> &Ca {
        &self.ca
    }

    /// Every job.
    pub fn jobs(&self) -> &Jobs {
        &self.jobs
    }

    /// Who writes letters.
    pub fn mailer(&self) -> &Mailer {
        &self.mailer
    }

    /// The handle that brings edges up to date.
    pub fn refresh(&self) -> &Arc<RefreshLive> {
        &self.refresh
    }

    /// Where people meet us.
    pub fn door_url(&self) -> Option<&str> {
        self.door_url.as_deref()
    }

    /// Where administrators meet us.
    pub fn console_url(&self) -> &str {
        &self.console_url
    }

    /// Stops jobs and listeners, and closes the database.
    pub async fn drain(&self) {
        self.jobs.drain(JOBS_WITHIN).await;
        self.stop.cancel();
        let mut tasks = std::mem::take(&mut *self.tasks.lock());
        while tasks.join_next().await.is_some() {}
        self.store.clone().close().await;
    }
}
