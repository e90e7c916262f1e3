//! Changes of the register, however many at once.

use wicketgate::domain::{Delta, PersonId, PersonRecord, UtcTime};
use wicketgate::store::Store;

use crate::on_both_databases;

const NOW: UtcTime = UtcTime::from_unix(1_795_000_000);

on_both_databases! {
    /// After a start from a backup, for example: more values than a statement of either database takes.
    async fn very_many_changes_are_appended_at_once_and_in_order(database) {
        const MANY: usize = 25_000;
        let store = Store::create(&database.url(), 1).await.unwrap();
        store.migrate(None).await.unwrap();
        let (before, _) = store.heads().await.unwrap();
        let deltas: Vec<_> = (0..MANY).map(person).collect();
        let transaction = store.begin().await.unwrap();
        let last = transaction.append_changes(&deltas, NOW).await.unwrap();
        transaction.commit().await.unwrap();
        assert_eq!(last, before + MANY as u64);
        assert_eq!(store.heads().await.unwrap().0, last);
        let changes = store.changes_after(before, u64::MAX >> 1).await.unwrap();
        let epochs: Vec<_> = changes.iter().map(|change| change.epoch).collect();
        assert_eq!(epochs, (before + 1..=last).collect::<Vec<_>>());
        let stored: Vec<_> = changes.into_iter().map(|change| change.delta).collect();
        assert!(stored == deltas, "in the order in which they were given");
    }
}

fn person(number: usize) -> Delta {
    Delta::Person(PersonRecord {
        id: PersonId::new(),
        email: format!("{number}@example.test"),
        name: "Anna".into(),
        groups: Default::default(),
        disabled: false,
    })
}
