//! What a group chooses, and when it does not.

use super::*;
use crate::domain::upstream::UpstreamOptions;
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
    assert_eq!(group.waiting.load(Ordering::Relaxed), 0);
}

#[test]
fn health_changes_after_as_many_checks_as_were_asked_for() {
    let state = group(1, UpstreamOptions::default()).targets[0].clone();
    assert!(!state.checked(false, 2, 3) && !state.checked(false, 2, 3) && state.checked(false, 2, 3));
    assert!(!state.checked(true, 2, 3) && !state.checked(false, 2, 3) && !state.checked(true, 2, 3));
    assert!(state.checked(true, 2, 3));
    assert_eq!(state.health(), Health::Healthy);
}
