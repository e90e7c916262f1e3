//! Targets fall ill in every way and get well again, and nobody who asks safely notices; what may not be sent
//! twice is not; and a sick upstream does not get many more requests than a healthy one.

mod target;
mod visitors;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use wicketgate::clock::Clock;
use wicketgate::domain::Slug;
use wicketgate::domain::upstream::{Balance, BreakerState, TargetStatus, UpstreamOptions};
use wicketgate::live::{ConfigurationData, UpstreamData};
use wicketgate::telemetry::metrics::Metrics;

use self::target::{Ledger, Mood, Target};
use self::visitors::{Habits, Tally, Visitors};
use crate::edge::client::Http;
use crate::edge::fixture::{APP, Device, World, known, route};
use crate::prove::Proof;
use crate::prove::seed::Seed;

/// How long anything may take that has to come.
const PATIENCE: Duration = Duration::from_secs(15);
/// Good answers before a target falls ill: second tries are saved meanwhile.
const WARM: u64 = 20;
/// How long it is watched that nobody asks a target whose breaker is open: below its shortest pause.
const QUIET: Duration = Duration::from_millis(300);
/// Requests that may reach such a target: on their way before, and one to see whether it is well, perhaps again
/// on a fresh connection.
const STRAGGLERS: u64 = 3;
/// Between two requests of a visitor, in milliseconds.
const PAUSE: u64 = 100;
/// Second tries that an upstream begins with.
const RESERVE: u64 = 10;

/// An upstream, and how much of it falls ill.
struct Shape {
    targets: usize,
    sick: usize,
    balance: Balance,
    may_eject_all: bool,
}

static SHAPES: [Shape; 4] = [
    Shape { targets: 2, sick: 1, balance: Balance::RoundRobin, may_eject_all: false },
    Shape { targets: 3, sick: 1, balance: Balance::RoundRobin, may_eject_all: false },
    Shape { targets: 3, sick: 2, balance: Balance::LeastLoaded, may_eject_all: false },
    Shape { targets: 3, sick: 2, balance: Balance::RoundRobin, may_eject_all: true },
];

impl Shape {
    /// Breakers that open: half of the targets stay, unless all may go.
    fn opens(&self) -> usize {
        if self.may_eject_all { self.sick } else { self.sick.min(self.targets / 2) }
    }
}

/// An upstream of one shape, whose targets fall ill in one way.
struct Cell {
    name: String,
    sick: usize,
    opens: usize,
    mood: Mood,
    options: UpstreamOptions,
    targets: Vec<Arc<Target>>,
    ledger: Arc<Ledger>,
}

/// What was seen of all of it.
#[derive(Default)]
struct Report {
    requests: u64,
    errors: u64,
    posts: u64,
    lost_posts: u64,
    duplicates: u64,
    again: u64,
    allowed: u64,
    opened: u64,
    closed: u64,
    while_open: u64,
    faults: Vec<String>,
}

impl Report {
    fn add(&mut self, other: Self) {
        self.requests += other.requests;
        self.errors += other.errors;
        self.posts += other.posts;
        self.lost_posts += other.lost_posts;
        self.duplicates += other.duplicates;
        self.again += other.again;
        self.allowed += other.allowed;
        self.opened += other.opened;
        self.closed += other.closed;
        self.while_open += other.while_open;
        self.faults.extend(other.faults);
    }

    fn holds(&mut self, holds: bool, otherwise: impl FnOnce() -> String) {
        if !holds {
            self.faults.push(otherwise());
        }
    }
}

/// Waits for `condition`; whether it came.
async fn comes(mut condition: impl FnMut() -> bool) -> bool {
    let began = Instant::now();
    while !condition() {
        if began.elapsed() > PATIENCE {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    true
}

/// Waits for a few more good answers; whether they came.
async fn warms(tally: &Tally) -> bool {
    let from = tally.good();
    comes(|| tally.good() >= from + WARM).await
}

impl Cell {
    fn new(name: String, shape: &Shape, mood: Mood, retry_percent: u32) -> Self {
        let ledger = Arc::new(Ledger::default());
        let options = UpstreamOptions {
            balance: shape.balance,
            may_eject_all: shape.may_eject_all,
            failures_to_open: 3,
            retry_percent,
            answer_timeout_ms: Some(500),
            ..UpstreamOptions::default()
        };
        let targets = (0..shape.targets).map(|_| Target::start(&ledger)).collect();
        Self { name, sick: shape.sick, opens: shape.opens(), mood, options, targets, ledger }
    }

    fn add_to(&self, data: &mut ConfigurationData) {
        let name: Slug = self.name.parse().unwrap();
        let mut route = route(APP, &format!("/{name}"), known());
        route.upstream = name.clone();
        data.routes.push(route);
        let targets = self.targets.iter().map(|target| target.url()).collect();
        data.upstreams.push(UpstreamData { name, targets, options: self.options.clone() });
    }

    fn habits(&self) -> Habits {
        Habits { path: format!("/{}", self.name), expect: 200, pause: PAUSE, most: u64::MAX }
    }

    /// Those of its targets whose breaker is not closed, as the edge says.
    fn open(&self, world: &World) -> Vec<TargetStatus> {
        let seen = world.metrics.targets.seen();
        let own = seen.iter().filter(|status| status.upstream.as_str() == self.name);
        own.filter(|status| status.breaker != BreakerState::Closed).cloned().collect()
    }

    /// Visitors come, targets fall ill and get well as often as asked for, visitors leave.
    async fn prove(&self, scene: &Scene, rounds: u64, posting: Http) -> Report {
        let visitors = Visitors::come(&scene.world, &scene.device, &self.habits(), posting).await;
        let mut report = Report::default();
        for round in 0..rounds {
            self.round(&scene.world, &visitors.tally, round, &mut report).await;
        }
        let tally = visitors.leave().await;
        self.settle(&tally, scene.began, &mut report);
        report
    }

    async fn round(&self, world: &World, tally: &Tally, round: u64, report: &mut Report) {
        let Self { name, mood, .. } = self;
        let case = format!("{name}, {mood:?} in round {round}");
        report.holds(warms(tally).await, || format!("{case}: no answers"));
        let at = |number: usize| &self.targets[(round as usize + number) % self.targets.len()];
        let sick: Vec<_> = (0..self.sick).map(at).collect();
        sick.iter().for_each(|target| target.becomes(*mood));
        if mood.fails() {
            self.watch_breakers(world, &sick, &case, report).await;
        } else {
            report.holds(warms(tally).await, || format!("{case}: no answers while sick"));
        }
        let opened = self.open(world).len() as u64;
        sick.iter().for_each(|target| target.becomes(Mood::Well));
        let before: Vec<_> = sick.iter().map(|target| target.arrivals()).collect();
        let has_closed = comes(|| self.open(world).is_empty()).await;
        report.closed += if has_closed { opened } else { 0 };
        report.holds(has_closed, || format!("{case}: open though well: {:?}", self.open(world)));
        // By load, whoever was slow or failed is asked rarely for a while.
        if self.options.balance == Balance::RoundRobin {
            let are_asked =
                || sick.iter().zip(&before).all(|(target, before)| target.arrivals() > before + STRAGGLERS);
            report.holds(comes(are_asked).await, || format!("{case}: well, and not asked"));
        }
    }

    /// The breakers of sick targets open, as the edge says and exports, and nobody asks them then.
    async fn watch_breakers(&self, world: &World, sick: &[&Arc<Target>], case: &str, report: &mut Report) {
        let mut open = Vec::new();
        let look = || {
            open = self.open(world);
            open.len() >= self.opens
        };
        let all_open = comes(look).await;
        report.holds(all_open && open.len() == self.opens, || format!("{case}: open are {open:?}"));
        report.holds(exports(world, &open), || format!("{case}: the export does not say {open:?}"));
        report.opened += open.len() as u64;
        let left: Vec<_> =
            sick.iter().filter(|target| open.iter().any(|status| status.target == target.url())).collect();
        report.holds(left.len() == open.len(), || format!("{case}: a target that is well is open: {open:?}"));
        let arrivals = || left.iter().map(|target| target.arrivals()).collect::<Vec<_>>();
        let before = arrivals();
        tokio::time::sleep(QUIET).await;
        for (after, before) in arrivals().into_iter().zip(before) {
            let came = after - before;
            report.while_open += came;
            report.holds(came <= STRAGGLERS, || format!("{case}: {came} requests to an open target"));
        }
        let now = self.open(world).len();
        report.holds(now <= self.opens, || format!("{case}: {now} are open"));
    }

    /// Adds up what its visitors and targets saw.
    fn settle(&self, tally: &Tally, began: Instant, report: &mut Report) {
        let (errors, (posts, lost_posts)) = (tally.errors(), tally.posts());
        let (again, duplicates) = (self.ledger.again(), self.ledger.duplicates());
        let share = u64::from(self.options.retry_percent);
        let allowed = RESERVE + began.elapsed().as_secs() + tally.asked() * share / 100;
        let allowed = if share == 0 { 0 } else { allowed };
        report.holds(again <= allowed, || format!("{}: {again} second tries of {allowed}", self.name));
        report.holds(duplicates == 0, || format!("{}: {duplicates} POSTs came twice", self.name));
        report.add(Report {
            requests: tally.asked(),
            errors: errors.len() as u64,
            posts,
            lost_posts,
            duplicates,
            again,
            allowed,
            faults: errors,
            ..Report::default()
        });
    }

    /// Targets fall ill and get well as it comes, but for one.
    async fn flap(&self, scene: &Scene, rounds: u64) -> Report {
        let world = &scene.world;
        let visitors = Visitors::come(world, &scene.device, &self.habits(), Http::Two).await;
        let (mut report, mut seed) = (Report::default(), Seed::of(13));
        for round in 0..rounds {
            report.holds(warms(&visitors.tally).await, || "flapping: no answers".to_owned());
            for _ in 0..10 {
                let number = round as usize + 1 + seed.below(self.sick as u64) as usize;
                let mood = if seed.below(5) == 0 { Mood::Well } else { *seed.one_of(&Mood::SICK) };
                self.targets[number % self.targets.len()].becomes(mood);
                tokio::time::sleep(Duration::from_millis(80 + seed.below(120))).await;
                let open = self.open(world);
                report.holds(open.len() <= self.opens, || format!("flapping: open are {open:?}"));
            }
            self.targets.iter().for_each(|target| target.becomes(Mood::Well));
            let has_closed = comes(|| self.open(world).is_empty()).await;
            report.holds(has_closed, || "flapping: open though well".to_owned());
        }
        let tally = visitors.leave().await;
        self.settle(&tally, scene.began, &mut report);
        report
    }
}

/// Whether the metrics say of these targets what the edge does.
fn exports(world: &World, open: &[TargetStatus]) -> bool {
    let metrics = Metrics::new(world.clock.now()).unwrap();
    metrics.edge.targets.set(open.to_vec());
    let text = metrics.render();
    open.iter().all(|status| {
        let (target, state) =
            (format!("target=\"{}\"", status.target), format!("state=\"{}\"", status.breaker.name()));
        text.lines().any(|line| {
            line.starts_with("wicketgate_edge_upstream_breaker{")
                && line.contains(&target)
                && line.contains(&state)
                && line.ends_with("} 1")
        })
    })
}

/// Where it happens.
struct Scene {
    world: Arc<World>,
    device: Device,
    /// Before there was anything.
    began: Instant,
}

impl Scene {
    /// A world with these upstreams, in which bodies do not hang for long.
    async fn of(cells: &[&Cell]) -> Self {
        let began = Instant::now();
        let configure = |data: &mut ConfigurationData| cells.iter().for_each(|cell| cell.add_to(data));
        let world = World::with(|settings| settings.body_timeout = Duration::from_secs(2), configure).await;
        Self { device: world.enrol().await, world: Arc::new(world), began }
    }
}

/// Every shape and every way to fall ill, half of the shapes at a time, and what flaps beside.
async fn illnesses(rounds: u64) -> Report {
    let pairs = SHAPES.iter().flat_map(|shape| Mood::SICK.map(|mood| (shape, mood)));
    let cells = pairs.enumerate();
    let cells = cells.map(|(number, (shape, mood))| Cell::new(format!("cell{number:02}"), shape, mood, 50));
    let cells: Vec<Cell> = cells.collect();
    let shape = Shape { targets: 3, sick: 2, balance: Balance::LeastLoaded, may_eject_all: false };
    let flapping = Cell::new("flapping".to_owned(), &shape, Mood::Well, 100);
    let scene = Scene::of(&cells.iter().chain([&flapping]).collect::<Vec<_>>()).await;
    let mut report = Report::default();
    let (first, second) = cells.split_at(cells.len() / 2);
    let (reports, flapped) = tokio::join!(together(first, &scene, rounds), flapping.flap(&scene, rounds));
    reports.into_iter().chain([flapped]).for_each(|one| report.add(one));
    together(second, &scene, rounds).await.into_iter().for_each(|one| report.add(one));
    report
}

async fn together(cells: &[Cell], scene: &Scene, rounds: u64) -> Vec<Report> {
    let posting = [Http::One, Http::Two].into_iter().cycle();
    join_all(cells.iter().zip(posting).map(|(cell, posting)| cell.prove(scene, rounds, posting))).await
}

/// Every request wants second tries, and nobody gets more of them than there are.
async fn budgets(requests: u64) -> Report {
    let shape = Shape { targets: 3, sick: 3, balance: Balance::RoundRobin, may_eject_all: false };
    let cells = [0, 20, 100].map(|share| Cell::new(format!("share{share}"), &shape, Mood::Says(503), share));
    let scene = Scene::of(&cells.each_ref()).await;
    cells.iter().flat_map(|cell| &cell.targets).for_each(|target| target.becomes(Mood::Says(503)));
    let mut report = Report::default();
    for cell in &cells {
        let habits = Habits { expect: 503, pause: 0, most: requests, ..cell.habits() };
        let visitors = Visitors::come(&scene.world, &scene.device, &habits, Http::One).await;
        let tally = visitors.have_done().await;
        cell.settle(&tally, scene.began, &mut report);
        let (again, due) = (cell.ledger.again(), tally.asked() * u64::from(cell.options.retry_percent) / 100);
        report
            .holds(again >= due / 2, || format!("{}: {again} second tries where {due} were due", cell.name));
        let open = cell.open(&scene.world);
        report.holds(open.len() <= cell.opens, || format!("{}: open are {open:?}", cell.name));
    }
    let (counted, came) = (scene.world.metrics.upstream_retries.value(), report.again);
    report.holds(counted == came, || format!("{counted} second tries counted, {came} came"));
    report
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn resilience() {
    let proof = Proof::of("resilience");
    let budgets = budgets(proof.size(150, 5_000)).await;
    let mut all = illnesses(proof.size(1, 15)).await;
    let (again, allowed) = (budgets.again, budgets.allowed);
    all.add(budgets);
    let measured = format!(
        "{} requests while targets of {} upstreams were killed, slow, bad, refusing or hanging, or all said 503: {} \
         errors seen by those who asked safely; {} of {} POSTs lost, {} came twice; where all said 503, {again} \
         second tries of {allowed} allowed; {} in all; breakers opened {} times and closed {}, {} requests to \
         open targets in {} ms each; {} faults{}",
        all.requests,
        SHAPES.len() * Mood::SICK.len() + 1,
        all.errors,
        all.lost_posts,
        all.posts,
        all.duplicates,
        all.again,
        all.opened,
        all.closed,
        all.while_open,
        QUIET.as_millis(),
        all.faults.len(),
        all.faults.iter().take(5).map(|fault| format!("; {fault}")).collect::<String>()
    );
    proof.end(all.requests, all.faults.is_empty(), &measured);
}
