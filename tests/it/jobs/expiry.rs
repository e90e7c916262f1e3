//! Warnings before something ends: once a certificate and threshold, to those whom it concerns.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use wicketgate::activate::Activation;
use wicketgate::ca::{Ca, DeviceChoice, IssueRequest, UPSTREAM_IDENTITY_LEASE};
use wicketgate::clock::{Clock, ManualClock};
use wicketgate::domain::audit::Act;
use wicketgate::domain::{Actor, AuthorityKind, ClientAuth, PersonId, Role};
use wicketgate::jobs::authority_alarms::AuthorityAlarms;
use wicketgate::jobs::expiry_alerts::ExpiryAlerts;
use wicketgate::jobs::refresh_live::RefreshLive;
use wicketgate::jobs::rotate_client_certificates::RotateClientCertificates;
use wicketgate::jobs::send_mail::SendMail;
use wicketgate::jobs::{Job, Jobs};
use wicketgate::keys::{Kek, Purpose, SystemEntropy, Vault, Vaults};
use wicketgate::live::{Feed, Holder, TlsPolicy};
use wicketgate::mail::{Carrier, CarryError, Mailer};
use wicketgate::pki::keygen;
use wicketgate::store::Store;
use wicketgate::store::certificates::Certificate;
use wicketgate::store::configuration::{CertificateSource, Site, SiteKind};
use wicketgate::store::leases::{Acquired, ReplicaId};
use wicketgate::store::outbox::{Outbox, OutgoingMail};
use wicketgate::store::people::Person;
use wicketgate::store::settings::INSTALLATION_ID;
use wicketgate::telemetry::metrics::JobMetrics;

use crate::harness::database::TestDatabase;
use crate::on_both_databases;

const DAY: Duration = Duration::from_secs(86_400);

#[derive(Clone, Default)]
struct Letterbox(Arc<Mutex<Vec<OutgoingMail>>>);

#[async_trait]
impl Carrier for Letterbox {
    async fn carry(&self, _: &str, mail: &OutgoingMail) -> Result<(), CarryError> {
        self.0.lock().push(mail.clone());
        Ok(())
    }
}

struct World {
    store: Store,
    ca: Ca,
    clock: Arc<ManualClock>,
    jobs: Jobs,
    letters: Letterbox,
    /// What all letters so far said.
    texts: Mutex<Vec<String>>,
    anna: PersonId,
}

impl World {
    async fn over(database: &TestDatabase, with_mail: bool) -> Self {
        let store = Store::create(&database.url(), 5).await.unwrap();
        store.migrate(None).await.unwrap();
        let clock = ManualClock::at("2026-11-23T12:00:00Z".parse().unwrap());
        let vault =
            |purpose| Vault::new(Kek::from_text(purpose, &Kek::fresh_text(&SystemEntropy), "test").unwrap());
        let vaults =
            Arc::new(Vaults { server: vault(Purpose::Server), authority: vault(Purpose::Authority) });
        store.open_vaults(&vaults, &SystemEntropy, clock.now()).await.unwrap();
        let feed = Feed::new();
        feed.connect(Holder::in_memory(TlsPolicy::modern(), clock.clone()));
        let refresh = RefreshLive::new(store.clone(), vaults.clone(), feed, clock.clone(), None, 0);
        let ca = Ca::new(
            store.clone(),
            vaults.clone(),
            Arc::new(SystemEntropy),
            refresh,
            Activation::new("publish_crls"),
            "http://door.example.com".to_owned(),
        );
        ca.init("Test", clock.now()).await.unwrap();
        let letters = Letterbox::default();
        let carrier = with_mail.then(|| Box::new(letters.clone()) as Box<dyn Carrier>);
        let metrics = Arc::new(JobMetrics::default());
        let wake = Activation::new("send_mail");
        let outbox = Outbox::new(store.clone(), vaults);
        let door = Some("https://door.example.com".to_owned());
        let mailer = Mailer::new(outbox, carrier, "Gate".to_owned(), door, wake.clone(), metrics.clone());
        let all: Vec<(Activation, Arc<dyn Job>)> = vec![
            (
                Activation::new("expiry_alerts"),
                Arc::new(ExpiryAlerts::new(store.clone(), mailer.clone(), Arc::default())),
            ),
            (
                Activation::new("authority_alarms"),
                Arc::new(AuthorityAlarms::new(store.clone(), ca.clone(), mailer.clone())),
            ),
            (
                Activation::new("rotate_client_certificates"),
                Arc::new(RotateClientCertificates::new(store.clone(), mailer.clone())),
            ),
            (wake, Arc::new(SendMail::new(mailer))),
        ];
        let jobs = Jobs::idle(store.clone(), clock.clone(), ReplicaId::new(), metrics, all);
        let mut world =
            Self { store, ca, clock, jobs, letters, texts: Mutex::default(), anna: PersonId::new() };
        world.anna = world.person("anna@example.com", "Anna", Role::Member).await;
        world.person("root@example.com", "Ruth", Role::Administrator).await;
        world
    }

    async fn person(&self, email: &str, name: &str, role: Role) -> PersonId {
        let now = self.clock.now();
        let person = Person {
            id: PersonId::new(),
            email: email.to_owned(),
            name: name.to_owned(),
            role,
            groups: Default::default(),
            disabled: false,
            has_password: false,
            created_at: now,
            version: 1,
        };
        let act =
            self.store.begin_act(Actor::System("test"), "person.create", None, None, now).await.unwrap();
        self.ca.create_person(&person, &act, now).await.unwrap();
        person.id
    }

    /// Runs every job; returns (recipient, subject) of what arrived since the last time.
    async fn tick(&self) -> Vec<(String, String)> {
        self.jobs.run_now("rotate_client_certificates").await.unwrap();
        self.jobs.run_now("expiry_alerts").await.unwrap();
        self.jobs.run_now("authority_alarms").await.unwrap();
        self.jobs.run_now("send_mail").await.unwrap();
        let letters = std::mem::take(&mut *self.letters.0.lock());
        self.texts.lock().extend(letters.iter().map(|mail| mail.text.clone()));
        let mut all: Vec<_> = letters.into_iter().map(|mail| (mail.to, mail.subject)).collect();
        all.sort();
        all
    }

    async fn enrol(&self) -> Certificate {
        let now = self.clock.now();
        let act = self.act("certificate.issue").await;
        let device = DeviceChoice::New { name: "phone".to_owned() };
        let profile = "device".parse().unwrap();
        let request = IssueRequest {
            person: self.anna,
            device,
            profile,
            csr_pem: csr_pem(),
            dns_names: Default::default(),
        };
        self.ca.issue(&request, &act, now).await.unwrap().certificate
    }

    async fn renew(&self, old: &Certificate) {
        let act = self.act("certificate.renew").await;
        self.ca.renew(old.serial, &csr_pem(), &act, self.clock.now()).await.unwrap();
    }

    async fn act(&self, action: &'static str) -> Act {
        self.store.begin_act(Actor::System("test"), action, None, None, self.clock.now()).await.unwrap()
    }

    async fn add_local_site(&self) {
        let now = self.clock.now();
        let host = "app.example.com".parse().unwrap();
        let local = self.ca.local_certificate(&host, now).await.unwrap();
        let site = Site {
            host: host.clone(),
            kind: SiteKind::App,
            upstream: None,
            client_auth: ClientAuth::Request,
            hsts_max_age_seconds: 0,
            source: CertificateSource::Acme,
            enabled: true,
            server_certificate: None,
            created_at: now,
            version: 1,
        };
        let transaction = self.store.begin().await.unwrap();
        transaction.insert_site(&site).await.unwrap();
        transaction.insert_server_certificate(&local).await.unwrap();
        transaction.serve_certificate(&host, &local.id).await.unwrap();
        transaction.commit().await.unwrap();
    }
}

fn csr_pem() -> String {
    let (key, _) = keygen::generate_p256();
    keygen::client_csr_pem(key.expose(), "x").unwrap()
}

on_both_databases! {
    async fn owner_and_administrators_hear_of_a_client_certificate_once_a_threshold(database) {
        let world = World::over(database, true).await;
        let ends = world.enrol().await.not_after;
        assert!(world.tick().await.is_empty());
        for (left, threshold) in [(30, "1/3"), (15, "1/6"), (7, "1/12")] {
            world.clock.set(ends.minus(DAY * left));
            let told = world.tick().await;
            let to: Vec<_> = told.iter().map(|(to, _)| to.as_str()).collect();
            // The first is the renewal's opening, which is between its owner and the portal.
            let expected = ["anna@example.com", "root@example.com"];
            let expected = if threshold == "1/3" { &expected[..1] } else { &expected[..] };
            assert_eq!(to, expected, "{threshold}");
            assert!(told[0].1.contains(&format!("{left} days")), "{told:?}");
            assert!(world.tick().await.is_empty(), "once at {threshold}");
        }
        world.clock.set(ends.plus(DAY));
        assert!(world.tick().await.is_empty(), "nobody is warned of what is over");
    }

    async fn an_opened_renewal_is_asked_for_once_with_its_page_and_not_at_all_when_renewed(database) {
        let world = World::over(database, true).await;
        let old = world.enrol().await;
        world.clock.set(old.not_after.minus(DAY * 30));
        let told = world.tick().await;
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].1.starts_with("Renew the certificate of phone"), "{told:?}");
        let link = format!("https://door.example.com/#/devices/{}/renew", old.device);
        assert!(world.texts.lock().iter().any(|text| text.contains(&link)));
        assert!(world.tick().await.is_empty(), "once");
        // Renewed: neither the old one nor, for now, the new one is spoken of.
        world.renew(&old).await;
        world.clock.set(old.not_after.minus(DAY));
        assert!(world.tick().await.is_empty());
    }

    async fn a_renewal_that_opened_while_nobody_looked_is_one_warning(database) {
        let world = World::over(database, true).await;
        let old = world.enrol().await;
        world.clock.set(old.not_after.minus(DAY * 2));
        let told = world.tick().await;
        assert_eq!(told.iter().filter(|(to, _)| to == "anna@example.com").count(), 1, "{told:?}");
        assert!(world.tick().await.is_empty());
    }

    async fn thresholds_that_passed_while_nobody_looked_are_one_letter(database) {
        let world = World::over(database, true).await;
        world.add_local_site().await;
        let ends = world.store.sites().await.unwrap()[0].server_certificate.clone().unwrap().not_after;
        world.clock.set(ends.minus(DAY));
        let told = world.tick().await;
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].0 == "root@example.com" && told[0].1.contains("app.example.com"), "{told:?}");
        assert!(world.tick().await.is_empty());
        let alerts = world.store.alerts(false, None, 10).await.unwrap();
        assert_eq!(alerts[0].object, "site:app.example.com");
    }

    async fn an_authority_is_alarmed_for_years_ahead_once_a_threshold_until_its_successor_issues(database) {
        let world = World::over(database, true).await;
        let start = world.clock.now();
        let issuing = world.ca.authorities().await.unwrap().into_iter().find(|one| one.name.as_str() == "client-issuing-g1").unwrap();
        assert!(world.tick().await.is_empty());
        for days in [1216, 608, 304] {
            world.clock.set(issuing.not_after.minus(DAY * days));
            let told = world.tick().await;
            assert_eq!(told.iter().map(|(to, _)| to.as_str()).collect::<Vec<_>>(), ["root@example.com"], "{days}");
            assert!(world.tick().await.is_empty(), "once at {days} days");
        }
        let of = async |kind: &str, object: &str| {
            let all = world.store.alerts(false, None, 50).await.unwrap();
            all.into_iter().find(|alert| alert.kind == kind && alert.object == object && alert.closed_at.is_none())
        };
        let alert = of("certificate_ending", "authority:client-issuing-g1").await.unwrap();
        assert!(alert.message.contains("`wicketgate ca stage issuing`"), "{}", alert.message);
        assert!(of("authority_cannot_issue", "authority:client-issuing-g1").await.is_none());
        // Too late for a leaf of full length: 89 days before its end.
        world.clock.set(issuing.not_after.minus(DAY * 89));
        assert_eq!(world.tick().await.len(), 1);
        assert!(of("authority_cannot_issue", "authority:client-issuing-g1").await.is_some());
        // The root is asked for while it still gives an issuing authority its ten years; here it just does.
        assert!(of("authority_cannot_issue", "authority:client-root-g1").await.is_none());
        let now = world.clock.now();
        let act = async |action| world.store.begin_act(Actor::System("test"), action, None, None, now).await.unwrap();
        let next = world.ca.stage(AuthorityKind::Issuing, &act("authority.stage").await, now).await.unwrap().name;
        world.ca.trust(&next, &act("authority.trust").await, now).await.unwrap();
        assert!(world.tick().await.is_empty());
        let alert = of("certificate_ending", "authority:client-issuing-g1").await.unwrap();
        assert!(alert.message.contains("`wicketgate ca activate client-issuing-g2`"), "{}", alert.message);
        world.ca.let_issue(&next, &act("authority.let_issue").await, now).await.unwrap();
        assert!(world.tick().await.is_empty());
        for kind in ["certificate_ending", "authority_cannot_issue"] {
            assert!(of(kind, "authority:client-issuing-g1").await.is_none(), "{kind} stays open");
        }
        world.clock.set(start.plus(DAY * 3652));
        assert_eq!(world.tick().await.len(), 1);
        assert!(of("authority_cannot_issue", "authority:client-root-g1").await.is_some(), "ten years ahead");
    }

    async fn without_a_mail_server_nothing_is_queued_and_nothing_forgotten(database) {
        let world = World::over(database, false).await;
        world.add_local_site().await;
        let ends = world.store.sites().await.unwrap()[0].server_certificate.clone().unwrap().not_after;
        world.clock.set(ends.minus(DAY));
        assert!(world.tick().await.is_empty());
        assert_eq!(world.store.waiting_mails().await.unwrap(), 0);
        assert_eq!(world.store.alerts(false, None, 10).await.unwrap().len(), 1);
        assert!(world.store.begin().await.unwrap().note_expiry("server", "x", 3, ends).await.unwrap());
    }

    async fn what_the_edge_shows_to_upstreams_is_alarmed_for_when_nobody_renews_it(database) {
        let world = World::over(database, true).await;
        let transaction = world.store.begin().await.unwrap();
        transaction.set_setting(INSTALLATION_ID, "01890a5d-ac96-774b-bcce-b302099a8057").await.unwrap();
        transaction.commit().await.unwrap();
        let (replica, now) = (ReplicaId::new(), world.clock.now());
        let acquired = world.store.acquire_lease(UPSTREAM_IDENTITY_LEASE, &replica, DAY, now).await.unwrap();
        let Acquired::Ours(lease) = acquired else { panic!("nobody else is here") };
        let made = world.ca.renew_upstream_identity(&lease, now).await.unwrap().unwrap();
        world.clock.set(made.certificate.not_after.minus(DAY * 3));
        assert!(world.tick().await.is_empty());
        world.clock.advance(DAY);
        assert_eq!(world.tick().await.len(), 1, "in the administrator's letter");
        let said = world.texts.lock().last().unwrap().clone();
        assert!(said.contains("client certificate that the edge shows to upstreams"), "{said}");
        assert!(world.tick().await.is_empty(), "once");
    }
}
