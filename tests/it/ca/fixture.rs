//! An authority with one person, over a fresh database, in memory keys and an edge that only listens.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;

use wicketgate::activate::{Activation, Enforce};
use wicketgate::admin::{OcspDesk, OcspLimits};
use wicketgate::ca::{Ca, DeviceChoice, IssueError, IssueRequest, Issued};
use wicketgate::clock::{Clock, ManualClock, SharedClock, SystemClock};
use wicketgate::domain::audit::Act;
use wicketgate::domain::{Actor, PersonId, Role, Secret, Serial, UtcTime};
use wicketgate::edge::{Edge, EdgeSettings};
use wicketgate::jobs::refresh_live::RefreshLive;
use wicketgate::keys::{Kek, Purpose, SystemEntropy, Vault, Vaults};
use wicketgate::live::{
    Ack, ConfigurationData, EdgeError, EdgeLink, Feed, Holder, OcspAnswer, OcspRefusal, OcspResponder,
    TlsPolicy, Update,
};
use wicketgate::pki::keygen;
use wicketgate::pki::ocsp::OcspRequest;
use wicketgate::store::Store;
use wicketgate::store::people::Person;
use wicketgate::telemetry::metrics::EdgeMetrics;

use crate::harness::database::TestDatabase;

pub(crate) struct World {
    pub(crate) store: Store,
    pub(crate) ca: Ca,
    pub(crate) holder: Arc<Holder>,
    /// How the edge is fed.
    pub(crate) stand_in: Arc<StandIn>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) anna: PersonId,
    /// Serves `/pki/` on loopback, if somebody must reach it.
    _edge: Option<Edge>,
    _ring: Ring,
}

/// The authority tells its edge of changes, and the edge asks the authority for OCSP answers. Without this
/// neither ever ends, and a test with thousands of worlds runs out of files.
struct Ring(Arc<Holder>);

impl Drop for Ring {
    fn drop(&mut self) {
        self.0.ocsp().connect(Arc::new(Nobody));
    }
}

struct Nobody;

#[async_trait::async_trait]
impl OcspResponder for Nobody {
    async fn answer(&self, _: &OcspRequest, _: IpAddr) -> Result<OcspAnswer, OcspRefusal> {
        Err(OcspRefusal::Unauthorized)
    }
}

/// Vaults under one key, so that a second process can have the same.
pub(crate) fn vaults(key: &Secret<String>) -> Arc<Vaults> {
    let vault = |purpose| Vault::new(Kek::from_text(purpose, key, "test").unwrap());
    Arc::new(Vaults { server: vault(Purpose::Server), authority: vault(Purpose::Authority) })
}

impl World {
    pub(crate) async fn over(database: &TestDatabase) -> Self {
        let store = Store::create(&database.url(), 5).await.unwrap();
        store.migrate(None).await.unwrap();
        Self::with(store, &Kek::fresh_text(&SystemEntropy)).await
    }

    /// The world over a migrated database that may have seen an earlier one.
    pub(crate) async fn with(store: Store, key: &Secret<String>) -> Self {
        Self::at(store, key, "2026-11-23T12:00:00Z".parse().unwrap()).await
    }

    /// The same at another time.
    pub(crate) async fn at(store: Store, key: &Secret<String>, now: UtcTime) -> Self {
        let world = Self::bare(store, key, now).await;
        world.furnish().await
    }

    /// A world of this very hour whose `/pki/` can be reached at the URLs in its certificates.
    pub(crate) async fn online(database: &TestDatabase) -> Self {
        let store = Store::create(&database.url(), 5).await.unwrap();
        store.migrate(None).await.unwrap();
        let key = Kek::fresh_text(&SystemEntropy);
        let world = Self::made(store, &key, SystemClock.now(), true).await;
        world.furnish().await
    }

    /// The authority alone: nothing is made that is not there.
    pub(crate) async fn bare(store: Store, key: &Secret<String>, now: UtcTime) -> Self {
        Self::made(store, key, now, false).await
    }

    async fn made(store: Store, key: &Secret<String>, now: UtcTime, online: bool) -> Self {
        let clock = ManualClock::at(now);
        let shared: SharedClock = clock.clone();
        let vaults = vaults(key);
        store.open_vaults(&vaults, &SystemEntropy, clock.now()).await.unwrap();
        let holder = Holder::in_memory(TlsPolicy::modern(), shared.clone());
        let feed = Feed::new();
        let stand_in = Arc::new(StandIn { holder: holder.clone(), data: Mutex::default() });
        feed.connect(stand_in.clone());
        let refresh = RefreshLive::new(store.clone(), vaults.clone(), feed, shared.clone(), None, 0);
        let mut base_url = "http://door.example.com".to_owned();
        let mut edge = None;
        if online {
            let http = vec!["127.0.0.1:0".parse().unwrap()];
            let settings = EdgeSettings { http, threads: 1, ..EdgeSettings::default() };
            let (held, metrics) = (holder.clone(), Arc::new(EdgeMetrics::default()));
            let bound = Edge::bind(settings, held, shared.clone(), Arc::new(SystemEntropy), None, metrics);
            let bound = bound.await.unwrap();
            base_url = format!("http://{}", bound.http_addresses()[0]);
            edge = Some(bound);
        }
        let ca = Ca::new(
            store.clone(),
            vaults.clone(),
            Arc::new(SystemEntropy),
            refresh as Arc<dyn Enforce>,
            Activation::new("publish_crls"),
            base_url,
        );
        let limit = NonZeroU32::new(1_000_000).unwrap();
        let limits = OcspLimits { per_source: limit, in_all: limit };
        holder.ocsp().connect(Arc::new(OcspDesk::new(ca.clone(), shared, limits)));
        let ring = Ring(holder.clone());
        Self { store, ca, holder, stand_in, clock, anna: PersonId::new(), _edge: edge, _ring: ring }
    }

    /// With its authorities and its person.
    async fn furnish(mut self) -> Self {
        self.ca.init("Test", self.now()).await.unwrap();
        match self.store.person_by_email("anna@example.com").await.unwrap() {
            Some(known) => self.anna = known.id,
            None => self.add_anna().await,
        }
        self
    }

    async fn add_anna(&self) {
        let anna = Person {
            id: self.anna,
            email: "Anna@Example.com".to_owned(),
            name: "Anna Example".to_owned(),
            role: Role::Member,
            groups: ["staff".parse().unwrap()].into(),
            disabled: false,
            has_password: false,
            created_at: self.now(),
            version: 1,
        };
        let act = self.act("person.create").await;
        self.ca.create_person(&anna, &act, self.now()).await.unwrap();
    }

    pub(crate) fn now(&self) -> UtcTime {
        self.clock.now()
    }

    pub(crate) async fn act(&self, action: &'static str) -> Act {
        self.store.begin_act(Actor::System("test"), action, None, None, self.now()).await.unwrap()
    }

    pub(crate) async fn try_issue(&self, device: DeviceChoice) -> Result<Issued, IssueError> {
        let request = IssueRequest {
            person: self.anna,
            device,
            profile: "device".parse().unwrap(),
            csr_pem: csr(),
            dns_names: Default::default(),
        };
        let act = self.act("certificate.issue").await;
        self.ca.issue(&request, &act, self.now()).await
    }

    pub(crate) async fn issue(&self, device: &str) -> Issued {
        self.try_issue(DeviceChoice::New { name: device.to_owned() }).await.unwrap()
    }

    pub(crate) async fn revoke(
        &self,
        serial: Serial,
        reason: &str,
    ) -> Result<wicketgate::ca::Revoked, wicketgate::ca::RevokeError> {
        let act = self.act("certificate.revoke").await;
        self.ca.revoke(serial, reason.parse().unwrap(), &act, self.now()).await
    }
}

/// A signing request with a fresh key.
pub(crate) fn csr() -> String {
    let (key, _) = keygen::generate_p256();
    keygen::client_csr_pem(key.expose(), "a device").unwrap()
}

/// An edge that serves another configuration than the rows say, whenever they say one.
pub(crate) struct StandIn {
    holder: Arc<Holder>,
    data: Mutex<Option<ConfigurationData>>,
}

impl StandIn {
    /// Serves `data` from now on.
    pub(crate) async fn serve(&self, data: ConfigurationData) {
        let version = self.holder.snapshot().map_or(1, |snapshot| snapshot.configuration.version + 1);
        *self.data.lock() = Some(ConfigurationData { version, ..data.clone() });
        let data = Arc::new(ConfigurationData { version, ..data });
        let update = Update { configuration: Some(data), ..Update::default() };
        self.holder.apply(&update).await.unwrap();
    }
}

#[async_trait]
impl EdgeLink for StandIn {
    async fn apply(&self, update: &Update) -> Result<Ack, EdgeError> {
        let mut update = update.clone();
        let own = self.data.lock().clone();
        if let (Some(said), Some(own)) = (&update.configuration, own) {
            update.configuration =
                Some(Arc::new(ConfigurationData { version: said.version.max(own.version), ..own }));
        }
        self.holder.apply(&update).await
    }
}
