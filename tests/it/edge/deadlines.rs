//! Nobody may hold a connection by being slow.

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use wicketgate::telemetry::metrics::Handshake;

use super::client::{Http, connect, connect_without_window, read_all, shake, tls, until};
use super::fixture::{APP, World};

const SHORT: Duration = Duration::from_millis(200);

#[tokio::test]
async fn a_slow_handshake_ends_with_or_without_a_client_hello() {
    let world = World::with_settings(|settings| settings.handshake_timeout = SHORT).await;
    for beginning in [&b""[..], b"\x16\x03\x01\x02\x00\x01"] {
        let mut stream = TcpStream::connect(world.edge.https_addresses()[0]).await.unwrap();
        stream.write_all(beginning).await.unwrap();
        assert_eq!(read_all(&mut stream).await, "");
    }
    let timed_out = || world.metrics.handshakes.value(Handshake::TimedOut);
    until("both are counted", || timed_out() == 2).await;
}

#[tokio::test]
async fn a_slow_head_gets_408_while_a_merely_idle_connection_lives() {
    let world = World::with_settings(|settings| settings.header_timeout = SHORT).await;
    let mut slow = shake(&world, APP, tls(&world, None, &[b"http/1.1"])).await.unwrap();
    let mut idle = connect(&world, APP, None, Http::One).await;
    assert_eq!(idle.get(APP, "/public").await.status, 200);
    slow.write_all(b"GET /public HTTP/1.1\r\nhost: app").await.unwrap();
    let answer = read_all(&mut slow).await;
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("request_timeout"), "{answer}");
    let body = answer.split("\r\n\r\n").nth(1).unwrap();
    assert!(answer.contains(&format!("content-length: {}\r\n", body.len())), "{} {body}", body.len());
    serde_json::from_str::<serde_json::Value>(body).unwrap();
    assert_eq!(idle.get(APP, "/public").await.status, 200);
}

#[tokio::test]
async fn an_idle_connection_is_closed_in_time() {
    let world = World::with_settings(|settings| settings.idle_timeout = SHORT).await;
    for http in [Http::One, Http::Two] {
        let mut visitor = connect(&world, APP, None, http).await;
        assert_eq!(visitor.get(APP, "/public").await.status, 200);
        assert!(visitor.closes_within(Duration::from_secs(3)).await, "{http:?}");
    }
}

#[tokio::test]
async fn a_stalled_body_gets_408() {
    let world = World::with_settings(|settings| settings.body_timeout = SHORT).await;
    for http in [Http::One, Http::Two] {
        let mut visitor = connect(&world, APP, None, http).await;
        let (tx, rx) = tokio::sync::mpsc::channel::<Result<Frame<Bytes>, hyper::Error>>(1);
        tx.send(Ok(Frame::data(Bytes::from_static(b"some")))).await.unwrap();
        let body = StreamBody::new(futures_util::stream::unfold(rx, |mut rx| async {
            rx.recv().await.map(|frame| (frame, rx))
        }));
        let body = BodyExt::boxed(body);
        let request = visitor.request(Method::POST, APP, "/public").map(|_| body);
        let answer = visitor.ask(request).await;
        assert_eq!((answer.status, answer.code().as_str()), (408, "request_timeout"), "{http:?}");
        drop(tx);
    }
}

#[tokio::test]
async fn a_silent_upstream_gets_504_and_a_long_exchange_ends() {
    let world = World::with_settings(|settings| {
        settings.answer_timeout = SHORT;
        settings.total_timeout = Duration::from_millis(600);
    })
    .await;
    let mut visitor = connect(&world, APP, None, Http::One).await;
    let answer = visitor.get(APP, "/public/silent").await;
    assert_eq!((answer.status, answer.code().as_str()), (504, "upstream_timeout"));
    let request = visitor.request(Method::GET, APP, "/public/drip");
    let body = visitor.send(request).await.unwrap().into_body();
    assert!(tokio::time::timeout(Duration::from_secs(3), body.collect()).await.unwrap().is_err());
}

#[tokio::test]
async fn an_answer_that_a_visitor_gives_no_window_for_is_broken_off() {
    let world = World::with(
        |settings| {
            settings.body_timeout = SHORT;
            settings.idle_timeout = SHORT;
        },
        |data| data.routes.retain(|route| route.path_prefix != "/"),
    )
    .await;
    for (path, status) in [("/nowhere", 404), ("/public", 200), ("/public/drip", 200)] {
        let mut visitor = connect_without_window(&world, APP).await;
        let request = visitor.request(Method::GET, APP, path);
        let answer = visitor.send(request).await.unwrap();
        assert_eq!(answer.status(), status, "{path}");
        let body = tokio::time::timeout(Duration::from_secs(3), answer.into_body().collect()).await;
        assert!(body.expect("the end of the wait").is_err(), "{path}");
        until("nothing is in flight", || world.metrics.http.active.value() == 0).await;
        assert!(visitor.closes_within(Duration::from_secs(3)).await, "{path}: the connection is idle");
    }
}
