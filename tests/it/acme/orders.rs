//! Orders that succeed, whatever comes between.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use wicketgate::acme::ProveServed;
use wicketgate::acme::status::{RenewalState, renewal_status};
use wicketgate::clock::Clock;
use wicketgate::domain::ClientAuth;
use wicketgate::pki::pem;
use wicketgate::store::acme::{ChallengeKind, OrderState, StoredWindow};
use wicketgate::store::configuration::{CertificateSource, ServerCertificate};

use super::fixture::{World, host};
use crate::harness::database::TestDatabase;
use crate::on_both_databases;

on_both_databases! {
    async fn a_certificate_by_http_01(database) {
        issue(database, ChallengeKind::Http01, ClientAuth::Request).await;
    }

    async fn a_certificate_by_tls_alpn_01_under_require(database) {
        issue(database, ChallengeKind::TlsAlpn01, ClientAuth::Require).await;
    }
}

async fn issue(database: &TestDatabase, challenge: ChallengeKind, client_auth: ClientAuth) {
    let Some(world) = World::over(database, challenge, client_auth).await else { return };
    let before = world.seen().await;
    assert_eq!(before, world.site().await.server_certificate.unwrap().fingerprint, "a local leaf meanwhile");
    let attempts = world.renew().await;
    let issued = attempts.into_iter().next().unwrap().result.unwrap();
    assert_eq!(issued.source, CertificateSource::Acme);
    assert_eq!(world.seen().await, issued.fingerprint, "the edge serves it");
    assert!(world.store.open_challenges().await.unwrap().is_empty());
    let orders = world.store.acme_orders(&host()).await.unwrap();
    assert_eq!(orders.iter().map(|order| order.state).collect::<Vec<_>>(), [OrderState::Done]);
    assert!(world.renew().await.is_empty(), "nothing is due any more");
    let status = renewal_status(&world.store, &world.site().await, world.clock.now()).await.unwrap();
    assert_eq!(status.state, RenewalState::Waiting);
    let waits = status.next_attempt_at.unwrap().since(world.clock.now());
    let window = world.store.renewal(&host()).await.unwrap().window;
    assert!(waits > Duration::from_secs(40 * 86_400), "{waits:?} {window:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_button_renews_and_says_what_is_replaced() {
    let database = TestDatabase::sqlite();
    let Some(world) = World::over(&database, ChallengeKind::Http01, ClientAuth::Request).await else {
        return;
    };
    world.renew().await;
    let first = world.site().await.server_certificate.unwrap();
    assert!(world.renew().await.is_empty());
    let renewal = world.store.renewal(&host()).await.unwrap();
    let window = renewal.window.unwrap();
    assert_eq!(window.certificate, first.fingerprint.to_string());
    let (start, end) = window.window.unwrap();
    assert!((start..=end).contains(&window.selected.unwrap()), "a moment was picked and kept");

    world.store.request_renewal(&host(), world.clock.now()).await.unwrap();
    let attempts = world.renew().await;
    let second = attempts.into_iter().next().unwrap().result.unwrap();
    assert_ne!(second.fingerprint, first.fingerprint);
    assert_eq!(world.seen().await, second.fingerprint);
    assert_ne!(second.sealed_key, first.sealed_key, "a new key each time");
    assert_eq!(world.store.renewal(&host()).await.unwrap().requested_at, None);
    assert!(world.renew().await.is_empty());
}

/// Ends the process, so to speak, after every few milliseconds of an order, and starts it again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_authority_that_stumbles_over_what_is_replaced_is_asked_without() {
    let database = TestDatabase::sqlite();
    let Some(world) = World::over(&database, ChallengeKind::Http01, ClientAuth::Request).await else {
        return;
    };
    world.renew().await;
    let known = world.site().await.server_certificate.unwrap();
    // Pebble answers 500 to a serial that it does not find, as it does for one in 512 of its own:
    // it looks for them without the leading zero that their DER has.
    let id = "a-serial-that-nobody-issued".to_owned();
    let key = world.vaults.server.open(ServerCertificate::place(&known.id), &known.sealed_key).unwrap();
    let mut chain = pem::blocks(&known.chain_pem, "CERTIFICATE");
    let octet = |at: usize| u8::from_str_radix(&known.serial[at..at + 2], 16).unwrap();
    let serial = (0..known.serial.len()).step_by(2).map(octet).collect::<Vec<_>>();
    let at = chain[0].windows(serial.len()).position(|window| window == serial).unwrap();
    chain[0][at + serial.len() - 1] ^= 1;
    let other = ServerCertificate {
        sealed_key: world.vaults.server.seal(ServerCertificate::place(&id), key.expose()).unwrap(),
        chain_pem: chain.iter().map(|der| pem::block("CERTIFICATE", der)).collect(),
        id: id.clone(),
        ..known
    };
    let transaction = world.store.begin().await.unwrap();
    transaction.insert_server_certificate(&other).await.unwrap();
    transaction.serve_certificate(&host(), &id).await.unwrap();
    transaction.commit().await.unwrap();

    world.store.request_renewal(&host(), world.clock.now()).await.unwrap();
    let issued = world.renew().await.remove(0).result.unwrap();
    assert_eq!(world.seen().await, issued.fingerprint, "in the same run");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_survives_being_killed_anywhere() {
    let database = TestDatabase::sqlite();
    let Some(world) = World::over(&database, ChallengeKind::Http01, ClientAuth::Request).await else {
        return;
    };
    let mut states = Vec::new();
    let mut issued = None;
    for round in 0..400_u64 {
        // A process that starts on a SQLite file ends the leases of the one before.
        world.store.end_leases_of_the_dead().await.unwrap();
        let acme = world.acme();
        let run = tokio::spawn(async move { acme.renew_due(&CancellationToken::new()).await.unwrap() });
        let patience = Duration::from_millis(5 + round * 4);
        let kill = run.abort_handle();
        let ended = tokio::time::timeout(patience, run).await;
        kill.abort();
        if let Ok(Ok(attempts)) = ended {
            for attempt in attempts {
                issued = Some(attempt.result.unwrap().fingerprint);
            }
        }
        // A write that was queued before the end is carried out after it: its commit may have been the last
        // that was missing, or have taken a lease for the dead.
        if issued.is_none()
            && let [order] = &world.store.acme_orders(&host()).await.unwrap()[..]
        {
            let is_done = order.state == OrderState::Done;
            issued = is_done.then_some(world.site().await.server_certificate.unwrap().fingerprint);
        }
        if issued.is_some() {
            break;
        }
        states.extend(world.store.open_acme_order(&host()).await.unwrap().map(|order| order.state));
    }
    let issued = issued.expect("it succeeds in the end");
    assert!(states.len() > 3, "it was killed often enough: {states:?}");
    let orders = world.store.acme_orders(&host()).await.unwrap();
    assert_eq!(orders.len(), 1, "one order, however often it was taken up: {states:?}");
    assert_eq!(orders[0].state, OrderState::Done);
    assert_eq!(world.seen().await, issued);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_that_look_at_once_order_once() {
    let Some(database) = TestDatabase::postgres() else { return };
    let Some(world) = World::over(&database, ChallengeKind::Http01, ClientAuth::Request).await else {
        return;
    };
    let stop = CancellationToken::new();
    let replicas = [world.acme(), world.acme(), world.acme()];
    let runs = futures_util::future::join_all(replicas.iter().map(|acme| acme.renew_due(&stop))).await;
    let issued = runs.into_iter().flat_map(Result::unwrap).filter(|attempt| attempt.result.is_ok()).count();
    assert_eq!(issued, 1);
    assert_eq!(world.store.acme_orders(&host()).await.unwrap().len(), 1);
}

/// The schedule finds it due, and visitors see the old certificate until they see the new one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewal_by_schedule_leaves_no_visitor_without_a_certificate() {
    let database = TestDatabase::sqlite();
    let world = World::over(&database, ChallengeKind::TlsAlpn01, ClientAuth::Request).await;
    let Some(mut world) = world else { return };
    world.settings.max_clock_skew = Duration::from_secs(100 * 86_400);
    let first = world.renew().await.remove(0).result.unwrap();
    world.advance(50 * 86_400);
    let jobs = world.jobs();
    forget_window(&world).await;
    jobs.run_now("renew_server_certificates").await.unwrap();
    assert_eq!(world.seen().await, first.fingerprint, "not due yet");
    world.advance(11 * 86_400);
    forget_window(&world).await;
    let eyes = world.eyes();
    let (stop, enough) = (CancellationToken::new(), CancellationToken::new());
    let visits = tokio::spawn({
        let (stop, enough) = (stop.clone(), enough.clone());
        async move {
            let mut seen = Vec::new();
            let mut pace = tokio::time::interval(Duration::from_millis(20));
            while !stop.is_cancelled() {
                pace.tick().await;
                seen.push(eyes.served_leaf(&host()).await);
                if seen.len() == 5 {
                    enough.cancel();
                }
            }
            seen.push(eyes.served_leaf(&host()).await);
            seen
        }
    });
    enough.cancelled().await;
    let report = jobs.run_now("renew_server_certificates").await.unwrap();
    assert_eq!(report.done, 1, "{}", report.detail);
    stop.cancel();
    let mut seen: Vec<_> = visits.await.unwrap().into_iter().map(Result::unwrap).collect();
    seen.dedup();
    assert_eq!(seen, [first.fingerprint, world.site().await.server_certificate.unwrap().fingerprint]);
}

/// Pebble suggests by its own clock; here the fraction of the lifetime is to decide.
async fn forget_window(world: &World) {
    let mut renewal = world.store.renewal(&host()).await.unwrap();
    let certificate = world.site().await.server_certificate.unwrap().fingerprint.to_string();
    let next_look = world.clock.now().plus(Duration::from_secs(86_400));
    renewal.window = Some(StoredWindow { certificate, window: None, selected: None, next_look });
    let transaction = world.store.begin().await.unwrap();
    transaction.set_renewal(&host(), &renewal).await.unwrap();
    transaction.commit().await.unwrap();
}
