//! Listening and leaving.

use std::net::TcpListener as StdListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Method;
use http_body_util::BodyExt;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use wicketgate::edge::{BindError, Drained, Edge, EdgeSettings, EdgeSockets, Inherited};

use super::client::{Http, PATIENCE, Visitor, connect, raw_over, tls};
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

#[tokio::test]
async fn who_came_before_the_end_is_served_however_far_they_have_come() {
    // Half of it is theirs, all together, on whatever machine.
    let world = World::with_settings(|settings| settings.drain_timeout = Duration::from_secs(30)).await;
    let address = world.edge.https_addresses()[0];
    let mut waiting = Vec::new();
    for _ in 0..20 {
        waiting.push(TcpStream::connect(address).await.unwrap());
    }
    let visits = async {
        // Not before the edge has stopped to accept.
        while TcpStream::connect(address).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        for stream in waiting {
            let config = tls(&world, None, &[b"http/1.1"]);
            let answer =
                raw_over(stream, APP, config, b"GET /public HTTP/1.1\r\nhost: app.test\r\n\r\n").await;
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
            assert!(answer.contains("connection: close\r\n"), "{answer}");
        }
    };
    let (drained, ()) = tokio::join!(world.edge.drain(), visits);
    assert_eq!(drained.cut, 0);
}

#[tokio::test]
async fn who_is_left_to_a_successor_may_ask_for_one_thing_more() {
    let world = World::start().await;
    let mut one = connect(&world, APP, None, Http::One).await;
    let mut silent = connect(&world, APP, None, Http::One).await;
    let mut two = connect(&world, APP, None, Http::Two).await;
    for visitor in [&mut one, &mut silent, &mut two] {
        assert_eq!(visitor.get(APP, "/public").await.status, 200);
    }
    let began = Instant::now();
    let asks = async {
        // HTTP/2 is told at once, HTTP/1.1 with its next answer.
        assert!(two.closes_within(Duration::from_millis(800)).await);
        let answer = one.get(APP, "/public").await;
        assert_eq!((answer.status, answer.headers["connection"].as_bytes()), (200, &b"close"[..]));
        let Visitor::One(sender) = &silent else { panic!("it speaks HTTP/1.1") };
        assert!(!sender.is_closed(), "it has half of the time");
    };
    let (drained, ()) = tokio::join!(world.edge.leave(), asks);
    assert_eq!(drained, Drained { open: 3, cut: 0 });
    assert!(began.elapsed() >= Duration::from_secs(1), "half of two seconds");
}

#[tokio::test]
async fn inherited_sockets_serve_whoever_waits_in_them_however_many_threads_there_are() {
    for (threads, copies) in [(1, 3), (3, 1), (2, 2)] {
        let world = World::start().await;
        let socket = StdListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let sockets = (0..copies).map(|_| socket.try_clone().unwrap()).collect();
        let inherited = Inherited { https: vec![sockets], http: Vec::new() };
        drop(socket);
        let settings = EdgeSettings { https: vec![address], threads, ..EdgeSettings::default() };
        let sockets = EdgeSockets::open(&settings, inherited).unwrap();
        let (holder, clock) = (world.holder.clone(), world.clock.clone());
        let edge =
            Edge::on(sockets, settings, holder, clock, Arc::new(Random), None, Arc::default()).unwrap();
        assert_eq!(edge.https_addresses(), [address]);
        let mut waiting = Vec::new();
        for _ in 0..8 {
            waiting.push(TcpStream::connect(address).await.unwrap());
        }
        let mut octet = [0];
        let read = waiting[0].read(&mut octet);
        assert!(tokio::time::timeout(Duration::from_millis(100), read).await.is_err(), "not open yet");
        edge.open();
        for stream in waiting {
            let config = tls(&world, None, &[b"http/1.1"]);
            let request = b"GET /public HTTP/1.1\r\nhost: app.test\r\nconnection: close\r\n\r\n";
            let answer = raw_over(stream, APP, config, request).await;
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        }
    }
}
