//! Targets that are found by their names: who is used, who is not any more, and what happens when DNS fails.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use wicketgate::domain::upstream::{Balance, Discovery, DiscoveryKind, NameStatus, UpstreamOptions};
use wicketgate::telemetry::metrics::{LookupFault, Metrics};

use super::client::{Http, PATIENCE, Visitor, connect};
use super::fixture::{APP, World};
use crate::harness::dns::{Data, Dns, Mood};
use crate::harness::everywhere::Everywhere;
use crate::harness::log::Captured;

const NAME: &str = "pool.test";
const SERVICE: &str = "_http._tcp.pool.test";

/// The address of loopback that ends with this.
fn at(last: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 0, last).into()
}

fn addresses(last: &[u8]) -> Vec<IpAddr> {
    last.iter().copied().map(at).collect()
}

/// A world whose upstream is found by its name.
struct Scene {
    world: World,
    dns: Dns,
    app: Everywhere,
    visitor: Visitor,
}

fn options(kind: DiscoveryKind) -> UpstreamOptions {
    UpstreamOptions {
        balance: Balance::RoundRobin,
        discovery: Some(Discovery::of(kind)),
        failures_to_open: 2,
        retry_percent: 100,
        ..UpstreamOptions::default()
    }
}

impl Scene {
    async fn of(dns: Dns, kind: DiscoveryKind) -> Self {
        let app = Everywhere::start().await;
        let name = if kind == DiscoveryKind::Srv { SERVICE } else { NAME };
        let (server, target) = (dns.address, format!("http://{name}:{}", app.port));
        let world = World::with(
            |settings| (settings.threads, settings.dns_servers) = (1, vec![server]),
            |data| (data.upstreams[0].targets, data.upstreams[0].options) = (vec![target], options(kind)),
        )
        .await;
        let visitor = connect(&world, APP, None, Http::Two).await;
        Self { world, dns, app, visitor }
    }

    /// One whose name stands for these addresses.
    async fn with(last: &[u8]) -> Self {
        let dns = Dns::start().await;
        dns.has(NAME, 1, &addresses(last));
        Self::of(dns, DiscoveryKind::Addresses).await
    }

    /// Asks so often; every answer is good. How many came to each address.
    async fn ask(&mut self, times: usize, last: &[u8]) -> Vec<u64> {
        let before: Vec<_> = last.iter().map(|last| self.app.count(at(*last))).collect();
        for _ in 0..times {
            assert_eq!(self.visitor.get(APP, "/public").await.status, 200);
        }
        last.iter().zip(before).map(|(last, before)| self.app.count(at(*last)) - before).collect()
    }

    /// Waits until the edge says that it uses these addresses.
    async fn uses(&self, last: &[u8]) {
        let expected: Vec<Option<SocketAddr>> =
            last.iter().map(|last| (at(*last), self.app.port).into()).map(Some).collect();
        let seen = || -> Vec<_> {
            let seen = self.world.metrics.targets.seen();
            let own = seen.iter().filter(|status| status.upstream.as_str() == "echo");
            own.map(|status| status.address).collect()
        };
        comes(&format!("{expected:?}"), || seen() == expected).await;
    }

    fn known(&self) -> Option<NameStatus> {
        self.world.metrics.names.known().first().cloned()
    }

    /// Waits until the name is known like this.
    async fn knows(&self, what: &str, is_so: impl Fn(&NameStatus) -> bool) {
        comes(what, || self.known().as_ref().is_some_and(&is_so)).await;
    }
}

/// Waits for what may take a few answers of DNS.
async fn comes(what: &str, condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(3 * PATIENCE, waiting).await.unwrap_or_else(|_| panic!("in vain: {what}"));
}

#[tokio::test]
async fn every_address_is_a_target_as_long_as_the_name_stands_for_it() {
    let mut scene = Scene::with(&[2, 3]).await;
    assert_eq!(scene.ask(6, &[2, 3]).await, [3, 3], "also the first request of all");
    scene.dns.has(NAME, 1, &addresses(&[3, 4, 5]));
    scene.uses(&[3, 4, 5]).await;
    assert_eq!(scene.ask(9, &[2, 3, 4, 5]).await, [0, 3, 3, 3]);
    scene.knows("three", |known| known.addresses == 3).await;
    let known = scene.known().unwrap();
    assert_eq!((known.addresses, known.stale, known.left_out), (3, None, 0));
    assert!(known.age.is_some_and(|age| age < Duration::from_secs(10)));
    assert!(known.target.starts_with("http://pool.test:"));
    let metrics = Metrics::new("2026-11-23T12:00:00Z".parse().unwrap()).unwrap();
    metrics.edge.names.set(vec![known]);
    metrics.edge.targets.set(scene.world.metrics.targets.seen().to_vec());
    let (text, port) = (metrics.render(), scene.app.port);
    for line in [
        format!("wicketgate_edge_name_addresses{{target=\"http://pool.test:{port}\",upstream=\"echo\"}} 3"),
        format!("wicketgate_edge_name_stale{{target=\"http://pool.test:{port}\",upstream=\"echo\"}} 0"),
        format!(
            "wicketgate_edge_upstream_breaker{{address=\"127.0.0.5:{port}\",state=\"closed\",\
             target=\"http://pool.test:{port}\",upstream=\"echo\"}} 1"
        ),
    ] {
        assert!(text.lines().any(|one| one == line), "{line} is not in\n{text}");
    }
}

#[tokio::test]
async fn what_cannot_be_resolved_stays_what_it_was_and_that_is_said_once() {
    let log = Captured::start("info");
    let mut scene = Scene::with(&[2, 3]).await;
    scene.ask(2, &[]).await;
    for (mood, fault) in [
        (Mood::Fails, LookupFault::ServerFailure),
        (Mood::Denies, LookupFault::NoSuchName),
        (Mood::SaysNothing, LookupFault::Empty),
        (Mood::Garbage, LookupFault::Broken),
    ] {
        scene.dns.becomes(NAME, mood);
        scene.knows(fault.word(), |known| known.stale == Some(fault.word())).await;
        if mood == Mood::Fails {
            comes("another bad answer", || scene.world.metrics.name_faults.value(fault) > 1).await;
        }
        assert_eq!(scene.ask(4, &[2, 3]).await, [2, 2], "{mood:?}");
        assert_eq!(scene.known().unwrap().addresses, 2);
        scene.dns.becomes(NAME, Mood::Well);
        scene.knows("well again", |known| known.stale.is_none()).await;
    }
    let lines = log.saying("A name cannot be resolved");
    assert_eq!(lines.len(), 4, "{lines:?}");
    assert_eq!((&lines[0]["host"], &lines[0]["cause"]), (&NAME.into(), &"server_failure".into()));
    assert_eq!(log.saying("A name is resolved again").len(), 4);
}

#[tokio::test]
async fn a_name_that_never_was_resolved_is_502_until_it_is() {
    let dns = Dns::start().await;
    dns.becomes(NAME, Mood::Fails);
    let mut scene = Scene::of(dns, DiscoveryKind::Addresses).await;
    scene.knows("not resolved", |known| known.stale.is_some()).await;
    let answer = scene.visitor.get(APP, "/public").await;
    assert_eq!((answer.status, answer.code().as_str()), (502, "upstream_unavailable"));
    scene.dns.has(NAME, 1, &addresses(&[2]));
    scene.dns.becomes(NAME, Mood::Well);
    scene.uses(&[2]).await;
    assert_eq!(scene.ask(1, &[2]).await, [1]);
}

#[tokio::test]
async fn an_edit_of_options_forgets_no_address() {
    let mut scene = Scene::with(&[2, 3]).await;
    scene.ask(2, &[]).await;
    scene.dns.becomes(NAME, Mood::Fails);
    let mut data = scene.world.data.clone();
    data.upstreams[0].options.failures_to_open = 7;
    scene.world.publish(data).await;
    assert_eq!(scene.ask(4, &[2, 3]).await, [2, 2]);
}

#[tokio::test]
async fn a_service_names_ports_shares_and_stand_ins() {
    let dns = Dns::start().await;
    let app = Everywhere::start().await;
    for last in [2, 3, 4] {
        dns.has(&format!("h{last}.pool.test"), 60, &[at(last)]);
    }
    let server = |last: u8, priority, weight| Data::Server {
        priority,
        weight,
        port: app.port,
        host: format!("h{last}.pool.test"),
    };
    dns.says(SERVICE, 1, vec![server(2, 1, 3), server(3, 1, 1), server(4, 9, 1)]);
    // On the port that is written listens another app.
    let mut scene = Scene { app, ..Scene::of(dns, DiscoveryKind::Srv).await };
    let seen = scene.ask(40, &[2, 3, 4]).await;
    assert!((27..34).contains(&seen[0]) && seen[2] == 0, "{seen:?}");
    scene.app.goes_down(at(2));
    scene.app.goes_down(at(3));
    let waiting = async {
        while scene.ask(1, &[4]).await == [0] {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(3 * PATIENCE, waiting).await.expect("the stand-in is asked");
}

#[tokio::test]
async fn no_answer_leads_where_no_app_is() {
    let dns = Dns::start().await;
    let evil = ["169.254.169.254", "0.0.0.0", "224.0.0.1", "::ffff:169.254.169.254", "fe80::1"];
    let evil: Vec<IpAddr> = evil.iter().map(|ip| ip.parse().unwrap()).collect();
    dns.has(NAME, 1, &[&evil[..], &[at(2)][..]].concat());
    let mut scene = Scene::of(dns, DiscoveryKind::Addresses).await;
    scene.uses(&[2]).await;
    scene.dns.has(NAME, 1, &evil);
    scene.knows("refused", |known| known.stale == Some("forbidden")).await;
    assert_eq!(scene.ask(3, &[2]).await, [3]);
}

#[tokio::test]
async fn a_thousand_addresses_come_over_tcp_and_are_bounded() {
    let dns = Dns::start().await;
    let many: Vec<IpAddr> = (0..1_000).map(|n: u32| IpAddr::from(Ipv4Addr::from(0x7f01_0001 + n))).collect();
    dns.has(NAME, 60, &many);
    let mut scene = Scene::of(dns, DiscoveryKind::Addresses).await;
    scene.knows("cut", |known| known.addresses == 64 && known.left_out == 936).await;
    scene.ask(64, &[]).await;
    assert!(scene.dns.asked_over_tcp() > 0);
    assert!(many[..64].iter().all(|address| scene.app.count(*address) == 1));
    assert_eq!(scene.world.metrics.targets.seen().iter().filter(|one| one.address.is_some()).count(), 64);
}

#[tokio::test]
async fn aliases_are_followed_and_one_that_leads_nowhere_changes_nothing() {
    let dns = Dns::start().await;
    for (name, next) in [(NAME, "a.pool.test"), ("a.pool.test", "b.pool.test")] {
        dns.says(name, 1, vec![Data::Alias(next.to_owned())]);
    }
    dns.has("b.pool.test", 60, &addresses(&[2, 3]));
    let mut scene = Scene::of(dns, DiscoveryKind::Addresses).await;
    assert_eq!(scene.ask(4, &[2, 3]).await, [2, 2]);
    // The alias lives shorter than what it leads to.
    scene.dns.has(NAME, 1, &addresses(&[4]));
    scene.uses(&[4]).await;
    scene.dns.says(NAME, 1, vec![Data::Alias("a.pool.test".to_owned())]);
    scene.dns.says("b.pool.test", 1, vec![Data::Alias(NAME.to_owned())]);
    scene.knows("a loop", |known| known.stale.is_some()).await;
    assert_eq!(scene.ask(2, &[4]).await, [2]);
    let asked = scene.dns.asked();
    assert!(asked < 200, "a loop has an end: {asked}");
}
