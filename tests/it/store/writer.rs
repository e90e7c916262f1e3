//! Group commit: many callers, one commit, and none of them at another's mercy.

use futures_util::future::{join, join_all};
use wicketgate::domain::audit::Outcome;
use wicketgate::domain::{Actor, UtcTime};
use wicketgate::store::audit::AuditFilter;
use wicketgate::store::{Store, StoreError};

use crate::harness::database::TestDatabase;
use crate::harness::wait_until;
use crate::on_both_databases;

const NOW: UtcTime = UtcTime::from_unix(1_795_000_000);

/// A database with one connection, so that whoever holds it makes the others wait, and two tables:
/// each `child` must have a `parent` when the transaction commits.
async fn store(database: &TestDatabase) -> Store {
    let store = Store::create(&database.url(), 1).await.unwrap();
    store.migrate(None).await.unwrap();
    run(&store, "CREATE TABLE parent (id BIGINT PRIMARY KEY)").await.unwrap();
    let references = "REFERENCES parent (id) DEFERRABLE INITIALLY DEFERRED";
    run(&store, &format!("CREATE TABLE child (parent BIGINT NOT NULL {references})")).await.unwrap();
    store
}

async fn run(store: &Store, sql: &str) -> Result<(), StoreError> {
    let sql = sql.to_owned();
    store.write(move |transaction| Box::pin(async move { transaction.execute(&sql).await })).await
}

/// Lets all of them queue before the first can be written, so that they share a commit.
async fn together<T>(store: &Store, writes: impl IntoIterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let held = store.begin().await.unwrap();
    let (answers, ()) = join(join_all(writes), async { drop(held) }).await;
    answers
}

/// Whether there is a parent of this id: another of the same is refused.
async fn exists(store: &Store, id: i64) -> bool {
    run(store, &format!("INSERT INTO parent VALUES ({id})")).await.is_err()
}

async fn insert(store: &Store, id: i64) -> Result<(), StoreError> {
    run(store, &format!("INSERT INTO parent VALUES ({id})")).await
}

on_both_databases! {
    async fn whoever_fails_in_a_shared_commit_fails_alone(database) {
        let store = store(database).await;
        let sql = ["INSERT INTO parent VALUES (1)", "INSERT INTO nowhere VALUES (1)", "INSERT INTO parent VALUES (1)", "INSERT INTO parent VALUES (2)"];
        let answers = together(&store, sql.iter().map(|sql| run(&store, sql))).await;
        let stands: Vec<_> = answers.iter().map(Result::is_ok).collect();
        assert_eq!(stands, [true, false, false, true]);
        assert!(exists(&store, 1).await && exists(&store, 2).await);
    }

    async fn an_error_of_the_callers_own_rolls_back_what_it_wrote(database) {
        let store = store(database).await;
        let refused = store.write(|transaction| Box::pin(async move {
            transaction.execute("INSERT INTO parent VALUES (1)").await?;
            Err::<(), _>(StoreError::Conflict { what: "the row" })
        }));
        assert!(matches!(refused.await, Err(StoreError::Conflict { .. })));
        assert!(!exists(&store, 1).await);
    }

    async fn a_commit_that_fails_is_everyones_error_and_nothing_stands(database) {
        let store = store(database).await;
        let sql = ["INSERT INTO parent VALUES (1)", "INSERT INTO child VALUES (7)", "INSERT INTO parent VALUES (2)"];
        let answers = together(&store, sql.iter().map(|sql| run(&store, sql))).await;
        assert!(answers.iter().all(Result::is_err), "{answers:?}");
        assert!(!exists(&store, 1).await && !exists(&store, 2).await);
        insert(&store, 3).await.expect("the writer goes on");
    }

    async fn a_write_that_panics_takes_nobody_along(database) {
        let store = store(database).await;
        let panics = store.write(|_| Box::pin(async { panic!("on purpose") }));
        let held = store.begin().await.unwrap();
        let (first, panicked, second, ()) =
            futures_util::future::join4(insert(&store, 1), panics, insert(&store, 2), async { drop(held) }).await;
        assert!(matches!(panicked, Err::<(), _>(StoreError::Database(_))));
        assert!(first.is_ok() && second.is_ok());
        insert(&store, 3).await.expect("the writer goes on");
    }

    async fn a_caller_that_hangs_up_tears_nothing(database) {
        let store = store(database).await;
        let held = store.begin().await.unwrap();
        {
            let mut hangs_up = Box::pin(insert(&store, 1));
            assert!(futures_util::poll!(&mut hangs_up).is_pending());
        }
        let (stays, ()) = join(insert(&store, 2), async { drop(held) }).await;
        stays.unwrap();
        assert!(exists(&store, 1).await, "what was begun is finished");
    }

    async fn events_of_many_callers_are_all_on_record(database) {
        let store = store(database).await;
        let act = |_| store.begin_act(Actor::System("test"), "test.act", None, None, NOW);
        let acts = together(&store, (0..100).map(act)).await;
        let acts: Vec<_> = acts.into_iter().map(Result::unwrap).collect();
        let finished = together(&store, acts.iter().map(|act| store.finish_act(act, Outcome::Succeeded, None, NOW))).await;
        assert!(finished.iter().all(Result::is_ok));
        let events = store.audit_events(&AuditFilter::default(), 1000).await.unwrap();
        assert_eq!(events.len(), 200);
    }

    async fn whoever_waits_while_the_database_is_away_is_told(database) {
        let store = store(database).await;
        let (open, ()) = (store.clone(), store.close().await);
        let answer = wait_until("an answer", async || Some(insert(&open, 1).await)).await;
        assert!(matches!(answer, Err(StoreError::Unavailable(_))), "{answer:?}");
    }
}

#[tokio::test]
async fn a_connection_that_breaks_in_the_middle_is_everyones_error() {
    let Some(database) = TestDatabase::postgres() else { return };
    let store = store(&database).await;
    let sql = [
        "INSERT INTO parent VALUES (1)",
        "SELECT pg_terminate_backend(pg_backend_pid())",
        "INSERT INTO parent VALUES (2)",
    ];
    let answers = together(&store, sql.iter().map(|sql| run(&store, sql))).await;
    assert!(answers.iter().all(Result::is_err), "{answers:?}");
    assert!(!exists(&store, 1).await && !exists(&store, 2).await);
}
