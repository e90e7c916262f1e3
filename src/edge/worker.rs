//! What the connections of one thread share, and what all threads share.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::HeaderValue;
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore, SetOnce, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::assertion::Signer;
use super::door::DoorConnection;
use super::finish::{self, Finish};
use super::headers::Aliases;
use super::index::Index;
use super::permit::Freshness;
use super::rate::{Rate, Rule};
use super::settings::{EdgeSettings, Limits};
use super::trace::Ids;
use super::turns::Turns;
use super::upstream::{Group, Pool, Upstreams};
use crate::clock::SharedClock;
use crate::domain::{Hostname, RouteId, Slug, UtcTime};
use crate::live::{Configuration, Holder, Route, Site};
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
    /// Set once connections are accepted.
    pub(super) open: SetOnce<()>,
    /// No new connections from here on.
    pub(super) stop: CancellationToken,
    /// Every task of a connection; a drain waits for them.
    pub(super) tasks: TaskTracker,
    /// Nobody takes connections to the door at present.
    pub(super) door_is_shut: AtomicBool,
    /// The port in redirects.
    pub(super) https_port: u16,
    /// What is known of the targets.
    pub(super) upstreams: Upstreams,
    /// How often somebody may come.
    pub(super) rate: Rate,
    /// Places for answers that are compressed.
    pub(super) packing: Arc<Semaphore>,
    /// A configuration was published.
    pub(super) published: Notify,
    /// Somebody was let in who must not be: nobody is known until that is over.
    pub(super) is_sealed: AtomicBool,
    /// From where the edge is asking itself.
    pub(super) own_calls: Mutex<HashSet<SocketAddr>>,
}

impl Shared {
    /// What an edge shares that has no sockets, no door, no limits, and numbers of its own.
    pub(super) fn aside(settings: EdgeSettings, holder: Arc<Holder>, clock: SharedClock) -> Arc<Self> {
        let settings = EdgeSettings { limits: Limits::default(), ..settings };
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
            rate: Rate::of(&settings.limits),
            settings,
            holder,
            clock,
            door,
            metrics,
            index: Arc::default(),
            open: SetOnce::new(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            door_is_shut: AtomicBool::new(false),
            https_port: 443,
            upstreams: Upstreams::default(),
            packing: Arc::new(Semaphore::new(finish::MOST_AT_ONCE)),
            published: Notify::new(),
            is_sealed: AtomicBool::new(false),
            own_calls: Mutex::default(),
        }
    }

    /// Whether it is the edge itself that calls: nobody has visited, and nothing is logged or counted.
    pub(super) fn is_own_call(&self, peer: SocketAddr) -> bool {
        self.settings.self_check_every.is_some() && self.own_calls.lock().contains(&peer)
    }

    /// How long whoever is asked to leave may still ask for something.
    pub(super) fn grace(&self) -> Duration {
        self.settings.drain_timeout / 2
    }

    /// Refuses everybody on protected routes, or does not any more.
    pub(super) fn seal(&self, is_sealed: bool) {
        self.is_sealed.store(is_sealed, Ordering::Release);
        self.metrics.sealed.set(i64::from(is_sealed));
        if is_sealed {
            self.index.doubt_all();
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
    pub(super) turns: Turns,
    derived: RefCell<Option<Rc<Derived>>>,
}

/// What the request path needs from a configuration and would not make for every request.
pub(super) struct Derived {
    configuration: Arc<Configuration>,
    pub(super) aliases: Aliases,
    pub(super) signer: Option<Signer>,
    /// `Strict-Transport-Security` by site.
    pub(super) hsts: HashMap<Hostname, HeaderValue>,
    /// The upstreams that routes and sites lead to.
    pub(super) groups: HashMap<Slug, Arc<Group>>,
    /// How often routes may be asked that have rules.
    pub(super) rules: HashMap<RouteId, Vec<Rule>>,
    /// What is done to the answers of routes that ask for it.
    finishes: HashMap<RouteId, Finish>,
}

impl Derived {
    /// What is done to the answers of this route; most are not even looked up.
    pub(super) fn finish(&self, route: &Route) -> Option<&Finish> {
        if !route.options.touches_answers() {
            return None;
        }
        self.finishes.get(&route.id)
    }
}

impl Worker {
    pub(super) fn new(shared: Arc<Shared>, ids: Ids) -> Rc<Self> {
        let pool = Pool::new(shared.clone());
        Rc::new(Self { shared, pool, ids, turns: Turns::default(), derived: RefCell::new(None) })
    }

    /// One from which no way leads to any upstream.
    pub(super) fn without_upstreams(shared: Arc<Shared>, ids: Ids) -> Rc<Self> {
        let pool = Pool::closed(shared.clone());
        Rc::new(Self { shared, pool, ids, turns: Turns::default(), derived: RefCell::new(None) })
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
            groups: groups(configuration, &self.shared.upstreams),
            rules: rules(configuration, &self.shared.rate),
            finishes: finishes(configuration),
        });
        *slot = Some(derived.clone());
        derived
    }
}

fn groups(configuration: &Configuration, upstreams: &Upstreams) -> HashMap<Slug, Arc<Group>> {
    let mut groups = HashMap::new();
    let of_routes = configuration.sites.values().flat_map(|site| &site.routes).map(|route| &route.upstream);
    let of_sites = configuration.passthroughs.values().map(|site| &site.upstream);
    for upstream in of_routes.chain(of_sites) {
        groups.entry(upstream.name.clone()).or_insert_with(|| upstreams.group(upstream));
    }
    groups
}

fn rules(configuration: &Configuration, rate: &Rate) -> HashMap<RouteId, Vec<Rule>> {
    let routes = configuration.sites.values().flat_map(|site| &site.routes);
    let limited = routes.filter(|route| !route.options.rate.is_empty());
    limited.map(|route| (route.id, rate.rules(route))).collect()
}

fn finishes(configuration: &Configuration) -> HashMap<RouteId, Finish> {
    let routes = configuration.sites.values().flat_map(|site| &site.routes);
    let touching = routes.filter(|route| route.options.touches_answers());
    touching.map(|route| (route.id, Finish::of(&route.options))).collect()
}

fn hsts(site: &Site) -> Option<(Hostname, HeaderValue)> {
    let value = format!("max-age={}", site.hsts?.as_secs());
    Some((site.host.clone(), HeaderValue::try_from(value).ok()?))
}
