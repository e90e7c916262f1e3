//! How targets are reached: over TLS, with names and certificates on both sides, and at Unix sockets.

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use hyper::body::Frame;
use wicketgate::domain::upstream::{Protocol, TlsOptions, UpstreamOptions};
use wicketgate::live::{ConfigurationData, UpstreamIdentityData};

use super::client::{Http, Visitor, connect, frame, pieces, until};
use super::fixture::{APP, Authority, World};
use super::origin::{Origin, Shows, identity, pem};
use super::websocket::{echoes, open};

/// When certificates of the edge end.
const ENDS: &str = "2090-01-01T00:00:00Z";

/// A world whose routes lead to this target.
async fn world(origin: &Origin, options: UpstreamOptions) -> World {
    World::with(
        |settings| settings.threads = 1,
        |data| {
            data.upstreams[0].targets = vec![origin.target.clone()];
            data.upstreams[0].options = options;
        },
    )
    .await
}

fn spoken(http: Http) -> UpstreamOptions {
    let protocol = match http {
        Http::One => Protocol::Http1,
        Http::Two => Protocol::Http2,
    };
    UpstreamOptions { protocol, ..UpstreamOptions::default() }
}

fn trusting(http: Http, authority: &Authority) -> UpstreamOptions {
    let tls = TlsOptions { ca: Some(pem(authority)), ..TlsOptions::default() };
    UpstreamOptions { tls: Some(tls), ..spoken(http) }
}

fn presenting(http: Http, authority: &Authority) -> UpstreamOptions {
    let tls = TlsOptions { ca: Some(pem(authority)), present_certificate: true, ..TlsOptions::default() };
    UpstreamOptions { tls: Some(tls), ..spoken(http) }
}

/// What is configured, with this certificate of the edge.
fn known_as(world: &World, identity: &UpstreamIdentityData) -> ConfigurationData {
    ConfigurationData { upstream_identity: Some(identity.clone()), ..world.data.clone() }
}

async fn status(visitor: &mut Visitor) -> u16 {
    visitor.get(APP, "/public").await.status
}

/// What one request comes to.
async fn outcome(origin: &Origin, options: UpstreamOptions) -> u16 {
    let world = world(origin, options).await;
    let mut visitor = connect(&world, APP, None, Http::One).await;
    let status = status(&mut visitor).await;
    assert_eq!(origin.backend.requests(), u64::from(status == 200), "nothing is sent to whom is not trusted");
    status
}

#[tokio::test]
async fn a_target_proves_its_name_by_an_authority_that_is_trusted() {
    let (own, other) = (Authority::new("own", "Own"), Authority::new("other", "Other"));
    let expired = Shows { is_expired: true, ..Shows::of(&own, "localhost") };
    let cases = [
        ("its host", Shows::of(&own, "localhost"), "localhost", None, 200),
        ("its address", Shows::of(&own, "127.0.0.1"), "127.0.0.1", None, 200),
        ("the name that is said", Shows::of(&own, "app.internal"), "127.0.0.1", Some("app.internal"), 200),
        ("another authority", Shows::of(&other, "localhost"), "localhost", None, 502),
        ("another host", Shows::of(&own, "app.internal"), "localhost", None, 502),
        ("its host, and not its address", Shows::of(&own, "localhost"), "127.0.0.1", None, 502),
        (
            "its host, and not what is said",
            Shows::of(&own, "localhost"),
            "localhost",
            Some("app.internal"),
            502,
        ),
        ("its host, too late", expired, "localhost", None, 502),
    ];
    for (number, (what, shows, host, server_name, expected)) in cases.into_iter().enumerate() {
        let http = [Http::One, Http::Two][number % 2];
        let origin = Origin::tls(http, shows, host).await;
        let mut options = trusting(http, &own);
        options.tls.as_mut().unwrap().server_name = server_name.map(str::to_owned);
        assert_eq!(outcome(&origin, options).await, expected, "{what}");
    }
}

#[tokio::test]
async fn without_an_authority_those_of_the_host_count() {
    let own = Authority::new("own", "Own");
    let origin = Origin::tls(Http::One, Shows::of(&own, "localhost"), "localhost").await;
    assert_eq!(outcome(&origin, spoken(Http::One)).await, 502);
}

#[tokio::test]
async fn who_does_not_agree_to_http_2_is_sent_nothing() {
    let own = Authority::new("own", "Own");
    let (nothing, another): (&[&[u8]], &[&[u8]]) = (&[], &[b"http/1.1"]);
    for alpn in [nothing, another] {
        let shows = Shows { alpn, ..Shows::of(&own, "localhost") };
        let origin = Origin::tls(Http::One, shows, "localhost").await;
        assert_eq!(outcome(&origin, trusting(Http::Two, &own)).await, 502);
    }
    let origin = Origin::plain(Http::One).await;
    assert_eq!(outcome(&origin, spoken(Http::Two)).await, 502, "no prior knowledge");
}

#[tokio::test]
async fn the_edge_shows_its_certificate_or_does_not_come() {
    for http in [Http::One, Http::Two] {
        let (own, edges) = (Authority::new("own", "Own"), Authority::new("edges", "Edges"));
        let shows = Shows { clients: Some(&edges), ..Shows::of(&own, "localhost") };
        let origin = Origin::tls(http, shows, "localhost").await;
        let world = world(&origin, presenting(http, &own)).await;
        let mut visitor = connect(&world, APP, None, Http::One).await;
        assert_eq!(status(&mut visitor).await, 502, "there is none yet");
        assert!(origin.connections().is_empty());

        let first = identity(&edges, 1, ENDS);
        world.publish(known_as(&world, &first)).await;
        assert_eq!(status(&mut visitor).await, 200);
        let leaf = |at: usize| origin.connections()[at].leaf.clone().unwrap();
        assert_eq!(leaf(0), first.chain[0].0);

        // A kept connection is not used, either.
        world.clock.advance(Duration::from_secs(70 * 365 * 86_400));
        assert_eq!(status(&mut visitor).await, 502, "it has ended");
        until("it is let go", || origin.connections()[0].is_closed()).await;
        let next = identity(&edges, 2, "2200-01-01T00:00:00Z");
        world.publish(known_as(&world, &next)).await;
        assert_eq!(status(&mut visitor).await, 200);
        assert_eq!((origin.connections().len(), leaf(1)), (2, next.chain[0].0.clone()));
    }
}

#[tokio::test]
async fn nobody_is_spoken_to_anonymously_by_a_certificate_that_is_not_taken() {
    let (own, edges) = (Authority::new("own", "Own"), Authority::new("edges", "Edges"));
    let shows = Shows { clients: Some(&edges), ..Shows::of(&own, "localhost") };
    let origin = Origin::tls(Http::One, shows, "localhost").await;
    let world = world(&origin, presenting(Http::One, &own)).await;
    let strangers = identity(&Authority::new("strangers", "Strangers"), 1, ENDS);
    world.publish(known_as(&world, &strangers)).await;
    let mut visitor = connect(&world, APP, None, Http::One).await;
    assert_eq!(status(&mut visitor).await, 502);
    assert_eq!(origin.backend.requests(), 0);
}

#[tokio::test]
async fn new_connections_show_the_new_generation_and_what_is_under_way_finishes() {
    for http in [Http::One, Http::Two] {
        let (own, edges) = (Authority::new("own", "Own"), Authority::new("edges", "Edges"));
        let shows = Shows { clients: Some(&edges), ..Shows::of(&own, "localhost") };
        let origin = Origin::tls(http, shows, "localhost").await;
        let world = world(&origin, presenting(http, &own)).await;
        let (first, second) = (identity(&edges, 1, ENDS), identity(&edges, 2, ENDS));
        world.publish(known_as(&world, &first)).await;
        let mut visitor = connect(&world, APP, None, Http::Two).await;
        assert_eq!(status(&mut visitor).await, 200);
        let (sender, body) = pieces();
        let request = visitor.request(Method::POST, APP, "/public/flow").map(|_| body);
        sender.send(Frame::data(Bytes::from_static(b"one"))).unwrap();
        let mut flow = visitor.send(request).await.unwrap().into_body();
        assert_eq!(frame(&mut flow).await.unwrap().into_data().unwrap(), "one");

        world.publish(known_as(&world, &second)).await;
        assert_eq!(status(&mut visitor).await, 200);
        let connections = origin.connections();
        assert_eq!(connections.len(), 2);
        assert_eq!(connections[1].leaf.as_ref(), Some(&second.chain[0].0));
        sender.send(Frame::data(Bytes::from_static(b"two"))).unwrap();
        assert_eq!(frame(&mut flow).await.unwrap().into_data().unwrap(), "two");
        drop(sender);
        // The trailers of an HTTP/1.1 target were not announced.
        if http == Http::Two {
            assert_eq!(frame(&mut flow).await.unwrap().into_trailers().unwrap()["grpc-status"], "0");
        }
        drop(flow);
        until("the old one closes", || connections[0].is_closed()).await;
        assert_eq!((connections[0].requests(), connections[1].requests()), (2, 1));
    }
}

#[tokio::test]
async fn rules_that_change_are_not_kept_to_by_old_connections() {
    let (own, other) = (Authority::new("own", "Own"), Authority::new("other", "Other"));
    let origin = Origin::tls(Http::One, Shows::of(&own, "localhost"), "localhost").await;
    let world = world(&origin, trusting(Http::One, &own)).await;
    let mut visitor = connect(&world, APP, None, Http::One).await;
    assert_eq!(status(&mut visitor).await, 200);
    let mut data = world.data.clone();
    data.upstreams[0].options = trusting(Http::One, &other);
    world.publish(data).await;
    assert_eq!(status(&mut visitor).await, 502);
}

#[tokio::test]
async fn a_unix_socket_is_a_target_like_others() {
    for http in [Http::One, Http::Two] {
        let folder = tempfile::tempdir().unwrap();
        let origin = Origin::unix(http, &folder);
        let world = world(&origin, spoken(http)).await;
        let mut visitor = connect(&world, APP, None, Http::One).await;
        for _ in 0..3 {
            assert_eq!(status(&mut visitor).await, 200);
        }
        assert_eq!(origin.connections().len(), 1);
    }
    let mut gone = Origin::plain(Http::One).await;
    gone.target = "unix:/nowhere/app.sock".into();
    assert_eq!(outcome(&gone, spoken(Http::One)).await, 502);
}

#[tokio::test]
async fn websockets_pass_over_tls_and_unix_sockets() {
    let (own, folder) = (Authority::new("own", "Own"), tempfile::tempdir().unwrap());
    let over_tls = Origin::tls(Http::One, Shows::of(&own, "localhost"), "localhost").await;
    let over_unix = Origin::unix(Http::One, &folder);
    for (origin, options) in [(over_tls, trusting(Http::One, &own)), (over_unix, spoken(Http::One))] {
        let world = world(&origin, options).await;
        let device = world.enrol().await;
        let mut tunnel = open(&world, &device, "/ws").await;
        echoes(&mut tunnel).await;
    }
}
