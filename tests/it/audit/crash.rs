//! The process ends between the links and their checkpoint, at every named point, on both databases; the
//! next one goes on where the chain ends.

use std::process::Command;

use wicketgate::domain::Secret;
use wicketgate::jobs::chain_audit::{CHECKPOINT_EVERY, Sequencer};
use wicketgate::keys::{Kek, SystemEntropy};
use wicketgate::pki::audit::{Trust, verify_export};
use wicketgate::store::Store;
use wicketgate::store::audit_chain::Look;

use super::fixture::{LEASE, check_chain, export, identify, lease, sequencer};
use crate::ca::fixture::World;
use crate::on_both_databases;

const DATABASE: &str = "WICKETGATE_TEST_AUDIT_DATABASE";
const KEY: &str = "WICKETGATE_TEST_AUDIT_KEY";

/// Not a test of its own: what the process does that the test below lets crash.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child() {
    let (Ok(database), Ok(key)) = (std::env::var(DATABASE), std::env::var(KEY)) else { return };
    let world = World::with(Store::open(&database, 5).await.unwrap(), &Secret::new(key)).await;
    // The process before it died with the lease.
    let mut held = lease(&world.store, world.now()).await;
    while held.is_none() {
        world.clock.advance(LEASE);
        held = lease(&world.store, world.now()).await;
    }
    world.issue("phone").await;
    let mut sequencer = Sequencer::new(world.store.clone(), world.ca.clone(), held.unwrap());
    sequencer.chain(Look::Everywhere).await.unwrap();
    sequencer.sign_if_due(world.now().plus(CHECKPOINT_EVERY * 60)).await.unwrap();
}

/// Runs [`child`] until `point`. Returns whether it got there.
fn crash_at(point: &str, database: &str, key: &Secret<String>) -> bool {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "audit::crash::child", "--test-threads=1"])
        .env(DATABASE, database)
        .env(KEY, key.expose())
        .env("WICKETGATE_CRASH_AT", point)
        .output()
        .unwrap();
    !child.status.success() && child.status.code().is_none() // ended by a signal, not by an assertion
}

on_both_databases! {
    async fn a_crash_between_link_and_checkpoint_leaves_a_chain_to_go_on_with(database) {
        let key = Kek::fresh_text(&SystemEntropy);
        let store = Store::create(&database.url(), 5).await.unwrap();
        store.migrate(None).await.unwrap();
        let world = World::with(store, &key).await;
        identify(&world.store).await;
        world.ca.audit_key(world.now()).await.unwrap();
        for point in ["audit.before_commit", "audit.after_links", "audit.after_signing"] {
            let before = check_chain(&world.store).await.number;
            assert!(crash_at(point, &database.url(), &key), "{point} was not reached");
            let after = check_chain(&world.store).await.number;
            assert_eq!(after > before, point != "audit.before_commit", "{point}");
            assert!(world.store.latest_audit_checkpoint().await.unwrap().is_none(), "{point}");
        }
        world.clock.advance(LEASE * 10);
        let mut next = sequencer(&world).await;
        next.chain(Look::Everywhere).await.unwrap();
        next.sign_if_due(world.now()).await.unwrap();
        let verdict = verify_export(&export(&world).await, Trust::default());
        assert!(verdict.is_clean(), "{:?}", verdict.faults);
        assert_eq!(verdict.checkpoints, 1);
    }
}
