//! The plain http listener.

use std::collections::BTreeMap;

use bytes::Bytes;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use wicketgate::domain::Hostname;
use wicketgate::live::ChallengeData;
use wicketgate::live::feed::Document;

use super::client::read_all;
use super::fixture::World;

async fn ask(world: &World, head: &str) -> String {
    let mut stream = TcpStream::connect(world.edge.http_addresses()[0]).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    read_all(&mut stream).await
}

async fn get(world: &World, host: &str, path: &str) -> String {
    ask(world, &format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n")).await
}

#[tokio::test]
async fn visitors_are_sent_to_https_on_our_own_names_only() {
    let world = World::start().await;
    let port = world.edge.https_addresses()[0].port();
    let answer = get(&world, "app.test:8080", "/a/b?c=d").await;
    assert!(answer.starts_with("HTTP/1.1 308 "), "{answer}");
    assert!(answer.contains(&format!("location: https://app.test:{port}/a/b?c=d\r\n")), "{answer}");
    assert!(get(&world, "evil.test", "/").await.starts_with("HTTP/1.1 404 "));
    assert!(get(&world, "127.0.0.1", "/").await.starts_with("HTTP/1.1 400 "));
    assert_eq!(world.backend.requests(), 0);
}

#[tokio::test]
async fn the_public_port_of_https_stands_in_redirects_unless_it_is_the_usual_one() {
    let world = World::with_settings(|settings| settings.https_public_port = Some(443)).await;
    let answer = get(&world, "app.test", "/").await;
    assert!(answer.contains("location: https://app.test/\r\n"), "{answer}");
}

#[tokio::test]
async fn challenges_are_answered_by_host_and_token() {
    let world = World::start().await;
    let mut data = world.data.clone();
    data.challenges.push(ChallengeData::Http01 {
        host: Hostname::normalize("not-yet.test").unwrap(),
        token: "token-1".into(),
        key_authorization: "token-1.thumbprint".into(),
    });
    world.publish(data).await;
    let path = "/.well-known/acme-challenge/token-1";
    let answer = get(&world, "Not-Yet.test", path).await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("token-1.thumbprint"), "{answer}");
    assert!(get(&world, "app.test", path).await.starts_with("HTTP/1.1 404 "));
    assert!(
        get(&world, "not-yet.test", "/.well-known/acme-challenge/other").await.starts_with("HTTP/1.1 404 ")
    );
}

#[tokio::test]
async fn public_documents_are_read_only_and_everything_else_is_missing() {
    let world = World::start().await;
    let crl = Document { content_type: "application/pkix-crl", body: Bytes::from_static(b"list") };
    world.publish_documents(BTreeMap::from([("issuing-g1.crl".to_owned(), crl)])).await;
    let answer = get(&world, "127.0.0.1", "/pki/issuing-g1.crl").await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("list"), "{answer}");
    assert!(answer.contains("content-type: application/pkix-crl\r\n"));
    assert!(get(&world, "app.test", "/pki/other.crl").await.starts_with("HTTP/1.1 404 "));
    assert!(get(&world, "app.test", "/pki/../x").await.starts_with("HTTP/1.1 404 "));
    let post = "POST /pki/issuing-g1.crl HTTP/1.1\r\nhost: app.test\r\ncontent-length: 0\r\n\r\n";
    assert!(ask(&world, post).await.starts_with("HTTP/1.1 400 "));
}
