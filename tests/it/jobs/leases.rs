//! One holder at a time, and a late one cannot commit.

use std::time::Duration;

use wicketgate::domain::UtcTime;
use wicketgate::store::leases::{Acquired, Lease, ReplicaId};
use wicketgate::store::{Store, StoreError};

use crate::harness::database::TestDatabase;
use crate::on_both_databases;

const LIFETIME: Duration = Duration::from_secs(30);

async fn store(database: &TestDatabase) -> Store {
    let store = Store::create(&database.url(), 8).await.unwrap();
    store.migrate(None).await.unwrap();
    store
}

fn at(seconds: i64) -> UtcTime {
    UtcTime::from_unix(1_800_000_000 + seconds)
}

async fn take(store: &Store, owner: &ReplicaId, now: i64) -> Option<Lease> {
    match store.acquire_lease("job:x", owner, LIFETIME, at(now)).await.unwrap() {
        Acquired::Ours(lease) => Some(lease),
        Acquired::Theirs { until } => {
            assert!(until > at(now));
            None
        }
    }
}

on_both_databases! {
    async fn a_lease_ends_by_its_time_or_is_given_back(database) {
        let store = store(database).await;
        let (one, two) = (ReplicaId::new(), ReplicaId::new());
        let first = take(&store, &one, 0).await.unwrap();
        assert_eq!(take(&store, &two, 29).await, None);
        assert_eq!(take(&store, &one, 29).await, None, "nor by its own holder a second time");
        store.renew_lease(&first, LIFETIME, at(20)).await.unwrap();
        assert_eq!(take(&store, &two, 49).await, None);
        let second = take(&store, &two, 50).await.unwrap();
        assert!(second.token > first.token);
        store.release_lease(&first).await.unwrap();
        assert_eq!(take(&store, &one, 51).await, None, "a late release takes nothing from the new holder");
        store.release_lease(&second).await.unwrap();
        assert!(take(&store, &one, 51).await.unwrap().token > second.token);
    }

    async fn a_holder_that_slept_past_its_lease_cannot_commit(database) {
        let store = store(database).await;
        let late = take(&store, &ReplicaId::new(), 0).await.unwrap();
        let current = take(&store, &ReplicaId::new(), 31).await.unwrap();
        let transaction = store.begin().await.unwrap();
        assert!(matches!(transaction.check_lease(&late).await, Err(StoreError::Conflict { .. })));
        drop(transaction);
        assert!(store.renew_lease(&late, LIFETIME, at(32)).await.is_err());
        let transaction = store.begin().await.unwrap();
        transaction.check_lease(&current).await.unwrap();
        transaction.commit().await.unwrap();
    }

    async fn many_that_reach_at_once_get_it_once(database) {
        let store = store(database).await;
        let replicas: Vec<ReplicaId> = (0..8).map(|_| ReplicaId::new()).collect();
        let reach = replicas.iter().map(|replica| take(&store, replica, 0));
        let taken = futures_util::future::join_all(reach).await.into_iter().flatten().count();
        assert_eq!(taken, 1);
    }
}
