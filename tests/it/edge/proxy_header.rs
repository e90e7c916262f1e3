//! The PROXY protocol: from load balancers that have to speak it, and to upstreams that want it. Beside real ones.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use wicketgate::domain::upstream::{CheckKind, HealthCheck, ProxyProtocol, UpstreamOptions};
use wicketgate::domain::{Network, Networks};
use wicketgate::edge::proxy_header::{Parsed, Said, parse, write_v1, write_v2};
use wicketgate::live::UpstreamData;
use wicketgate::live::witness::LOCAL_HEADER;
use wicketgate::telemetry::metrics::{Handshake, ProxyHeader, SelfCheck};

use super::client::{Http, PATIENCE, Visitor, connect, read_all, tls, until};
use super::fixture::{APP, Device, World};
use crate::harness::log::Captured;
use crate::harness::program::Program;

pub fn networks(texts: &[&str]) -> Networks {
    texts.iter().map(|text| text.parse::<Network>().unwrap()).collect()
}

/// A world that is told by loopback who visits.
pub async fn behind_a_load_balancer() -> World {
    World::with_settings(|settings| settings.proxy_protocol_from = networks(&["127.0.0.0/8"])).await
}

/// An HTTP/1.1 connection by way of `address`, which is told `pieces` before.
pub async fn visit(
    world: &World,
    address: SocketAddr,
    pieces: &[&[u8]],
    device: Option<&Device>,
) -> std::io::Result<Visitor> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    for piece in pieces {
        stream.write_all(piece).await?;
        // Each is read by itself, most likely.
        tokio::task::yield_now().await;
    }
    let connector = TlsConnector::from(Arc::new(tls(world, device, &[b"http/1.1"])));
    let name = ServerName::try_from(APP).unwrap();
    let stream = tokio::time::timeout(PATIENCE, connector.connect(name, stream)).await??;
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    Ok(Visitor::One(sender))
}

/// Who the backend was told visits.
pub async fn visitor_of(mut visitor: Visitor) -> Vec<String> {
    visitor.get(APP, "/public").await.seen("x-forwarded-for")
}

fn https(world: &World) -> SocketAddr {
    world.edge.https_addresses()[0]
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

#[tokio::test]
async fn a_load_balancer_says_who_visits() {
    let world = behind_a_load_balancer().await;
    let (four, six) = (address("192.0.2.7:4711"), address("[2001:db8::7]:4711"));
    let own = address("10.0.0.1:443");
    for (header, expected) in [
        (write_v1(four, own).into_bytes(), "192.0.2.7"),
        (write_v1(six, own).into_bytes(), "2001:db8::7"),
        (write_v2(four, own, None), "192.0.2.7"),
        (write_v2(six, own, None), "2001:db8::7"),
        // Its own words: it is who visits.
        (LOCAL_HEADER.to_vec(), "127.0.0.1"),
        (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1"),
    ] {
        let octets: Vec<_> = header.chunks(1).collect();
        for pieces in [&[&header[..]][..], &octets, &[&header[..5], &header[5..]]] {
            let visitor = visit(&world, https(&world), pieces, None).await.unwrap();
            assert_eq!(visitor_of(visitor).await, [expected], "{header:x?}");
        }
    }
    assert_eq!(world.metrics.proxy_headers.value(ProxyHeader::Visitor), 12);
    assert_eq!(world.metrics.proxy_headers.value(ProxyHeader::Local), 6);
}

#[tokio::test]
async fn a_load_balancer_that_says_nothing_or_something_else_is_refused() {
    let log = Captured::start("off,handshake=info");
    let world = behind_a_load_balancer().await;
    let header = write_v2(address("192.0.2.7:1"), address("10.0.0.1:443"), None);
    let hostile: [&[u8]; 9] = [
        b"",
        b"PROXY\tTCP4 192.0.2.7 10.0.0.1 1 2\r\n",
        b"PROXY TCP4 192.0.2.007 10.0.0.1 1 2\r\n",
        b"PROXY TCP4 192.0.2.7 10.0.0.1 01 2\r\n",
        b"PROXY TCP4 192.0.2.7 10.0.0.1 1 2\n",
        &[b'x'; 200],
        &[&b"PROXY UNKNOWN "[..], &[b'x'; 200]].concat(),
        // Extensions that reach beyond their end, and a length that reaches into what follows.
        &[&header[..15], &[13], &header[16..], &[4]].concat(),
        &[&header[..15], &[14], &header[16..]].concat(),
    ];
    for octets in hostile {
        assert!(visit(&world, https(&world), &[octets], None).await.is_err(), "{octets:x?}");
    }
    until("all are counted", || world.metrics.proxy_headers.value(ProxyHeader::Refused) == 9).await;
    assert_eq!(log.saying("no PROXY header").len(), 9);
    assert_eq!(log.saying("no PROXY header")[0]["cause"], "refused");
    // Two of them: the second one is bad TLS.
    assert!(visit(&world, https(&world), &[&header, &header], None).await.is_err());
    until("it is counted", || world.metrics.handshakes.value(Handshake::Protocol) >= 1).await;
    assert_eq!(world.backend.requests(), 0);
}

#[tokio::test]
async fn a_header_that_does_not_come_in_time_is_not_waited_for() {
    let world = World::with_settings(|settings| {
        settings.proxy_protocol_from = networks(&["127.0.0.1"]);
        settings.handshake_timeout = Duration::from_millis(200);
    })
    .await;
    for octets in [&b""[..], b"PROXY TCP4 192.0.2.7 ", &LOCAL_HEADER[..15]] {
        let mut stream = TcpStream::connect(https(&world)).await.unwrap();
        stream.write_all(octets).await.unwrap();
        read_all(&mut stream).await;
    }
    until("they are counted", || world.metrics.proxy_headers.value(ProxyHeader::TimedOut) == 3).await;
}

#[tokio::test]
async fn from_everybody_else_a_header_is_bad_tls_and_bad_http() {
    let world = World::with_settings(|s| s.proxy_protocol_from = networks(&["10.0.0.0/8"])).await;
    let header = write_v2(address("10.0.0.9:1"), address("10.0.0.1:443"), None);
    for header in [&header[..], b"PROXY TCP4 10.0.0.9 10.0.0.1 1 2\r\n"] {
        assert!(visit(&world, https(&world), &[header], None).await.is_err());
    }
    until("it is counted", || world.metrics.handshakes.value(Handshake::Protocol) == 2).await;
    assert_eq!(world.metrics.proxy_headers.value(ProxyHeader::Visitor), 0);
    let mut stream = TcpStream::connect(world.edge.http_addresses()[0]).await.unwrap();
    stream
        .write_all(b"PROXY TCP4 10.0.0.9 10.0.0.1 1 2\r\nGET / HTTP/1.1\r\nhost: app.test\r\n\r\n")
        .await
        .unwrap();
    assert!(!read_all(&mut stream).await.contains("308"));
}

#[tokio::test]
async fn plain_http_is_told_the_same_way() {
    let world = behind_a_load_balancer().await;
    let request = b"GET / HTTP/1.1\r\nhost: app.test\r\nconnection: close\r\n\r\n";
    for (before, is_answered) in [(&b"PROXY TCP4 192.0.2.7 10.0.0.1 1 80\r\n"[..], true), (b"", false)] {
        let mut stream = TcpStream::connect(world.edge.http_addresses()[0]).await.unwrap();
        stream.write_all(&[before, request].concat()).await.unwrap();
        assert_eq!(read_all(&mut stream).await.starts_with("HTTP/1.1 308 "), is_answered);
    }
}

#[tokio::test]
async fn the_edge_asks_itself_as_a_load_balancer_would() {
    let world = World::with_settings(|settings| {
        settings.proxy_protocol_from = networks(&["127.0.0.0/8"]);
        settings.self_check_every = Some(Duration::from_millis(20));
    })
    .await;
    until("it has asked", || world.metrics.self_checks.value(SelfCheck::Refused) > 2).await;
}

/// Answers one request after the other on each connection, and keeps the first octets of each.
async fn told() -> (SocketAddr, Arc<Mutex<Vec<Vec<u8>>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, seen) = (listener.local_addr().unwrap(), Arc::<Mutex<Vec<Vec<u8>>>>::default());
    let all = seen.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let all = all.clone();
            tokio::spawn(async move {
                let mut octets = Vec::new();
                while !octets.ends_with(b"\r\n\r\n") {
                    if !matches!(stream.read_buf(&mut octets).await, Ok(1..)) {
                        return;
                    }
                }
                all.lock().push(octets);
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
                while stream.write_all(answer).await.is_ok() {
                    if !matches!(stream.read(&mut [0; 4096]).await, Ok(1..)) {
                        return;
                    }
                }
            });
        }
    });
    (address, seen)
}

/// The upstream of every route, with words about visitors.
async fn telling(target: SocketAddr, options: UpstreamOptions) -> World {
    let options = UpstreamOptions { proxy_protocol: Some(ProxyProtocol::V2), ..options };
    let upstream =
        UpstreamData { name: "echo".parse().unwrap(), targets: vec![format!("http://{target}")], options };
    World::with(|settings| settings.threads = 1, |data| data.upstreams[0] = upstream).await
}

#[tokio::test]
async fn an_upstream_is_told_who_visits_on_a_connection_for_each_exchange() {
    let (target, seen) = told().await;
    let world = telling(target, UpstreamOptions::default()).await;
    let device = world.enrol().await;
    let stranger = world.authority.client_leaf(wicketgate::domain::Serial::random(&super::fixture::Random));
    for (device, is_known) in [(Some(&device), true), (None, false), (Some(&stranger), false)] {
        for http in [Http::One, Http::Two] {
            let mut visitor = connect(&world, APP, device, http).await;
            for _ in 0..3 {
                assert_eq!(visitor.get(APP, "/public").await.status, 200);
            }
            let heads = std::mem::take(&mut *seen.lock());
            assert_eq!(heads.len(), 3, "one connection each");
            for head in heads {
                let Ok(Parsed::Whole(Said::Visitor { source, destination }, length)) = parse(&head) else {
                    panic!("{head:x?}")
                };
                assert_eq!((source.ip(), destination), (address("127.0.0.1:0").ip(), https(&world)));
                assert!(head[length..].starts_with(b"GET /public HTTP/1.1\r\n"));
                let words = &head[28..length];
                // TLS, and a certificate on this connection and in this session, or nobody's.
                let flags: &[u8] = if is_known { &[7, 0, 0, 0, 0] } else { &[1, 0, 0, 0, 1] };
                assert!(words[0] == 0x20 && words[3..8] == *flags, "{words:x?}");
                let has = |octets: &[u8]| words.windows(octets.len()).any(|window| window == octets);
                assert!(has(b"\x21\0\x07TLSv1.3"));
                assert_eq!(has(b"\x22\0\x0b<b>Anna</b>"), is_known);
                let leaf = device.map(|device| device.chain[0].to_vec()).unwrap_or(vec![0xff; 64]);
                assert_eq!(has(&leaf), is_known);
            }
        }
    }
}

#[tokio::test]
async fn a_health_check_says_that_nobody_visits() {
    let (target, seen) = told().await;
    let kind = CheckKind::Http { path: "/ready".into() };
    let check =
        HealthCheck { kind, interval_ms: 100, timeout_ms: 1000, healthy_after: 1, unhealthy_after: 1 };
    let _world =
        telling(target, UpstreamOptions { health_check: Some(check), ..UpstreamOptions::default() }).await;
    until("it is checked", || !seen.lock().is_empty()).await;
    assert!(seen.lock()[0].starts_with(&[LOCAL_HEADER, b"GET /ready HTTP/1.1\r\n"].concat()));
}

/// haproxy in front of the edge, with `send-proxy` or `send-proxy-v2`; none when it is missing.
pub fn haproxy_in_front(world: &World, how: &str) -> Option<Program> {
    let edge = https(world);
    Program::haproxy(|port| {
        format!(
            "defaults\n mode tcp\n timeout connect 5s\n timeout client 30s\n timeout server 30s\n\
             listen front\n bind 127.0.0.1:{port}\n server edge {edge} {how} source 127.0.0.3\n"
        )
    })
}

/// haproxy as an upstream that accepts a header and answers from where it was told the visitor comes; none when it
/// is missing.
pub fn haproxy_behind() -> Option<Program> {
    Program::haproxy(|port| {
        format!(
            "defaults\n mode http\n timeout connect 5s\n timeout client 30s\n timeout server 30s\n\
             frontend behind\n bind 127.0.0.1:{port} accept-proxy\n\
             http-request return status 200 content-type text/plain lf-string \"%[src] %[dst_port]\"\n"
        )
    })
}

/// What is seen of a visitor who comes by way of haproxy.
pub async fn haproxy_tells_us(how: &str) {
    let settings = |settings: &mut wicketgate::edge::EdgeSettings| {
        settings.proxy_protocol_from = networks(&["127.0.0.3"]);
    };
    let world = World::with_settings(settings).await;
    let Some(haproxy) = haproxy_in_front(&world, how) else { return };
    let device = world.enrol().await;
    let visitor = visit(&world, SocketAddr::from(([127, 0, 0, 1], haproxy.port)), &[], Some(&device)).await;
    assert_eq!(visitor_of(visitor.unwrap()).await, ["127.0.0.1"], "not 127.0.0.3, which haproxy is");
    assert!(world.metrics.proxy_headers.value(ProxyHeader::Visitor) >= 1);
}

/// What haproxy sees of a visitor who comes by way of us.
pub async fn we_tell_haproxy() {
    let Some(haproxy) = haproxy_behind() else { return };
    let world = telling(SocketAddr::from(([127, 0, 0, 1], haproxy.port)), UpstreamOptions::default()).await;
    let device = world.enrol().await;
    let mut visitor = connect(&world, APP, Some(&device), Http::Two).await;
    for _ in 0..3 {
        let answer = visitor.get(APP, "/").await;
        let expected = format!("127.0.0.1 {}", https(&world).port());
        assert_eq!((answer.status, String::from_utf8_lossy(&answer.body).trim()), (200, &*expected));
    }
}

#[tokio::test]
async fn haproxy_tells_us_in_version_1() {
    haproxy_tells_us("send-proxy").await;
}

#[tokio::test]
async fn haproxy_tells_us_in_version_2() {
    haproxy_tells_us("send-proxy-v2").await;
    haproxy_tells_us("send-proxy-v2 proxy-v2-options crc32c").await;
}

#[tokio::test]
async fn haproxy_is_told_by_us() {
    we_tell_haproxy().await;
}
