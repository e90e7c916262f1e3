//! Tunnels over HTTP/2 (RFC 8441): each a stream of its own, beside other tunnels and requests of its connection.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use h2::client::SendRequest;
use h2::ext::Protocol;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Method, Request, Response};
use serde_json::Value;
use tokio::time::timeout;
use wicketgate::domain::route::{RatePer, RateRule};
use wicketgate::edge::Drained;
use wicketgate::live::Delta;

use super::client::{PATIENCE, shake, tls, until};
use super::fixture::{APP, Device, World};
use super::line::{
    DATA, END_HEADERS, GET, GOAWAY, HEADERS, Line, PING, RST_STREAM, WINDOW_UPDATE, frame, head, kept,
};
use super::upstream::DIE;
use crate::harness::log::Captured;

/// Design, decision 5, with room for a busy machine.
const SOON: Duration = Duration::from_millis(1500);
const WINDOW: u32 = 65_535;

/// A connection of HTTP/2 on which WebSockets may be asked for.
struct Visitor(SendRequest<Bytes>);

/// The two directions of a stream.
struct Tunnel {
    out: SendStream<Bytes>,
    back: RecvStream,
}

impl Visitor {
    async fn connect(world: &World, device: Option<&Device>) -> Self {
        let stream = shake(world, APP, tls(world, device, &[b"h2"])).await.unwrap();
        let (sender, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(async move {
            let _ = connection.await;
        });
        until("the edge speaks RFC 8441", || sender.is_extended_connect_protocol_enabled()).await;
        Self(sender)
    }

    async fn send(&self, request: Request<()>, is_whole: bool) -> (Response<RecvStream>, SendStream<Bytes>) {
        let mut sender = self.0.clone().ready().await.unwrap();
        let (answer, out) = sender.send_request(request, is_whole).unwrap();
        (timeout(PATIENCE, answer).await.expect("an answer within patience").unwrap(), out)
    }

    /// Opens a WebSocket.
    async fn open(&self, path: &str) -> Tunnel {
        let (answer, out) = self.send(connect(path, Some("websocket")), false).await;
        assert_eq!(answer.status(), 200, "{path}");
        for name in ["sec-websocket-accept", "upgrade", "connection", "content-length"] {
            assert!(!answer.headers().contains_key(name), "{name}");
        }
        Tunnel { out, back: answer.into_body() }
    }

    /// Asks for a WebSocket in vain.
    async fn refused(&self, request: Request<()>) -> (u16, HeaderMap, Value) {
        let (answer, out) = self.send(request, false).await;
        let (parts, back) = answer.into_parts();
        let body = Tunnel { out, back }.hear(usize::MAX).await;
        (parts.status.as_u16(), parts.headers, serde_json::from_slice(&body).unwrap())
    }

    async fn status(&self, path: &str) -> u16 {
        let request = Request::get(format!("https://{APP}{path}")).body(()).unwrap();
        self.send(request, true).await.0.status().as_u16()
    }
}

impl Tunnel {
    fn say(&mut self, octets: impl Into<Bytes>) {
        self.out.send_data(octets.into(), false).unwrap();
    }

    /// So many octets, or as many as come.
    async fn hear(&mut self, count: usize) -> Vec<u8> {
        let mut all = Vec::new();
        let hearing = async {
            while all.len() < count
                && let Some(Ok(piece)) = self.back.data().await
            {
                self.back.flow_control().release_capacity(piece.len()).unwrap();
                all.extend_from_slice(&piece);
            }
        };
        timeout(PATIENCE, hearing).await.expect("enough within patience");
        all
    }

    async fn echoes(&mut self, word: &str) {
        self.say(word.to_owned());
        assert_eq!(self.hear(word.len()).await, word.as_bytes());
    }

    /// Whether the stream alone is reset, soon.
    async fn is_reset(&mut self) -> bool {
        let heard = timeout(SOON, self.back.data()).await;
        heard.is_ok_and(|heard| heard.is_some_and(|heard| heard.is_err_and(|error| error.is_reset())))
    }

    /// Whether it ends soon, with its connection or without.
    async fn ends(&mut self) -> bool {
        timeout(SOON, self.back.data()).await.is_ok_and(|heard| heard.is_none_or(|heard| heard.is_err()))
    }
}

/// As a browser asks for a WebSocket.
fn connect(path: &str, protocol: Option<&'static str>) -> Request<()> {
    let uri = if protocol.is_some() { format!("https://{APP}{path}") } else { format!("{APP}:443") };
    let mut request = Request::builder()
        .method(Method::CONNECT)
        .uri(uri)
        .header("origin", "https://app.test")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-protocol", "chat")
        .header("sec-websocket-extensions", "permessage-deflate")
        .body(())
        .unwrap();
    if let Some(protocol) = protocol {
        request.extensions_mut().insert(Protocol::from_static(protocol));
    }
    request
}

async fn open_tunnels(world: &World, count: usize) {
    until("so many are open", || world.backend.open_tunnels.load(Ordering::SeqCst) == count).await;
}

#[tokio::test]
async fn a_websocket_passes_both_ways_and_is_logged_when_it_ends() {
    const MEGABYTE: usize = 1024 * 1024;
    let log = Captured::start("off,access=info");
    let world = World::start().await;
    let device = world.enrol().await;
    let visitor = Visitor::connect(&world, Some(&device)).await;
    let mut tunnel = visitor.open("/ws").await;
    tunnel.echoes("ping").await;
    assert_eq!(world.metrics.http.active.value(), 1);
    let large: Vec<u8> = (0..MEGABYTE).map(|number| (number % 251) as u8).collect();
    tunnel.say(large.clone());
    assert!(tunnel.hear(MEGABYTE).await == large, "every octet, in order");
    assert!(log.lines().is_empty(), "it is not over");
    tunnel.out.send_data(Bytes::new(), true).unwrap();
    assert!(tunnel.hear(usize::MAX).await.is_empty(), "the other side ends, too");
    open_tunnels(&world, 0).await;
    until("nothing is in flight", || world.metrics.http.active.value() == 0).await;
    until("it is logged", || !log.lines().is_empty()).await;
    let line = &log.lines()[0];
    assert_eq!(
        (&line["method"], &line["path"], &line["status"]),
        (&"CONNECT".into(), &"/ws".into(), &200.into())
    );
    assert_eq!((&line["bytes"], &line["whole"]), (&(MEGABYTE + 4).into(), &true.into()));
}

#[tokio::test]
async fn fifty_tunnels_and_requests_share_a_connection_and_end_alone() {
    const MANY: usize = 50;
    let world = World::start().await;
    let device = world.enrol().await;
    let visitor = Visitor::connect(&world, Some(&device)).await;
    let mut tunnels = Vec::new();
    for _ in 0..MANY {
        tunnels.push(visitor.open("/ws").await);
    }
    for (number, tunnel) in tunnels.iter_mut().enumerate() {
        tunnel.echoes(&format!("tunnel {number}")).await;
    }
    assert_eq!(visitor.status("/").await, 200);
    let mut reset = tunnels.pop().unwrap();
    reset.out.send_reset(Reason::CANCEL);
    open_tunnels(&world, MANY - 1).await;
    let mut dies = tunnels.pop().unwrap();
    dies.say(DIE);
    assert!(dies.is_reset().await, "the app's side was");
    for tunnel in &mut tunnels {
        tunnel.echoes("still here").await;
    }
    assert_eq!(visitor.status("/").await, 200);
    until("two have ended", || world.metrics.http.active.value() == MANY as i64 - 2).await;
}

#[tokio::test]
async fn either_side_may_end_before_the_other() {
    let world = World::start().await;
    let visitor = Visitor::connect(&world, None).await;
    let mut tunnel = visitor.open("/public/count/ws").await;
    tunnel.say("12345");
    tunnel.out.send_data(Bytes::new(), true).unwrap();
    assert_eq!(tunnel.hear(usize::MAX).await, b"5");
    open_tunnels(&world, 0).await;
    until("it is through", || world.metrics.http.active.value() == 0).await;
}

#[tokio::test]
async fn the_app_is_asked_by_an_upgrade_and_its_refusal_passes() {
    let world = World::start().await;
    let device = world.enrol().await;
    let visitor = Visitor::connect(&world, Some(&device)).await;
    let mut request = connect("/no-ws?q=1", Some("websocket"));
    for (name, value) in [
        ("sec-websocket-key", "theirs"),
        ("wicketgate-assertion", "forged"),
        ("client_cert", "forged"),
        ("x-forwarded-for", "192.0.2.1"),
        ("content-length", "0"),
    ] {
        request.headers_mut().append(name, value.parse().unwrap());
    }
    let (status, _, seen) = visitor.refused(request).await;
    assert_eq!((status, &seen["method"], &seen["target"]), (403, &"GET".into(), &"/no-ws?q=1".into()));
    let values = |name: &str| -> Vec<String> {
        let lines = seen["headers"].as_array().unwrap().iter();
        lines.filter(|line| line[0] == name).map(|line| line[1].as_str().unwrap().to_owned()).collect()
    };
    for (name, value) in [
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
        ("host", APP),
        ("origin", "https://app.test"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-protocol", "chat"),
        ("sec-websocket-extensions", "permessage-deflate"),
        ("x-forwarded-for", "127.0.0.1"),
    ] {
        assert_eq!(values(name), [value], "{name}");
    }
    let keys = values("sec-websocket-key");
    assert!(keys.len() == 1 && STANDARD.decode(&keys[0]).unwrap().len() == 16, "{keys:?}");
    assert!(values("content-length").is_empty() && values("client_cert").is_empty());
    for name in ["wicketgate-assertion", "client-cert"] {
        let ours = values(name);
        assert!(ours.len() == 1 && ours[0] != "forged", "{name}: {ours:?}");
    }
    // What would open the stream here and opens nothing there.
    for path in ["/", "/wrong-accept"] {
        let (status, _, problem) = visitor.refused(connect(path, Some("websocket"))).await;
        assert_eq!((status, &problem["code"]), (502, &"upstream_unavailable".into()), "{path}");
    }
    assert_eq!(visitor.status("/").await, 200);
}

#[tokio::test]
async fn only_websockets_are_opened_and_only_with_a_permit() {
    let world = World::start().await;
    let anonymous = Visitor::connect(&world, None).await;
    for protocol in [None, Some("connect-udp")] {
        let (status, _, problem) = anonymous.refused(connect("/public/ws", protocol)).await;
        assert_eq!((status, &problem["code"]), (400, &"bad_request".into()), "{protocol:?}");
    }
    let mut elsewhere = connect("/ws", Some("websocket"));
    *elsewhere.uri_mut() = "https://strict.test/ws".parse().unwrap();
    let (status, ..) = anonymous.refused(elsewhere).await;
    assert_eq!(status, 421);
    let (status, _, problem) = anonymous.refused(connect("/ws", Some("websocket"))).await;
    assert_eq!((status, &problem["code"]), (403, &"certificate_required".into()));
    let device = world.enrol().await;
    let (status, _, problem) =
        Visitor::connect(&world, Some(&device)).await.refused(connect("/board/ws", Some("websocket"))).await;
    assert_eq!((status, &problem["code"]), (403, &"access_denied".into()));
    assert_eq!(world.backend.requests(), 0);
}

#[tokio::test]
async fn it_counts_as_a_request_against_the_limits() {
    let one = RateRule { per: RatePer::Everyone, requests: 1, seconds: 3_600, burst: None };
    let world = World::with(
        |_| {},
        |data| {
            let route = data.routes.iter_mut().find(|route| route.path_prefix == "/public");
            route.unwrap().options.rate = vec![one];
        },
    )
    .await;
    let visitor = Visitor::connect(&world, None).await;
    let mut tunnel = visitor.open("/public/ws").await;
    let (status, headers, problem) = visitor.refused(connect("/public/ws", Some("websocket"))).await;
    assert_eq!((status, &problem["limit"]), (429, &"route".into()));
    assert!(headers.contains_key("retry-after"));
    tunnel.echoes("what is open is open").await;
}

#[tokio::test]
async fn a_revoked_certificate_loses_its_tunnels_and_no_other() {
    let world = World::start().await;
    let (device, other) = (world.enrol().await, world.enrol().await);
    let (mine, others) =
        (Visitor::connect(&world, Some(&device)).await, Visitor::connect(&world, Some(&other)).await);
    // Nobody asks who opens the second, and yet it is part of a connection that has lost who was behind it.
    let mut tunnels = [mine.open("/ws").await, mine.open("/public/ws").await];
    let mut neighbour = others.open("/ws").await;
    open_tunnels(&world, 3).await;
    world.revoke(&device).await;
    let began = Instant::now();
    for tunnel in &mut tunnels {
        assert!(tunnel.ends().await);
    }
    assert!(began.elapsed() < SOON);
    neighbour.echoes("still here").await;
    assert_eq!(others.status("/").await, 200);
    open_tunnels(&world, 1).await;
}

#[tokio::test]
async fn a_lost_permission_ends_its_tunnel_and_nothing_else_of_the_connection() {
    let world = World::start().await;
    let mut promoted = world.anna.clone();
    promoted.groups.insert("board".parse().unwrap());
    world.apply(vec![Delta::Person(promoted)]).await;
    let device = world.enrol().await;
    let visitor = Visitor::connect(&world, Some(&device)).await;
    let mut by_group = visitor.open("/board/ws").await;
    let mut by_route = visitor.open("/ws").await;
    world.apply(vec![Delta::Person(world.anna.clone())]).await;
    assert!(by_group.is_reset().await, "not in the group any more");
    by_route.echoes("still here").await;
    assert_eq!(visitor.status("/").await, 200);
    let mut data = world.data.clone();
    data.routes.retain(|route| route.path_prefix == "/public");
    world.publish(data).await;
    assert!(by_route.is_reset().await, "the route is gone");
    assert_eq!(visitor.status("/public").await, 200);
}

#[tokio::test]
async fn a_silent_tunnel_is_reset_at_the_idle_timeout() {
    let world = World::with_settings(|settings| settings.idle_timeout = Duration::from_millis(300)).await;
    let mut tunnel = Visitor::connect(&world, None).await.open("/public/ws").await;
    assert!(tunnel.is_reset().await);
    open_tunnels(&world, 0).await;
}

#[tokio::test]
async fn a_drain_waits_for_no_tunnel() {
    let world = World::start().await;
    let visitor = Visitor::connect(&world, None).await;
    let mut tunnel = visitor.open("/public/ws").await;
    let began = Instant::now();
    assert_eq!(world.edge.drain().await, Drained { open: 1, cut: 0 });
    assert!(began.elapsed() < SOON);
    assert!(tunnel.ends().await);
    open_tunnels(&world, 0).await;
}

/// Acknowledges every message twice, and measures the line beside.
#[tokio::test]
async fn a_lively_tunnel_accounts_for_the_frames_that_come_with_it() {
    const MESSAGES: usize = 3_000;
    let world = World::start().await;
    let stream = shake(&world, APP, tls(&world, None, &[b"h2"])).await.unwrap();
    let mut line = Line::open(stream, WINDOW).await.unwrap();
    line.round_trip().await.unwrap();
    let tunnel = line.stream();
    let block = [
        kept(":method", b"CONNECT"),
        // All but the method.
        head(GET, "/public/ws").split_off(1),
        kept(":protocol", b"websocket"),
    ]
    .concat();
    line.send(&frame(HEADERS, END_HEADERS, tunnel, &block)).await.unwrap();
    let update = 4_u32.to_be_bytes();
    let beside = [
        frame(WINDOW_UPDATE, 0, tunnel, &update),
        frame(WINDOW_UPDATE, 0, 0, &update),
        frame(PING, 0, 0, &[0xff; 8]),
    ]
    .concat();
    for number in 0..MESSAGES {
        line.send(&frame(DATA, 0, tunnel, b"ping")).await.unwrap();
        let mut heard = 0;
        while heard < 4 {
            let next = timeout(PATIENCE, line.hear()).await.unwrap().unwrap();
            assert!(![RST_STREAM, GOAWAY].contains(&next.kind), "{number}");
            heard += if next.kind == DATA { next.content.len() } else { 0 };
        }
        line.send(&beside).await.unwrap();
    }
    line.round_trip().await.expect("the connection goes on");
}
