//! HTTP/2 to targets: many streams on one connection, each with an end of its own; trailers; both directions at once.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::future::join_all;
use h2::Reason;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, header};
use hyper::body::Frame;
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc};
use wicketgate::domain::upstream::{CheckKind, Health, HealthCheck, Protocol, TlsOptions, UpstreamOptions};

use super::client::{Http, PATIENCE, connect, frame, pieces, until};
use super::fixture::{APP, Authority, World};
use super::origin::{Origin, Shows, pem};

async fn world(target: &str, adjust: impl FnOnce(&mut UpstreamOptions)) -> World {
    World::with(
        |settings| settings.threads = 1,
        |data| {
            data.upstreams[0].targets = vec![target.to_owned()];
            data.upstreams[0].options.protocol = Protocol::Http2;
            adjust(&mut data.upstreams[0].options);
        },
    )
    .await
}

#[tokio::test]
async fn many_requests_share_one_connection() {
    let own = Authority::new("own", "Own");
    let plain = Origin::plain(Http::Two).await;
    let over_tls = Origin::tls(Http::Two, Shows::of(&own, "localhost"), "localhost").await;
    let trusting = TlsOptions { ca: Some(pem(&own)), ..TlsOptions::default() };
    for (origin, scheme, tls) in [(plain, "http", None), (over_tls, "https", Some(trusting))] {
        let world = world(&origin.target, |options| options.tls = tls).await;
        let world = &world;
        let visits = (0..10).map(|number: usize| async move {
            let http = [Http::One, Http::Two][number % 2];
            let mut visitor = connect(world, APP, None, http).await;
            for _ in 0..5 {
                let answer = visitor.get(APP, "/public/a?b").await;
                let seen = answer.json();
                assert_eq!(seen["target"].as_str(), Some(&*format!("{scheme}://{APP}/public/a?b")));
                assert!(answer.seen("host").is_empty());
            }
        });
        join_all(visits).await;
        let connections = origin.connections();
        assert_eq!((connections.len(), connections[0].requests()), (1, 50));
    }
}

#[tokio::test]
async fn a_target_gets_no_more_streams_than_it_takes() {
    let origin = Origin::plain(Http::Two).await;
    origin.most_streams.store(2, Ordering::SeqCst);
    let world = world(&origin.target, |_| {}).await;
    let mut visitors = Vec::new();
    for _ in 0..6 {
        visitors.push(connect(&world, APP, None, Http::One).await);
    }
    let silence = visitors.iter_mut().map(|visitor| async move {
        let request = visitor.request(Method::GET, APP, "/public/silent");
        visitor.send(request).await
    });
    tokio::select! {
        _ = join_all(silence) => panic!("nobody answers"),
        () = until("all arrive", || origin.backend.requests() == 6) => {}
    }
    let each: Vec<_> = origin.connections().iter().map(|connection| connection.requests()).collect();
    assert_eq!(each, [2, 2, 2]);
}

#[tokio::test]
async fn a_goodbye_in_mid_traffic_costs_nobody_a_request() {
    let origin = Origin::plain(Http::Two).await;
    origin.leaves_after.store(7, Ordering::SeqCst);
    let world = world(&origin.target, |_| {}).await;
    let world = &world;
    let visits = (0..6).map(|_: usize| async move {
        let mut visitor = connect(world, APP, None, Http::Two).await;
        for _ in 0..20 {
            assert_eq!(visitor.get(APP, "/public").await.status, 200);
        }
    });
    join_all(visits).await;
    assert!(origin.connections().len() > 5);
    assert_eq!(origin.backend.requests(), 120);
}

/// A target of bare frames.
async fn bare<A>(answers: A) -> SocketAddr
where
    A: Fn(u64, Request<h2::RecvStream>, h2::server::SendResponse<Bytes>) + Clone + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let answers = answers.clone();
            tokio::spawn(async move {
                let Ok(mut connection) = h2::server::handshake(stream).await else { return };
                let mut number = 0;
                while let Some(Ok((request, respond))) = connection.accept().await {
                    number += 1;
                    answers(number, request, respond);
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn a_stream_that_is_refused_goes_elsewhere_whatever_it_asks_for() {
    let taken = Arc::new(AtomicU64::new(0));
    let most = Arc::new(AtomicU64::new(0));
    let (counted, highest) = (taken.clone(), most.clone());
    let address = bare(move |number, _, mut respond| {
        highest.fetch_max(number, Ordering::SeqCst);
        if number == 2 {
            respond.send_reset(Reason::REFUSED_STREAM);
        } else {
            counted.fetch_add(1, Ordering::SeqCst);
            respond.send_response(Response::new(()), true).unwrap();
        }
    })
    .await;
    let world = world(&format!("http://{address}"), |_| {}).await;
    let mut visitor = connect(&world, APP, None, Http::One).await;
    for _ in 0..6 {
        let request = visitor.request(Method::DELETE, APP, "/public");
        assert_eq!(visitor.ask(request).await.status, 200);
    }
    assert_eq!(taken.load(Ordering::SeqCst), 6, "each once");
    assert_eq!(most.load(Ordering::SeqCst), 6, "over the connection that has refused one stream");
}

#[tokio::test]
async fn a_stream_that_fails_is_not_sent_twice_and_costs_only_itself() {
    let asked = Arc::new(AtomicU64::new(0));
    let counted = asked.clone();
    let address = bare(move |number, _, mut respond| {
        counted.fetch_add(1, Ordering::SeqCst);
        match number {
            2 => respond.send_reset(Reason::INTERNAL_ERROR),
            _ => drop(respond.send_response(Response::new(()), true).unwrap()),
        }
    })
    .await;
    let world = world(&format!("http://{address}"), |_| {}).await;
    let mut visitor = connect(&world, APP, None, Http::One).await;
    for expected in [200, 502, 200] {
        let request = visitor.request(Method::DELETE, APP, "/public");
        assert_eq!(visitor.ask(request).await.status, expected);
    }
    assert_eq!(asked.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn an_answer_that_stops_is_not_taken_for_a_whole_one() {
    let cut = Arc::new(Notify::new());
    let waiting = cut.clone();
    let address = bare(move |_, _, mut respond| {
        let mut body = respond.send_response(Response::new(()), false).unwrap();
        body.send_data(Bytes::from_static(b"half"), false).unwrap();
        let waiting = waiting.clone();
        tokio::spawn(async move {
            waiting.notified().await;
            // As if everything had been said.
            body.send_reset(Reason::NO_ERROR);
        });
    })
    .await;
    let world = world(&format!("http://{address}"), |_| {}).await;
    for http in [Http::One, Http::Two] {
        let mut visitor = connect(&world, APP, None, http).await;
        let request = visitor.request(Method::GET, APP, "/public");
        let mut body = visitor.send(request).await.unwrap().into_body();
        assert_eq!(frame(&mut body).await.unwrap().into_data().unwrap(), "half");
        cut.notify_one();
        assert!(frame(&mut body).await.is_err(), "{http:?}");
    }
}

fn named(fields: &[(&'static str, &'static str)]) -> HeaderMap {
    let fields = fields.iter();
    fields.map(|&(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
}

#[tokio::test]
async fn both_directions_flow_at_once_and_trailers_go_on_without_identities() {
    let origin = Origin::plain(Http::Two).await;
    let world = world(&origin.target, |_| {}).await;
    let mut visitor = connect(&world, APP, None, Http::Two).await;
    let (sender, body) = pieces();
    let mut request = visitor.request(Method::POST, APP, "/public/flow").map(|_| body);
    request.headers_mut().insert(header::TE, HeaderValue::from_static("trailers"));
    request.headers_mut().insert(header::TRAILER, HeaderValue::from_static("x-checksum, client-cert"));
    // The head of the answer comes before anything of the upload.
    let answer = visitor.send(request).await.unwrap();
    assert_eq!(answer.status(), 200);
    let seen = |name: &str| answer.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    assert_eq!(seen("seen-te").as_deref(), Some("trailers"));
    assert_eq!(seen("seen-trailer").as_deref(), Some("x-checksum"));
    assert_eq!((seen("seen-scheme"), seen("seen-authority")), (Some("http".into()), Some(APP.into())));
    assert_eq!(seen("seen-host"), None);
    let mut flow = answer.into_body();
    for piece in ["one", "two", "three"] {
        sender.send(Frame::data(Bytes::from(piece))).unwrap();
        assert_eq!(frame(&mut flow).await.unwrap().into_data().unwrap(), piece);
    }
    let said =
        [("x-checksum", "1"), ("client_cert", "forged"), ("x-webauth-user", "forged"), ("forwarded", "a")];
    sender.send(Frame::trailers(named(&said))).unwrap();
    drop(sender);
    let trailers = frame(&mut flow).await.unwrap().into_trailers().unwrap();
    let names: BTreeSet<_> = trailers.keys().map(HeaderName::as_str).collect();
    assert_eq!(names, BTreeSet::from(["grpc-status", "seen-x-checksum"]));
}

#[tokio::test]
async fn a_visitor_who_leaves_ends_a_stream_and_no_connection() {
    let origin = Origin::plain(Http::Two).await;
    let world = world(&origin.target, |_| {}).await;
    let mut visitor = connect(&world, APP, None, Http::Two).await;
    for round in 1..=3 {
        let request = visitor.request(Method::GET, APP, "/public/silent");
        tokio::select! {
            _ = visitor.send(request) => panic!("nobody answers"),
            () = until("it arrives", || origin.backend.requests() == 2 * round - 1) => {}
        }
        until("it ends", || origin.dropped.load(Ordering::SeqCst) == round).await;
        assert_eq!(visitor.get(APP, "/public").await.status, 200);
    }
    assert_eq!(origin.connections().len(), 1);
}

#[tokio::test]
async fn an_upload_ends_with_its_answer() {
    let (taken, mut arrived) = mpsc::unbounded_channel();
    let address = bare(move |_, request, mut respond| {
        respond.send_response(Response::new(()), true).unwrap();
        taken.send(request.into_body()).unwrap();
    })
    .await;
    let world = world(&format!("http://{address}"), |_| {}).await;
    let mut visitor = connect(&world, APP, None, Http::Two).await;
    let (sender, body) = pieces();
    let request = visitor.request(Method::POST, APP, "/public").map(|_| body);
    assert_eq!(visitor.ask(request).await.status, 200);
    let mut upload = arrived.recv().await.unwrap();
    let ended = tokio::time::timeout(PATIENCE, upload.data()).await.expect("an end");
    assert_eq!(ended.unwrap().unwrap_err().reason(), Some(Reason::CANCEL));
    until("the visitor is told", || sender.send(Frame::data(Bytes::from_static(b"more"))).is_err()).await;
}

#[tokio::test]
async fn an_upload_that_the_target_does_not_take_ends_with_its_answer() {
    let (taken, mut arrived) = mpsc::unbounded_channel();
    let address = bare(move |_, request, mut respond| {
        let taken = taken.clone();
        tokio::spawn(async move {
            let (mut upload, mut octets) = (request.into_body(), 0);
            // The whole window, and no more of it after that.
            while octets < 65_535 {
                octets += upload.data().await.unwrap().unwrap().len();
            }
            respond.send_response(Response::new(()), true).unwrap();
            taken.send(upload).unwrap();
        });
    })
    .await;
    let world = world(&format!("http://{address}"), |_| {}).await;
    let mut visitor = connect(&world, APP, None, Http::Two).await;
    let (sender, body) = pieces();
    for _ in 0..8 {
        sender.send(Frame::data(Bytes::from_static(&[0; 16 * 1024]))).unwrap();
    }
    let request = visitor.request(Method::POST, APP, "/public").map(|_| body);
    assert_eq!(visitor.ask(request).await.status, 200);
    let mut upload = arrived.recv().await.unwrap();
    let ended = tokio::time::timeout(PATIENCE, upload.data()).await.expect("an end");
    assert_eq!(ended.unwrap().unwrap_err().reason(), Some(Reason::CANCEL));
}

#[tokio::test]
async fn a_late_answer_ends_a_stream_and_no_connection() {
    let origin = Origin::plain(Http::Two).await;
    let world = world(&origin.target, |options| options.answer_timeout_ms = Some(200)).await;
    let mut visitor = connect(&world, APP, None, Http::One).await;
    assert_eq!(visitor.get(APP, "/public").await.status, 200);
    assert_eq!(visitor.get(APP, "/public/silent").await.status, 504);
    until("it ends", || origin.dropped.load(Ordering::SeqCst) == 1).await;
    assert_eq!(visitor.get(APP, "/public").await.status, 200);
    assert_eq!(origin.connections().len(), 1);
}

#[tokio::test]
async fn checks_are_made_as_requests_are() {
    let own = Authority::new("own", "Own");
    let over_tls = Origin::tls(Http::Two, Shows::of(&own, "localhost"), "localhost").await;
    let kind = CheckKind::Http { path: "/ready".into() };
    let check =
        HealthCheck { kind, interval_ms: 100, timeout_ms: 2_000, healthy_after: 1, unhealthy_after: 1 };
    for (authority, expected) in [(&own, Health::Healthy), (&Authority::new("b", "B"), Health::Unhealthy)] {
        let tls = TlsOptions { ca: Some(pem(authority)), ..TlsOptions::default() };
        let world = world(&over_tls.target, |options| {
            options.tls = Some(tls);
            options.health_check = Some(check.clone());
        })
        .await;
        let is_expected = || world.metrics.targets.seen().iter().any(|seen| seen.health == expected);
        until("it is checked", is_expected).await;
    }
    assert!(over_tls.backend.requests() > 0);
}
