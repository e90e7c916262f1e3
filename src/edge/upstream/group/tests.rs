//! What a group chooses, and when it does not.

use std::net::IpAddr;

use super::choice::mix;
use super::*;
use crate::domain::upstream::{Balance, Discovery, DiscoveryKind, UpstreamOptions};
use crate::edge::upstream::breaker::{Admits, Failure};
use crate::edge::upstream::discovery::{Answer, Part, Server};
use crate::edge::upstream::registry::Upstreams;
use crate::live::configuration::parse_target;
use crate::telemetry::metrics::LookupFault;

fn group(count: usize, options: UpstreamOptions) -> Arc<Group> {
    let targets = (1..=count).map(|port| parse_target(&format!("http://127.0.0.1:{port}")).unwrap());
    let name = "app".parse().unwrap();
    let upstream = Upstream { name, targets: targets.collect(), options, tls: None };
    Upstreams::default().group(&Arc::new(upstream))
}

async fn lease(group: &Arc<Group>, wish: Wish) -> Lease {
    group.lease(&wish).await.unwrap()
}

/// Where the target of a lease stands among those of its group.
fn place(lease: &Lease) -> usize {
    lease.group.states().iter().position(|state| state.id == lease.state.id).unwrap()
}

fn wish(chance: u64) -> Wish {
    Wish { chance, key: chance, repeatable: true, ..Wish::default() }
}

#[tokio::test]
async fn half_of_the_targets_stay_in_use_whatever_happens() {
    let group = group(5, UpstreamOptions::default());
    for chance in 0..500 {
        lease(&group, wish(chance)).await.failed("test", chance);
    }
    let open = group.status().iter().filter(|status| status.breaker == BreakerState::Open).count();
    assert_eq!(open, 2);
    let alone = self::group(1, UpstreamOptions::default());
    for chance in 0..50 {
        lease(&alone, wish(chance)).await.failed("test", chance);
    }
    assert_eq!(alone.status()[0].breaker, BreakerState::Closed);
}

#[tokio::test]
async fn forced_targets_are_used_or_not_whatever_was_observed() {
    let forced =
        [("http://127.0.0.1:1".to_owned(), Forced::Open), ("http://127.0.0.1:2".into(), Forced::Closed)];
    let group = group(2, UpstreamOptions { forced: forced.into(), ..UpstreamOptions::default() });
    for chance in 0..50 {
        let mut lease = lease(&group, wish(chance)).await;
        assert_eq!(place(&lease), 1);
        lease.failed("test", chance);
    }
    let mut tried = Tried::default();
    tried.add(group.states()[1].id);
    assert_eq!(group.lease(&Wish { tried, ..wish(0) }).await.unwrap_err(), NoTarget::Left);
}

#[tokio::test]
async fn round_robin_goes_round_and_a_hash_stays() {
    let round = group(3, UpstreamOptions { balance: Balance::RoundRobin, ..UpstreamOptions::default() });
    let mut seen = [0; 3];
    for chance in 0..30 {
        seen[place(&lease(&round, wish(chance)).await)] += 1;
    }
    assert_eq!(seen, [10, 10, 10]);
    let options = UpstreamOptions { balance: Balance::ConsistentHash, ..UpstreamOptions::default() };
    let (three, four) = (group(3, options.clone()), group(4, options));
    let (mut moved, mut seen) = (0, [0; 3]);
    for key in 0..1_000 {
        let wish = || wish(mix(key));
        let (here, there) = (place(&lease(&three, wish()).await), place(&lease(&four, wish()).await));
        assert_eq!(place(&lease(&three, wish()).await), here);
        seen[here] += 1;
        assert!(there == here || there == 3, "only to the new one");
        moved += usize::from(there == 3);
    }
    assert!(seen.iter().all(|count| (250..420).contains(count)), "{seen:?}");
    assert!((180..320).contains(&moved), "{moved}");
}

#[tokio::test]
async fn the_slow_target_gets_less() {
    let group = group(2, UpstreamOptions::default());
    let mut seen = [0; 2];
    for number in 0..200_u64 {
        let mut lease = lease(&group, wish(mix(number))).await;
        seen[place(&lease)] += 1;
        let took = if place(&lease) == 0 { 50 } else { 1 };
        lease.answered(Duration::from_millis(took));
    }
    assert!(seen[0] < 20, "{seen:?}");
}

#[tokio::test]
async fn who_finds_no_room_waits_and_the_queue_has_an_end() {
    let options = UpstreamOptions {
        max_in_flight: Some(1),
        max_queue: 1,
        queue_timeout_ms: 200,
        ..UpstreamOptions::default()
    };
    let group = group(1, options);
    let first = lease(&group, wish(0)).await;
    let waiting = tokio::spawn({
        let group = group.clone();
        async move { group.lease(&wish(1)).await.map(drop) }
    });
    tokio::task::yield_now().await;
    assert_eq!(group.lease(&wish(2)).await.unwrap_err(), NoTarget::Busy, "the queue is full");
    drop(first);
    assert_eq!(waiting.await.unwrap(), Ok(()));
    let _first = lease(&group, wish(3)).await;
    assert_eq!(group.lease(&wish(4)).await.unwrap_err(), NoTarget::Busy, "waited long enough");
    assert_eq!(group.common.waiting.load(Ordering::Relaxed), 0);
}

#[test]
fn health_changes_after_as_many_checks_as_were_asked_for() {
    let state = group(1, UpstreamOptions::default()).states()[0].clone();
    assert!(!state.checked(false, 2, 3) && !state.checked(false, 2, 3) && state.checked(false, 2, 3));
    assert!(!state.checked(true, 2, 3) && !state.checked(false, 2, 3) && !state.checked(true, 2, 3));
    assert!(state.checked(true, 2, 3));
    assert_eq!(state.health(), Health::Healthy);
}

#[tokio::test]
async fn a_full_target_that_waits_for_its_probe_is_passed_over() {
    let options = UpstreamOptions {
        max_in_flight: Some(1),
        max_queue: 0,
        failures_to_open: 1,
        may_eject_all: true,
        ..UpstreamOptions::default()
    };
    let group = group(1, options);
    let held = lease(&group, wish(0)).await;
    // As it was at the beginning of all time, so that its pause is over.
    let failure = Failure { is_absence: true, ..Failure::default() };
    held.state.breaker.failed(0, failure, group.rules(), || true);
    held.state.breaker.pause_until(0);
    assert_eq!(held.state.breaker.admits(group.now()), Admits::One);
    assert_eq!(group.lease(&wish(1)).await.unwrap_err(), NoTarget::Busy, "and asked for no longer");
}

#[tokio::test]
async fn what_was_spent_stays_spent_when_options_change() {
    let upstreams = Upstreams::default();
    let group = |failures_to_open| {
        let targets = vec![parse_target("http://127.0.0.1:1").unwrap()];
        let options = UpstreamOptions { failures_to_open, ..UpstreamOptions::default() };
        upstreams.group(&Arc::new(Upstream { name: "app".parse().unwrap(), targets, options, tls: None }))
    };
    let before = group(5);
    while before.may_try_again() {}
    let after = group(6);
    assert!(!after.may_try_again() && Arc::ptr_eq(&before.states()[0], &after.states()[0]));
}

/// An upstream of one name, and those who know its targets.
struct Found {
    upstreams: Upstreams,
    group: Arc<Group>,
}

impl Found {
    fn by(kind: DiscoveryKind, options: UpstreamOptions) -> Self {
        let upstreams = Upstreams::default();
        let options = UpstreamOptions { discovery: Some(Discovery::of(kind)), ..options };
        let targets = vec![parse_target("http://app.test:80").unwrap()];
        let upstream = Upstream { name: "app".parse().unwrap(), targets, options, tls: None };
        let group = upstreams.group(&Arc::new(upstream));
        Self { upstreams, group }
    }

    fn learns(&self, answer: Result<Answer, LookupFault>) {
        self.group.names().for_each(|name| drop(name.learn(0, answer.clone(), &[], 0)));
        self.upstreams.renew(&"app".parse().unwrap());
    }

    /// Last octet of the address, priority and weight of each server.
    fn has(&self, servers: &[(u8, u16, u16)]) {
        let part = |(octet, priority, weight): &(u8, u16, u16)| Part {
            server: Server { host: octet.to_string().into(), port: 80, priority: *priority, weight: *weight },
            is_v6: false,
            came: Ok(vec![IpAddr::from([10, 0, 0, *octet])]),
        };
        self.learns(Ok(Answer { parts: servers.iter().map(part).collect(), ttl: 60 }));
    }

    /// The last octet of the address that a request goes to.
    async fn goes_to(&self, chance: u64) -> u8 {
        octet(&lease(&self.group, wish(mix(chance))).await.state)
    }

    fn state(&self, last: u8) -> Arc<State> {
        self.group.states().into_iter().find(|state| octet(state) == last).unwrap()
    }
}

fn octet(state: &State) -> u8 {
    match state.target.address.unwrap().ip() {
        IpAddr::V4(ip) => ip.octets()[3],
        IpAddr::V6(_) => panic!("none was said"),
    }
}

fn open(found: &Found, last: u8) {
    let failure = Failure { is_absence: true, ..Failure::default() };
    found.state(last).breaker.failed(found.group.now(), failure, found.group.rules(), || true);
}

#[tokio::test]
async fn what_is_known_of_an_address_outlives_another_answer() {
    let found = Found::by(DiscoveryKind::Addresses, UpstreamOptions::default());
    found.has(&[(1, 0, 1), (2, 0, 1)]);
    let (first, second) = (found.state(1), found.state(2));
    let held = loop {
        let lease = lease(&found.group, wish(0)).await;
        if lease.state.id == first.id {
            break lease;
        }
    };
    found.has(&[(2, 0, 1), (3, 0, 1)]);
    assert!(Arc::ptr_eq(&found.state(2), &second));
    assert_eq!(first.load.in_flight(), 1, "what is under way goes on");
    for chance in 0..50 {
        assert_ne!(found.goes_to(chance).await, 1);
    }
    drop(held);
    assert_eq!(first.load.in_flight(), 0);
    found.learns(Err(LookupFault::Timeout));
    assert_eq!(found.group.states().len(), 2, "a bad answer changes nothing");
}

#[tokio::test]
async fn a_request_that_was_at_an_address_goes_to_a_new_one() {
    let found = Found::by(DiscoveryKind::Addresses, UpstreamOptions::default());
    found.has(&[(1, 0, 1)]);
    let mut wish = wish(0);
    wish.tried.add(found.state(1).id);
    assert!(!found.group.has_another(&wish));
    found.has(&[(2, 0, 1)]);
    assert!(found.group.has_another(&wish));
    assert_eq!(octet(&found.group.lease(&wish).await.unwrap().state), 2);
}

#[tokio::test]
async fn before_the_first_answer_requests_wait_and_after_a_bad_one_they_do_not() {
    let options = UpstreamOptions { queue_timeout_ms: 200, ..UpstreamOptions::default() };
    let found = Found::by(DiscoveryKind::Addresses, options);
    let ask = || {
        let group = found.group.clone();
        tokio::spawn(async move { group.lease(&wish(0)).await.map(drop) })
    };
    assert_eq!(ask().await.unwrap(), Err(NoTarget::Left), "waited for nothing");
    let waiting = ask();
    tokio::task::yield_now().await;
    found.has(&[(1, 0, 1)]);
    assert_eq!(waiting.await.unwrap(), Ok(()));
    let other = Found::by(DiscoveryKind::Addresses, UpstreamOptions::default());
    other.learns(Err(LookupFault::NoSuchName));
    assert!(matches!(other.group.try_lease(&wish(0)), Err(NoTarget::Left)));
}

#[tokio::test]
async fn who_waits_for_a_place_is_served_where_a_new_address_has_one() {
    let options = UpstreamOptions { max_in_flight: Some(1), ..UpstreamOptions::default() };
    let found = Found::by(DiscoveryKind::Addresses, options);
    found.has(&[(1, 0, 1)]);
    let _held = lease(&found.group, wish(0)).await;
    let group = found.group.clone();
    let waiting = tokio::spawn(async move { octet(&group.lease(&wish(0)).await.unwrap().state) });
    tokio::task::yield_now().await;
    found.has(&[(1, 0, 1), (2, 0, 1)]);
    assert_eq!(waiting.await.unwrap(), 2);
}

#[tokio::test]
async fn where_those_are_gone_that_were_well_the_others_are_tried_at_once() {
    let found = Found::by(DiscoveryKind::Addresses, UpstreamOptions::default());
    found.has(&[(1, 0, 1), (2, 0, 1), (3, 0, 1), (4, 0, 1)]);
    open(&found, 1);
    open(&found, 2);
    assert_eq!(found.state(1).breaker.admits(found.group.now()), Admits::None);
    found.has(&[(1, 0, 1), (2, 0, 1), (3, 0, 1)]);
    assert_eq!(found.state(1).breaker.admits(found.group.now()), Admits::One);
}

#[tokio::test]
async fn a_hash_moves_only_those_whose_address_is_gone_or_new() {
    let options = UpstreamOptions { balance: Balance::ConsistentHash, ..UpstreamOptions::default() };
    let found = Found::by(DiscoveryKind::Addresses, options);
    found.has(&[(1, 0, 1), (2, 0, 1), (3, 0, 1)]);
    let mut before = Vec::new();
    for key in 0..500 {
        before.push(found.goes_to(key).await);
    }
    found.has(&[(2, 0, 1), (3, 0, 1), (4, 0, 1)]);
    for (key, before) in (0..500).zip(before) {
        let after = found.goes_to(key).await;
        assert!(before == 1 || after == before || after == 4, "{before} to {after}");
    }
}

#[tokio::test]
async fn weights_are_shares_however_targets_are_chosen() {
    for balance in [Balance::RoundRobin, Balance::LeastLoaded, Balance::ConsistentHash] {
        let options = UpstreamOptions { balance, ..UpstreamOptions::default() };
        let found = Found::by(DiscoveryKind::Srv, options);
        found.has(&[(1, 5, 30), (2, 5, 10), (3, 5, 0)]);
        let mut seen = [0; 4];
        for chance in 0..2_000 {
            seen[usize::from(found.goes_to(chance).await)] += 1;
        }
        assert!((1_350..1_600).contains(&seen[1]) && (380..620).contains(&seen[2]), "{balance:?} {seen:?}");
        assert!(seen[3] < 40, "{balance:?} {seen:?}");
    }
}

#[tokio::test]
async fn stand_ins_are_used_when_nobody_else_is_well_and_no_longer() {
    let found = Found::by(DiscoveryKind::Srv, UpstreamOptions::default());
    found.has(&[(1, 1, 1), (2, 1, 1), (3, 7, 1)]);
    for chance in 0..50 {
        assert!(found.goes_to(chance).await < 3);
    }
    open(&found, 1);
    assert_eq!(found.goes_to(0).await, 2);
    assert!(found.group.may_open(&found.state(2)), "the other one may go, too, while its stand-in is well");
    open(&found, 2);
    for chance in 0..50 {
        assert_eq!(found.goes_to(chance).await, 3);
    }
    assert!(!found.group.may_open(&found.state(3)), "but the last one stays");
    found.state(1).breaker.pause_until(0);
    let mut probe = lease(&found.group, wish(0)).await;
    assert_eq!(octet(&probe.state), 1);
    probe.answered(Duration::from_millis(1));
    drop(probe);
    assert_eq!(found.goes_to(0).await, 1);
}

#[tokio::test]
async fn names_take_turns_where_there_are_too_many_addresses() {
    let upstreams = Upstreams::default();
    let options = UpstreamOptions {
        discovery: Some(Discovery::of(DiscoveryKind::Addresses)),
        ..UpstreamOptions::default()
    };
    let targets = ["http://many.test", "http://few.test", "http://10.9.9.9:80"];
    let targets = targets.iter().map(|text| parse_target(text).unwrap()).collect();
    let group =
        upstreams.group(&Arc::new(Upstream { name: "app".parse().unwrap(), targets, options, tls: None }));
    for name in group.names() {
        let count = if name.target.host() == Some("many.test") { 64 } else { 2 };
        let part = Part {
            server: Server { host: "x".into(), port: 80, priority: 0, weight: 1 },
            is_v6: false,
            came: Ok((1..=count).map(|octet| IpAddr::from([10, 0, 0, octet])).collect()),
        };
        drop(name.learn(0, Ok(Answer { parts: vec![part], ttl: 1 }), &[], 0));
    }
    upstreams.renew(&"app".parse().unwrap());
    let states = group.states();
    let of = |host: &str| states.iter().filter(|state| state.target.host() == Some(host)).count();
    assert_eq!((states.len(), of("few.test"), of("10.9.9.9")), (64, 2, 1));
}
