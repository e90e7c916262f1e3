//! The edge's own certificate is renewed again and again while visitors come: targets see the newest one on every
//! new connection, none that has ended, and visitors see nothing of it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use wicketgate::clock::{Clock, ManualClock};
use wicketgate::domain::upstream::{Protocol, TlsOptions, UpstreamOptions};
use wicketgate::domain::{AccessPolicy, UtcTime};
use wicketgate::live::{ConfigurationData, Holder, TlsPolicy, UpstreamData, UpstreamIdentityData};

use crate::edge::client::{Http, Visitor, connect};
use crate::edge::fixture::{APP, Authority, Parts, World, route};
use crate::edge::origin::{Origin, Seen, Shows, identity, pem};
use crate::prove::Proof;

/// How long a certificate lasts, by the edge's clock.
const LIFETIME: Duration = Duration::from_secs(60);
/// After this, the next one comes.
const RENEWED_AFTER: Duration = Duration::from_secs(40);
/// How long anything may take that has to come.
const PATIENCE: Duration = Duration::from_secs(20);
/// Visitors of each upstream.
const VISITORS: usize = 4;

/// What one visitor has had.
#[derive(Default)]
struct Tally {
    answers: AtomicU64,
    failures: AtomicU64,
    leaves: AtomicBool,
}

/// Asks until it shall leave.
async fn visit(mut visitor: Visitor, path: String, tally: Arc<Tally>) {
    while !tally.leaves.load(Ordering::SeqCst) {
        if visitor.get(APP, &path).await.status != 200 {
            tally.failures.fetch_add(1, Ordering::SeqCst);
        }
        tally.answers.fetch_add(1, Ordering::SeqCst);
    }
}

/// Until every visitor has had so many more answers, and so one at least to a request from after now.
async fn round(tallies: &[Arc<Tally>], answers: u64) {
    let due: Vec<_> = tallies.iter().map(|tally| tally.answers.load(Ordering::SeqCst) + answers).collect();
    let waiting = async {
        let is_over =
            || tallies.iter().zip(&due).all(|(tally, due)| tally.answers.load(Ordering::SeqCst) >= *due);
        while !is_over() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("answers go on");
}

/// What a target has noted, judged after each renewal.
struct Judge {
    origin: Origin,
    /// Connections that were there when the last generation had come to everybody.
    settled: usize,
    /// What had been asked on connections of older generations by then.
    frozen: HashMap<usize, u64>,
    superseded: u64,
    expired: u64,
}

/// Generation and end of a certificate, by its bytes.
type Issued = HashMap<Vec<u8>, (u64, UtcTime)>;

impl Judge {
    fn of(origin: Origin) -> Self {
        Self { origin, settled: 0, frozen: HashMap::new(), superseded: 0, expired: 0 }
    }

    /// Everybody has had answers since `generation` came; `now` is what the edge's clock shows.
    fn look(&mut self, issued: &Issued, generation: u64, now: UtcTime) {
        let connections = self.origin.connections();
        for (place, seen) in connections.iter().enumerate() {
            let (shown, ends) = shown(issued, seen);
            if place >= self.settled && shown + 1 < generation {
                self.superseded += 1;
            }
            let asked = seen.requests();
            let since = asked - self.frozen.get(&place).copied().unwrap_or(asked);
            self.superseded += since;
            self.expired += if ends < now { since } else { 0 };
            if shown < generation {
                self.frozen.insert(place, asked);
            }
        }
        self.settled = connections.len();
    }
}

fn shown(issued: &Issued, seen: &Seen) -> (u64, UtcTime) {
    issued[seen.leaf.as_ref().expect("nobody comes without a certificate")]
}

struct Scene {
    world: World,
    edges: Authority,
    issued: Issued,
    judges: Vec<Judge>,
}

/// The next certificate of the edge.
fn issue(edges: &Authority, issued: &mut Issued, generation: u64, now: UtcTime) -> UpstreamIdentityData {
    let ends = now.plus(LIFETIME);
    let identity = identity(edges, generation, &ends.to_string());
    issued.insert(identity.chain[0].0.clone(), (generation, ends));
    identity
}

impl Scene {
    async fn set() -> Self {
        let (targets, edges) = (Authority::new("targets", "Targets"), Authority::new("edges", "Edges"));
        // Ahead of everybody else's clock: what has ended here has not ended there, so targets take it.
        let clock = ManualClock::at("2090-01-01T00:00:00Z".parse().unwrap());
        let holder = Holder::in_memory(TlsPolicy::modern(), clock.clone());
        let parts = Parts { edge_clock: clock.clone(), holder, clock: clock.clone() };
        let (mut issued, mut judges) = (Issued::new(), Vec::new());
        let first = issue(&edges, &mut issued, 1, clock.now());
        for http in [Http::One, Http::Two] {
            let shows = Shows { clients: Some(&edges), ..Shows::of(&targets, "localhost") };
            judges.push(Judge::of(Origin::tls(http, shows, "localhost").await));
        }
        let configure = |data: &mut ConfigurationData| {
            data.upstream_identity = Some(first);
            for ((name, protocol), judge) in
                [("one", Protocol::Http1), ("two", Protocol::Http2)].iter().zip(&judges)
            {
                let mut route = route(APP, &format!("/{name}"), AccessPolicy::Public);
                route.upstream = name.parse().unwrap();
                data.routes.push(route);
                let tls = TlsOptions {
                    ca: Some(pem(&targets)),
                    present_certificate: true,
                    ..TlsOptions::default()
                };
                let options =
                    UpstreamOptions { protocol: *protocol, tls: Some(tls), ..UpstreamOptions::default() };
                let targets = vec![judge.origin.target.clone()];
                data.upstreams.push(UpstreamData { name: name.parse().unwrap(), targets, options });
            }
        };
        let world = World::of(parts, |_| {}, configure).await;
        Self { world, edges, issued, judges }
    }

    async fn renew(&mut self, generation: u64) {
        self.world.clock.advance(RENEWED_AFTER);
        let identity = issue(&self.edges, &mut self.issued, generation, self.world.clock.now());
        let data = ConfigurationData { upstream_identity: Some(identity), ..self.world.data.clone() };
        self.world.publish(data).await;
    }

    fn judge(&mut self, generation: u64) {
        let now = self.world.clock.now();
        self.judges.iter_mut().for_each(|judge| judge.look(&self.issued, generation, now));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn upstream_rotation() {
    let proof = Proof::of("upstream_rotation");
    let (rotations, answers) = (proof.size(10, 100), proof.size(3, 50).max(2));
    let mut scene = Scene::set().await;
    let (mut tallies, mut visitors) = (Vec::new(), JoinSet::new());
    for number in 0..2 * VISITORS {
        let (path, http) = (["/one", "/two"][number % 2], [Http::One, Http::Two][number / 2 % 2]);
        let tally = Arc::<Tally>::default();
        tallies.push(tally.clone());
        visitors.spawn(visit(connect(&scene.world, APP, None, http).await, path.to_owned(), tally));
    }
    round(&tallies, answers).await;
    for generation in 2..rotations + 2 {
        scene.renew(generation).await;
        round(&tallies, answers).await;
        scene.judge(generation);
        proof.progress(generation - 1, rotations);
    }
    tallies.iter().for_each(|tally| tally.leaves.store(true, Ordering::SeqCst));
    visitors.join_all().await;
    let sum = |of: fn(&Tally) -> &AtomicU64| -> u64 {
        tallies.iter().map(|tally| of(tally).load(Ordering::SeqCst)).sum()
    };
    let (answers, failures) = (sum(|tally| &tally.answers), sum(|tally| &tally.failures));
    let superseded: u64 = scene.judges.iter().map(|judge| judge.superseded).sum();
    let expired: u64 = scene.judges.iter().map(|judge| judge.expired).sum();
    let connections: usize = scene.judges.iter().map(|judge| judge.origin.connections().len()).sum();
    // Every generation was seen by both targets, or nothing was proved.
    let is_seen = |judge: &Judge| {
        let seen = judge.origin.connections();
        (1..rotations + 2).all(|generation| seen.iter().any(|one| shown(&scene.issued, one).0 == generation))
    };
    let all_seen = scene.judges.iter().all(is_seen);
    let measured = format!(
        "{rotations} rotations, {connections} connections, {answers} requests: {expired} uses of an expired \
         certificate, {superseded} of a superseded one, {failures} failed; every generation seen: {all_seen}"
    );
    proof.end(rotations, expired == 0 && superseded == 0 && failures == 0 && all_seen, &measured);
}
