//! Every limit of the edge is gone past, over HTTP/1.1 and HTTP/2: who goes past it is told so, as the protocol says
//! it; who is within notices nothing; and what is too much costs no signature.

mod bounds;
mod floods;

use std::net::Ipv4Addr;
use std::num::NonZeroU32;

use wicketgate::domain::route::{RatePer, RateRule};
use wicketgate::edge::Limits;
use wicketgate::telemetry::metrics::Limit;

use crate::edge::client::{Answer, Http, Visitor, connect_from, until};
use crate::edge::fixture::{APP, Device, World};
use crate::harness::log::Captured;
use crate::prove::Proof;

/// Who goes past a limit, and who does not.
const GREEDY: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const MODEST: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);
/// Requests that pass at once, of each limit.
const AT_ONCE: usize = 4;

/// What was seen.
#[derive(Default)]
struct Report {
    looked_at: u64,
    wrong: Vec<String>,
    notes: Vec<String>,
}

impl Report {
    /// Looks at one thing more.
    fn see(&mut self, is_right: bool, what: impl FnOnce() -> String) {
        self.looked_at += 1;
        if !is_right {
            self.wrong.push(what());
        }
    }
}

fn some(count: u32) -> Option<NonZeroU32> {
    NonZeroU32::new(count)
}

/// How requests are limited, what that is called, and where it can be seen.
struct Case {
    word: &'static str,
    limit: Limit,
    limits: Limits,
    rate: Vec<RateRule>,
    is_known: bool,
}

/// Two a second, or as many as pass at once and then one in a quarter of an hour.
fn cases() -> Vec<Case> {
    let half = some(AT_ONCE as u32 / 2);
    let of_process = |word, limit, limits, is_known| Case { word, limit, limits, rate: Vec::new(), is_known };
    let mut all = vec![
        of_process(
            "source",
            Limit::Source,
            Limits { requests_per_second_per_source: half, ..Limits::default() },
            false,
        ),
        of_process(
            "device",
            Limit::Device,
            Limits { requests_per_second_per_device: half, ..Limits::default() },
            true,
        ),
        of_process(
            "person",
            Limit::Person,
            Limits { requests_per_second_per_person: half, ..Limits::default() },
            true,
        ),
    ];
    for (per, is_known) in [
        (RatePer::Source, false),
        (RatePer::Device, true),
        (RatePer::Device, false),
        (RatePer::Person, true),
        (RatePer::Person, false),
        (RatePer::Everyone, false),
    ] {
        let rule = RateRule { per, requests: AT_ONCE as u32, seconds: 3_600, burst: None };
        let (limits, rate) = (Limits::default(), vec![rule]);
        all.push(Case { word: "route", limit: Limit::Route, limits, rate, is_known });
    }
    all
}

/// A visitor who may be known.
async fn visit(world: &World, from: Ipv4Addr, device: Option<&Device>, http: Http) -> Visitor {
    connect_from(world, from, APP, device, http).await.unwrap()
}

/// Whether the answer is as the limit has it: the status, why, and when to come again.
fn is_told(answer: &Answer, word: &str) -> bool {
    let again = answer.headers.get("retry-after").and_then(|value| value.to_str().ok());
    let (least, most) = if word == "route" { (2, 3_600) } else { (1, 1) };
    answer.status == 429
        && answer.json()["code"] == "rate_limited"
        && answer.json()["limit"] == word
        && again
            .and_then(|seconds| seconds.parse().ok())
            .is_some_and(|again: u64| (least..=most).contains(&again))
}

/// Goes past one limit of requests, as often as `rounds`.
async fn requests(case: &Case, rounds: u64, report: &mut Report) {
    let log = Captured::start("off,access=info");
    let world = World::with(
        |settings| settings.limits = case.limits.clone(),
        |data| {
            let public = data.routes.iter_mut().find(|route| route.path_prefix == "/public");
            public.unwrap().options.rate = case.rate.clone();
        },
    )
    .await;
    let (mut asked, mut told) = (0, 0);
    let device = if case.is_known { Some(world.enrol().await) } else { None };
    for http in [Http::One, Http::Two] {
        let what = || format!("{} {:?} {http:?}", case.word, case.rate.first().map(|rule| rule.per));
        let mut greedy = visit(&world, GREEDY, device.as_ref(), http).await;
        let mut passed = 0;
        for _ in 0..rounds {
            let answer = greedy.get(APP, "/public").await;
            asked += 1;
            match answer.status {
                200 => passed += 1,
                _ => {
                    told += 1;
                    report.see(is_told(&answer, case.word), || format!("{}: {answer:?}", what()));
                }
            }
        }
        // The second protocol finds what the first has left.
        let is_right = passed < rounds && (http == Http::Two || passed >= AT_ONCE as u64);
        report.see(is_right, || format!("{}: {passed} of {rounds} passed", what()));
        let is_everyones = case.rate.iter().any(|rule| rule.per == RatePer::Everyone);
        let status = visit(&world, MODEST, None, http).await.get(APP, "/public").await.status;
        // Strangers are counted by their source: once for each protocol.
        report.see(is_everyones == (status == 429), || format!("{}: a neighbour got {status}", what()));
        told += u64::from(status == 429);
    }
    let counted = world.metrics.limited.value(case.limit);
    report.see(counted == told, || format!("{}: {counted} counted of {told}", case.word));
    let is_it = |line: &&serde_json::Value| line["cause"] == case.word && line["status"] == 429;
    let logged = || log.lines().iter().filter(is_it).count() as u64;
    until("they are logged", || logged() >= told).await;
    report.see(logged() == told, || format!("{}: {} logged of {told}", case.word, logged()));
    report.notes.push(format!("{}: {told} of {asked} refused", case.word));
}

#[tokio::test]
async fn limits() {
    let proof = Proof::of("limits");
    let mut report = Report::default();
    for case in cases() {
        // Fewer than after which a connection ends.
        requests(&case, proof.size(20, 500).min(900), &mut report).await;
    }
    floods::handshakes(proof.size(200, 20_000), &mut report).await;
    floods::handshakes_of_a_source(proof.size(50, 2_000), &mut report).await;
    floods::connections_of_a_source(proof.size(30, 1_000), &mut report).await;
    bounds::bodies(&mut report).await;
    bounds::heads(&mut report).await;
    bounds::slowness(&mut report).await;
    bounds::room(&mut report).await;
    let measured = format!(
        "{}; {} wrong{}",
        report.notes.join("; "),
        report.wrong.len(),
        report.wrong.iter().take(3).map(|fault| format!("; {fault}")).collect::<String>()
    );
    proof.end(report.looked_at, report.wrong.is_empty(), &measured);
}
