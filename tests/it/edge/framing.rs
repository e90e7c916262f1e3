//! Requests that could be cut in two places are cut in one, or refused.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{HeaderValue, Method};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;

use super::client::{Http, connect, raw, until};
use super::fixture::{APP, World};

/// What a coding hides, a length that is none, and fields that only look like them.
#[tokio::test]
async fn what_frames_a_request_is_passed_on_in_one_spelling_or_refused() {
    let world = World::start().await;
    for framing in
        ["transfer-encoding: gzip, chunked", "transfer-encoding: chunked\r\ntransfer-encoding: chunked"]
    {
        let text = format!("POST /public HTTP/1.1\r\nhost: app.test\r\n{framing}\r\n\r\n0\r\n\r\n");
        let answer = raw(&world, APP, None, text.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{framing}: {answer}");
    }
    let mut visitor = connect(&world, APP, None, Http::Two).await;
    for (lengths, status) in [(&["0", "0"][..], 200), (&["0", "00"], 400), (&[""], 400)] {
        let mut request = visitor.request(Method::GET, APP, "/public");
        for length in lengths {
            request.headers_mut().append("content-length", HeaderValue::from_static(length));
        }
        assert_eq!(visitor.ask(request).await.status, status, "{lengths:?}");
    }
    let mut request = visitor.request(Method::GET, APP, "/public");
    request.headers_mut().append("content_length", HeaderValue::from_static("7"));
    request.headers_mut().append("transfer_encoding", HeaderValue::from_static("chunked"));
    let answer = visitor.ask(request).await;
    assert!(answer.seen("content_length").is_empty() && answer.seen("transfer_encoding").is_empty());
}

#[tokio::test]
async fn the_body_of_any_method_goes_on() {
    let world = World::start().await;
    let mut visitor = connect(&world, APP, None, Http::Two).await;
    for method in [Method::GET, Method::OPTIONS, Method::DELETE, Method::POST] {
        let body = stream::iter([Ok(Frame::data(Bytes::from_static(b"twelve")))]);
        let body = BodyExt::boxed(StreamBody::new(body));
        let request = visitor.request(method.clone(), APP, "/public").map(|_| body);
        assert_eq!(visitor.ask(request).await.json()["body"], 6, "{method}");
    }
}

#[tokio::test]
async fn an_upload_that_is_broken_off_is_no_whole_one_for_the_backend() {
    let world = World::start().await;
    let mut visitor = connect(&world, APP, None, Http::Two).await;
    let begun = stream::iter([Ok(Frame::data(Bytes::from_static(b"half")))]).chain(stream::pending());
    let request =
        visitor.request(Method::POST, APP, "/public").map(|_| BodyExt::boxed(StreamBody::new(begun)));
    let sending = tokio::spawn(async move { drop(visitor.send(request).await) });
    until("it begins", || world.backend.requests() == 1).await;
    // A reset without a fault, as when a page is left.
    sending.abort();
    until("the backend is told", || world.backend.broken.load(Ordering::SeqCst) == 1).await;
}

#[tokio::test]
async fn a_length_beside_a_transfer_coding_never_smuggles_a_second_request() {
    let world = World::start().await;
    for framing in
        ["content-length: 5\r\ntransfer-encoding: chunked", "transfer-encoding: chunked\r\ncontent-length: 5"]
    {
        let before = world.backend.requests();
        let text = format!(
            "POST /public HTTP/1.1\r\nhost: app.test\r\nconnection: close\r\n{framing}\r\n\r\n\
             0\r\n\r\nGET /public/smuggled HTTP/1.1\r\nhost: app.test\r\n\r\n"
        );
        let answer = raw(&world, APP, None, text.as_bytes()).await;
        assert!(!answer.contains("smuggled"), "{framing}: {answer}");
        assert!(!answer.to_lowercase().contains("[\"content-length\",\"5\"]"), "{framing}: {answer}");
        assert!(world.backend.requests() - before <= 1);
    }
}

#[tokio::test]
async fn broken_framing_is_refused() {
    let world = World::start().await;
    for (head, status) in [
        ("POST /public HTTP/1.0\r\nhost: app.test\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", "400"),
        ("POST /public HTTP/1.1\r\nhost: app.test\r\ntransfer-encoding: chunked, gzip\r\n\r\n", "400"),
        ("POST /public HTTP/1.1\r\nhost: app.test\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n", "400"),
        ("POST /public HTTP/1.1\r\nhost: app.test\r\ncontent-length: +1\r\n\r\n", "400"),
        ("POST /public HTTP/1.1\r\nhost: app.test\r\ncontent-length: 0x1\r\n\r\n", "400"),
        ("GET /public HTTP/1.1\r\nhost: app.test\r\nx: a\r\n folded\r\n\r\n", "400"),
        ("GET /public HTTP/1.1\r\nhost : app.test\r\n\r\n", "400"),
    ] {
        let answer = raw(&world, APP, None, head.as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{head:?}: {answer}");
    }
    assert_eq!(world.backend.requests(), 0);
}

#[tokio::test]
async fn a_head_over_the_bounds_is_431() {
    let world = World::start().await;
    let long = format!("GET /public HTTP/1.1\r\nhost: app.test\r\nx: {}\r\n\r\n", "x".repeat(20_000));
    let many = format!("GET /public HTTP/1.1\r\nhost: app.test\r\n{}\r\n", "x: 1\r\n".repeat(200));
    for head in [long, many] {
        let answer = raw(&world, APP, None, head.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 431 "), "{}", &answer[..answer.len().min(200)]);
    }
}

#[tokio::test]
async fn many_fields_are_431_over_http_2_as_well() {
    let world = World::start().await;
    let mut visitor = connect(&world, APP, None, Http::Two).await;
    let mut request = visitor.request(Method::GET, APP, "/public");
    for _ in 0..200 {
        request.headers_mut().append("x", HeaderValue::from_static("1"));
    }
    assert_eq!(visitor.ask(request).await.code(), "headers_too_large");
    assert_eq!(visitor.get(APP, "/public").await.status, 200, "and costs only itself");
}
