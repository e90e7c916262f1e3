//! What the connections of one thread share, and what all threads share.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::HeaderValue;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::assertion::Signer;
use super::door::DoorConnection;
use super::headers::Aliases;
use super::index::Index;
use super::permit::Freshness;
use super::settings::EdgeSettings;
use super::trace::Ids;
use super::upstream::Pool;
use crate::clock::SharedClock;
use crate::domain::{Hostname, UtcTime};
use crate::live::{Configuration, Holder, Site};
use crate::telemetry::metrics::EdgeMetrics;

/// What all threads of an edge share.
pub(super) struct Shared {
    pub(super) settings: EdgeSettings,
    pub(super) holder: Arc<Holder>,
    pub(super) clock: SharedClock,
    pub(super) door: Option<mpsc::Sender<DoorConnection>>,
    pub(super) index: Arc<Index>,
    pub(super) metrics: Arc<EdgeMetrics>,
    pub(super) permits: Arc<Semaphore>,
    /// No new connections from here on.
    pub(super) stop: CancellationToken,
    /// Every task of a connection; a drain waits for them.
    pub(super) tasks: TaskTracker,
    /// The port in redirects.
    pub(super) https_port: u16,
    /// A configuration was published.
    pub(super) published: Notify,
    /// Somebody was let in who must not be: nobody is known until that is over.
    pub(super) is_sealed: AtomicBool,
}

impl Shared {
    /// What an edge shares that has no sockets, no door, and numbers of its own.
    pub(super) fn aside(settings: EdgeSettings, holder: Arc<Holder>, clock: SharedClock) -> Arc<Self> {
        Arc::new(Self::new(settings, holder, clock, None, Arc::default()))
    }

    pub(super) fn new(
        settings: EdgeSettings,
        holder: Arc<Holder>,
        clock: SharedClock,
        door: Option<mpsc::Sender<DoorConnection>>,
        metrics: Arc<EdgeMetrics>,
    ) -> Self {
        Self {
            permits: Arc::new(Semaphore::new(settings.max_connections.clamp(1, Semaphore::MAX_PERMITS))),
            settings,
            holder,
            clock,
            door,
            metrics,
            index: Arc::default(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            https_port: 443,
            published: Notify::new(),
            is_sealed: AtomicBool::new(false),
        }
    }

    /// Whether anybody can be known at `now`.
    pub(super) fn freshness(&self, now: UtcTime) -> Freshness {
        match self.is_sealed.load(Ordering::Acquire) {
            true => Freshness::Stale,
            false => Freshness::of(self.holder.register(), now, self.settings.max_stale),
        }
    }
}

/// One thread.
pub(super) struct Worker {
    pub(super) shared: Arc<Shared>,
    pub(super) pool: Pool,
    pub(super) ids: Ids,
    derived: RefCell<Option<Rc<Derived>>>,
}

/// What the request path needs from a configuration and would not make for every request.
pub(super) struct Derived {
    configuration: Arc<Configuration>,
    pub(super) aliases: Aliases,
    pub(super) signer: Option<Signer>,
    /// `Strict-Transport-Security` by site.
    pub(super) hsts: HashMap<Hostname, HeaderValue>,
}

impl Worker {
    pub(super) fn new(shared: Arc<Shared>, ids: Ids) -> Rc<Self> {
        let pool = Pool::new(shared.metrics.clone(), shared.settings.connect_timeout);
        Rc::new(Self { shared, pool, ids, derived: RefCell::new(None) })
    }

    /// One from which no way leads to any upstream.
    pub(super) fn without_upstreams(shared: Arc<Shared>, ids: Ids) -> Rc<Self> {
        let pool = Pool::closed(shared.metrics.clone());
        Rc::new(Self { shared, pool, ids, derived: RefCell::new(None) })
    }

    /// What follows from this configuration; made once per thread and version.
    pub(super) fn derived(&self, configuration: &Arc<Configuration>) -> Rc<Derived> {
        let mut slot = self.derived.borrow_mut();
        if let Some(derived) = slot.as_ref()
            && Arc::ptr_eq(&derived.configuration, configuration)
        {
            return derived.clone();
        }
        let derived = Rc::new(Derived {
            configuration: configuration.clone(),
            aliases: Aliases::of(&configuration.plain_headers),
            signer: Signer::of(configuration),
            hsts: configuration.sites.values().filter_map(|site| hsts(site)).collect(),
        });
        *slot = Some(derived.clone());
        derived
    }
}

fn hsts(site: &Site) -> Option<(Hostname, HeaderValue)> {
    let value = format!("max-age={}", site.hsts?.as_secs());
    Some((site.host.clone(), HeaderValue::try_from(value).ok()?))
}
