//! An authority with one person, over a fresh database, in memory keys and an edge that only listens.

use std::sync::Arc;

use wicketgate::activate::{Activation, Enforce};
use wicketgate::ca::{Ca, DeviceChoice, IssueError, IssueRequest, Issued};
use wicketgate::clock::{Clock, ManualClock, SharedClock};
use wicketgate::domain::audit::Act;
use wicketgate::domain::{Actor, PersonId, Role, Secret, Serial, UtcTime};
use wicketgate::jobs::refresh_live::RefreshLive;
use wicketgate::keys::{Kek, Purpose, SystemEntropy, Vault, Vaults};
use wicketgate::live::{Feed, Holder, TlsPolicy};
use wicketgate::pki::keygen;
use wicketgate::store::Store;
use wicketgate::store::people::Person;

use crate::harness::database::TestDatabase;

pub(crate) struct World {
    pub(crate) store: Store,
    pub(crate) ca: Ca,
    pub(crate) holder: Arc<Holder>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) anna: PersonId,
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

    /// The authority alone: nothing is made that is not there.
    pub(crate) async fn bare(store: Store, key: &Secret<String>, now: UtcTime) -> Self {
        let clock = ManualClock::at(now);
        let shared: SharedClock = clock.clone();
        let vaults = vaults(key);
        store.open_vaults(&vaults, &SystemEntropy, clock.now()).await.unwrap();
        let holder = Holder::in_memory(TlsPolicy::modern(), shared.clone());
        let feed = Feed::new();
        feed.connect(holder.clone());
        let refresh = RefreshLive::new(store.clone(), vaults.clone(), feed, shared, None, 0);
        let ca = Ca::new(
            store.clone(),
            vaults.clone(),
            Arc::new(SystemEntropy),
            refresh as Arc<dyn Enforce>,
            Activation::new("publish_crls"),
            "http://door.example.com".to_owned(),
        );
        Self { store, ca, holder, clock, anna: PersonId::new() }
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
