//! Orders that do not succeed, and what stands afterwards.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;
use wicketgate::acme::status::{RenewalState, renewal_status};
use wicketgate::acme::{AcmeError, RENEWAL_FAILING};
use wicketgate::activate::Enforce;
use wicketgate::clock::{Clock, SystemClock};
use wicketgate::domain::{ClientAuth, Enforced, Fingerprint};
use wicketgate::jobs::renew_server_certificates::SERVING_LOCAL;
use wicketgate::store::acme::{ChallengeKind, OrderState};
use wicketgate::store::alerts::Severity;
use wicketgate::store::configuration::CertificateSource;

use super::fixture::{Fixed, HOST, World, host};
use crate::harness::database::TestDatabase;

async fn world(database: &TestDatabase) -> Option<World> {
    World::over(database, ChallengeKind::Http01, ClientAuth::Request).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_cannot_be_validated_is_tried_later_and_later() {
    let database = TestDatabase::sqlite();
    let Some(world) = world(&database).await else { return };
    let local = world.seen().await;
    world.pebble.break_dns(HOST);
    for (failures, pause) in [(1, 60), (2, 600), (3, 6000)] {
        let failure = world.renew().await.remove(0).result.unwrap_err();
        assert!(matches!(failure.error, AcmeError::NotValidated { .. }), "{:?}", failure.error);
        assert!(failure.error.to_string().contains(HOST), "{}", failure.error);
        assert_eq!(failure.is_news, failures == 3, "administrators hear of the third");
        let waits = failure.next_attempt_at.since(world.clock.now()).as_secs();
        assert!((pause..=pause + pause / 10).contains(&waits), "{waits}");
        assert!(world.renew().await.is_empty(), "not before the pause is over");
        assert!(world.store.open_challenges().await.unwrap().is_empty());
        assert!(world.store.open_acme_order(&host()).await.unwrap().is_none(), "a dead order is closed");
        let status = renewal_status(&world.store, &world.site().await, world.clock.now()).await.unwrap();
        assert_eq!(status.state, RenewalState::Failing);
        assert!(status.last_error.unwrap().contains(HOST));
        // The clocks may not part, or nothing is ordered: only the pause of the row is moved.
        forget_pause(&world).await;
    }
    assert_eq!(world.store.alerts(false, None, 10).await.unwrap()[0].kind, RENEWAL_FAILING);
    assert_eq!(world.seen().await, local, "the old one serves all the while");
    world.pebble.mend_dns(HOST);
    let issued = world.renew().await.remove(0).result.unwrap();
    assert_eq!(world.seen().await, issued.fingerprint);
    assert!(world.store.alerts(false, None, 10).await.unwrap().is_empty(), "the alert is closed");
}

async fn forget_pause(world: &World) {
    let mut renewal = world.store.renewal(&host()).await.unwrap();
    renewal.last_failed_at = None;
    let transaction = world.store.begin().await.unwrap();
    transaction.set_renewal(&host(), &renewal).await.unwrap();
    transaction.commit().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clocks_that_part_stop_orders() {
    let database = TestDatabase::sqlite();
    let Some(world) = world(&database).await else { return };
    world.advance(400);
    let failure = world.renew().await.remove(0).result.unwrap_err();
    assert!(matches!(failure.error, AcmeError::ClockSkew { .. }), "{:?}", failure.error);
    assert!(failure.is_news, "someone has to set a clock");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_the_public_certificate_is_over_a_local_one_serves_loudly() {
    let database = TestDatabase::sqlite();
    let Some(mut world) = world(&database).await else { return };
    world.settings.max_clock_skew = Duration::from_secs(400 * 86_400);
    let public = world.renew().await.remove(0).result.unwrap();
    let jobs = world.jobs();
    world.pebble.break_dns(HOST);
    world.clock.set(public.not_after.minus(Duration::from_secs(60)));
    jobs.run_now("renew_server_certificates").await.unwrap();
    assert_eq!(world.seen().await, public.fingerprint, "it serves to its last second");
    world.clock.set(public.not_after.plus(Duration::from_secs(1)));
    jobs.run_now("renew_server_certificates").await.unwrap();
    let local = world.site().await.server_certificate.unwrap();
    assert_eq!(local.source, CertificateSource::Local);
    assert_eq!(world.seen().await, local.fingerprint);
    let alerts = world.store.alerts(false, None, 10).await.unwrap();
    let alert = alerts.iter().find(|alert| alert.kind == SERVING_LOCAL).unwrap();
    assert_eq!(alert.severity, Severity::Critical);

    world.pebble.mend_dns(HOST);
    // The clocks are made to agree again, or the new certificate would look as if it were over.
    world.clock.set(SystemClock.now());
    forget_pause(&world).await;
    jobs.run_now("renew_server_certificates").await.unwrap();
    assert_eq!(world.site().await.server_certificate.unwrap().source, CertificateSource::Acme);
    let alerts = world.store.alerts(false, None, 10).await.unwrap();
    assert!(alerts.is_empty(), "{alerts:?}");
}

/// An edge that is connected and never answers.
struct Deaf;

#[async_trait]
impl Enforce for Deaf {
    async fn bring_up_to_date(&self) -> Enforced {
        Enforced { edges: 2, acknowledged: 1 }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_authority_is_not_asked_to_look_before_every_edge_answers() {
    let database = TestDatabase::sqlite();
    let Some(world) = world(&database).await else { return };
    let acme = world.acme_with(Arc::new(Deaf), Arc::new(world.eyes()));
    let failure = acme.renew_due(&CancellationToken::new()).await.unwrap().remove(0).result.unwrap_err();
    assert!(matches!(failure.error, AcmeError::NotAnswered { edges: 2, acknowledged: 1 }));
    let order = world.store.open_acme_order(&host()).await.unwrap().expect("it goes on later");
    assert_eq!(order.state, OrderState::Challenged);
    world.advance(70);
    assert!(world.renew().await.remove(0).result.is_ok());
    assert_eq!(world.store.acme_orders(&host()).await.unwrap().len(), 1, "the same order");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_is_not_seen_is_taken_back() {
    let database = TestDatabase::sqlite();
    let Some(world) = world(&database).await else { return };
    let before = world.site().await.server_certificate.unwrap();
    let acme = world.acme_with(world.refresh.clone(), Arc::new(Fixed(Fingerprint::of(b"another"))));
    let failure = acme.renew_due(&CancellationToken::new()).await.unwrap().remove(0).result.unwrap_err();
    assert!(matches!(failure.error, AcmeError::NotServed(_)), "{:?}", failure.error);
    assert!(failure.is_news);
    assert_eq!(world.site().await.server_certificate.unwrap().id, before.id);
    assert_eq!(world.seen().await, before.fingerprint);
    assert_eq!(world.store.acme_orders(&host()).await.unwrap()[0].state, OrderState::Failed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forbidden_name_needs_a_person() {
    let database = TestDatabase::sqlite();
    let Some(mut world) = world(&database).await else { return };
    world.settings.profile = Some("no-such-profile".to_owned());
    let failure = world.renew().await.remove(0).result.unwrap_err();
    assert!(matches!(&failure.error, AcmeError::Profile(name) if name == "no-such-profile"));
    assert!(failure.is_news);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_authority_that_is_away_costs_an_attempt_and_no_order() {
    let database = TestDatabase::sqlite();
    let Some(mut world) = world(&database).await else { return };
    let away = format!("https://127.0.0.1:{}/dir", crate::harness::free_port());
    let there = std::mem::replace(&mut world.settings.directory_url, away);
    let failure = world.renew().await.remove(0).result.unwrap_err();
    assert!(matches!(failure.error, AcmeError::Unreachable(_)), "{:?}", failure.error);
    assert!(!failure.is_news);
    world.settings.directory_url = there;
    world.advance(70);
    assert!(world.renew().await.remove(0).result.is_ok(), "an order for another authority is dropped");
}
