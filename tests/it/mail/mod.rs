//! The outbox and a real mail server.

mod encrypted;

use std::sync::Arc;
use std::time::Duration;

use wicketgate::activate::Activation;
use wicketgate::clock::{Clock, ManualClock};
use wicketgate::config::{Smtp as SmtpSettings, SmtpEncryption};
use wicketgate::keys::{Kek, Purpose, SystemEntropy, Vault, Vaults};
use wicketgate::mail::{Letter, MAIL_FAILING, MAIL_GIVEN_UP, MailError, Mailer, Recipient, Sent, Smtp};
use wicketgate::store::Store;
use wicketgate::store::outbox::Outbox;
use wicketgate::telemetry::metrics::{JobMetrics, Success};

use crate::harness::database::TestDatabase;
use crate::harness::smtp::{Manner, Sink};
use crate::on_both_databases;

const ADDRESS: &str = "anna@example.com";
const ANNA: Recipient<'_> = Recipient { email: ADDRESS, name: "Änna" };

struct World {
    store: Store,
    clock: Arc<ManualClock>,
    mailer: Mailer,
    metrics: Arc<JobMetrics>,
}

impl World {
    async fn over(database: &TestDatabase, port: Option<u16>) -> Self {
        let settings = port.map(|port| SmtpSettings {
            host: "127.0.0.1".to_owned(),
            port,
            encryption: SmtpEncryption::None,
            root_ca_file: None,
            login: None,
            from: "The gate <gate@example.com>".to_owned(),
        });
        let carrier = settings.map(|settings| Smtp::new(&settings, None).unwrap());
        Self::with(database, carrier.map(|smtp| Box::new(smtp) as Box<dyn wicketgate::mail::Carrier>)).await
    }

    async fn with(database: &TestDatabase, carrier: Option<Box<dyn wicketgate::mail::Carrier>>) -> Self {
        let store = Store::create(&database.url(), 5).await.unwrap();
        store.migrate(None).await.unwrap();
        let clock = ManualClock::at("2026-11-23T12:00:00Z".parse().unwrap());
        let vault =
            |purpose| Vault::new(Kek::from_text(purpose, &Kek::fresh_text(&SystemEntropy), "test").unwrap());
        let vaults =
            Arc::new(Vaults { server: vault(Purpose::Server), authority: vault(Purpose::Authority) });
        store.open_vaults(&vaults, &SystemEntropy, clock.now()).await.unwrap();
        let metrics = Arc::new(JobMetrics::default());
        let outbox = Outbox::new(store.clone(), vaults);
        let wake = Activation::new("send_mail");
        let mailer = Mailer::new(outbox, carrier, "Gate".to_owned(), None, wake, metrics.clone());
        Self { store, clock, mailer, metrics }
    }

    fn letter(&self) -> Letter<'static> {
        let link = "https://door.example.com/#/invitation/dG9rZW4";
        Letter::Invitation {
            device: Some("phone"),
            link,
            expires_at: self.clock.now().plus(Duration::from_secs(3600)),
        }
    }

    async fn queue(&self) {
        let mail = self.mailer.write(ANNA, &self.letter()).unwrap();
        let transaction = self.store.begin().await.unwrap();
        transaction.enqueue_mail(&mail, self.clock.now()).await.unwrap();
        transaction.commit().await.unwrap();
    }

    async fn send(&self) -> Sent {
        self.mailer.send_due(self.clock.now(), || false).await.unwrap()
    }
}

on_both_databases! {
    async fn a_letter_waits_sealed_and_arrives_whole(database) {
        let Some(sink) = Sink::start(Manner::Accepts) else { return };
        let world = World::over(database, Some(sink.port)).await;
        let mail = world.mailer.write(ANNA, &world.letter()).unwrap();
        let transaction = world.store.begin().await.unwrap();
        transaction.enqueue_mail(&mail, world.clock.now()).await.unwrap();
        drop(transaction);
        assert_eq!(world.send().await, Sent::default(), "what was not committed is not told");
        world.queue().await;
        assert!(!format!("{mail:?}").contains("example"), "its content cannot be seen");
        assert_eq!(world.send().await, Sent { sent: 1, ..Sent::default() });
        let arrived = sink.mail_to(ADDRESS, 1).await;
        for part in ["text/plain", "text/html", "dG9rZW4", "Auto-Submitted: auto-generated", "Message-ID: <"] {
            assert!(arrived.raw.contains(part), "{part}\n{}", arrived.raw);
        }
        assert_eq!(world.store.waiting_mails().await.unwrap(), 0);
        assert_eq!(world.send().await, Sent::default(), "once");
        assert_eq!(world.metrics.mails.value(Success::Succeeded), 1);
    }

    async fn a_mail_that_is_deferred_is_tried_later_and_given_up_in_the_end(database) {
        let Some(sink) = Sink::start(Manner::Defers) else { return };
        let world = World::over(database, Some(sink.port)).await;
        world.queue().await;
        let mut attempts = 0;
        for _ in 0..40 {
            let sent = world.send().await;
            attempts += sent.deferred + sent.given_up;
            if sent.given_up == 1 {
                break;
            }
            assert_eq!(world.send().await, Sent::default(), "not before its pause is over");
            let next = world.store.next_mail_at().await.unwrap().unwrap();
            world.clock.set(next);
        }
        assert_eq!(attempts, 9);
        let alerts = world.store.alerts(false, None, 10).await.unwrap();
        let kinds: Vec<_> = alerts.iter().map(|alert| alert.kind.as_str()).collect();
        assert_eq!(kinds, [MAIL_GIVEN_UP, MAIL_FAILING]);
        assert!(alerts.iter().all(|alert| !alert.message.contains('@')), "{alerts:?}");
        assert_eq!(world.metrics.mails.value(Success::Failed), 1);
    }

    async fn a_mail_that_is_refused_is_given_up_at_once(database) {
        let Some(sink) = Sink::start(Manner::Rejects) else { return };
        let world = World::over(database, Some(sink.port)).await;
        world.queue().await;
        assert_eq!(world.send().await, Sent { given_up: 1, ..Sent::default() });
        assert_eq!(world.store.waiting_mails().await.unwrap(), 0);
    }

    async fn a_server_that_is_away_holds_all_mails_and_loses_none(database) {
        let world = World::over(database, Some(crate::harness::free_port())).await;
        world.queue().await;
        world.queue().await;
        assert_eq!(world.send().await, Sent { deferred: 1, ..Sent::default() }, "the second is not even tried");
        assert_eq!(world.store.waiting_mails().await.unwrap(), 2);
    }

    async fn without_a_server_nobody_writes(database) {
        let world = World::over(database, None).await;
        assert!(!world.mailer.is_configured());
        assert!(matches!(world.mailer.write(ANNA, &world.letter()), Err(MailError::NotConfigured)));
    }
}
