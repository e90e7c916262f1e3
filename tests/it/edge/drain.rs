//! Listening and leaving.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Method;
use http_body_util::BodyExt;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use wicketgate::edge::{BindError, Drained, Edge, EdgeSettings};

use super::client::{Http, PATIENCE, connect};
use super::fixture::{APP, DOOR, Random, World};

#[tokio::test]
async fn a_taken_port_is_an_error_with_the_address() {
    let world = World::start().await;
    let plain = TcpListener::bind("127.0.0.1:0").await.unwrap();
    // Also when the other listener shares its port, as another edge of the same user would.
    for taken in [plain.local_addr().unwrap(), world.edge.https_addresses()[0]] {
        let settings = EdgeSettings { https: vec![taken], ..EdgeSettings::default() };
        let clock = world.clock.clone();
        let error =
            Edge::bind(settings, world.holder.clone(), clock, Arc::new(Random), None, Arc::default()).await;
        let Err(BindError::Listen { address, cause }) = error else { panic!("bound twice") };
        assert_eq!((address, cause.kind()), (taken, std::io::ErrorKind::AddrInUse));
    }
}

#[tokio::test]
async fn a_drain_closes_idle_connections_and_lets_requests_finish() {
    let world = World::start().await;
    for http in [Http::One, Http::Two] {
        let mut idle = connect(&world, APP, None, http).await;
        assert_eq!(idle.get(APP, "/public").await.status, 200);
        drop(idle);
    }
    let mut idle = connect(&world, APP, None, Http::Two).await;
    assert_eq!(idle.get(APP, "/public").await.status, 200);
    let began = Instant::now();
    let drained = world.edge.drain().await;
    assert_eq!(drained.cut, 0);
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert!(idle.closes_within(Duration::from_secs(1)).await);
    let address = world.edge.https_addresses()[0];
    assert!(TcpStream::connect(address).await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn what_does_not_end_by_itself_is_cut() {
    let world = World::with_settings(|settings| settings.drain_timeout = Duration::from_millis(300)).await;
    let mut bodies = Vec::new();
    for http in [Http::One, Http::Two] {
        let mut visitor = connect(&world, APP, None, http).await;
        let request = visitor.request(Method::GET, APP, "/public/drip");
        let mut body = visitor.send(request).await.unwrap().into_body();
        assert!(body.frame().await.unwrap().is_ok());
        bodies.push(body);
    }
    let drained = world.edge.drain().await;
    assert_eq!(drained.cut, 2);
    for body in bodies {
        assert!(body.collect().await.is_err());
    }
}

#[tokio::test]
async fn a_drain_leaves_the_door_to_whoever_serves_it_and_goes_on_watching() {
    let mut world = World::start().await;
    let device = world.enrol().await;
    let _visitor = connect(&world, DOOR, Some(&device), Http::One).await;
    let mut handed = world.door.recv().await.unwrap().stream;
    assert_eq!(world.edge.drain().await, Drained { open: 0, cut: 0 });
    let mut octet = [0];
    let read = tokio::time::timeout(Duration::from_millis(100), handed.read(&mut octet)).await;
    assert!(read.is_err(), "it goes on");
    world.revoke(&device).await;
    let cut = tokio::time::timeout(PATIENCE, handed.read(&mut octet)).await.expect("an end");
    assert_eq!(cut.unwrap_err().kind(), std::io::ErrorKind::ConnectionAborted);
}
