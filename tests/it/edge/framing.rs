//! Requests that could be cut in two places are cut in one, or refused.

use super::client::raw;
use super::fixture::{APP, World};

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
