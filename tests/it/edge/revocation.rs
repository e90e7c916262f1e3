//! A certificate that stops passing ends what is open under it, within a second, and nothing else.

use std::time::{Duration, Instant};

use http::Method;
use http_body_util::BodyExt;
use wicketgate::live::Delta;

use super::client::{Http, connect, until};
use super::fixture::{APP, DOOR, World};

/// Design, decision 5, with room for a busy machine.
const SOON: Duration = Duration::from_millis(1500);

#[tokio::test]
async fn the_same_kept_connection_and_a_new_one_are_refused_and_another_device_passes() {
    let world = World::start().await;
    for http in [Http::One, Http::Two] {
        let (device, other) = (world.enrol().await, world.enrol().await);
        let mut kept = connect(&world, APP, Some(&device), http).await;
        let mut kept_other = connect(&world, APP, Some(&other), http).await;
        assert_eq!(kept.get(APP, "/").await.status, 200);
        assert_eq!(kept_other.get(APP, "/").await.status, 200);
        world.revoke(&device).await;

        let answer = kept.get(APP, "/").await;
        assert_eq!((answer.status, answer.code().as_str()), (403, "certificate_revoked"), "{http:?}");
        assert!(kept.closes_within(SOON).await, "{http:?}");
        let answer = connect(&world, APP, Some(&device), http).await.get(APP, "/").await;
        assert_eq!((answer.status, answer.code().as_str()), (403, "certificate_revoked"), "{http:?}");
        assert_eq!(kept_other.get(APP, "/").await.status, 200, "{http:?}");
        assert!(!kept_other.closes_within(Duration::from_millis(1200)).await, "{http:?}");
    }
}

#[tokio::test]
async fn an_idle_connection_and_a_body_in_flight_end_within_a_second() {
    let world = World::start().await;
    for http in [Http::One, Http::Two] {
        let device = world.enrol().await;
        let mut idle = connect(&world, APP, Some(&device), http).await;
        assert_eq!(idle.get(APP, "/").await.status, 200);
        let mut busy = connect(&world, APP, Some(&device), http).await;
        let request = busy.request(Method::GET, APP, "/drip");
        let mut body = busy.send(request).await.unwrap().into_body();
        assert!(body.frame().await.unwrap().is_ok());
        let began = Instant::now();
        world.revoke(&device).await;
        assert!(idle.closes_within(SOON).await, "{http:?}");
        while let Some(Ok(_)) = body.frame().await {
            assert!(began.elapsed() < SOON, "{http:?}");
        }
    }
}

#[tokio::test]
async fn a_disabled_person_and_a_certificate_at_its_end_are_out_as_well() {
    let world = World::start().await;
    let device = world.enrol().await;
    let short = world.enrol_for(world.anna.id, Duration::from_secs(60)).await;
    let mut kept = connect(&world, APP, Some(&device), Http::One).await;
    let mut ending = connect(&world, APP, Some(&short), Http::One).await;
    assert_eq!((kept.get(APP, "/").await.status, ending.get(APP, "/").await.status), (200, 200));
    world.clock.advance(Duration::from_secs(61));
    let ended = ending.get(APP, "/").await;
    assert_eq!((ended.status, ended.code().as_str()), (403, "certificate_expired"));
    assert!(ending.closes_within(SOON).await);

    let mut idle = connect(&world, APP, Some(&device), Http::One).await;
    assert_eq!(idle.get(APP, "/").await.status, 200);
    let mut disabled = world.anna.clone();
    disabled.disabled = true;
    world.apply(vec![Delta::Person(disabled)]).await;
    let refused = kept.get(APP, "/").await;
    assert_eq!((refused.status, refused.code().as_str()), (403, "access_denied"));
    assert!(idle.closes_within(SOON).await);
    let tracked = || world.metrics.tracked_connections.value();
    until("none is counted as known", || tracked() == 0).await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_when_its_certificate_ends() {
    let world = World::start().await;
    let device = world.enrol_for(world.anna.id, Duration::from_secs(60)).await;
    let mut idle = connect(&world, APP, Some(&device), Http::Two).await;
    assert_eq!(idle.get(APP, "/").await.status, 200);
    world.clock.advance(Duration::from_secs(61));
    assert!(idle.closes_within(SOON).await);
}

#[tokio::test]
async fn a_certificate_that_becomes_known_passes_on_the_open_connection() {
    let world = World::start().await;
    let device = world.authority.client_leaf(wicketgate::domain::Serial::random(&super::fixture::Random));
    let mut visitor = connect(&world, APP, Some(&device), Http::One).await;
    assert_eq!(visitor.get(APP, "/public").await.status, 200);
    let mut record = world.record_of(&device, Duration::from_secs(60));
    record.person = world.anna.id;
    world.apply(vec![Delta::Certificate(record)]).await;
    assert_eq!(visitor.get(APP, "/").await.status, 200);
}

#[tokio::test]
async fn an_idle_connection_to_the_door_ends_as_well() {
    use tokio::io::AsyncReadExt;

    let mut world = World::start().await;
    let (device, other) = (world.enrol().await, world.enrol().await);
    let mut handed = Vec::new();
    let mut visitors = Vec::new();
    for device in [&device, &other] {
        visitors.push(connect(&world, DOOR, Some(device), Http::One).await);
        handed.push(world.door.recv().await.unwrap().stream);
    }
    assert_eq!(world.metrics.tracked_connections.value(), 2);
    world.revoke(&device).await;
    let mut nothing = [0];
    let cut = tokio::time::timeout(SOON, handed[0].read(&mut nothing)).await.expect("an end");
    assert_eq!(cut.unwrap_err().kind(), std::io::ErrorKind::ConnectionAborted);
    let other = tokio::time::timeout(Duration::from_millis(100), handed[1].read(&mut nothing)).await;
    assert!(other.is_err(), "the other device's goes on");
    drop(handed);
    until("none is counted", || world.metrics.tracked_connections.value() == 0).await;
}
