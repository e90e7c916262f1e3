//! What a group chooses, and when it does not.

use super::*;
use crate::domain::upstream::UpstreamOptions;
use crate::edge::upstream::breaker::Failure;
use crate::edge::upstream::registry::Upstreams;
use crate::live::configuration::parse_target;

fn group(count: usize, options: UpstreamOptions) -> Arc<Group> {
    let targets = (1..=count).map(|port| parse_target(&format!("http://127.0.0.1:{port}")).unwrap());
    let upstream = Upstream { name: "app".parse().unwrap(), targets: targets.collect(), options };
    Upstreams::default().group(&Arc::new(upstream))
}

async fn lease(group: &Arc<Group>, wish: Wish) -> Lease {
    group.lease(wish).await.unwrap()
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
    let open = group.status().filter(|status| status.breaker == BreakerState::Open).count();
    assert_eq!(open, 2);
    let alone = self::group(1, UpstreamOptions::default());
    for chance in 0..50 {
        lease(&alone, wish(chance)).await.failed("test", chance);
    }
    assert_eq!(alone.status().next().unwrap().breaker, BreakerState::Closed);
}

#[tokio::test]
async fn forced_targets_are_used_or_not_whatever_was_observed() {
    let forced =
        [("http://127.0.0.1:1".to_owned(), Forced::Open), ("http://127.0.0.1:2".into(), Forced::Closed)];
    let group = group(2, UpstreamOptions { forced: forced.into(), ..UpstreamOptions::default() });
    for chance in 0..50 {
        let mut lease = lease(&group, wish(chance)).await;
        assert_eq!(lease.place(), 1);
        lease.failed("test", chance);
    }
    let mut tried = Places::default();
    tried.add(1);
    assert_eq!(group.lease(Wish { tried, ..wish(0) }).await.unwrap_err(), NoTarget::Left);
}

#[tokio::test]
async fn round_robin_goes_round_and_a_hash_stays() {
    let round = group(3, UpstreamOptions { balance: Balance::RoundRobin, ..UpstreamOptions::default() });
    let mut seen = [0; 3];
    for chance in 0..30 {
        seen[lease(&round, wish(chance)).await.place()] += 1;
    }
    assert_eq!(seen, [10, 10, 10]);
    let options = UpstreamOptions { balance: Balance::ConsistentHash, ..UpstreamOptions::default() };
    let (three, four) = (group(3, options.clone()), group(4, options));
    let (mut moved, mut seen) = (0, [0; 3]);
    for key in 0..1_000 {
        let wish = wish(mix(key));
        let (here, there) = (lease(&three, wish).await.place(), lease(&four, wish).await.place());
        assert_eq!(lease(&three, wish).await.place(), here);
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
        seen[lease.place()] += 1;
        let took = if lease.place() == 0 { 50 } else { 1 };
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
        async move { group.lease(wish(1)).await.map(drop) }
    });
    tokio::task::yield_now().await;
    assert_eq!(group.lease(wish(2)).await.unwrap_err(), NoTarget::Busy, "the queue is full");
    drop(first);
    assert_eq!(waiting.await.unwrap(), Ok(()));
    let _first = lease(&group, wish(3)).await;
    assert_eq!(group.lease(wish(4)).await.unwrap_err(), NoTarget::Busy, "waited long enough");
    assert_eq!(group.common.waiting.load(Ordering::Relaxed), 0);
}

#[test]
fn health_changes_after_as_many_checks_as_were_asked_for() {
    let state = group(1, UpstreamOptions::default()).targets[0].clone();
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
    assert_eq!(group.lease(wish(1)).await.unwrap_err(), NoTarget::Busy, "and asked for no longer");
}

#[tokio::test]
async fn what_was_spent_stays_spent_when_options_change() {
    let upstreams = Upstreams::default();
    let group = |failures_to_open| {
        let targets = vec![parse_target("http://127.0.0.1:1").unwrap()];
        let options = UpstreamOptions { failures_to_open, ..UpstreamOptions::default() };
        upstreams.group(&Arc::new(Upstream { name: "app".parse().unwrap(), targets, options }))
    };
    let before = group(5);
    while before.may_try_again() {}
    let after = group(6);
    assert!(!after.may_try_again() && Arc::ptr_eq(&before.targets[0], &after.targets[0]));
}
