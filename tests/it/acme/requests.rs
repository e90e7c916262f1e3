//! A renewal that was asked for is not forgotten, whoever writes beside it.

use wicketgate::domain::{Hostname, UtcTime};
use wicketgate::store::Store;
use wicketgate::store::acme::StoredWindow;

use crate::on_both_databases;

on_both_databases! {
    async fn a_request_outlives_a_suggestion_that_comes_at_the_same_time(database) {
        let store = Store::create(&database.url(), 5).await.unwrap();
        store.migrate(None).await.unwrap();
        let now: UtcTime = "2026-11-23T12:00:00Z".parse().unwrap();
        for number in 0..50 {
            let host: Hostname = format!("app{number}.example.test").parse().unwrap();
            let window = StoredWindow { certificate: "x".to_owned(), window: None, selected: None, next_look: now };
            let (kept, asked) =
                tokio::join!(store.keep_window(&host, window.clone()), store.request_renewal(&host, now));
            kept.and(asked).unwrap();
            let renewal = store.renewal(&host).await.unwrap();
            assert_eq!((renewal.requested_at, renewal.window), (Some(now), Some(window)));
        }
        store.close().await;
    }
}
