//! The way to the backend: kept connections, retries, failures, bounds.

use bytes::Bytes;
use http::Method;
use http_body_util::{BodyExt, Full};
use std::sync::atomic::Ordering;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use wicketgate::domain::upstream::{Balance, UpstreamOptions};
use wicketgate::live::UpstreamData;
use wicketgate::telemetry::metrics::UpstreamFault;

use super::client::{Http, connect, raw};
use super::fixture::{APP, World};

#[tokio::test]
async fn a_dead_upstream_is_502() {
    let world = World::start().await;
    let answer = connect(&world, APP, None, Http::One).await.get(APP, "/dead").await;
    assert_eq!((answer.status, answer.code().as_str()), (502, "upstream_unavailable"));
    let answer = connect(&world, APP, None, Http::Two).await.get(APP, "/public/hang-up").await;
    assert_eq!((answer.status, answer.code().as_str()), (502, "upstream_unavailable"));
}

#[tokio::test]
async fn connections_to_upstreams_are_kept_and_bodies_stream_through() {
    let world = World::with_settings(|settings| settings.threads = 1).await;
    for http in [Http::One, Http::Two] {
        let mut visitor = connect(&world, APP, None, http).await;
        for length in [0, 1, 1 << 20] {
            let body = Full::new(Bytes::from(vec![7; length])).map_err(|never| match never {}).boxed();
            let request = visitor.request(Method::POST, APP, "/public").map(|_| body);
            let answer = visitor.ask(request).await;
            assert_eq!((answer.status, answer.json()["body"].as_u64()), (200, Some(length as u64)));
        }
    }
    assert_eq!(world.backend.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_body_over_the_bound_is_413() {
    let world = World::with_settings(|settings| settings.max_body = Some(1000)).await;
    for http in [Http::One, Http::Two] {
        for declared in [true, false] {
            let mut visitor = connect(&world, APP, None, http).await;
            let whole = Full::new(Bytes::from(vec![7; 1001])).map_err(|never| match never {});
            let body = if declared { whole.boxed() } else { Undeclared(whole).boxed() };
            let request = visitor.request(Method::POST, APP, "/public").map(|_| body);
            let answer = visitor.ask(request).await;
            assert_eq!((answer.status, answer.code().as_str()), (413, "payload_too_large"), "{http:?}");
        }
    }
}

#[tokio::test]
async fn a_route_may_take_more_than_the_edge_and_has_a_bound_of_its_own() {
    let world = World::with(
        |settings| settings.max_body = Some(1000),
        |data| {
            let public = data.routes.iter_mut().find(|route| route.path_prefix == "/public");
            public.unwrap().options.max_body_mib = Some(1);
        },
    )
    .await;
    for http in [Http::One, Http::Two] {
        let mut visitor = connect(&world, APP, None, http).await;
        let whole = Full::new(Bytes::from(vec![7; 1 << 20])).map_err(|never| match never {});
        let request = visitor.request(Method::POST, APP, "/public").map(|_| whole.boxed());
        assert_eq!(visitor.ask(request).await.status, 200, "{http:?}");
    }
    let head = "POST /public HTTP/1.1\r\nhost: app.test\r\ncontent-length: 1048577\r\n\r\n";
    let answer = raw(&world, APP, None, head.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}

/// Hides the length of a body.
struct Undeclared<B>(B);
impl<B: hyper::body::Body + Unpin> hyper::body::Body for Undeclared<B> {
    type Data = B::Data;
    type Error = B::Error;
    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<B::Data>, B::Error>>> {
        std::pin::Pin::new(&mut self.0).poll_frame(cx)
    }
}

/// Answers `answers` requests on each connection, then closes it at the next one without a word.
async fn forgetful(answers: usize) -> (std::net::SocketAddr, tokio::sync::mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (seen, heads) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let seen = seen.clone();
            tokio::spawn(async move {
                let mut buffer = vec![0; 65536];
                for _ in 0..answers {
                    let octets = stream.read(&mut buffer).await.unwrap();
                    let _ = seen.send(String::from_utf8_lossy(&buffer[..octets]).into_owned());
                    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await.unwrap();
                }
                let octets = stream.read(&mut buffer).await.unwrap();
                let _ = seen.send(String::from_utf8_lossy(&buffer[..octets]).into_owned());
            });
        }
    });
    (address, heads)
}

#[tokio::test]
async fn a_kept_connection_that_dies_is_replaced_for_requests_that_may_be_repeated() {
    let (address, mut heads) = forgetful(1).await;
    let world = World::with(
        |settings| settings.threads = 1,
        |data| {
            data.upstreams[0] = UpstreamData {
                name: "echo".parse().unwrap(),
                targets: vec![format!("http://{address}")],
                options: UpstreamOptions::default(),
            };
        },
    )
    .await;
    let mut visitor = connect(&world, APP, None, Http::One).await;
    assert_eq!(visitor.get(APP, "/public/1").await.status, 200);
    assert_eq!(visitor.get(APP, "/public/2").await.status, 200, "repeated on a fresh connection");
    let body = Full::new(Bytes::from_static(b"x")).map_err(|never| match never {}).boxed();
    let request = visitor.request(Method::POST, APP, "/public/3").map(|_| body);
    assert_eq!(visitor.ask(request).await.status, 502, "a POST may have happened and is not repeated");
    let mut lines = Vec::new();
    while let Ok(head) = heads.try_recv() {
        lines.push(head.lines().next().unwrap_or_default().to_owned());
    }
    lines.retain(|line| !line.is_empty());
    let expected = ["GET /public/1", "GET /public/2", "GET /public/2", "POST /public/3"];
    assert_eq!(lines, expected.map(|line| format!("{line} HTTP/1.1")));
}

#[tokio::test]
async fn requests_go_round_the_targets_and_past_a_dead_one() {
    let other = super::upstream::Backend::start().await;
    let address = other.address;
    let world = World::with(
        |settings| settings.threads = 1,
        |data| {
            data.upstreams[0].options.balance = Balance::RoundRobin;
            data.upstreams[0].targets.push(format!("http://{address}"));
            data.upstreams[0].targets.push("http://127.0.0.1:1".into());
        },
    )
    .await;
    let mut visitor = connect(&world, APP, None, Http::One).await;
    for _ in 0..12 {
        assert_eq!(visitor.get(APP, "/public").await.status, 200);
    }
    let (here, there) = (world.backend.requests(), other.requests());
    assert_eq!(here + there, 12);
    assert!(here >= 4 && there >= 4, "{here} {there}");
    assert_eq!(world.metrics.upstream_faults.value(UpstreamFault::Connect), 1);
}
