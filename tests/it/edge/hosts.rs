//! The name in the handshake and the name in the request.

use std::sync::Arc;

use http::Method;
use http_body_util::BodyExt;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::client::{Http, connect, raw, tls};
use super::fixture::{APP, DOOR, OPEN, SIBLING, STRICT, World};

#[tokio::test]
async fn a_request_needs_a_handshake_of_its_sites_class() {
    let world = World::start().await;
    let device = world.enrol().await;
    for http in [Http::One, Http::Two] {
        for (shaken, named, status) in [
            (APP, SIBLING, 200),
            (APP, STRICT, 421),
            (APP, OPEN, 421),
            (APP, DOOR, 421),
            (APP, "unknown.test", 421),
            (OPEN, APP, 421),
            (STRICT, APP, 421),
        ] {
            let answer = connect(&world, shaken, Some(&device), http).await.get(named, "/").await;
            assert_eq!(answer.status, status, "{http:?} {shaken} {named}");
            if status == 421 {
                assert_eq!(answer.code(), "misdirected_request");
            }
        }
    }
}

#[tokio::test]
async fn names_compare_in_one_spelling() {
    let world = World::start().await;
    let mut visitor = connect(&world, "APP.test", None, Http::One).await;
    assert_eq!(visitor.get("App.TEST.:8443", "/public").await.status, 200);
}

#[tokio::test]
async fn unclear_hosts_and_paths_are_bad_requests() {
    let world = World::start().await;
    for head in [
        "GET /public HTTP/1.1\r\n\r\n",
        "GET /public HTTP/1.1\r\nhost: app.test\r\nhost: app.test\r\n\r\n",
        "GET /public HTTP/1.1\r\nhost: app.test\r\nhost: sibling.test\r\n\r\n",
        "GET https://sibling.test/public HTTP/1.1\r\nhost: app.test\r\n\r\n",
        "GET http://app.test/public HTTP/1.1\r\nhost: app.test\r\n\r\n",
        "GET /public HTTP/1.1\r\nhost: app.test@evil.test\r\n\r\n",
        "CONNECT app.test:443 HTTP/1.1\r\nhost: app.test:443\r\n\r\n",
        "TRACE /public HTTP/1.1\r\nhost: app.test\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nhost: app.test\r\n\r\n",
        "GET /public/../x HTTP/1.1\r\nhost: app.test\r\n\r\n",
        "GET /public/%2e%2e/x HTTP/1.1\r\nhost: app.test\r\n\r\n",
        "GET /public/..;/x HTTP/1.1\r\nhost: app.test\r\n\r\n",
        "GET /public%2f..%2fx HTTP/1.1\r\nhost: app.test\r\n\r\n",
        "GET /public\\..\\x HTTP/1.1\r\nhost: app.test\r\n\r\n",
        "GET /Public HTTP/1.1\r\nhost: app.test\r\n\r\n",
        "GET /public;x/y HTTP/1.1\r\nhost: app.test\r\n\r\n",
        "GET /public%3bx/y HTTP/1.1\r\nhost: app.test\r\n\r\n",
        "GET /BOARD/x HTTP/1.1\r\nhost: app.test\r\n\r\n",
        "GET //public HTTP/1.1\r\nhost: app.test\r\n\r\n",
        "GET /public HTTP/1.1\r\nhost: app.test\r\nbad header: x\r\n\r\n",
        "GET /public\r\n\r\n",
    ] {
        let answer = raw(&world, APP, None, head.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{head:?}: {answer}");
    }
    assert_eq!(world.backend.requests(), 0);
}

#[tokio::test]
async fn without_a_known_name_there_is_no_certificate_to_see() {
    let world = World::start().await;
    for name in ["unknown.test", "127.0.0.1"] {
        let stream = TcpStream::connect(world.edge.https_addresses()[0]).await.unwrap();
        let connector = TlsConnector::from(Arc::new(tls(&world, None, &[])));
        let error = connector.connect(ServerName::try_from(name).unwrap(), stream).await.unwrap_err();
        assert!(error.to_string().contains("UnrecognisedName"), "{name}: {error}");
    }
}

#[tokio::test]
async fn the_door_gets_finished_streams_and_a_closed_one_says_so() {
    let mut world = World::start().await;
    let device = world.enrol().await;
    let _visitor = connect(&world, DOOR, Some(&device), Http::One).await;
    let handed = world.door.recv().await.unwrap();
    assert_eq!(handed.leaf().unwrap(), device.chain[0]);

    world.door.close();
    let answer = connect(&world, DOOR, None, Http::Two).await.get(DOOR, "/").await;
    assert_eq!((answer.status, answer.code().as_str()), (503, "overloaded"));
}

#[tokio::test]
async fn an_unclear_request_costs_nothing_else_on_an_http_2_connection() {
    let world = World::start().await;
    let mut visitor = connect(&world, APP, None, Http::Two).await;
    let request = visitor.request(Method::GET, APP, "/public/drip");
    let mut running = visitor.send(request).await.unwrap().into_body();
    let unclear = visitor.get(APP, "/public/%2e%2e/").await;
    assert_eq!((unclear.status, unclear.code().as_str()), (400, "bad_request"));
    for _ in 0..3 {
        assert!(running.frame().await.unwrap().is_ok());
    }
    assert_eq!(visitor.get(APP, "/public").await.status, 200);
}
