//! An edge, rows, and Pebble in front of both.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;
use wicketgate::acme::{Acme, Attempt, Handshake, MAX_CLOCK_SKEW, Parts, ProveServed, Settings};
use wicketgate::activate::{Activation, Enforce};
use wicketgate::ca::Ca;
use wicketgate::clock::{Clock, ManualClock, SharedClock, SystemClock};
use wicketgate::domain::{ClientAuth, Fingerprint, Hostname, Networks};
use wicketgate::edge::{Edge, EdgeSettings};
use wicketgate::jobs::refresh_live::RefreshLive;
use wicketgate::jobs::renew_server_certificates::RenewServerCertificates;
use wicketgate::jobs::{Job, Jobs};
use wicketgate::keys::{Kek, Purpose, SystemEntropy, Vault, Vaults};
use wicketgate::live::{Feed, Holder, TlsPolicy};
use wicketgate::mail::Mailer;
use wicketgate::store::Store;
use wicketgate::store::acme::ChallengeKind;
use wicketgate::store::configuration::{CertificateSource, Site, SiteKind};
use wicketgate::store::leases::ReplicaId;
use wicketgate::store::outbox::Outbox;
use wicketgate::telemetry::metrics::{AcmeMetrics, EdgeMetrics, JobMetrics};

use crate::harness::database::TestDatabase;
use crate::harness::pebble::{Options, Pebble};

/// The name that is ordered.
pub(crate) const HOST: &str = "app.example.test";

pub(crate) struct World {
    pub(crate) store: Store,
    pub(crate) vaults: Arc<Vaults>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) ca: Ca,
    pub(crate) refresh: Arc<RefreshLive>,
    pub(crate) edge: Edge,
    pub(crate) pebble: Pebble,
    pub(crate) settings: Settings,
    pub(crate) metrics: Arc<AcmeMetrics>,
}

pub(crate) fn host() -> Hostname {
    HOST.parse().unwrap()
}

impl World {
    /// A site with a local certificate; none when Pebble is missing.
    pub(crate) async fn over(
        database: &TestDatabase,
        challenge: ChallengeKind,
        client_auth: ClientAuth,
    ) -> Option<Self> {
        let store = Store::create(&database.url(), 5).await.unwrap();
        store.migrate(None).await.unwrap();
        let clock = ManualClock::at(SystemClock.now());
        let shared: SharedClock = clock.clone();
        let vault = |purpose| {
            let text = Kek::fresh_text(&SystemEntropy);
            Vault::new(Kek::from_text(purpose, &text, "test").unwrap())
        };
        let vaults =
            Arc::new(Vaults { server: vault(Purpose::Server), authority: vault(Purpose::Authority) });
        store.open_vaults(&vaults, &SystemEntropy, clock.now()).await.unwrap();
        let holder = Holder::in_memory(TlsPolicy::modern(), shared.clone());
        let feed = Feed::new();
        feed.connect(holder.clone());
        let refresh = RefreshLive::new(store.clone(), vaults.clone(), feed, shared.clone(), None, 0);
        let ca = Ca::new(
            store.clone(),
            vaults.clone(),
            Arc::new(SystemEntropy),
            refresh.clone(),
            Activation::new("publish_crls"),
            "http://door.example.test".to_owned(),
        );
        ca.init("Test", clock.now()).await.unwrap();
        let loopback = "127.0.0.1:0".parse().unwrap();
        let settings = EdgeSettings {
            https: vec![loopback],
            http: vec![loopback],
            threads: 1,
            ..EdgeSettings::default()
        };
        let metrics = Arc::new(EdgeMetrics::default());
        let edge =
            Edge::bind(settings, holder, shared, Arc::new(SystemEntropy), None, metrics).await.unwrap();
        let pebble = Pebble::start(Options {
            http_port: edge.http_addresses()[0].port(),
            tls_port: edge.https_addresses()[0].port(),
            nonce_rejections: 20,
            ..Options::default()
        })?;
        let settings = Settings {
            directory_url: pebble.directory_url(),
            contact: Some("ops@example.com".to_owned()),
            challenge,
            // Pebble draws one when none is asked for.
            profile: Some("default".to_owned()),
            extra_roots: Some(std::fs::read(pebble.api_root_file()).unwrap()),
            max_clock_skew: MAX_CLOCK_SKEW,
        };
        let metrics = Arc::new(AcmeMetrics::default());
        let world = Self { store, vaults, clock, ca, refresh, edge, pebble, settings, metrics };
        world.add_site(client_auth).await;
        Some(world)
    }

    async fn add_site(&self, client_auth: ClientAuth) {
        let now = self.clock.now();
        let local = self.ca.local_certificate(&host(), now).await.unwrap();
        let transaction = self.store.begin().await.unwrap();
        transaction
            .insert_site(&Site {
                host: host(),
                kind: SiteKind::App,
                upstream: None,
                client_auth,
                hsts_max_age_seconds: 0,
                source: CertificateSource::Acme,
                enabled: true,
                server_certificate: None,
                created_at: now,
                version: 1,
            })
            .await
            .unwrap();
        transaction.insert_server_certificate(&local).await.unwrap();
        transaction.serve_certificate(&host(), &local.id).await.unwrap();
        transaction.commit().await.unwrap();
        self.refresh.refresh().await.unwrap();
    }

    /// An engine as a process has it after its start.
    pub(crate) fn acme(&self) -> Acme {
        self.acme_with(self.refresh.clone(), Arc::new(self.eyes()))
    }

    pub(crate) fn acme_with(&self, enforce: Arc<dyn Enforce>, prove: Arc<dyn ProveServed>) -> Acme {
        let parts = Parts {
            store: self.store.clone(),
            vaults: self.vaults.clone(),
            entropy: Arc::new(SystemEntropy),
            clock: self.clock.clone(),
            enforce,
            prove,
            replica: ReplicaId::new(),
            metrics: self.metrics.clone(),
        };
        Acme::new(self.settings.clone(), parts).unwrap()
    }

    /// The job around it, without a mail server.
    pub(crate) fn jobs(&self) -> Jobs {
        let outbox = Outbox::new(self.store.clone(), self.vaults.clone());
        let metrics = Arc::new(JobMetrics::default());
        let wake = Activation::new("send_mail");
        let mailer = Mailer::new(outbox, None, "Gate".to_owned(), None, wake, metrics.clone());
        let acme = Some(self.acme());
        let job = RenewServerCertificates::new(
            self.store.clone(),
            self.ca.clone(),
            acme,
            self.refresh.clone(),
            mailer,
        );
        let all = vec![(Activation::new("renew_server_certificates"), Arc::new(job) as Arc<dyn Job>)];
        Jobs::idle(self.store.clone(), self.clock.clone(), ReplicaId::new(), metrics, all)
    }

    pub(crate) fn eyes(&self) -> Handshake {
        Handshake::new(self.edge.https_addresses()[0], Networks::default())
    }

    /// What the job does, once.
    pub(crate) async fn renew(&self) -> Vec<Attempt> {
        self.acme().renew_due(&CancellationToken::new()).await.unwrap()
    }

    pub(crate) async fn site(&self) -> Site {
        self.store.site(&host()).await.unwrap().unwrap()
    }

    /// The leaf that a visitor sees.
    pub(crate) async fn seen(&self) -> Fingerprint {
        self.eyes().served_leaf(&host()).await.unwrap()
    }

    pub(crate) fn advance(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }
}

/// Eyes that always see the same.
pub(crate) struct Fixed(pub(crate) Fingerprint);

#[async_trait]
impl ProveServed for Fixed {
    async fn served_leaf(&self, _: &Hostname) -> Result<Fingerprint, wicketgate::acme::ProveError> {
        Ok(self.0)
    }
}
