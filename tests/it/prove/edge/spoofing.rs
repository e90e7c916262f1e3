//! No header of a visitor's reaches a backend that could take it for one of ours.

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use serde_json::Value;

use super::wire::Raw;
use crate::edge::client::{Http, Visitor, connect, tls};
use crate::edge::fixture::{APP, Device, World, known, route};
use crate::prove::Proof;
use crate::prove::seed::Seed;

/// Names that tell a backend who calls, and from where; the last two are headers of routes.
const NAMES: [&str; 23] = [
    "client-cert",
    "client-cert-chain",
    "wicketgate-assertion",
    "x-client-cert",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-real-ip",
    "true-client-ip",
    "client-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "cf-connecting-ip",
    "fastly-client-ip",
    "forwarded",
    "x-forwarded",
    // Another path than the one that was judged.
    "script-name",
    "x-script-name",
    "path-info",
    "x-original-url",
    "x-rewrite-url",
    "x-webauth-user",
    "remote-user",
];
/// Families whose every member is ours.
const FAMILIES: [&str; 3] = ["client-cert", "wicketgate-", "x-forwarded-"];
/// What may stand in a field's name besides letters and digits (RFC 9110 §5.6.2).
const MARKS: &[u8] = b"-_.~!#$&'*+^|`%";
/// Where the routes lie, and whether only known people pass.
const PATHS: [(&str, bool); 4] = [("/public", false), ("/", true), ("/grafana", true), ("/wiki", true)];

/// A spelling that a backend behind CGI, or one that ignores case, would take for the name.
fn spelling(seed: &mut Seed, mixes_case: bool) -> String {
    let mut name = (*seed.one_of(&NAMES)).to_owned();
    if seed.below(4) == 0 {
        name = (*seed.one_of(&FAMILIES)).to_owned();
        let more = 1 + seed.below(6);
        name.extend((0..more).map(|_| char::from(*seed.one_of(b"abcxyz019-_"))));
    }
    let octets = name.bytes().map(|octet| match octet {
        b'-' | b'_' if seed.below(2) == 0 => *seed.one_of(MARKS),
        letter if mixes_case && seed.below(2) == 0 => letter.to_ascii_uppercase(),
        other => other,
    });
    octets.map(char::from).collect()
}

/// A name as CGI and its heirs see it.
fn folded(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' }).collect()
}

/// What a backend saw that it should not have seen, or not so.
fn fault(seen: &Value) -> Option<String> {
    let lines = |part: &str| -> Vec<(String, String)> {
        let lines = seen[part].as_array().into_iter().flatten();
        lines.map(|line| (line[0].as_str().unwrap().into(), line[1].as_str().unwrap().into())).collect()
    };
    let (headers, trailers) = (lines("headers"), lines("trailers"));
    if let Some((name, _)) = headers.iter().chain(&trailers).find(|(_, value)| value.contains("forged")) {
        return Some(format!("{name} reached the backend"));
    }
    for name in NAMES {
        let same = headers.iter().filter(|(other, _)| folded(other) == folded(name));
        if same.count() > 1 {
            return Some(format!("{name} is there twice"));
        }
    }
    let kept = headers.iter().filter(|line| **line == ("x-kept".to_owned(), "kept".to_owned()));
    (kept.count() != 1).then(|| "a field of no meaning did not go on".to_owned())
}

/// One forged request over HTTP/1.1, written by hand: names in any case, in any order, named in Connection
/// and Trailer, behind the body.
fn by_hand(seed: &mut Seed, path: &str) -> Vec<u8> {
    let names: Vec<String> = (0..1 + seed.below(6)).map(|_| spelling(seed, true)).collect();
    let mut lines: Vec<String> =
        names.iter().flat_map(|name| vec![format!("{name}: forged"); 1 + name.len() % 2]).collect();
    lines.push("x-kept: kept".to_owned());
    if seed.below(3) == 0 {
        lines.push(format!("connection: keep-alive, {}", names.join(", ")));
    }
    let has_body = seed.below(3) == 0;
    if has_body {
        lines.push(format!("trailer: {}", names.join(", ")));
        lines.push("transfer-encoding: chunked".to_owned());
    }
    for at in (1..lines.len()).rev() {
        lines.swap(at, seed.below(at as u64 + 1) as usize);
    }
    let method = if has_body { "POST" } else { "GET" };
    let mut text = format!("{method} {path} HTTP/1.1\r\nhost: {APP}\r\n{}\r\n\r\n", lines.join("\r\n"));
    if has_body {
        text += "2\r\nab\r\n0\r\n";
        names.iter().for_each(|name| text += &format!("{name}: forged\r\n"));
        text += "\r\n";
    }
    text.into_bytes()
}

/// The same over HTTP/2, where names are lower case.
async fn by_http_2(seed: &mut Seed, visitor: &mut Visitor, path: &str) -> (u16, Value) {
    let names: Vec<HeaderName> =
        (0..1 + seed.below(6)).map(|_| spelling(seed, false).parse().unwrap()).collect();
    let forged = HeaderValue::from_static("forged");
    let mut request = match seed.below(3) {
        0 => {
            let mut trailers = HeaderMap::new();
            for name in &names {
                trailers.append(name, forged.clone());
            }
            let frames = [Frame::data(Bytes::from_static(b"ab")), Frame::trailers(trailers)];
            let body = StreamBody::new(stream::iter(frames.map(Ok))).boxed();
            visitor.request(Method::POST, APP, path).map(|_| body)
        }
        _ => visitor.request(Method::GET, APP, path),
    };
    for name in names {
        for _ in 0..1 + name.as_str().len() % 2 {
            request.headers_mut().append(&name, forged.clone());
        }
    }
    request.headers_mut().insert("x-kept", HeaderValue::from_static("kept"));
    let answer = visitor.ask(request).await;
    (answer.status, serde_json::from_slice(&answer.body).unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spoofing() {
    let proof = Proof::of("spoofing");
    let requests = proof.size(240, 12_000);
    let configure = |data: &mut wicketgate::live::ConfigurationData| {
        let mut wiki = route(APP, "/wiki", known());
        wiki.plain_header = Some("Remote-User".into());
        data.routes.push(wiki);
    };
    let world = World::with(|_| {}, configure).await;
    let device = world.enrol().await;
    let port = world.edge.https_addresses()[0].port();
    let mut seed = Seed::of(12);
    let mut wrong = Vec::new();
    let visitors: [Option<&Device>; 2] = [None, Some(&device)];
    let mut by_one = Vec::new();
    let mut by_two = Vec::new();
    for device in visitors {
        by_one.push(Raw::connect(port, APP, tls(&world, device, &[b"http/1.1"]), false).await.unwrap());
        by_two.push(connect(&world, APP, device, Http::Two).await);
    }
    for number in 0..requests {
        let (path, is_for_known) = *seed.one_of(&PATHS);
        let who = if is_for_known { 1 } else { seed.below(2) as usize };
        let (status, seen) = if number % 2 == 0 {
            let text = by_hand(&mut seed, path);
            let answer = by_one[who].ask(&text).await.unwrap();
            (answer.status, answer.seen().unwrap_or_default())
        } else {
            by_http_2(&mut seed, &mut by_two[who], path).await
        };
        let fault = if status == 200 { fault(&seen) } else { Some(format!("status {status}")) };
        wrong.extend(fault.map(|fault| format!("request {number}: {fault}")));
        proof.progress(number, requests);
    }
    let measured = format!(
        "{requests} forged requests, {} of them with a header that a backend could take for ours{}",
        wrong.len(),
        wrong.iter().take(3).map(|fault| format!("; {fault}")).collect::<String>()
    );
    proof.end(requests, wrong.is_empty(), &measured);
}
