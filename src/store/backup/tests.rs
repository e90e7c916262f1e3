//! A backup of an older schema, restored by this program.

use migration::{Migrator, MigratorTrait};
use sea_orm::ConnectionTrait;

use super::{Backup, known_steps, restore};
use crate::domain::{Entropy, UtcTime};
use crate::keys::{Kek, Purpose, SystemEntropy};
use crate::store::Store;
use crate::store::settings::{INSTALLATION_ID, INSTALLATION_NAME};

#[tokio::test]
async fn steps_of_a_newer_program_are_in_nobodys_way_and_unknown_ones_of_the_past_are() {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", directory.path().join("some.db").display());
    let store = Store::create(&url, 1).await.unwrap();
    store.migrate(None).await.unwrap();
    let add = |step: &'static str| {
        let sql = format!("INSERT INTO seaql_migrations (version, applied_at) VALUES ('{step}', 0)");
        let store = store.clone();
        async move {
            let transaction = store.begin().await.unwrap();
            transaction.connection().execute_unprepared(&sql).await.unwrap();
            transaction.commit().await.unwrap();
        }
    };
    add("m9999_of_tomorrow").await;
    store.migrate(None).await.unwrap();
    store.check_schema().await.unwrap();
    add("m0000_of_somebody_else").await;
    assert!(store.migrate(None).await.is_err() && store.check_schema().await.is_err());
}

#[tokio::test]
async fn a_backup_of_an_older_schema_is_brought_up_to_this_one() {
    let directory = tempfile::tempdir().unwrap();
    let place = |name: &str| directory.path().join(name);
    let url = |name: &str| format!("sqlite:{}", place(name).display());
    let entropy: &dyn Entropy = &SystemEntropy;
    let kek = Kek::from_text(Purpose::Authority, &Kek::fresh_text(entropy), "test").unwrap();
    let now = UtcTime::from_unix(1_800_000_000);

    let old = Store::create(&url("old.db"), 1).await.unwrap();
    Migrator::up(old.writer(), Some(2)).await.unwrap();
    let transaction = old.begin().await.unwrap();
    transaction.set_setting(INSTALLATION_ID, "an installation").await.unwrap();
    transaction.set_setting(INSTALLATION_NAME, "It's \"ours\": ä\n").await.unwrap();
    transaction.commit().await.unwrap();
    let steps = known_steps()[..2].to_vec();
    old.take(steps, &place("backup"), &kek, now).await.unwrap();

    let backup = Backup::open(&place("backup"), &kek).unwrap();
    restore(&url("new.db"), &backup, false, now).await.unwrap();
    let new = Store::open(&url("new.db"), 1).await.unwrap();
    new.check_schema().await.unwrap();
    assert_eq!(new.setting(INSTALLATION_NAME).await.unwrap().as_deref(), Some("It's \"ours\": ä\n"));
}
