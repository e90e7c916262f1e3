//! The process ends in the middle of an issuance or a revocation list, at every named point, on both
//! databases. Nothing is signed that is not on record, and the next process goes on.

use std::process::Command;
use std::time::Duration;

use wicketgate::domain::{AuthorityKind, AuthorityState, AuthorityStep, Secret, Serial, UtcTime};
use wicketgate::keys::{Kek, SystemEntropy};
use wicketgate::store::Store;
use wicketgate::store::certificates::CertificateFilter;

use super::fixture::World;
use crate::on_both_databases;

pub(super) const DATABASE: &str = "WICKETGATE_TEST_CRASH_DATABASE";
pub(super) const KEY: &str = "WICKETGATE_TEST_CRASH_KEY";
/// How many days ahead the lists are published: always past half of their lifetime.
pub(super) const DAYS: &str = "WICKETGATE_TEST_CRASH_DAYS";
const DAY: Duration = Duration::from_secs(86_400);

/// Not a test of its own: what the process does that the tests below let crash.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child() {
    let (Ok(database), Ok(key)) = (std::env::var(DATABASE), std::env::var(KEY)) else { return };
    let world = World::with(Store::open(&database, 5).await.unwrap(), &Secret::new(key)).await;
    world.issue("phone").await;
    let days: u32 = std::env::var(DAYS).unwrap().parse().unwrap();
    world.ca.publish_crls(world.now().plus(DAY * days)).await.unwrap();
}

/// Not a test of its own: a root is staged and trusted, which lets it and the first vouch for each other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rolling_child() {
    let (Ok(database), Ok(key)) = (std::env::var(DATABASE), std::env::var(KEY)) else { return };
    let world = World::with(Store::open(&database, 5).await.unwrap(), &Secret::new(key)).await;
    let staged = world.stage(AuthorityKind::Root).await;
    world.step(&staged, AuthorityStep::Trust).await.unwrap();
}

/// Runs [`child`] until `point`. Returns whether it got there.
fn crash_at(point: &str, database: &str, key: &Secret<String>, days: u32) -> bool {
    crash_in("ca::crash::child", point, database, key, days)
}

/// Runs the test `child` until `point`. Returns whether it got there.
pub(super) fn crash_in(child: &str, point: &str, database: &str, key: &Secret<String>, days: u32) -> bool {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", child, "--test-threads=1"])
        .env(DATABASE, database)
        .env(KEY, key.expose())
        .env(DAYS, days.to_string())
        .env("WICKETGATE_CRASH_AT", point)
        .output()
        .unwrap();
    !child.status.success() && child.status.code().is_none() // ended by a signal, not by an assertion
}

on_both_databases! {
    async fn a_crash_anywhere_in_an_issuance_leaves_nothing_unrecorded(database) {
        let key = Kek::fresh_text(&SystemEntropy);
        let store = Store::create(&database.url(), 5).await.unwrap();
        store.migrate(None).await.unwrap();
        let world = World::with(store, &key).await;
        for point in ["ca.after_serial", "ca.after_intent", "ca.after_signing", "ca.before_commit"] {
            assert!(crash_at(point, &database.url(), &key, 5), "{point} was not reached");
            let all = world.store.certificates(&CertificateFilter::default(), 100, world.now()).await.unwrap();
            assert!(all.is_empty(), "{point}: a certificate without its commit");
            let open = world.store.unresolved_intents(UtcTime::MAX).await.unwrap();
            assert_eq!(open.len(), usize::from(point != "ca.after_serial"), "{point}");
            // What may have been signed is on record byte for byte, and goes on the list by its serial.
            let serials: Vec<Serial> = open.iter().map(|intent| intent.serial).collect();
            assert!(open.iter().all(|intent| !intent.tbs.is_empty()));
            world.clock.advance(Duration::from_secs(60));
            assert_eq!(world.ca.resolve_intents(world.now()).await.unwrap(), serials.len() as u64);
            world.ca.publish_crls(world.now()).await.unwrap();
            let listed = world.store.revocations(&"client-issuing-g1".parse().unwrap(), UtcTime::EPOCH).await.unwrap();
            assert!(serials.iter().all(|serial| listed.iter().any(|entry| entry.serial == *serial)), "{point}");
        }
        assert!(crash_at("ca.after_commit", &database.url(), &key, 5));
        let all = world.store.certificates(&CertificateFilter::default(), 100, world.now()).await.unwrap();
        assert_eq!(all.len(), 1, "what was committed is there");
        world.issue("laptop").await;
    }

    async fn a_crash_anywhere_in_a_roll_over_leaves_nothing_unrecorded_and_it_goes_on(database) {
        let key = Kek::fresh_text(&SystemEntropy);
        let store = Store::create(&database.url(), 5).await.unwrap();
        store.migrate(None).await.unwrap();
        let world = World::with(store, &key).await;
        let roots = async || {
            let all = world.store.authorities().await.unwrap();
            all.into_iter().filter(|one| one.kind == AuthorityKind::Root).collect::<Vec<_>>()
        };
        for (point, signed) in [
            ("authority.after_record", false),
            ("authority.after_signing", false),
            // In the first of two cross-certificates: the root is staged and not trusted.
            ("ca.after_intent", true),
            ("ca.after_signing", true),
        ] {
            let before = roots().await.len();
            assert!(crash_in("ca::crash::rolling_child", point, &database.url(), &key, 0), "{point} was not reached");
            let after = roots().await;
            assert_eq!(after.len(), before + 1, "{point}");
            let last = after.last().unwrap();
            assert_eq!((last.state, last.certificate.is_some()), (AuthorityState::Staged, signed), "{point}");
            assert!(!last.tbs.is_empty(), "{point}: the bytes are on record before the signature");
            let open = world.store.unresolved_intents(UtcTime::MAX).await.unwrap();
            assert_eq!(open.len(), usize::from(signed), "{point}");
            world.clock.advance(Duration::from_secs(60));
            world.ca.resolve_intents(world.now()).await.unwrap();
            let root = "client-root-g1".parse().unwrap();
            let listed = world.store.revocations(&root, UtcTime::EPOCH).await.unwrap();
            assert!(open.iter().all(|intent| listed.iter().any(|entry| entry.serial == intent.serial)), "{point}");
            if signed {
                world.step(&last.name, AuthorityStep::Trust).await.unwrap();
                assert_eq!(world.ca.cross_certificates(&last.name).await.unwrap().len(), 2, "{point}");
            } else {
                assert!(world.step(&last.name, AuthorityStep::Trust).await.is_err(), "{point}");
            }
        }
    }

    async fn a_crash_anywhere_in_a_revocation_list_never_reuses_its_number(database) {
        let key = Kek::fresh_text(&SystemEntropy);
        let store = Store::create(&database.url(), 5).await.unwrap();
        store.migrate(None).await.unwrap();
        let world = World::with(store, &key).await;
        let name = "client-issuing-g1".parse().unwrap(); // the first in order, so the one in which the crash happens
        world.ca.publish_crls(world.now()).await.unwrap();
        let mut last = world.store.latest_crl(&name).await.unwrap().unwrap().number;
        for (point, days) in [("crl.after_number", 10), ("crl.after_record", 20), ("crl.after_signing", 30)] {
            assert!(crash_at(point, &database.url(), &key, days), "{point} was not reached");
            let published = world.store.latest_crl(&name).await.unwrap().unwrap().number;
            assert_eq!(published, last, "{point}: the list before stays");
            world.clock.advance(DAY * 10);
            world.ca.publish_crls(world.now()).await.unwrap();
            let next = world.store.latest_crl(&name).await.unwrap().unwrap().number;
            assert!(next >= last + 2, "{point}: the number taken by the crash was handed out again");
            last = next;
        }
    }
}
