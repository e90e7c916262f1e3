//! Edges are brought up to date once for everybody who asks at the same moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use futures_util::future::{join, join_all};
use tokio::sync::Semaphore;
use wicketgate::activate::Enforce;
use wicketgate::clock::{Clock, ManualClock};
use wicketgate::domain::{Delta, Fingerprint};
use wicketgate::jobs::refresh_live::RefreshLive;
use wicketgate::keys::{Kek, SystemEntropy};
use wicketgate::live::{Ack, EdgeError, EdgeLink, Feed, Update};
use wicketgate::store::Store;

use crate::ca::fixture::vaults;
use crate::harness::database::TestDatabase;
use crate::harness::wait_until;
use crate::on_both_databases;

/// An edge that takes an update only when it is allowed to, and counts.
struct Edge {
    may: Semaphore,
    begun: AtomicU64,
    updates: AtomicU64,
    epoch: AtomicU64,
}

#[async_trait]
impl EdgeLink for Edge {
    async fn apply(&self, update: &Update) -> Result<Ack, EdgeError> {
        self.begun.fetch_add(1, Ordering::SeqCst);
        self.may.acquire().await.unwrap().forget();
        // The documents come by themselves.
        self.updates.fetch_add(u64::from(update.documents.is_none()), Ordering::SeqCst);
        let epoch = update.changes.last().map_or(0, |change| change.epoch);
        self.epoch.fetch_max(epoch, Ordering::SeqCst);
        Ok(Ack { version: 0, epoch })
    }
}

async fn refresh_over(database: &TestDatabase) -> (Store, Arc<Edge>, Arc<RefreshLive>) {
    let store = Store::create(&database.url(), 5).await.unwrap();
    store.migrate(None).await.unwrap();
    let clock = ManualClock::at("2026-11-23T12:00:00Z".parse().unwrap());
    let vaults = vaults(&Kek::fresh_text(&SystemEntropy));
    store.open_vaults(&vaults, &SystemEntropy, clock.now()).await.unwrap();
    let edge = Arc::new(Edge {
        may: Semaphore::new(0),
        begun: AtomicU64::new(0),
        updates: AtomicU64::new(0),
        epoch: AtomicU64::new(0),
    });
    let feed = Feed::new();
    feed.connect(edge.clone());
    let refresh = RefreshLive::new(store.clone(), vaults, feed, clock, None, 0);
    (store, edge, refresh)
}

async fn commit_a_change(store: &Store) {
    let transaction = store.begin().await.unwrap();
    let delta = Delta::Released { fingerprint: Fingerprint([0; 32]) };
    transaction.append_changes(&[delta], wicketgate::domain::UtcTime::EPOCH).await.unwrap();
    transaction.commit().await.unwrap();
}

on_both_databases! {
    async fn whoever_asks_at_the_same_moment_shares_one_refresh(database) {
        let (store, edge, refresh) = refresh_over(database).await;
        commit_a_change(&store).await;
        let callers = join_all((0..20).map(|_| refresh.bring_register_up_to_date()));
        let (answers, ()) = join(callers, async { edge.may.add_permits(20) }).await;
        assert!(answers.iter().all(|enforced| enforced.acknowledged == 1));
        // The first one's own, which began before the others had asked, and one for all of them.
        assert_eq!(edge.updates.load(Ordering::SeqCst), 2);
        assert_eq!(edge.epoch.load(Ordering::SeqCst), 1);
    }

    async fn a_refresh_that_began_before_a_commit_does_not_answer_for_it(database) {
        let (store, edge, refresh) = refresh_over(database).await;
        let early = tokio::spawn({
            let refresh = refresh.clone();
            async move { refresh.bring_register_up_to_date().await }
        });
        wait_until("the first update", async || (edge.begun.load(Ordering::SeqCst) > 0).then_some(())).await;
        commit_a_change(&store).await;
        let (enforced, ()) = join(refresh.bring_register_up_to_date(), async { edge.may.add_permits(10) }).await;
        assert_eq!(enforced.acknowledged, 1);
        assert_eq!(edge.epoch.load(Ordering::SeqCst), 1, "the change is there when the caller is answered");
        assert_eq!(early.await.unwrap().acknowledged, 1);
    }
}
