//! Rules of a policy over real connections: each condition, unclear paths, what goes on when a rule changes; and
//! what is explained, which is what the edge does.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Method;
use http_body_util::BodyExt;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use rcgen::ExtendedKeyUsagePurpose;
use rustls::pki_types::ServerName;
use tokio::net::TcpSocket;
use tokio_rustls::TlsConnector;
use wicketgate::clock::Clock;
use wicketgate::domain::{
    AccessPolicy, AccessRule, AccessRules, Delta, DeviceId, Effect, Serial, Slug, When,
};
use wicketgate::live::access::{Freshness, Question, decide, explain};
use wicketgate::live::{Classified, ConfigurationData, classify, route_table};
use wicketgate::pki::chain::alternative_names;

use super::client::{Http, connect, read_all, shake, tls, until};
use super::fixture::{APP, Device, Random, World, route};
use crate::harness::log::Captured;

/// Design, decision 5, with room for a busy machine.
const SOON: Duration = Duration::from_millis(1500);

fn rule(effect: Effect, when: When) -> AccessRule {
    AccessRule { name: format!("{effect:?} {}", Serial::random(&Random)), effect, when }
}

fn allow(when: When) -> AccessRule {
    rule(Effect::Allow, when)
}

fn deny(when: When) -> AccessRule {
    rule(Effect::Deny, when)
}

fn policy(rules: Vec<AccessRule>) -> AccessPolicy {
    AccessPolicy::Known(AccessRules { rules, ..AccessRules::default() })
}

/// The configuration of the fixture with these rules at the root of [`APP`], and nothing else there.
fn ruled(world: &World, rules: Vec<AccessRule>) -> ConfigurationData {
    let mut data = world.data.clone();
    data.routes.retain(|route| route.host.as_str() != APP);
    data.routes.push(route(APP, "/", policy(rules)));
    data
}

/// A device of Anna's with these names in its certificate.
async fn named(world: &World, names: &[&str]) -> Device {
    let serial = Serial::random(&Random);
    let mut device = world.authority.leaf(serial, vec![ExtendedKeyUsagePurpose::ClientAuth], names);
    device.person = world.anna.id;
    let lifetime = Duration::from_secs(90 * 86_400);
    world.apply(vec![Delta::Certificate(world.record_of(&device, lifetime))]).await;
    device
}

async fn status(world: &World, device: &Device, method: Method, path: &str) -> (u16, String) {
    let mut visitor = connect(world, APP, Some(device), Http::One).await;
    let request = visitor.request(method, APP, path);
    let answer = visitor.ask(request).await;
    (answer.status, if answer.status == 200 { String::new() } else { answer.code() })
}

#[tokio::test]
async fn each_condition_is_asked_of_the_connection_and_of_the_request() {
    let world = World::start().await;
    let device = named(&world, &["laptop.anna.test"]).await;
    let of = |text: &str| -> BTreeSet<Slug> { [text.parse().unwrap()].into() };
    let cases = [
        ("person", When { people: [world.anna.id].into(), ..When::default() }, true),
        ("another device", When { devices: [DeviceId::new()].into(), ..When::default() }, false),
        ("device", When { devices: [device.device].into(), ..When::default() }, true),
        ("group", When { groups: of("team"), ..When::default() }, true),
        ("another group", When { groups: of("board"), ..When::default() }, false),
        ("profile", When { profiles: of("device"), ..When::default() }, true),
        ("authority", When { authorities: of("issuing-g1"), ..When::default() }, true),
        ("another authority", When { authorities: of("issuing-g2"), ..When::default() }, false),
        ("name", When { sans: ["dns:*.anna.test".parse().unwrap()].into(), ..When::default() }, true),
        ("another name", When { sans: ["dns:*.ben.test".parse().unwrap()].into(), ..When::default() }, false),
        ("network", When { networks: ["127.0.0.0/8".parse().unwrap()].into(), ..When::default() }, true),
        (
            "another network",
            When { networks: ["10.0.0.0/8".parse().unwrap()].into(), ..When::default() },
            false,
        ),
        ("method", When { methods: ["GET".to_owned()].into(), ..When::default() }, true),
        ("another method", When { methods: ["POST".to_owned()].into(), ..When::default() }, false),
        ("path", When { path_prefixes: ["/a".to_owned()].into(), ..When::default() }, true),
        ("another path", When { path_prefixes: ["/b".to_owned()].into(), ..When::default() }, false),
        ("age", When { certificate_age_max_days: Some(0), ..When::default() }, true),
        ("another age", When { certificate_age_min_days: Some(1), ..When::default() }, false),
    ];
    for (what, when, fits) in cases {
        world.publish(ruled(&world, vec![allow(when.clone())])).await;
        let expected = if fits { (200, "") } else { (403, "access_denied") };
        let (status_code, code) = status(&world, &device, Method::GET, "/a/x").await;
        assert_eq!((status_code, code.as_str()), expected, "{what} lets in");
        world.publish(ruled(&world, vec![deny(when), allow(When::default())])).await;
        let expected = if fits { (403, "access_denied") } else { (200, "") };
        let (status_code, code) = status(&world, &device, Method::GET, "/a/x").await;
        assert_eq!((status_code, code.as_str()), expected, "{what} keeps out");
    }
}

#[tokio::test]
async fn a_certificate_grows_older() {
    let world = World::start().await;
    let device = world.enrol().await;
    let young = When { certificate_age_max_days: Some(7), ..When::default() };
    world.publish(ruled(&world, vec![allow(young)])).await;
    assert_eq!(status(&world, &device, Method::GET, "/").await.0, 200);
    world.clock.advance(Duration::from_secs(8 * 86_400));
    world.apply(Vec::new()).await;
    assert_eq!(status(&world, &device, Method::GET, "/").await, (403, "access_denied".to_owned()));
}

#[tokio::test]
async fn the_network_is_where_the_connection_comes_from() {
    let world = World::start().await;
    let device = world.enrol().await;
    let here = When { networks: ["127.0.0.2".parse().unwrap()].into(), ..When::default() };
    world.publish(ruled(&world, vec![allow(here)])).await;
    assert_eq!(status(&world, &device, Method::GET, "/").await.0, 403);
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from(([127, 0, 0, 2], 0))).unwrap();
    let stream = socket.connect(world.edge.https_addresses()[0]).await.unwrap();
    let connector = TlsConnector::from(Arc::new(tls(&world, Some(&device), &[b"http/1.1"])));
    let mut stream = connector.connect(ServerName::try_from(APP).unwrap(), stream).await.unwrap();
    let head = "GET / HTTP/1.1\r\nhost: app.test\r\nconnection: close\r\n\r\n";
    tokio::io::AsyncWriteExt::write_all(&mut stream, head.as_bytes()).await.unwrap();
    let answer = read_all(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[tokio::test]
async fn nobody_gets_around_a_rule_by_spelling() {
    let world = World::start().await;
    let device = world.enrol().await;
    let admin = || When { path_prefixes: ["/admin".to_owned()].into(), ..When::default() };
    let delete = When { methods: ["DELETE".to_owned()].into(), ..When::default() };
    world.publish(ruled(&world, vec![deny(admin()), deny(delete), allow(When::default())])).await;
    for (method, path, expected) in [
        ("GET", "/x", (200, "")),
        ("GET", "/administration", (200, "")),
        ("GET", "/admin", (403, "access_denied")),
        ("GET", "/admin/x", (403, "access_denied")),
        ("DELETE", "/x", (403, "access_denied")),
        ("delete", "/x", (400, "bad_request")),
        ("GET", "/Admin/x", (400, "bad_request")),
        ("GET", "/%61dmin", (400, "bad_request")),
        ("GET", "/admin;v=1/x", (400, "bad_request")),
        ("GET", "/index.php/admin", (400, "bad_request")),
        ("GET", "/admin%20/x", (400, "bad_request")),
        ("GET", "/x;v=1", (200, "")),
    ] {
        let (code, name) = status(&world, &device, method.parse().unwrap(), path).await;
        assert_eq!((code, name.as_str()), expected, "{method} {path}");
    }
    // Where it makes no difference, any spelling will do.
    world.publish(ruled(&world, vec![allow(admin()), allow(When::default())])).await;
    assert_eq!(status(&world, &device, Method::GET, "/%61dmin").await.0, 200);
}

#[tokio::test]
async fn what_goes_on_ends_when_a_rule_says_so_and_nothing_else() {
    for http in [Http::One, Http::Two] {
        let world = World::start().await;
        let device = world.enrol().await;
        world.publish(ruled(&world, vec![allow(When::default())])).await;
        let mut visitors = [
            connect(&world, APP, Some(&device), http).await,
            connect(&world, APP, Some(&device), http).await,
        ];
        let mut bodies = Vec::new();
        for (visitor, path) in visitors.iter_mut().zip(["/secret/drip", "/other/drip"]) {
            let request = visitor.request(Method::GET, APP, path);
            let answer = visitor.send(request).await.unwrap();
            assert_eq!(answer.status(), 200);
            bodies.push(answer.into_body());
        }
        let mut other = bodies.pop().unwrap();
        let mut secret = bodies.pop().unwrap();
        let hidden = When {
            path_prefixes: ["/secret".to_owned()].into(),
            methods: ["GET".to_owned()].into(),
            networks: ["127.0.0.1".parse().unwrap()].into(),
            ..When::default()
        };
        world.publish(ruled(&world, vec![deny(hidden), allow(When::default())])).await;
        let began = Instant::now();
        let ends = async {
            while let Some(frame) = secret.frame().await {
                if frame.is_err() {
                    return true;
                }
            }
            false
        };
        assert!(tokio::time::timeout(SOON, ends).await.unwrap_or(false), "{http:?}");
        while began.elapsed() < SOON {
            assert!(other.frame().await.unwrap().is_ok(), "{http:?}");
        }
    }
}

#[tokio::test]
async fn a_tunnel_and_an_upload_end_with_a_rule_about_their_method() {
    let world = World::start().await;
    let device = world.enrol().await;
    world.publish(ruled(&world, vec![allow(When::default())])).await;
    let mut upload = shake(&world, APP, tls(&world, Some(&device), &[b"http/1.1"])).await.unwrap();
    let head = "POST /silent HTTP/1.1\r\nhost: app.test\r\ncontent-length: 1000000\r\n\r\nthe first part";
    tokio::io::AsyncWriteExt::write_all(&mut upload, head.as_bytes()).await.unwrap();
    let mut tunnel = shake(&world, APP, tls(&world, Some(&device), &[b"http/1.1"])).await.unwrap();
    let head = "GET /ws HTTP/1.1\r\nhost: app.test\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n";
    tokio::io::AsyncWriteExt::write_all(&mut tunnel, head.as_bytes()).await.unwrap();
    let tunnels = || world.backend.open_tunnels.load(std::sync::atomic::Ordering::SeqCst);
    until("both are under way", || world.backend.requests() == 2 && tunnels() == 1).await;

    let posting = When { methods: ["POST".to_owned()].into(), ..When::default() };
    world.publish(ruled(&world, vec![deny(posting), allow(When::default())])).await;
    let answer = read_all(&mut upload).await;
    assert!(answer.starts_with("HTTP/1.1 403 ") && answer.contains("access_denied"), "{answer}");
    assert_eq!(tunnels(), 1, "a tunnel is no POST");

    let getting = When { methods: ["GET".to_owned()].into(), ..When::default() };
    world.publish(ruled(&world, vec![deny(getting), allow(When::default())])).await;
    read_all(&mut tunnel).await;
    until("the tunnel is closed", || tunnels() == 0).await;
}

#[tokio::test]
async fn the_log_names_the_rule_and_the_visitor_learns_nothing_of_it() {
    let log = Captured::start("off,access=info");
    let world = World::start().await;
    let device = world.enrol().await;
    let mut night = deny(When::default());
    night.name = "night \"shift\"".to_owned();
    world.publish(ruled(&world, vec![night])).await;
    let answer = connect(&world, APP, Some(&device), Http::One).await.get(APP, "/").await;
    assert_eq!(answer.status, 403);
    assert!(!String::from_utf8_lossy(&answer.body).contains("night"));
    until("it is logged", || log.lines().iter().any(|line| line["rule"] == "night \"shift\"")).await;
}

#[tokio::test]
async fn whoever_is_known_is_remembered_once_a_route_with_the_verdict() {
    let world = World::start().await;
    let device = world.enrol().await;
    let data = ruled(&world, vec![deny(When::default())]);
    let at = data.routes.iter().find(|route| route.host.as_str() == APP).unwrap().id;
    world.publish(data).await;
    assert_eq!(connect(&world, APP, None, Http::One).await.get(APP, "/").await.status, 403);
    let mut visitor = connect(&world, APP, Some(&device), Http::One).await;
    visitor.get(APP, "/first?secret=1").await;
    visitor.get(APP, "/second").await;
    let seen = world.metrics.sightings.at(at);
    let [only] = &seen[..] else { panic!("{seen:?}") };
    assert_eq!((only.serial, &*only.path, &*only.method), (device.serial, "/first", "GET"));
    assert!(!only.admitted && only.source.is_loopback() && only.at == world.clock.now());
    connect(&world, APP, Some(&device), Http::One).await.get(APP, "/third").await;
    let again: Vec<_> = world.metrics.sightings.at(at).iter().map(|one| one.path.to_string()).collect();
    assert_eq!(again, ["/third"]);
}

const PATHS: [&str; 8] = ["/", "/a", "/a/b/c", "/ab", "/A", "/a;x/y", "/%61/b", "/c"];
const METHODS: [&str; 4] = ["GET", "POST", "PUT", "get"];

fn any_when(names: Vec<&'static str>) -> impl Strategy<Value = When> {
    let part = |values: Vec<&'static str>| {
        let most = values.len();
        prop::option::weighted(0.35, subsequence(values, 1..=most)).prop_map(Option::unwrap_or_default)
    };
    let own =
        |values: Vec<&'static str>| -> BTreeSet<String> { values.into_iter().map(str::to_owned).collect() };
    (
        part(vec!["team", "board"]),
        part(names),
        part(vec!["127.0.0.0/8", "10.0.0.0/8"]),
        part(vec!["GET", "POST"]),
        part(vec!["/a", "/a/b", "/c"]),
        prop::option::weighted(0.2, 0..2_u32),
    )
        .prop_map(move |(groups, sans, networks, methods, paths, age)| When {
            groups: groups.iter().map(|group| group.parse().unwrap()).collect(),
            sans: sans.iter().map(|name| name.parse().unwrap()).collect(),
            networks: networks.iter().map(|network| network.parse().unwrap()).collect(),
            methods: own(methods),
            path_prefixes: own(paths),
            certificate_age_min_days: age,
            ..When::default()
        })
}

#[tokio::test]
async fn what_is_explained_is_what_the_edge_does() {
    let world = World::start().await;
    let devices = [named(&world, &["laptop.anna.test"]).await, world.enrol().await];
    let mut runner = TestRunner::deterministic();
    let rules =
        prop::collection::vec((any_when(vec!["dns:*.anna.test", "email:*@x.test"]), any::<bool>()), 1..5);
    let request = (select(METHODS.to_vec()), select(PATHS.to_vec()), 0..devices.len());
    let (mut cases, mut admitted) = (0, 0);
    for _ in 0..25 {
        let rules = rules.new_tree(&mut runner).unwrap().current();
        let made =
            rules.into_iter().map(|(when, allows)| if allows { allow(when) } else { deny(when) }).collect();
        world.publish(ruled(&world, made)).await;
        let configuration = world.holder.snapshot().unwrap().configuration;
        let site = configuration.site(APP).unwrap();
        for _ in 0..20 {
            let (method, path, at) = request.new_tree(&mut runner).unwrap().current();
            let device = &devices[at];
            let route = route_table::select(site, path).unwrap().unwrap();
            let who = classify(&device.chain, world.clock.now(), world.holder.register());
            let names = alternative_names(&device.chain[0]).ok();
            let names = || names.as_ref();
            let source = [127, 0, 0, 1].into();
            let question = Question { method, path, source, now: world.clock.now(), names: &names };
            let said = decide(&route.policy, &route.rules, &who, Freshness::Fresh, &question);
            let Classified::Known(identity) = &who else { panic!("not known") };
            assert_eq!(explain(&route.rules, identity, &question).is_empty(), route.rules.is_empty());
            let (code, name) = status(&world, device, method.parse().unwrap(), path).await;
            match said {
                Ok(by) => assert_eq!((code, name.as_str()), (200, ""), "{method} {path}: {by:?}"),
                Err(denied) => assert_eq!(name, denied.code(), "{method} {path}: {denied:?}"),
            }
            cases += 1;
            admitted += usize::from(code == 200);
        }
    }
    assert!(cases == 500 && admitted > 25 && admitted < 475, "{admitted} of {cases} were let in");
}
