//! Who comes too often, or with too many connections, and whom that does not concern.

use std::net::Ipv4Addr;
use std::num::NonZeroU32;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use wicketgate::domain::route::{RatePer, RateRule};
use wicketgate::domain::{Network, PersonId};
use wicketgate::live::{ConfigurationData, Delta, PersonRecord};
use wicketgate::telemetry::metrics::{Handshake, Limit, SelfCheck};

use super::client::{Answer, Http, PATIENCE, Visitor, connect, connect_from, dial, until};
use super::fixture::{APP, DOOR, World};

/// Neighbours of this host.
const ANNE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const BOB: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);
/// So long that nothing comes back during a test.
const HOUR: u32 = 3_600;
/// More than passes at once.
const MANY: usize = 20;

fn some(count: u32) -> Option<NonZeroU32> {
    NonZeroU32::new(count)
}

/// So many an hour, at most as many at once.
fn hourly(per: RatePer, requests: u32) -> RateRule {
    RateRule { per, requests, seconds: HOUR, burst: None }
}

/// Gives a route of [`APP`] these rules.
fn rule(data: &mut ConfigurationData, prefix: &str, rules: &[RateRule]) {
    let route =
        data.routes.iter_mut().find(|route| route.host.as_str() == APP && route.path_prefix == prefix);
    route.unwrap().options.rate = rules.to_vec();
}

/// A world in which a route has these rules.
async fn world(prefix: &str, rules: &[RateRule]) -> World {
    World::with(|_| {}, |data| rule(data, prefix, rules)).await
}

async fn visit(world: &World, from: Ipv4Addr) -> Visitor {
    connect_from(world, from, APP, None, Http::Two).await.unwrap()
}

async fn statuses(visitor: &mut Visitor, path: &str, count: usize) -> Vec<u16> {
    let mut all = Vec::new();
    for _ in 0..count {
        all.push(visitor.get(APP, path).await.status);
    }
    all
}

/// Asks until it is so.
async fn soon(is_so: impl AsyncFn() -> bool) {
    let waiting = async { while !is_so().await {} };
    tokio::time::timeout(PATIENCE, waiting).await.expect("that it becomes so");
}

#[track_caller]
fn is_limited(answer: &Answer, limit: &str) {
    let told = answer.json();
    assert_eq!((answer.status, &told["code"], &told["limit"]), (429, &"rate_limited".into(), &limit.into()));
    assert!(seconds(answer) >= 1);
}

/// When the visitor may come again.
fn seconds(answer: &Answer) -> u64 {
    answer.headers["retry-after"].to_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_source_asks_too_often_and_its_neighbour_does_not() {
    let world =
        World::with_settings(|settings| settings.limits.requests_per_second_per_source = some(1)).await;
    for (http, greedy) in [(Http::One, Ipv4Addr::new(127, 0, 1, 1)), (Http::Two, Ipv4Addr::new(127, 0, 1, 2))]
    {
        let mut visitor = connect_from(&world, greedy, APP, None, http).await.unwrap();
        let seen = statuses(&mut visitor, "/public", MANY).await;
        assert_eq!(seen[..2], [200, 200], "{http:?}: twice as many at once");
        assert!(seen.contains(&429) && seen.iter().all(|status| [200, 429].contains(status)), "{seen:?}");
        // Of the source, not of the connection.
        let mut other = connect_from(&world, greedy, APP, None, http).await.unwrap();
        let mut last = other.get(APP, "/public").await;
        while last.status != 429 {
            last = other.get(APP, "/public").await;
        }
        is_limited(&last, "source");
        assert_eq!(seconds(&last), 1);
    }
    assert_eq!(visit(&world, BOB).await.get(APP, "/public").await.status, 200);
    assert!(world.metrics.limited.value(Limit::Source) > 0);
}

#[tokio::test]
async fn a_device_asks_too_often_and_its_persons_other_one_does_not() {
    let world =
        World::with_settings(|settings| settings.limits.requests_per_second_per_device = some(1)).await;
    let (laptop, phone) = (world.enrol().await, world.enrol().await);
    let mut visitor = connect(&world, APP, Some(&laptop), Http::Two).await;
    let mut last = visitor.get(APP, "/").await;
    while last.status != 429 {
        last = visitor.get(APP, "/").await;
    }
    is_limited(&last, "device");
    assert_eq!(connect(&world, APP, Some(&phone), Http::Two).await.get(APP, "/").await.status, 200);
    assert_eq!(visit(&world, ANNE).await.get(APP, "/public").await.status, 200, "nobody known");
}

#[tokio::test]
async fn a_person_asks_too_often_with_all_devices_and_others_do_not() {
    let world =
        World::with_settings(|settings| settings.limits.requests_per_second_per_person = some(1)).await;
    let ben = PersonRecord { id: PersonId::new(), ..world.anna.clone() };
    world.apply(vec![Delta::Person(ben.clone())]).await;
    let lifetime = Duration::from_secs(86_400);
    let (laptop, phone) = (world.enrol().await, world.enrol().await);
    let bens = world.enrol_for(ben.id, lifetime).await;
    let mut visitors = Vec::new();
    for device in [&laptop, &phone] {
        visitors.push(connect(&world, APP, Some(device), Http::One).await);
    }
    let mut last = Vec::new();
    while !last.iter().any(|answer: &Answer| answer.status == 429) {
        last.clear();
        for visitor in &mut visitors {
            last.push(visitor.get(APP, "/").await);
        }
    }
    is_limited(last.iter().find(|answer| answer.status == 429).unwrap(), "person");
    assert_eq!(connect(&world, APP, Some(&bens), Http::One).await.get(APP, "/").await.status, 200);
}

#[tokio::test]
async fn a_rule_of_a_route_says_when_to_come_again_and_leaves_other_routes_alone() {
    let world = world("/public", &[hourly(RatePer::Source, 3)]).await;
    let mut anne = visit(&world, ANNE).await;
    assert_eq!(statuses(&mut anne, "/public/a", 3).await, [200; 3]);
    let refused = anne.get(APP, "/public/b").await;
    is_limited(&refused, "route");
    let third = u64::from(HOUR) / 3;
    assert!((third - 60..=third).contains(&seconds(&refused)), "{}", seconds(&refused));
    assert_eq!(anne.get(APP, "/dead").await.status, 502, "another route");
    assert_eq!(statuses(&mut visit(&world, BOB).await, "/public", 3).await, [200; 3], "a bucket of his own");
    assert_eq!(world.backend.requests(), 6);
    assert_eq!(world.metrics.limited.value(Limit::Route), 1);
}

#[tokio::test]
async fn strangers_do_not_use_up_what_is_for_those_who_may_pass() {
    let world = world("/", &[hourly(RatePer::Everyone, 2)]).await;
    let device = world.enrol().await;
    for _ in 0..MANY {
        let answer = connect(&world, APP, None, Http::Two).await.get(APP, "/").await;
        assert_eq!(answer.status, 403);
    }
    let mut anna = connect(&world, APP, Some(&device), Http::Two).await;
    assert_eq!(statuses(&mut anna, "/", 3).await, [200, 200, 429]);
}

#[tokio::test]
async fn rules_by_device_and_person_count_strangers_by_their_source() {
    for per in [RatePer::Device, RatePer::Person] {
        let world = world("/public", &[hourly(per, 2)]).await;
        let (laptop, phone) = (world.enrol().await, world.enrol().await);
        assert_eq!(statuses(&mut visit(&world, ANNE).await, "/public", 3).await, [200, 200, 429]);
        assert_eq!(statuses(&mut visit(&world, BOB).await, "/public", 3).await, [200, 200, 429]);
        let mut known = connect(&world, APP, Some(&laptop), Http::Two).await;
        assert_eq!(statuses(&mut known, "/public", 3).await, [200, 200, 429], "{per:?}");
        let mut other = connect(&world, APP, Some(&phone), Http::Two).await;
        let expected = if per == RatePer::Device { 200 } else { 429 };
        assert_eq!(other.get(APP, "/public").await.status, expected, "{per:?}");
    }
}

#[tokio::test]
async fn every_rule_has_to_allow_a_request() {
    let world = world("/public", &[hourly(RatePer::Source, 3), hourly(RatePer::Everyone, 4)]).await;
    assert_eq!(statuses(&mut visit(&world, ANNE).await, "/public", 4).await, [200, 200, 200, 429]);
    assert_eq!(statuses(&mut visit(&world, BOB).await, "/public", 2).await, [200, 429]);
}

#[tokio::test]
async fn who_is_refused_by_a_narrower_rule_uses_up_nothing_of_everybodys() {
    let world = world("/public", &[hourly(RatePer::Everyone, 4), hourly(RatePer::Source, 3)]).await;
    let mut anne = visit(&world, ANNE).await;
    assert_eq!(statuses(&mut anne, "/public", 3).await, [200; 3]);
    assert_eq!(statuses(&mut anne, "/public", MANY).await, [429; MANY]);
    assert_eq!(statuses(&mut visit(&world, BOB).await, "/public", 2).await, [200, 429]);
}

#[tokio::test]
async fn buckets_outlive_a_publication_and_a_changed_rule_counts_at_once() {
    let world = world("/public", &[hourly(RatePer::Source, 3)]).await;
    let mut anne = visit(&world, ANNE).await;
    assert_eq!(statuses(&mut anne, "/public", 3).await, [200; 3]);
    let mut data = world.data.clone();
    for _ in 0..3 {
        // Everything else may change.
        rule(&mut data, "/dead", &[hourly(RatePer::Everyone, 1)]);
        world.publish(data.clone()).await;
        assert_eq!(anne.get(APP, "/public").await.status, 429, "the same rule, the same bucket");
    }
    rule(&mut data, "/public", &[hourly(RatePer::Source, 5)]);
    world.publish(data.clone()).await;
    assert_eq!(statuses(&mut anne, "/public", 6).await, [200, 200, 200, 200, 200, 429], "another rule");
    rule(&mut data, "/public", &[]);
    world.publish(data).await;
    assert_eq!(statuses(&mut anne, "/public", MANY).await, [200; MANY], "none");
}

#[tokio::test]
async fn handshakes_are_limited_by_source_before_those_of_everybody() {
    let world = World::with_settings(|settings| {
        settings.limits.handshakes_per_second_per_source = some(1);
        settings.limits.handshakes_per_second = some(1_000);
    })
    .await;
    let mut passed = 0;
    for _ in 0..MANY {
        passed += u64::from(connect_from(&world, ANNE, APP, None, Http::One).await.is_ok());
    }
    let limited = || world.metrics.limited.value(Limit::HandshakesSource);
    assert!(passed >= 2 && limited() > 0 && passed + limited() == MANY as u64, "{passed} {}", limited());
    until("the others are counted", || world.metrics.handshakes.value(Handshake::Completed) == passed).await;
    assert_eq!(visit(&world, BOB).await.get(APP, "/public").await.status, 200);
    assert_eq!(world.metrics.limited.value(Limit::Handshakes), 0);
}

#[tokio::test]
async fn connections_of_a_source_are_bounded_on_every_listener_and_free_again_when_they_end() {
    let world = World::with_settings(|settings| settings.limits.connections_per_source = some(2)).await;
    let one = connect_from(&world, ANNE, APP, None, Http::One).await.unwrap();
    let mut plain = dial(ANNE, world.edge.http_addresses()[0]).await.unwrap();
    // The kernel says that it is connected before the edge has seen it; an answer says that it has.
    plain.write_all(b"GET /pki/none HTTP/1.1\r\nhost: app.test\r\n\r\n").await.unwrap();
    assert!(plain.read(&mut [0; 4096]).await.unwrap() > 0);
    let is_full = async || connect_from(&world, ANNE, APP, None, Http::Two).await.is_err();
    assert!(is_full().await);
    // It may be gone before we know that it was there.
    if let Ok(mut third) = dial(ANNE, world.edge.http_addresses()[0]).await {
        assert!(!matches!(third.read(&mut [0]).await, Ok(1..)), "closed without a word");
    }
    assert_eq!(visit(&world, BOB).await.get(APP, "/public").await.status, 200);
    assert!(world.metrics.limited.value(Limit::ConnectionsSource) >= 2);
    drop((one, plain));
    soon(async || !is_full().await).await;
}

#[tokio::test]
async fn a_connection_to_the_door_counts_as_long_as_it_is_open() {
    let mut world = World::with_settings(|settings| settings.limits.connections_per_source = some(1)).await;
    let visitor = connect_from(&world, ANNE, DOOR, None, Http::One).await.unwrap();
    let handed_over = world.door.recv().await.unwrap();
    assert!(connect_from(&world, ANNE, APP, None, Http::One).await.is_err());
    drop((visitor, handed_over));
    soon(async || connect_from(&world, ANNE, APP, None, Http::One).await.is_ok()).await;
}

#[tokio::test]
async fn exempt_networks_are_not_counted() {
    let world = World::with(
        |settings| {
            settings.limits.requests_per_second_per_source = some(1);
            settings.limits.handshakes_per_second_per_source = some(1);
            settings.limits.connections_per_source = some(1);
            settings.limits.exempt = std::iter::once("127.0.0.2".parse::<Network>().unwrap()).collect();
        },
        |data| rule(data, "/public", &[hourly(RatePer::Source, 1)]),
    )
    .await;
    let mut visitors = Vec::new();
    for _ in 0..5 {
        visitors.push(visit(&world, ANNE).await);
    }
    for visitor in &mut visitors {
        assert_eq!(statuses(visitor, "/public", 5).await, [200; 5]);
    }
    assert_eq!(statuses(&mut visit(&world, BOB).await, "/public", 2).await, [200, 429]);
}

#[tokio::test]
async fn the_edge_is_never_too_much_for_itself() {
    let world = World::with_settings(|settings| {
        settings.self_check_every = Some(Duration::from_millis(20));
        settings.limits.requests_per_second_per_source = some(1);
        settings.limits.handshakes_per_second = some(1);
        settings.limits.handshakes_per_second_per_source = some(1);
        settings.limits.connections_per_source = some(1);
    })
    .await;
    let checks = |result| world.metrics.self_checks.value(result);
    until("it has asked often", || checks(SelfCheck::Refused) >= 20).await;
    assert_eq!(checks(SelfCheck::LetThrough), 0);
    let limited = Limit::ALL.iter().map(|limit| world.metrics.limited.value(*limit)).sum::<u64>();
    assert_eq!(limited, 0);
}
