//! Names get other addresses, and DNS fails in every way, while visitors ask: nobody who asks safely notices as long
//! as one address of the last good answer is alive, and what a name does not stand for any more is left alone.

mod visitors;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use wicketgate::domain::AccessPolicy;
use wicketgate::domain::upstream::{Balance, Discovery, DiscoveryKind, NameStatus, UpstreamOptions};
use wicketgate::live::{ConfigurationData, UpstreamData};

use self::visitors::Visitors;
use crate::edge::fixture::{APP, World, route};
use crate::harness::dns::{Data, Dns, EVIL, Mood};
use crate::harness::everywhere::Everywhere;
use crate::prove::Proof;

/// How long anything may take that has to come: two answers that do not come in time, and a pause.
const PATIENCE: Duration = Duration::from_secs(30);
/// The shortest time that an answer is used.
const FLOOR: Duration = Duration::from_secs(1);
/// The longest, in seconds, where a TTL says more than anybody wants to wait for.
const CAP: u32 = 2;
/// For the question and its answer, on a busy machine.
const ON_ITS_WAY: Duration = Duration::from_millis(500);
/// How long it is watched that nobody asks at an address that is gone.
const QUIET: Duration = Duration::from_millis(500);
/// Good answers that are waited for while something is the case.
const SOME: u64 = 20;

/// What happens to a name.
#[derive(Clone, Copy, Debug)]
enum Play {
    /// Its addresses come and go, with this TTL.
    Moves(u32),
    /// The same at the end of a chain of aliases.
    MovesBehindAliases,
    /// It is answered for like this, while all addresses but one go down.
    Fails(Mood),
    /// Its answers name only what no answer may lead to.
    IsHostile,
    /// It leads back to itself.
    Loops,
    /// Answers of somebody else come first.
    IsForged,
    /// It gets a thousand addresses.
    Grows,
}

const PLAYS: [Play; 16] = [
    Play::Moves(0),
    Play::Moves(1),
    Play::Moves(u32::MAX),
    Play::MovesBehindAliases,
    Play::Fails(Mood::Denies),
    Play::Fails(Mood::SaysNothing),
    Play::Fails(Mood::Fails),
    Play::Fails(Mood::Silent),
    Play::Fails(Mood::Garbage),
    Play::Fails(Mood::Noise),
    Play::Fails(Mood::OtherNumber),
    Play::Fails(Mood::AlwaysCut),
    Play::IsHostile,
    Play::Loops,
    Play::IsForged,
    Play::Grows,
];

/// A name, the upstream that is found by it, and where its addresses are.
struct Cell {
    number: u8,
    play: Play,
    dns: Dns,
    app: Everywhere,
}

/// What was seen of all of it.
#[derive(Default)]
struct Report {
    requests: u64,
    while_stale: u64,
    changes: u64,
    outages: u64,
    late: u64,
    faults: Vec<String>,
}

impl Report {
    fn add(&mut self, other: Self) {
        self.requests += other.requests;
        self.while_stale += other.while_stale;
        self.changes += other.changes;
        self.outages += other.outages;
        self.late += other.late;
        self.faults.extend(other.faults);
    }

    fn holds(&mut self, holds: bool, otherwise: impl FnOnce() -> String) {
        if !holds {
            self.faults.push(otherwise());
        }
    }
}

/// Waits for `condition`; whether it came.
async fn comes(condition: impl Fn() -> bool) -> bool {
    let began = Instant::now();
    while !condition() {
        if began.elapsed() > PATIENCE {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    true
}

impl Cell {
    fn name(&self) -> String {
        format!("name{:02}", self.number)
    }

    fn host(&self) -> String {
        format!("{}.test", self.name())
    }

    /// One of its addresses.
    fn at(&self, last: u8) -> IpAddr {
        Ipv4Addr::new(127, 1 + self.number, 0, last).into()
    }

    fn addresses(&self, last: &[u8]) -> Vec<IpAddr> {
        last.iter().map(|last| self.at(*last)).collect()
    }

    /// The TTL of its answers, as it is kept.
    fn ttl(&self) -> u32 {
        if let Play::Moves(ttl) = self.play { ttl } else { 1 }
    }

    fn kept_for(&self) -> Duration {
        Duration::from_secs(self.ttl().min(CAP).into())
    }

    /// From now on the name stands for these addresses.
    fn has(&self, last: &[u8]) {
        let behind = format!("there.{}", self.host());
        let name = if matches!(self.play, Play::MovesBehindAliases) { behind } else { self.host() };
        self.dns.has(&name, self.ttl(), &self.addresses(last));
    }

    fn add_to(&self, data: &mut ConfigurationData) {
        let mut route = route(APP, &format!("/{}", self.name()), AccessPolicy::Public);
        route.upstream = self.name().parse().unwrap();
        let discovery = Discovery { refresh_seconds_max: CAP, ..Discovery::of(DiscoveryKind::Addresses) };
        data.upstreams.push(UpstreamData {
            name: route.upstream.clone(),
            targets: vec![format!("http://{}:{}", self.host(), self.app.port)],
            options: UpstreamOptions {
                balance: Balance::RoundRobin,
                failures_to_open: 3,
                retry_percent: 100,
                discovery: Some(discovery),
                ..UpstreamOptions::default()
            },
        });
        data.routes.push(route);
    }

    /// What the name stands for before anything happens.
    fn begin(&self) {
        if matches!(self.play, Play::MovesBehindAliases) {
            let (first, second) = (format!("here.{}", self.host()), format!("there.{}", self.host()));
            self.dns.says(&self.host(), 60, vec![Data::Alias(first.clone())]);
            self.dns.says(&first, 1, vec![Data::Alias(second)]);
        }
        self.has(&[1, 2, 3]);
    }

    fn known(&self, world: &World) -> Option<NameStatus> {
        world.metrics.names.known().iter().find(|name| name.upstream.as_str() == self.name()).cloned()
    }

    fn is_stale(&self, world: &World) -> bool {
        self.known(world).is_some_and(|name| name.stale.is_some())
    }

    async fn prove(&self, world: &Arc<World>, rounds: u64) -> Report {
        let visitors = Visitors::come(world, &format!("/{}", self.name())).await;
        let mut report = Report::default();
        report.holds(visitors.are_served(SOME).await, || format!("{:?}: no answers at first", self.play));
        for _ in 0..rounds {
            match self.play {
                Play::Moves(_) | Play::MovesBehindAliases => self.moves(&visitors, &mut report).await,
                Play::IsForged => self.is_forged(&visitors, &mut report).await,
                Play::Grows => self.grows(world, &visitors, &mut report).await,
                Play::Fails(_) | Play::IsHostile | Play::Loops => {
                    self.fails(world, &visitors, &mut report).await;
                }
            }
        }
        let (asked, errors) = visitors.leave().await;
        report.requests += asked;
        report.faults.extend(errors.into_iter().map(|error| format!("{:?}: {error}", self.play)));
        report
    }

    /// One address comes, two go, all go.
    async fn moves(&self, visitors: &Visitors, report: &mut Report) {
        let steps: [(&[u8], &[u8]); 4] =
            [(&[1, 2, 3, 4], &[]), (&[3, 4], &[1, 2]), (&[5, 6], &[3, 4]), (&[1, 2, 3], &[5, 6])];
        for (now, gone) in steps {
            let before: Vec<_> = now.iter().map(|last| self.app.count(self.at(*last))).collect();
            self.has(now);
            let changed = Instant::now();
            report.changes += 1;
            let are_asked =
                || now.iter().zip(&before).all(|(last, before)| self.app.count(self.at(*last)) > *before);
            report.holds(comes(are_asked).await, || format!("{:?}: of {now:?} not all are asked", self.play));
            let deadline = changed + self.kept_for() + FLOOR + ON_ITS_WAY;
            tokio::time::sleep_until((deadline + QUIET).into()).await;
            report.holds(visitors.are_served(SOME).await, || format!("{:?}: no answers", self.play));
            for last in gone {
                let arrivals = self.app.arrivals(self.at(*last));
                if let Some(arrivals) = arrivals.filter(|arrivals| arrivals.last > deadline) {
                    report.late += 1;
                    let late = arrivals.last - deadline;
                    report.faults.push(format!("{:?}: {last} was asked {late:?} after its time", self.play));
                }
            }
        }
    }

    /// Nothing good is said, and all but one address go down; then both end, and other addresses are said.
    async fn fails(&self, world: &World, visitors: &Visitors, report: &mut Report) {
        let case = format!("{:?}", self.play);
        match self.play {
            Play::Fails(mood) => self.dns.becomes(&self.host(), mood),
            Play::IsHostile => {
                let evil = ["169.254.169.254", "0.0.0.0", "224.0.0.1", "::", "fe80::1"];
                self.dns.has(&self.host(), 1, &evil.map(|ip| ip.parse::<IpAddr>().unwrap()));
            }
            _ => self.dns.says(&self.host(), 1, vec![Data::Alias(self.host())]),
        }
        report.outages += 1;
        report.holds(comes(|| self.is_stale(world)).await, || format!("{case}: not stale"));
        let from = visitors.good();
        report.holds(visitors.are_served(SOME).await, || format!("{case}: no answers while stale"));
        [1, 2].into_iter().for_each(|last| self.app.goes_down(self.at(last)));
        report.holds(visitors.are_served(2 * SOME).await, || format!("{case}: no answers of the one left"));
        let known = self.known(world);
        let is_kept = known.as_ref().is_some_and(|name| name.addresses == 3 && name.age.is_some());
        report.holds(is_kept, || format!("{case}: {known:?} is known while stale"));
        report.while_stale += visitors.good() - from;
        [1, 2].into_iter().for_each(|last| self.app.comes_up(self.at(last)));
        self.dns.becomes(&self.host(), Mood::Well);
        self.has(&[3, 4]);
        let before = self.app.count(self.at(4));
        report.holds(comes(|| !self.is_stale(world)).await, || format!("{case}: stale though well"));
        report.holds(comes(|| self.app.count(self.at(4)) > before).await, || format!("{case}: not used"));
        self.has(&[1, 2, 3]);
        let before = [1, 2].map(|last| self.app.count(self.at(last)));
        let are_back = || [1, 2].into_iter().zip(before).all(|(last, n)| self.app.count(self.at(last)) > n);
        report.holds(comes(are_back).await, || format!("{case}: not back"));
    }

    /// What somebody else says is not listened to.
    async fn is_forged(&self, visitors: &Visitors, report: &mut Report) {
        let asked = self.dns.asked();
        self.dns.becomes(&self.host(), Mood::Forged);
        self.has(&[4, 5]);
        report.changes += 1;
        let before = self.app.count(self.at(5));
        let is_used = || self.app.count(self.at(5)) > before && self.dns.asked() > asked + 4;
        report.holds(comes(is_used).await, || "forged: the right answer is not used".to_owned());
        report.holds(visitors.are_served(SOME).await, || "forged: no answers".to_owned());
        self.dns.becomes(&self.host(), Mood::Well);
        self.has(&[1, 2, 3]);
        let before = self.app.count(self.at(1));
        report.holds(comes(|| self.app.count(self.at(1)) > before).await, || "forged: not back".to_owned());
        report.holds(self.app.count(EVIL) == 0, || "forged: it was believed".to_owned());
    }

    /// Of a thousand addresses, which come over TCP, the 64 lowest are used.
    async fn grows(&self, world: &World, visitors: &Visitors, report: &mut Report) {
        let low = u32::from(Ipv4Addr::new(127, 1 + self.number, 1, 0));
        let many: Vec<IpAddr> = (0..1_000).map(|n| IpAddr::from(Ipv4Addr::from(low + n))).collect();
        let over_tcp = self.dns.asked_over_tcp();
        self.dns.has(&self.host(), 1, &many);
        report.changes += 1;
        let is_bounded =
            || self.known(world).is_some_and(|name| (name.addresses, name.left_out) == (64, 936));
        report.holds(comes(is_bounded).await, || format!("grown: {:?} is known", self.known(world)));
        report.holds(self.dns.asked_over_tcp() > over_tcp, || "grown: not over TCP".to_owned());
        let before: Vec<_> = many.iter().map(|address| self.app.count(*address)).collect();
        report.holds(visitors.are_served(100).await, || "grown: no answers".to_owned());
        let asked = many.iter().zip(before).map(|(address, before)| self.app.count(*address) > before);
        let asked: Vec<_> = asked.collect();
        let (used, others) = asked.split_at(64);
        let used = used.iter().filter(|is| **is).count();
        report.holds(used >= 60 && !others.contains(&true), || format!("grown: {used} of 64 are asked"));
        self.has(&[1, 2, 3]);
        let before = self.app.count(self.at(1));
        report.holds(comes(|| self.app.count(self.at(1)) > before).await, || "grown: not back".to_owned());
        // What is known is told now and then: the next round must not take it for its own.
        let is_small = || self.known(world).is_some_and(|name| (name.addresses, name.left_out) == (3, 0));
        report.holds(comes(is_small).await, || format!("grown: {:?} is known", self.known(world)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dns_discovery() {
    let proof = Proof::of("dns_discovery");
    let (dns, app) = (Dns::start().await, Everywhere::start().await);
    let plays = PLAYS.into_iter().zip(1..);
    let cell = |(play, number)| Cell { number, play, dns: dns.clone(), app: app.clone() };
    let cells: Vec<_> = plays.map(cell).collect();
    cells.iter().for_each(Cell::begin);
    let server = dns.address;
    let configure = |data: &mut ConfigurationData| cells.iter().for_each(|cell| cell.add_to(data));
    let world = Arc::new(World::with(|settings| settings.dns_servers = vec![server], configure).await);
    let rounds = proof.size(1, 2);
    let mut all = Report::default();
    for report in join_all(cells.iter().map(|cell| cell.prove(&world, rounds))).await {
        all.add(report);
    }
    let measured = format!(
        "{} safe requests to {} names while their addresses changed {} times and DNS failed {} times ({} of the \
         requests were answered then, by the addresses of the last good answer, all but one of them down): {} \
         requests or checks went wrong; {} addresses were asked later than TTL + floor after they had gone{}",
        all.requests,
        cells.len(),
        all.changes,
        all.outages,
        all.while_stale,
        all.faults.len(),
        all.late,
        all.faults.iter().take(5).map(|fault| format!("; {fault}")).collect::<String>()
    );
    let ok = all.faults.is_empty() && all.while_stale > 0 && all.changes > 0;
    proof.end(all.requests, ok, &measured);
}
