//! Connections that are passed through unread, by the name in their ClientHello: to the right target, with every
//! octet, and never past the policy of a site that is not passed through.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use parking_lot::Mutex;
use rcgen::ExtendedKeyUsagePurpose;
use rustls::ClientConnection;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use wicketgate::domain::upstream::{ProxyProtocol, UpstreamOptions};
use wicketgate::domain::{AccessPolicy, ClientAuth, Hostname, Secret, Serial};
use wicketgate::edge::proxy_header::{Parsed, Said, parse, write_v1};
use wicketgate::live::configuration::KeyData;
use wicketgate::live::{ConfigurationData, EdgeLink, SiteData, SiteKind, Update, UpstreamData};
use wicketgate::pki::pem;
use wicketgate::telemetry::metrics::Handshake;

use super::client::{Http, PATIENCE, connect, read_all, shake, tls, until};
use super::fixture::{APP, Authority, Random, World, route};
use super::proxy_header::networks;
use crate::harness::log::Captured;
use crate::harness::program::Program;

/// The site that is passed through.
pub const PASSED: &str = "passed.test";

/// Writes down what comes over each connection, says `pong` once something came, and `bye` at its end.
struct Recorder {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Recorder {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, seen) = (listener.local_addr().unwrap(), Arc::<Mutex<Vec<Vec<u8>>>>::default());
        let all = seen.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let place = all.lock().len();
                all.lock().push(Vec::new());
                tokio::spawn(record(stream, all.clone(), place));
            }
        });
        Self { address, seen }
    }

    /// What came over the only connection.
    fn only(&self) -> Vec<u8> {
        let seen = self.seen.lock();
        assert_eq!(seen.len(), 1);
        seen[0].clone()
    }
}

async fn record(mut stream: TcpStream, all: Arc<Mutex<Vec<Vec<u8>>>>, place: usize) {
    let (mut buffer, mut answer) = ([0; 4096], &b"pong"[..]);
    while let Ok(octets @ 1..) = stream.read(&mut buffer).await {
        all.lock()[place].extend_from_slice(&buffer[..octets]);
        let _ = stream.write_all(std::mem::take(&mut answer)).await;
    }
    let _ = stream.write_all(b"bye").await;
}

/// A site that is passed through to this target.
pub fn pass_through(data: &mut ConfigurationData, target: SocketAddr, options: UpstreamOptions) {
    let name: wicketgate::domain::Slug = "elsewhere".parse().unwrap();
    data.upstreams.push(UpstreamData {
        name: name.clone(),
        targets: vec![format!("http://{target}")],
        options,
    });
    data.sites.push(SiteData {
        host: Hostname::normalize(PASSED).unwrap(),
        kind: SiteKind::Passthrough,
        upstream: Some(name),
        client_auth: ClientAuth::None,
        hsts_max_age_seconds: 0,
        chain: Vec::new(),
        key: KeyData(Secret::new(Vec::new())),
        ocsp: None,
        is_local: false,
    });
}

async fn world(target: SocketAddr) -> World {
    World::with(|_| {}, |data| pass_through(data, target, UpstreamOptions::default())).await
}

/// A ClientHello in records, as a client sends it.
fn hello(world: &World, name: &str, alpn: &[&[u8]]) -> Vec<u8> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::new(tls(world, None, alpn)), name).unwrap();
    let mut octets = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut octets).unwrap();
    }
    octets
}

/// The same, with another name of the same length in its place.
fn renamed(hello: &[u8], from: &str, to: &str) -> Vec<u8> {
    let at =
        hello.windows(from.len()).position(|octets| octets.eq_ignore_ascii_case(from.as_bytes())).unwrap();
    [&hello[..at], to.as_bytes(), &hello[at + from.len()..]].concat()
}

/// The same handshake messages, in records of one octet each.
fn crumbled(mut records: &[u8]) -> Vec<u8> {
    let mut crumbs = Vec::new();
    while !records.is_empty() {
        let length = usize::from(u16::from_be_bytes([records[3], records[4]]));
        for octet in &records[5..5 + length] {
            crumbs.extend([0x16, 3, 1, 0, 1, *octet]);
        }
        records = &records[5 + length..];
    }
    crumbs
}

async fn say(world: &World, octets: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(world.edge.https_addresses()[0]).await.unwrap();
    stream.write_all(octets).await.unwrap();
    stream
}

async fn hear(stream: &mut TcpStream, expected: &[u8]) {
    let mut heard = vec![0; expected.len()];
    tokio::time::timeout(PATIENCE, stream.read_exact(&mut heard)).await.expect("an answer").unwrap();
    assert_eq!(heard, expected);
}

/// What the edge answers before it closes.
async fn refusal(mut stream: TcpStream) -> Vec<u8> {
    let mut heard = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut heard)).await.expect("an end");
    heard
}

#[tokio::test]
async fn every_octet_goes_through_however_it_is_cut() {
    let long: Vec<Vec<u8>> = (0..60).map(|number| vec![number + 1; 255]).collect();
    let long: Vec<_> = long.iter().map(Vec::as_slice).collect();
    for alpn in [&[&b"h2"[..]][..], &[b"acme-tls/1"], &long] {
        for is_crumbled in [false, true] {
            let target = Recorder::start().await;
            let world = world(target.address).await;
            // rustls keeps 64 KiB of records until a hello is whole; a crumb is six octets for one.
            let alpn = if is_crumbled { &alpn[..alpn.len().min(8)] } else { alpn };
            let mut hello = hello(&world, PASSED, alpn);
            if is_crumbled {
                hello = crumbled(&hello);
            }
            let (first, second) = hello.split_at(7);
            let mut stream = say(&world, first).await;
            stream.write_all(second).await.unwrap();
            hear(&mut stream, b"pong").await;
            stream.write_all(b"and more").await.unwrap();
            stream.shutdown().await.unwrap();
            // The other half goes on.
            hear(&mut stream, b"bye").await;
            assert_eq!(target.only(), [&hello[..], b"and more"].concat(), "{is_crumbled} {}", hello.len());
            assert_eq!(world.metrics.handshakes.value(Handshake::PassedThrough), 1);
            until("it has ended", || world.metrics.passed_connections.value() == 0).await;
        }
    }
}

#[tokio::test]
async fn the_name_decides_in_any_spelling_and_no_other_site_s_connections_go_through() {
    let target = Recorder::start().await;
    let world = world(target.address).await;
    let passed = hello(&world, PASSED, &[b"h2"]);
    for (number, name) in ["passed.test", "PASSED.TEST", "PaSsEd.TeSt"].into_iter().enumerate() {
        let mut stream = say(&world, &renamed(&passed, PASSED, name)).await;
        hear(&mut stream, b"pong").await;
        assert_eq!(target.seen.lock().len(), number + 1);
    }
    let app = hello(&world, APP, &[b"h2"]);
    for name in ["app.test", "APP.TEST", "aPP.tEST"] {
        let mut stream = say(&world, &renamed(&app, APP, name)).await;
        // A ServerHello of ours.
        hear(&mut stream, &[0x16, 3, 3]).await;
    }
    for name in ["passed.tes", "xpassed.test", "passed.test.test", "sub.passed.test"] {
        let alert = refusal(say(&world, &hello(&world, name, &[b"h2"])).await).await;
        assert_eq!(alert, [0x15, 3, 3, 0, 2, 2, 0x70], "{name}");
    }
    let nameless = refusal(say(&world, &hello(&world, "127.0.0.1", &[b"h2"])).await).await;
    assert_eq!(nameless, [0x15, 3, 3, 0, 2, 2, 0x70]);
    assert_eq!(target.seen.lock().len(), 3);
}

#[tokio::test]
async fn a_connection_of_ours_cannot_ask_for_what_is_passed_through() {
    let target = Recorder::start().await;
    let world = world(target.address).await;
    let device = world.enrol().await;
    for http in [Http::One, Http::Two] {
        let mut visitor = connect(&world, APP, Some(&device), http).await;
        assert_eq!(visitor.get(PASSED, "/").await.code(), "misdirected_request");
        let mut visitor = connect(&world, APP, Some(&device), http).await;
        assert_eq!(
            visitor.get(APP, "/").await.status,
            200,
            "while a site is passed through, others are served"
        );
        let mut visitor = connect(&world, APP, None, http).await;
        let request = visitor.request(Method::GET, APP, "/");
        assert_eq!(visitor.ask(request).await.code(), "certificate_required");
    }
    assert!(target.seen.lock().is_empty());
    let mut plain = TcpStream::connect(world.edge.http_addresses()[0]).await.unwrap();
    plain.write_all(b"GET /a HTTP/1.1\r\nhost: passed.test\r\nconnection: close\r\n\r\n").await.unwrap();
    assert!(read_all(&mut plain).await.starts_with("HTTP/1.1 308 "), "it is a name of ours, and https there");
}

#[tokio::test]
async fn what_goes_on_ends_with_its_site_and_stays_over_other_changes() {
    let target = Recorder::start().await;
    let world = world(target.address).await;
    let mut stream = say(&world, &hello(&world, PASSED, &[])).await;
    hear(&mut stream, b"pong").await;
    let mut data = world.data.clone();
    data.routes.push(route(APP, "/new", AccessPolicy::Public));
    world.publish(data.clone()).await;
    stream.write_all(b"still here").await.unwrap();
    until("it went through", || target.only().ends_with(b"still here")).await;
    data.sites.retain(|site| site.kind != SiteKind::Passthrough);
    world.publish(data).await;
    refusal(stream).await;
    let again = refusal(say(&world, &hello(&world, PASSED, &[])).await).await;
    assert_eq!(again, [0x15, 3, 3, 0, 2, 2, 0x70]);
}

#[tokio::test]
async fn a_drain_ends_what_is_silent() {
    let target = Recorder::start().await;
    let world = world(target.address).await;
    let mut stream = say(&world, &hello(&world, PASSED, &[])).await;
    hear(&mut stream, b"pong").await;
    let drained = world.edge.drain().await;
    assert_eq!((drained.open, drained.cut), (1, 0));
}

#[tokio::test]
async fn nothing_moving_for_too_long_is_the_end() {
    let target = Recorder::start().await;
    let idle_timeout = Duration::from_millis(200);
    let configure =
        |data: &mut ConfigurationData| pass_through(data, target.address, UpstreamOptions::default());
    let world = World::with(|settings| settings.idle_timeout = idle_timeout, configure).await;
    let mut stream = say(&world, &hello(&world, PASSED, &[])).await;
    hear(&mut stream, b"pong").await;
    assert!(refusal(stream).await.is_empty());
}

#[tokio::test]
async fn one_line_says_what_was_passed_through() {
    let log = Captured::start("off,access=info");
    let target = Recorder::start().await;
    let world = world(target.address).await;
    let hello = hello(&world, PASSED, &[]);
    let mut stream = say(&world, &hello).await;
    hear(&mut stream, b"pong").await;
    stream.shutdown().await.unwrap();
    hear(&mut stream, b"bye").await;
    until("it is logged", || log.saying("connection passed through").len() == 1).await;
    let line = log.saying("connection passed through").remove(0);
    for (field, expected) in
        [("host", PASSED), ("upstream", "elsewhere"), ("end", "closed"), ("source", "127.0.0.1")]
    {
        assert_eq!(line[field], expected);
    }
    let octets = ["bytes_in", "bytes_out"].map(|field| line[field].as_u64());
    assert_eq!(octets, [Some(hello.len() as u64), Some(b"pongbye".len() as u64)]);
}

#[tokio::test]
async fn an_absent_target_is_an_alert_and_another_one_takes_its_place() {
    // Port 1 on loopback refuses.
    let dead = SocketAddr::from(([127, 0, 0, 1], 1));
    let alone = world(dead).await;
    let alert = refusal(say(&alone, &hello(&alone, PASSED, &[])).await).await;
    assert_eq!(alert, [0x15, 3, 3, 0, 2, 2, 0x50]);
    let target = Recorder::start().await;
    let configure = |data: &mut ConfigurationData| {
        pass_through(data, dead, UpstreamOptions::default());
        data.upstreams.last_mut().unwrap().targets.push(format!("http://{}", target.address));
    };
    let world = World::with(|_| {}, configure).await;
    for _ in 0..4 {
        let mut stream = say(&world, &hello(&world, PASSED, &[])).await;
        hear(&mut stream, b"pong").await;
    }
}

#[tokio::test]
async fn the_target_is_told_whom_a_load_balancer_names() {
    let target = Recorder::start().await;
    let options = UpstreamOptions { proxy_protocol: Some(ProxyProtocol::V2), ..UpstreamOptions::default() };
    let world = World::with(
        |settings| settings.proxy_protocol_from = networks(&["127.0.0.1"]),
        |data| pass_through(data, target.address, options),
    )
    .await;
    let visitor: SocketAddr = "192.0.2.7:4711".parse().unwrap();
    let hello = hello(&world, PASSED, &[]);
    let header = write_v1(visitor, "10.0.0.1:443".parse().unwrap());
    let mut stream = say(&world, &[header.as_bytes(), &hello].concat()).await;
    hear(&mut stream, b"pong").await;
    until("all of it came", || target.only().ends_with(&hello)).await;
    let seen = target.only();
    let Ok(Parsed::Whole(Said::Visitor { source, destination }, length)) = parse(&seen) else {
        panic!("{seen:x?}")
    };
    assert_eq!((source, destination), (visitor, world.edge.https_addresses()[0]));
    assert_eq!(seen[length..], hello);
}

#[tokio::test]
async fn what_only_we_could_do_is_not_promised_of_what_we_do_not_read() {
    let target = Recorder::start().await;
    let world = world(target.address).await;
    let refused = |change: fn(&mut ConfigurationData)| is_refused(&world, change);
    assert!(refused(|data| data.routes.push(route(PASSED, "/", AccessPolicy::Public))).await);
    assert!(refused(|data| passed(data).client_auth = ClientAuth::Require).await);
    assert!(refused(|data| passed(data).hsts_max_age_seconds = 60).await);
    assert!(refused(|data| passed(data).upstream = None).await);
    assert!(refused(|data| passed(data).upstream = Some("nowhere".parse().unwrap())).await);
    assert!(refused(|data| passed(data).host = Hostname::normalize(APP).unwrap()).await, "no name is both");
    assert!(!refused(|data| passed(data).host = Hostname::normalize("other.test").unwrap()).await);
}

/// The site that is passed through.
fn passed(data: &mut ConfigurationData) -> &mut SiteData {
    data.sites.last_mut().unwrap()
}

async fn is_refused(world: &World, change: fn(&mut ConfigurationData)) -> bool {
    let mut data = world.data.clone();
    data.version = world.holder.snapshot().unwrap().configuration.version + 1;
    change(&mut data);
    let update = Update { configuration: Some(Arc::new(data)), ..Update::default() };
    world.holder.apply(&update).await.is_err()
}

/// nginx as the target of what is passed through, with a certificate of this authority's; it answers from where it
/// was told the visitor comes. None when it is missing.
pub fn nginx_as_target(authority: &Authority) -> Option<Program> {
    let usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let leaf = authority.leaf(Serial::random(&Random), usages, &[PASSED]);
    Program::nginx(|port, folder| {
        let files = [
            ("leaf.pem", "CERTIFICATE", &leaf.chain[0][..]),
            ("key.pem", "PRIVATE KEY", leaf.key.secret_der()),
        ];
        for (name, label, der) in files {
            std::fs::write(folder.join(name), pem::block(label, der)).unwrap();
        }
        NGINX.replace("@PORT@", &port.to_string())
    })
}

const NGINX: &str = include_str!("passthrough/nginx.conf");

/// A visitor whose connection is passed through to nginx.
pub async fn we_pass_through_to_nginx() {
    let authority = Authority::new("target-ca", "Target CA");
    let Some(nginx) = nginx_as_target(&authority) else { return };
    let target = SocketAddr::from(([127, 0, 0, 1], nginx.port));
    let options = UpstreamOptions { proxy_protocol: Some(ProxyProtocol::V2), ..UpstreamOptions::default() };
    let mut world = World::with(|_| {}, |data| pass_through(data, target, options)).await;
    // Whom visitors trust now: nginx shows its own certificate, and we show none.
    world.server_ca.clone_from(&authority.der);
    let mut stream = shake(&world, PASSED, tls(&world, None, &[b"http/1.1"])).await.unwrap();
    let request = format!("GET / HTTP/1.1\r\nhost: {PASSED}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let answer = read_all(&mut stream).await;
    assert!(answer.ends_with(&format!("127.0.0.1 TLSv1.3 {PASSED}")), "{answer}");
}

#[tokio::test]
async fn nginx_is_a_target() {
    we_pass_through_to_nginx().await;
}
