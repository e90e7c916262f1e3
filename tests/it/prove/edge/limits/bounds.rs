//! Bodies and heads that are too large, or come too slowly; and an app that has no room.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;
use wicketgate::telemetry::metrics::RefusalCode;

use super::Report;
use crate::edge::client::{Body, Http, connect, raw, read_all, shake, tls, until};
use crate::edge::fixture::{APP, World};

const SHORT: Duration = Duration::from_millis(200);
const BOTH: [Http; 2] = [Http::One, Http::Two];

/// A body of so many octets, which may say how many.
fn body(octets: usize, is_declared: bool) -> Body {
    let bytes = Bytes::from(vec![7; octets]);
    match is_declared {
        true => Full::new(bytes).map_err(|never| match never {}).boxed(),
        false => StreamBody::new(futures_util::stream::iter([Ok(Frame::data(bytes))])).boxed(),
    }
}

/// 413: the edge's bound, and a route's.
pub(super) async fn bodies(report: &mut Report) {
    let world = World::with_settings(|settings| settings.max_body = Some(1_000)).await;
    for http in BOTH {
        for is_declared in [true, false] {
            for (octets, status) in [(1_000, 200), (1_001, 413)] {
                let mut visitor = connect(&world, APP, None, http).await;
                let request =
                    visitor.request(Method::POST, APP, "/public").map(|_| body(octets, is_declared));
                let seen = visitor.ask(request).await.status;
                report.see(seen == status, || format!("{http:?}: {seen} for {octets} octets, {is_declared}"));
            }
        }
    }
    let world = World::with(
        |settings| settings.max_body = Some(1_000),
        |data| {
            let public = data.routes.iter_mut().find(|route| route.path_prefix == "/public");
            public.unwrap().options.max_body_mib = Some(1);
        },
    )
    .await;
    for http in BOTH {
        let mut visitor = connect(&world, APP, None, http).await;
        let request = visitor.request(Method::POST, APP, "/public").map(|_| body(1 << 20, true));
        let seen = visitor.ask(request).await.status;
        report.see(seen == 200, || format!("{http:?}: {seen} for what the route takes"));
    }
    let head = b"POST /public HTTP/1.1\r\nhost: app.test\r\ncontent-length: 1048577\r\n\r\n";
    let answer = raw(&world, APP, None, head).await;
    report.see(answer.starts_with("HTTP/1.1 413 "), || format!("more than the route takes: {answer}"));
    report.notes.push("413 by length and by octets, at the edge's bound and a route's".to_owned());
}

/// 431: octets and fields.
pub(super) async fn heads(report: &mut Report) {
    let world = World::start().await;
    let long = format!("GET /public HTTP/1.1\r\nhost: app.test\r\nx: {}\r\n\r\n", "x".repeat(17_000));
    let many = format!("GET /public HTTP/1.1\r\nhost: app.test\r\n{}\r\n", "x: 1\r\n".repeat(200));
    for head in [long, many] {
        let answer = raw(&world, APP, None, head.as_bytes()).await;
        report.see(answer.starts_with("HTTP/1.1 431 "), || answer.chars().take(100).collect());
    }
    for (fields, length) in [(1, 17_000), (200, 1)] {
        let mut visitor = connect(&world, APP, None, Http::Two).await;
        let mut request = visitor.request(Method::GET, APP, "/public");
        for _ in 0..fields {
            request.headers_mut().append("x", HeaderValue::try_from("x".repeat(length)).unwrap());
        }
        let seen = visitor.send(request).await.map(|answer| answer.status().as_u16());
        report.see(matches!(seen, Ok(431)), || format!("{fields} fields of {length} octets: {seen:?}"));
        let next = visitor.get(APP, "/public").await.status;
        report.see(next == 200, || format!("{next} after a head that was too large"));
    }
    // Those of HTTP/1.1, and the fields of HTTP/2; the size of those is judged before there is a request.
    let counted = || world.metrics.refused.value(RefusalCode::HeadersTooLarge);
    until("they are counted", || counted() == 3).await;
    report.see(world.backend.requests() == 2, || format!("{} came through", world.backend.requests()));
    report.notes.push("431 by octets and by fields".to_owned());
}

/// 408: heads and bodies that stop.
pub(super) async fn slowness(report: &mut Report) {
    let world = World::with_settings(|settings| {
        settings.header_timeout = SHORT;
        settings.body_timeout = SHORT;
    })
    .await;
    let mut slow = shake(&world, APP, tls(&world, None, &[b"http/1.1"])).await.unwrap();
    slow.write_all(b"GET /public HTTP/1.1\r\nhost: app").await.unwrap();
    let answer = read_all(&mut slow).await;
    report.see(answer.starts_with("HTTP/1.1 408 "), || format!("a slow head: {answer}"));
    for http in BOTH {
        let mut visitor = connect(&world, APP, None, http).await;
        let piece = Ok(Frame::data(Bytes::from_static(b"some")));
        let pieces = futures_util::stream::iter([piece]);
        let stalling = futures_util::StreamExt::chain(pieces, futures_util::stream::pending());
        let request =
            visitor.request(Method::POST, APP, "/public").map(|_| StreamBody::new(stalling).boxed());
        let answer = visitor.ask(request).await;
        let is_right = answer.status == 408 && answer.code() == "request_timeout";
        report.see(is_right, || format!("{http:?}: a slow body: {}", answer.status));
    }
    report.notes.push("408 for a slow head and slow bodies".to_owned());
}

/// 503 with Retry-After: an app with one place, which is taken.
pub(super) async fn room(report: &mut Report) {
    let world = World::with(
        |_| {},
        |data| {
            let options = &mut data.upstreams[0].options;
            (options.max_in_flight, options.max_queue) = (Some(1), 0);
        },
    )
    .await;
    let mut taking = JoinSet::new();
    let mut visitor = connect(&world, APP, None, Http::One).await;
    taking.spawn(async move {
        let request = visitor.request(Method::GET, APP, "/public/silent");
        visitor.send(request).await.map(drop)
    });
    until("the place is taken", || world.backend.requests() == 1).await;
    for http in BOTH {
        let answer = connect(&world, APP, None, http).await.get(APP, "/public").await;
        let again = answer.headers.get("retry-after").map(|value| value.as_bytes().to_vec());
        let is_right =
            (answer.status, &*answer.code(), again.as_deref()) == (503, "overloaded", Some(&b"1"[..]));
        report.see(is_right, || format!("{http:?}: no room: {} {again:?}", answer.status));
    }
    report.notes.push("503 with Retry-After without room".to_owned());
}
