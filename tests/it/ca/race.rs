//! Two processes publish the same list over and over: numbers only rise, and nothing is lost.

use std::process::{Command, Stdio};
use std::time::Duration;

use wicketgate::ca::CrlOutcome;
use wicketgate::domain::Secret;
use wicketgate::keys::{Kek, SystemEntropy};
use wicketgate::store::Store;

use super::fixture::World;
use super::lists::listed_in;
use crate::harness::database::TestDatabase;

const DATABASE: &str = "WICKETGATE_TEST_RACE_DATABASE";
const KEY: &str = "WICKETGATE_TEST_RACE_KEY";
const LISTS: &str = "WICKETGATE_TEST_RACE_LISTS";
/// A certificate is revoked before every so many lists.
const REVOKE_EVERY: u64 = 10;

/// Not a test of its own: one of the two processes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child() {
    let (Ok(database), Ok(key)) = (std::env::var(DATABASE), std::env::var(KEY)) else { return };
    let lists: u64 = std::env::var(LISTS).unwrap().parse().unwrap();
    let world = World::with(Store::open(&database, 3).await.unwrap(), &Secret::new(key)).await;
    let name = "client-issuing-g1".parse().unwrap();
    let authority = world.store.authority(&name).await.unwrap().unwrap();
    let (mut published, mut last, mut revoked) = (0, 0, Vec::new());
    while published < lists {
        if published % REVOKE_EVERY == 0 && revoked.len() as u64 <= published / REVOKE_EVERY {
            let serial = world.issue("phone").await.certificate.serial;
            world.revoke(serial, "superseded").await.unwrap();
            revoked.push(serial);
        }
        if let CrlOutcome::Published { number, .. } =
            world.ca.publish_crl(&authority, world.now()).await.unwrap()
        {
            assert!(number > last, "{number} after {last}");
            (last, published) = (number, published + 1);
            println!("published {number}");
            // Whoever published the newest list: what was revoked before is on it.
            let newest = world.store.latest_crl(&name).await.unwrap().unwrap();
            assert!(newest.number >= number, "{} is out over {number}", newest.number);
            let named = listed_in(&newest.der);
            assert!(revoked.iter().all(|serial| named.iter().any(|(named, _, _)| named == serial)));
        }
    }
}

/// Lets two processes publish `lists` lists together. Returns how many came out with numbers of their own.
fn race(url: &str, key: &Secret<String>, lists: u64) -> u64 {
    let children: Vec<_> = (0..2)
        .map(|_| {
            Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "ca::race::child", "--test-threads=1", "--nocapture"])
                .env(DATABASE, url)
                .env(KEY, key.expose())
                .env(LISTS, (lists / 2).to_string())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    let mut numbers: Vec<u64> = Vec::new();
    for child in children {
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{said}");
        let own = said.lines().filter_map(|line| line.split("published ").nth(1)?.trim().parse::<u64>().ok());
        numbers.extend(own);
    }
    numbers.sort_unstable();
    numbers.dedup();
    numbers.len() as u64
}

/// Two processes publish so many lists of one authority; meanwhile nobody sees a list that goes back in
/// number or in content. Returns how many numbers were published.
pub(crate) async fn between_two_processes(database: &TestDatabase, lists: u64) -> u64 {
    let key = Kek::fresh_text(&SystemEntropy);
    let store = Store::create(&database.url(), 3).await.unwrap();
    store.migrate(None).await.unwrap();
    let world = World::with(store, &key).await;
    let url = database.url();
    let racing = tokio::task::spawn_blocking(move || race(&url, &key, lists));
    let name = "client-issuing-g1".parse().unwrap();
    let (mut number, mut named) = (0, Vec::new());
    while !racing.is_finished() {
        if let Some(newest) = world.store.latest_crl(&name).await.unwrap() {
            assert!(newest.number >= number, "{} after {number}", newest.number);
            let now_named = listed_in(&newest.der);
            assert!(named.iter().all(|entry| now_named.contains(entry)), "an entry went away");
            (number, named) = (newest.number, now_named);
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    racing.await.unwrap()
}
