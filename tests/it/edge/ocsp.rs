//! OCSP over the plain http listener: both methods, what may be cached, and what is refused.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use wicketgate::clock::Clock;
use wicketgate::domain::{Serial, UtcTime};
use wicketgate::live::{OcspAnswer, OcspRefusal, OcspResponder};
use wicketgate::pki::AuthorityCertificate;
use wicketgate::pki::ocsp::OcspRequest;

use super::client::read_all;
use super::fixture::{Random, World};
use crate::harness::ocsp::question;

const HOUR: Duration = Duration::from_secs(3600);

/// Always answers the same, or always refuses.
struct Signing(Result<UtcTime, OcspRefusal>);

#[async_trait]
impl OcspResponder for Signing {
    async fn answer(&self, _: &OcspRequest, _: IpAddr) -> Result<OcspAnswer, OcspRefusal> {
        let now = self.0?;
        Ok(OcspAnswer::new(Bytes::from_static(b"signed"), now, now.plus(HOUR), true))
    }
}

async fn world(refusal: Option<OcspRefusal>) -> World {
    let world = World::start().await;
    let now = world.clock.now();
    world.holder.ocsp().connect(Arc::new(Signing(refusal.map_or(Ok(now), Err))));
    world
}

fn asked(world: &World, nonce: Option<&[u8]>) -> Vec<u8> {
    let issuer = AuthorityCertificate::from_der(&world.authority.der).unwrap();
    question(&issuer, Serial::random(&Random), nonce)
}

async fn send(world: &World, head: String, body: &[u8]) -> String {
    let mut stream = TcpStream::connect(world.edge.http_addresses()[0]).await.unwrap();
    let head = format!("{head}\r\nhost: whatever\r\nconnection: close\r\n\r\n");
    stream.write_all(&[head.as_bytes(), body].concat()).await.unwrap();
    read_all(&mut stream).await
}

async fn get(world: &World, path: &str, more: &str) -> String {
    send(world, format!("GET {path} HTTP/1.1{more}"), b"").await
}

async fn post(world: &World, kind: &str, body: &[u8]) -> String {
    let head = format!("POST /pki/ocsp HTTP/1.1\r\ncontent-type: {kind}\r\ncontent-length: {}", body.len());
    send(world, head, body).await
}

fn escaped(base64: &str) -> String {
    base64.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D")
}

#[tokio::test]
async fn a_get_is_answered_however_its_base64_is_written_and_may_be_kept_on_the_way() {
    let world = world(None).await;
    let base64 = STANDARD.encode(asked(&world, None));
    for written in [escaped(&base64), base64.clone(), base64.trim_end_matches('=').to_owned()] {
        let answer = get(&world, &format!("/pki/ocsp/{written}"), "").await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\nsigned"), "{answer}");
        assert!(answer.contains("content-type: application/ocsp-response\r\n"), "{answer}");
        let caching = "cache-control: public, max-age=300, no-transform, must-revalidate\r\n";
        assert!(answer.contains(caching), "{answer}");
        assert!(answer.contains("last-modified: Mon, 23 Nov 2026 12:00:00 GMT\r\n"), "{answer}");
        assert!(answer.contains("expires: Mon, 23 Nov 2026 12:05:00 GMT\r\n"), "{answer}");
        let etag = answer.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap().to_owned();
        let again = get(&world, &format!("/pki/ocsp/{written}"), &format!("\r\nif-none-match: {etag}")).await;
        assert!(again.starts_with("HTTP/1.1 304 ") && again.ends_with("\r\n\r\n"), "{again}");
    }
}

#[tokio::test]
async fn near_its_end_an_answer_is_kept_no_longer_than_it_lasts() {
    let world = world(None).await;
    let path = format!("/pki/ocsp/{}", escaped(&STANDARD.encode(asked(&world, None))));
    world.clock.advance(HOUR - Duration::from_secs(7));
    assert!(get(&world, &path, "").await.contains("max-age=7,"));
}

#[tokio::test]
async fn a_post_and_a_nonce_are_one_askers() {
    let world = world(None).await;
    let answer = post(&world, "application/ocsp-request", &asked(&world, None)).await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("signed"), "{answer}");
    assert!(answer.contains("cache-control: no-store\r\n"), "{answer}");
    let with_nonce = escaped(&STANDARD.encode(asked(&world, Some(&[1; 32]))));
    let answer = get(&world, &format!("/pki/ocsp/{with_nonce}"), "").await;
    assert!(answer.contains("cache-control: no-store\r\n") && !answer.contains("etag"), "{answer}");
}

#[tokio::test]
async fn what_is_no_request_is_malformed_and_what_is_not_ours_unauthorized() {
    let world = world(Some(OcspRefusal::Unauthorized)).await;
    for path in ["/pki/ocsp", "/pki/ocsp/", "/pki/ocsp/%%%", "/pki/ocsp/AAAA"] {
        let answer = get(&world, path, "").await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("0\u{3}\n\u{1}\u{1}"), "{answer:?}");
        assert!(answer.contains("cache-control: no-store\r\n"), "{answer}");
    }
    let answer = post(&world, "application/ocsp-request", &asked(&world, None)).await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("0\u{3}\n\u{1}\u{6}"), "{answer:?}");
}

#[tokio::test]
async fn methods_types_and_sizes_have_bounds() {
    let world = world(None).await;
    let put = send(&world, "PUT /pki/ocsp HTTP/1.1\r\ncontent-length: 0".to_owned(), b"").await;
    assert!(put.starts_with("HTTP/1.1 405 ") && put.contains("allow: GET, HEAD, POST\r\n"), "{put}");
    assert!(post(&world, "text/plain", b"x").await.starts_with("HTTP/1.1 415 "));
    assert!(post(&world, "application/ocsp-request", &[0; 5000]).await.starts_with("HTTP/1.1 413 "));
    // The name of another document.
    assert!(get(&world, "/pki/ocspx", "").await.starts_with("HTTP/1.1 404 "));
}

#[tokio::test]
async fn whoever_asks_too_often_is_told_when_to_come_back() {
    for (refusal, status) in [
        (OcspRefusal::Limited { wait: Duration::from_millis(1500) }, "429"),
        (OcspRefusal::Unavailable { wait: Duration::from_secs(2) }, "503"),
    ] {
        let world = world(Some(refusal)).await;
        let answer = post(&world, "application/ocsp-request", &asked(&world, None)).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert!(
            answer.contains("retry-after: 2\r\n") && answer.ends_with("0\u{3}\n\u{1}\u{3}"),
            "{answer:?}"
        );
    }
}
