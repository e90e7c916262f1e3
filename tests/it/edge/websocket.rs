//! Tunnels: opened by one permitted request, ended with the permission.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use wicketgate::domain::AccessPolicy;
use wicketgate::live::Delta;

use super::client::{PATIENCE, raw, read_all, shake, tls, until};
use super::fixture::{APP, Device, World};

const SOON: Duration = Duration::from_millis(1500);

/// Opens a WebSocket and leaves the stream behind the 101.
pub async fn open(world: &World, device: &Device, path: &str) -> TlsStream<TcpStream> {
    let mut stream = shake(world, APP, tls(world, Some(device), &[b"http/1.1"])).await.unwrap();
    let head = format!(
        "GET {path} HTTP/1.1\r\nhost: app.test\r\nconnection: keep-alive, Upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n"
    );
    // Early bytes must wait for the 101 and then go on.
    stream.write_all(format!("{head}early").as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"early") {
        let mut octet = [0; 1];
        let read = tokio::time::timeout(PATIENCE, stream.read_exact(&mut octet)).await;
        read.unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&answer))).unwrap();
        answer.push(octet[0]);
    }
    let answer = String::from_utf8(answer).unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 101 ") && answer.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
        "{answer}"
    );
    stream
}

pub async fn echoes(stream: &mut TlsStream<TcpStream>) {
    stream.write_all(b"ping").await.unwrap();
    let mut pong = [0; 4];
    tokio::time::timeout(PATIENCE, stream.read_exact(&mut pong)).await.expect("an echo").unwrap();
    assert_eq!(&pong, b"ping");
}

async fn ends_soon(stream: &mut TlsStream<TcpStream>) -> bool {
    tokio::time::timeout(SOON, stream.read(&mut [0; 1]))
        .await
        .is_ok_and(|read| matches!(read, Ok(0) | Err(_)))
}

#[tokio::test]
async fn a_websocket_passes_and_is_cut_when_its_certificate_is_revoked() {
    let world = World::start().await;
    let (device, other) = (world.enrol().await, world.enrol().await);
    let mut tunnel = open(&world, &device, "/ws").await;
    let mut other_tunnel = open(&world, &other, "/ws").await;
    echoes(&mut tunnel).await;
    world.revoke(&device).await;
    assert!(ends_soon(&mut tunnel).await);
    echoes(&mut other_tunnel).await;
    until("the backend's side ends too", || world.backend.open_tunnels.load(Ordering::SeqCst) == 1).await;
}

#[tokio::test]
async fn a_tunnel_ends_with_its_permission() {
    let world = World::start().await;
    let mut promoted = world.anna.clone();
    promoted.groups.insert("board".parse().unwrap());
    world.apply(vec![Delta::Person(promoted)]).await;
    let device = world.enrol().await;
    let mut by_group = open(&world, &device, "/board/ws").await;
    let mut by_route = open(&world, &device, "/ws").await;
    world.apply(vec![Delta::Person(world.anna.clone())]).await;
    assert!(ends_soon(&mut by_group).await, "not in the group any more");
    echoes(&mut by_route).await;
    let mut data = world.data.clone();
    data.routes.retain(|route| route.policy == AccessPolicy::Public);
    world.publish(data).await;
    assert!(ends_soon(&mut by_route).await, "the route is gone");
}

#[tokio::test]
async fn a_silent_tunnel_ends_at_the_idle_timeout() {
    let world = World::with_settings(|settings| settings.idle_timeout = Duration::from_millis(300)).await;
    let device = world.enrol().await;
    let mut tunnel = open(&world, &device, "/ws").await;
    assert!(ends_soon(&mut tunnel).await);
}

#[tokio::test]
async fn only_websockets_are_upgraded_and_only_with_a_permit() {
    let world = World::start().await;
    let device = world.enrol().await;
    let ask = |upgrade: &str| {
        format!(
            "GET /ws HTTP/1.1\r\nhost: app.test\r\nconnection: upgrade, close\r\nupgrade: {upgrade}\r\n\r\n"
        )
    };
    let refused = raw(&world, APP, None, ask("websocket").as_bytes()).await;
    assert!(refused.starts_with("HTTP/1.1 403 "), "{refused}");
    // The backend upgrades whatever comes; an unasked 101 must not open anything.
    let other = raw(&world, APP, Some(&device), ask("h2c").as_bytes()).await;
    assert!(other.starts_with("HTTP/1.1 502 "), "{other}");
    let mut stream = shake(&world, APP, tls(&world, Some(&device), &[b"http/1.1"])).await.unwrap();
    let with_body = "GET /ws HTTP/1.1\r\nhost: app.test\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                     content-length: 3\r\n\r\nabc";
    stream.write_all(with_body.as_bytes()).await.unwrap();
    let answer = read_all(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
}

/// Nobody asks who opens it, and yet it is part of a connection that has lost who was behind it.
#[tokio::test]
async fn a_tunnel_of_a_public_route_ends_with_the_certificate() {
    let world = World::start().await;
    let (device, other) = (world.enrol().await, world.enrol().await);
    let mut tunnel = open(&world, &device, "/public/ws").await;
    let mut other_tunnel = open(&world, &other, "/public/ws").await;
    world.revoke(&device).await;
    assert!(ends_soon(&mut tunnel).await);
    echoes(&mut other_tunnel).await;
}
