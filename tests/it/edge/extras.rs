//! What a route adds to its app's answers: headers, harder cookies, compression; and a page while it is closed.

use std::collections::BTreeSet;
use std::io::Read;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use wicketgate::domain::PersonId;
use wicketgate::domain::route::{Allowed, Maintenance, RouteOptions};
use wicketgate::live::{ConfigurationData, Delta};
use wicketgate::telemetry::metrics::RefusalCode;

use super::client::{Answer, Http, PATIENCE, Visitor, connect, read, until};
use super::fixture::{APP, World};
use crate::harness::log::Captured;

/// An app that answers each path with the same octets always, and closes; and waits between pieces for a word.
#[derive(Clone)]
struct App {
    address: SocketAddr,
    go_on: Arc<Notify>,
}

impl App {
    async fn start(answers: Vec<(&'static str, Vec<Vec<u8>>)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let app = Self { address: listener.local_addr().unwrap(), go_on: Arc::default() };
        let (go_on, answers) = (app.go_on.clone(), Arc::new(answers));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (go_on, answers) = (go_on.clone(), answers.clone());
                tokio::spawn(async move {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        head.push(stream.read_u8().await?);
                    }
                    let head = String::from_utf8(head).unwrap();
                    let path = head.split(' ').nth(1).unwrap();
                    let (_, pieces) = answers.iter().find(|(known, _)| *known == path).expect(path);
                    for (number, piece) in pieces.iter().enumerate() {
                        if number > 0 {
                            go_on.notified().await;
                        }
                        stream.write_all(piece).await?;
                    }
                    stream.shutdown().await
                });
            }
        });
        app
    }
}

/// An answer with these lines, and a length that is said.
fn answer(lines: &str, body: &[u8]) -> Vec<Vec<u8>> {
    let length = body.len();
    let head = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {length}\r\n{lines}\r\n");
    vec![[head.as_bytes(), body].concat()]
}

/// A world in whose place of the public route this app stands, with these options.
async fn world(app: &App, options: serde_json::Value) -> World {
    let (address, options) = (app.address, serde_json::from_value::<RouteOptions>(options).unwrap());
    World::with(
        |settings| settings.threads = 1,
        |data| {
            data.upstreams[0].targets = vec![format!("http://{address}")];
            *public(data) = options;
        },
    )
    .await
}

fn public(data: &mut ConfigurationData) -> &mut RouteOptions {
    &mut data.routes.iter_mut().find(|route| route.path_prefix == "/public").unwrap().options
}

async fn get_with(visitor: &mut Visitor, path: &str, lines: &[(&'static str, &str)]) -> Answer {
    let mut request = visitor.request(Method::GET, APP, path);
    for (name, value) in lines {
        request.headers_mut().append(*name, value.parse().unwrap());
    }
    visitor.ask(request).await
}

fn values(headers: &HeaderMap, name: &str) -> Vec<String> {
    headers.get_all(name).iter().map(|value| value.to_str().unwrap().to_owned()).collect()
}

/// What a reader makes of it, and whether it is whole.
fn unpacked(coding: &str, packed: &[u8]) -> (Vec<u8>, bool) {
    let mut out = Vec::new();
    let outcome = match coding {
        "gzip" => flate2::read::GzDecoder::new(packed).read_to_end(&mut out),
        "zstd" => zstd::stream::read::Decoder::new(packed).unwrap().read_to_end(&mut out),
        other => panic!("{other}"),
    };
    (out, outcome.is_ok())
}

fn text() -> Vec<u8> {
    (0..40_000).flat_map(|number| format!("line {number}\n").into_bytes()).collect()
}

#[tokio::test]
async fn headers_are_added_where_the_app_has_none_and_hsts_is_the_routes() {
    let own = "x-frame-options: SAMEORIGIN\r\nstrict-transport-security: max-age=1\r\n";
    let app = App::start(vec![("/public/bare", answer("", b"x")), ("/public/own", answer(own, b"x"))]).await;
    let options = |replaces: bool| {
        json!({ "headers": {
            "hsts": { "max_age_seconds": 31_536_000, "include_subdomains": true, "preload": true },
            "frame_options": "deny", "content_security_policy": "default-src 'self'",
            "content_type_options": true, "override": replaces,
        } })
    };
    let listed = "max-age=31536000; includeSubDomains; preload";
    for (replaces, frames, hsts) in [(false, "SAMEORIGIN", "max-age=1"), (true, "DENY", listed)] {
        let world = world(&app, options(replaces)).await;
        for http in [Http::One, Http::Two] {
            let mut visitor = connect(&world, APP, None, http).await;
            let bare = visitor.get(APP, "/public/bare").await.headers;
            assert_eq!(values(&bare, "x-frame-options"), ["DENY"]);
            assert_eq!(values(&bare, "strict-transport-security"), [listed]);
            assert_eq!(values(&bare, "content-security-policy"), ["default-src 'self'"]);
            assert_eq!(values(&bare, "x-content-type-options"), ["nosniff"]);
            let own = visitor.get(APP, "/public/own").await.headers;
            assert_eq!(values(&own, "x-frame-options"), [frames], "{http:?}");
            assert_eq!(values(&own, "strict-transport-security"), [hsts], "{http:?}");
            // A route without options, and a refusal: the site's.
            let refused = visitor.get(APP, "/").await;
            assert_eq!(refused.status, 403);
            assert_eq!(values(&refused.headers, "strict-transport-security"), ["max-age=3600"]);
            assert!(values(&refused.headers, "x-frame-options").is_empty());
        }
    }
}

#[tokio::test]
async fn cookies_are_hardened_line_by_line() {
    let lines = "set-cookie: a=1; Path=/\r\nset-cookie: __Host-b=\"2\"; Path=/; Secure; SameSite=None\r\n";
    let app = App::start(vec![("/public", answer(lines, b"x"))]).await;
    let options = json!({ "cookies": { "secure": true, "http_only": true, "same_site": "strict" } });
    let world = world(&app, options).await;
    for http in [Http::One, Http::Two] {
        let answer = connect(&world, APP, None, http).await.get(APP, "/public").await;
        assert_eq!(
            values(&answer.headers, "set-cookie"),
            [
                "a=1; Path=/; Secure; HttpOnly; SameSite=Strict",
                "__Host-b=\"2\"; Path=/; Secure; HttpOnly; SameSite=Strict"
            ],
            "{http:?}"
        );
    }
}

#[tokio::test]
async fn text_is_compressed_for_who_takes_it_and_is_the_same_afterwards() {
    let logs = Captured::start("off,access=info");
    let text = text();
    let lines = "content-type: text/plain\r\netag: \"1\"\r\naccept-ranges: bytes\r\n";
    let app = App::start(vec![("/public", answer(lines, &text))]).await;
    let world = world(&app, json!({ "compression": true })).await;
    let mut sent = Vec::new();
    for http in [Http::One, Http::Two] {
        let mut visitor = connect(&world, APP, None, http).await;
        for coding in ["gzip", "zstd"] {
            let answer = get_with(&mut visitor, "/public", &[("accept-encoding", coding)]).await;
            assert_eq!(values(&answer.headers, "content-encoding"), [coding], "{http:?}");
            assert_eq!(values(&answer.headers, "vary"), ["Accept-Encoding"]);
            assert_eq!(values(&answer.headers, "etag"), ["W/\"1\""]);
            assert!(values(&answer.headers, "content-length").is_empty());
            assert!(values(&answer.headers, "accept-ranges").is_empty());
            assert!(answer.body.len() < text.len() / 2);
            assert!(unpacked(coding, &answer.body) == (text.clone(), true), "{http:?} {coding}");
            sent.push(answer.body.len() as u64);
        }
        let plain = visitor.get(APP, "/public").await;
        assert_eq!(plain.body, text);
        assert_eq!(values(&plain.headers, "etag"), ["\"1\""]);
        assert_eq!(values(&plain.headers, "vary"), ["Accept-Encoding"], "caches are told all the same");
        sent.push(text.len() as u64);
    }
    until("every request has its line", || logs.saying("request").len() == sent.len()).await;
    let lines = logs.saying("request");
    let mut logged: Vec<_> = lines.iter().map(|line| line["bytes"].as_u64().unwrap()).collect();
    logged.sort_unstable();
    sent.sort_unstable();
    assert_eq!(logged, sent, "what has gone out, not what the app sent");
    assert!(lines.iter().all(|line| line["whole"] == true));
}

#[tokio::test]
async fn what_is_not_for_compressing_goes_out_as_it_is() {
    let text = text();
    let head = |status: &str, lines: &str| {
        format!("HTTP/1.1 {status}\r\nconnection: close\r\n{lines}\r\n").into_bytes()
    };
    let app = App::start(vec![
        ("/public/image", answer("content-type: image/png\r\n", &text)),
        ("/public/coded", answer("content-type: text/plain\r\ncontent-encoding: br\r\n", &text)),
        ("/public/kept", answer("content-type: text/plain\r\ncache-control: no-transform\r\n", &text)),
        ("/public/events", answer("content-type: text/event-stream\r\n", &text)),
        ("/public/small", answer("content-type: text/plain\r\n", b"small")),
        (
            "/public/part",
            vec![
                head(
                    "206 Partial Content",
                    "content-type: text/plain\r\ncontent-range: bytes 0-3/9\r\ncontent-length: 4\r\n",
                )
                .into_iter()
                .chain(*b"part")
                .collect(),
            ],
        ),
        ("/public/none", vec![head("204 No Content", "content-type: text/plain\r\n")]),
        ("/public/same", vec![head("304 Not Modified", "etag: \"1\"\r\n")]),
        ("/public/head", vec![head("200 OK", "content-type: text/plain\r\ncontent-length: 5000\r\n")]),
    ])
    .await;
    let world = world(&app, json!({ "compression": true })).await;
    for http in [Http::One, Http::Two] {
        let mut visitor = connect(&world, APP, None, http).await;
        for path in ["image", "coded", "kept", "events", "small", "part", "none", "same"] {
            let path = format!("/public/{path}");
            let answer = get_with(&mut visitor, &path, &[("accept-encoding", "gzip, zstd")]).await;
            let coding = values(&answer.headers, "content-encoding");
            assert!(coding.is_empty() || coding == ["br"], "{http:?} {path} {coding:?}");
            if answer.body.len() > 5 {
                assert_eq!(answer.body, text, "{http:?} {path}");
            }
            if answer.status == 304 {
                assert_eq!(values(&answer.headers, "etag"), ["W/\"1\""]);
            }
        }
        let mut request = visitor.request(Method::HEAD, APP, "/public/head");
        request.headers_mut().append("accept-encoding", "gzip".parse().unwrap());
        let answer = visitor.ask(request).await;
        assert!(answer.body.is_empty() && values(&answer.headers, "content-encoding").is_empty());
        assert_eq!(values(&answer.headers, "vary"), ["Accept-Encoding"]);
    }
}

/// Reads what comes, and says whether it broke off.
async fn breaks_off(mut body: Incoming, all: &mut Vec<u8>) -> bool {
    while let Some(frame) = tokio::time::timeout(PATIENCE, body.frame()).await.expect("an end") {
        let Ok(frame) = frame else { return true };
        if let Some(data) = frame.data_ref() {
            all.extend_from_slice(data);
        }
    }
    false
}

#[tokio::test]
async fn an_answer_that_breaks_off_does_not_look_whole_when_compressed() {
    let half = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 900000\r\n\r\n";
    let app = App::start(vec![("/public", vec![[&half[..], &text()].concat()])]).await;
    let world = world(&app, json!({ "compression": true })).await;
    for http in [Http::One, Http::Two] {
        for coding in ["gzip", "zstd"] {
            let mut visitor = connect(&world, APP, None, http).await;
            let mut request = visitor.request(Method::GET, APP, "/public");
            request.headers_mut().append("accept-encoding", coding.parse().unwrap());
            let mut all = Vec::new();
            // All at once, it may break off before its head has gone out.
            let is_broken = match visitor.send(request).await {
                Err(_) => true,
                Ok(response) => breaks_off(response.into_body(), &mut all).await,
            };
            assert!(is_broken, "{http:?} {coding}: the connection says so");
            assert!(all.is_empty() || !unpacked(coding, &all).1, "{http:?} {coding}: so does what came");
        }
    }
}

#[tokio::test]
async fn a_slow_stream_flows_when_compressed() {
    let head = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: application/x-ndjson\r\n\
                transfer-encoding: chunked\r\n\r\n6\r\nfirst\n\r\n";
    let pieces = vec![head.as_bytes().to_vec(), b"7\r\nsecond\n\r\n".to_vec(), b"0\r\n\r\n".to_vec()];
    let app = App::start(vec![("/public", pieces)]).await;
    let world = world(&app, json!({ "compression": true })).await;
    for http in [Http::One, Http::Two] {
        for coding in ["gzip", "zstd"] {
            let mut visitor = connect(&world, APP, None, http).await;
            let mut request = visitor.request(Method::GET, APP, "/public");
            request.headers_mut().append("accept-encoding", coding.parse().unwrap());
            let response = visitor.send(request).await.unwrap();
            assert_eq!(values(response.headers(), "content-encoding"), [coding]);
            let (mut body, mut all) = (response.into_body(), Vec::new());
            for said in ["first\n", "first\nsecond\n"] {
                while unpacked(coding, &all).0 != said.as_bytes() {
                    let frame = tokio::time::timeout(PATIENCE, body.frame()).await.expect("the next piece");
                    all.extend(frame.unwrap().unwrap().into_data().unwrap_or_else(|_| Bytes::new()));
                }
                app.go_on.notify_one();
            }
            let rest = tokio::time::timeout(PATIENCE, body.collect()).await.expect("the end").unwrap();
            all.extend(rest.to_bytes());
            assert_eq!(unpacked(coding, &all), (b"first\nsecond\n".to_vec(), true), "{http:?}");
        }
    }
}

#[tokio::test]
async fn a_closed_route_says_so_to_all_but_those_who_work_on_it() {
    let mut world = World::start().await;
    let (anna, other) = (world.enrol().await, PersonId::new());
    let mut ben = world.anna.clone();
    (ben.id, ben.groups) = (other, BTreeSet::from(["board".parse().unwrap()]));
    world.apply(vec![Delta::Person(ben)]).await;
    let ben = world.enrol_for(other, PATIENCE * 1_000).await;
    let closed = Maintenance {
        enabled: true,
        message: Some("Back at <noon>".to_owned()),
        retry_after_seconds: Some(120),
        allow: Allowed { groups: BTreeSet::from(["board".parse().unwrap()]), ..Allowed::default() },
    };
    for route in &mut world.data.routes {
        route.options.maintenance = Some(closed.clone());
    }
    world.publish(world.data.clone()).await;
    let asked = world.backend.requests();
    for http in [Http::One, Http::Two] {
        let mut stranger = connect(&world, APP, None, http).await;
        let answer = stranger.get(APP, "/public").await;
        assert_eq!((answer.status, answer.code().as_str()), (503, "maintenance"), "{http:?}");
        assert_eq!(answer.json()["detail"], "Back at <noon>");
        assert_eq!(values(&answer.headers, "retry-after"), ["120"]);
        let page = get_with(&mut stranger, "/public", &[("accept", "text/html")]).await;
        let page = String::from_utf8(page.body.to_vec()).unwrap();
        assert!(page.contains("Closed for maintenance") && page.contains("Back at &lt;noon&gt;"), "{page}");
        let answer = stranger.get(APP, "/").await;
        assert_eq!(answer.code(), "certificate_required", "the policy comes first");
        let mut visitor = connect(&world, APP, Some(&anna), http).await;
        for path in ["/", "/public"] {
            assert_eq!(visitor.get(APP, path).await.code(), "maintenance");
        }
        assert_eq!(visitor.get(APP, "/board").await.code(), "access_denied");
    }
    assert_eq!(world.backend.requests(), asked, "the app heard nothing of it");
    assert_eq!(world.metrics.refused.value(RefusalCode::Maintenance), 8);
    for http in [Http::One, Http::Two] {
        let mut visitor = connect(&world, APP, Some(&ben), http).await;
        for path in ["/", "/public", "/board"] {
            assert_eq!(visitor.get(APP, path).await.status, 200, "{path}");
        }
    }
    let mut visitor = connect(&world, APP, Some(&anna), Http::Two).await;
    assert_eq!(visitor.get(APP, "/").await.status, 503);
    for route in &mut world.data.routes {
        route.options.set_maintenance(false);
    }
    world.publish(world.data.clone()).await;
    assert_eq!(visitor.get(APP, "/").await.status, 200, "on the same connection");
}

#[tokio::test]
async fn a_large_answer_is_compressed_piece_by_piece() {
    let large: Vec<u8> = (0..2_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 26) as u8).collect();
    let app = App::start(vec![("/public", answer("content-type: application/json\r\n", &large))]).await;
    let world = world(&app, json!({ "compression": true })).await;
    for http in [Http::One, Http::Two] {
        for coding in ["gzip", "zstd"] {
            let mut visitor = connect(&world, APP, None, http).await;
            let mut request = visitor.request(Method::GET, APP, "/public");
            request.headers_mut().append("accept-encoding", coding.parse().unwrap());
            let answer = read(visitor.send(request).await.unwrap()).await;
            assert!(unpacked(coding, &answer.body) == (large.clone(), true), "{http:?} {coding}");
        }
    }
}
