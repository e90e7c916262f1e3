//! Whoever attacks the edge gets so much of its memory and no more, and nobody else notices.
//!
//! The edge, the apps behind it and those who attack are processes of their own. Those who attack, and the app that
//! they ask, run at the lowest priority: on a machine of few processors they would otherwise take from everybody what the edge has
//! to give to nobody. What they take nevertheless is taken in the control as well, for nothing.

mod attacker;
mod connections;
mod kernel;
mod mark;
mod origin;
mod process;
mod regulars;
mod streams;
mod victim;

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::sync::Semaphore;

use self::attacker::{Arm, Attackers, Struck};
use self::connections::SLOW_READERS_A_LINE;
use self::origin::Origins;
use self::regulars::{Regulars, Seen, p99};
use self::victim::{ANSWER, BODY, HANDSHAKE, HEADER, IDLE, LEAVE, Victim};
use crate::prove::{Proof, is_full};

/// How often an attack is tried before its faults count: others use this machine, too.
const TRIES: usize = 3;
/// A request may take so many times as long as in the control.
const MOST_SLOWED: f64 = 2.0;
/// The second half of an attack may add so much to what the first has taken.
const MOST_GROWN: f64 = 0.1;
/// What a connection may take, in KiB: what is read of it (64, `protocol::READ_BUFFER`), what rustls holds of
/// either direction (64 each), what is to be written (64).
const CONNECTION_KIB: u64 = 256;
/// What a stream of HTTP/2 may take, in KiB: a head of 16 in fields of 33 octets, as a map and once more to be
/// sent again (128), a piece of an answer and the buffer that it came from (64 each, `upstream`).
const STREAM_KIB: u64 = 256;
/// What an allocator keeps and first uses take, in KiB, whatever the attack.
const SPARE_KIB: u64 = 16 * 1_024;
/// By how much two readings of one state differ, in KiB; in the small size, the second half also sees the rest of
/// what the first began.
const NOISE_KIB: u64 = 8 * 1_024;
/// After the deadline that ends a connection, it is gone.
const LATE: Duration = Duration::from_secs(3);

/// One kind of attack, in a small and a full size.
struct Attack {
    arm: Arm,
    connections: [u64; 2],
    /// Streams that a connection with streams uses at the same time.
    streams: [u64; 2],
    /// Of so many connections, one has streams.
    every: u64,
    /// Seconds after which the edge has closed the last connection of those who do nothing more.
    gone_within: u64,
}

/// The whole way of a stream whose app says nothing and whose visitor takes nothing, and its connection's end.
const STREAMS_END: u64 = ANSWER + BODY + IDLE + LEAVE;

/// Those first that end late: in the small size, others begin meanwhile.
static ATTACKS: [Attack; 9] = [
    Attack { arm: Arm::Bomb, connections: [4, 16], streams: [30, 100], every: 2, gone_within: STREAMS_END },
    Attack {
        arm: Arm::SlowRead,
        connections: [10, 200],
        streams: [30, 100],
        every: SLOW_READERS_A_LINE as u64,
        gone_within: BODY + IDLE + LEAVE,
    },
    Attack {
        arm: Arm::Trickle,
        connections: [8, 60],
        streams: [1, 1],
        every: 1,
        // What moved before may be worth another window.
        gone_within: 2 * BODY + IDLE + LEAVE,
    },
    Attack {
        arm: Arm::RapidReset,
        connections: [8, 12],
        streams: [20, 20],
        every: 1,
        gone_within: IDLE + LEAVE,
    },
    Attack {
        arm: Arm::MadeYouReset,
        connections: [8, 12],
        streams: [20, 20],
        every: 1,
        gone_within: BODY + IDLE + LEAVE,
    },
    Attack {
        arm: Arm::Floods,
        connections: [7, 14],
        streams: [20, 20],
        every: 1,
        gone_within: BODY + IDLE + LEAVE,
    },
    Attack { arm: Arm::Continuation, connections: [6, 60], streams: [1, 1], every: 1, gone_within: HEADER },
    Attack { arm: Arm::Slowloris, connections: [60, 900], streams: [0, 0], every: 1, gone_within: HEADER },
    Attack { arm: Arm::Handshakes, connections: [8, 32], streams: [0, 0], every: 1, gone_within: HANDSHAKE },
];

/// How large the attacks are.
struct Plan {
    size: usize,
    half: Duration,
    /// Requests on kept connections that have to be answered meanwhile.
    requests: usize,
}

impl Plan {
    fn of(proof: &Proof) -> Self {
        Self {
            size: usize::from(is_full()),
            half: Duration::from_millis(proof.size(600, 6_000)),
            requests: proof.size(40, 1_000) as usize,
        }
    }
}

/// What one attack came to.
#[derive(Default)]
struct Outcome {
    figures: String,
    requests: u64,
    faults: Vec<String>,
}

/// Memory of the edge beyond what it had before, in KiB.
struct Growth {
    first: u64,
    second: u64,
    allowed: u64,
}

/// How long 99 of 100 requests on kept connections took at most.
struct Slowed {
    quiet: Duration,
    attacked: Duration,
    control: Option<Duration>,
}

impl Attack {
    /// Memory that it may take, in KiB.
    fn allowed_kib(&self, plan: &Plan) -> u64 {
        let connections = self.connections[plan.size];
        let streams = connections.div_ceil(self.every) * self.streams[plan.size];
        connections * CONNECTION_KIB + streams * STREAM_KIB + SPARE_KIB
    }

    /// Attacks one edge. While that is measured nobody else does anything; in the full size, to the end.
    async fn on(&self, victim: Victim, plan: &Plan, alone: &Semaphore) -> Outcome {
        let turn = alone.acquire().await.unwrap();
        let connections = self.connections[plan.size];
        let mut regulars = Regulars::come_in(&victim).await;
        let quiet = regulars.speak(plan.half / 3, plan.requests / 2).await;
        victim.forget_peak();
        let (before, edge) = (victim.peak_kib(), victim.processor_seconds());
        let began = Instant::now();
        let mut attackers =
            Attackers::strike(self.arm, connections, self.streams[plan.size], &victim.gate).await;
        let mut seen = regulars.speak(plan.half, plan.requests / 2).await;
        let first = victim.peak_kib().saturating_sub(before);
        seen.add(regulars.speak(plan.half, plan.requests / 2).await);
        let second = victim.peak_kib().saturating_sub(before);
        let edge = (victim.processor_seconds() - edge) / began.elapsed().as_secs_f64();
        let struck = attackers.hold().await;
        seen.add(regulars.leave().await);
        let turn = is_full().then_some(turn);
        let gone = victim.is_left(Duration::from_secs(self.gone_within) + LATE).await;
        attackers.end().await;
        let (after, control) = self.afterwards(&victim, plan, &struck).await;
        victim.end().await;
        drop(turn);
        let growth = Growth { first, second, allowed: self.allowed_kib(plan) };
        let slowed = Slowed { quiet: p99(&quiet.kept), attacked: p99(&seen.kept), control };
        let requests = seen.answered() as u64;
        let figures = format!(
            "{}: {connections} connections ({} in all, {} acts), edge {edge:.2} processors; {growth}; gone {}; \
             {slowed}, {requests} requests",
            self.arm.name(),
            struck.connections,
            struck.acts,
            gone.map_or_else(|left| format!("but {left}"), |took| format!("{:.1} s", took.as_secs_f64())),
        );
        let left = gone.err().map(|left| format!("{left} connections stayed"));
        let failures = [quiet, seen, after].into_iter().flat_map(|seen| seen.failures);
        let faults = left.into_iter().chain(growth.faults()).chain(slowed.fault()).chain(failures);
        let faults = faults.map(|fault| format!("{}: {fault}", self.arm.name())).collect();
        Outcome { figures, requests, faults }
    }

    /// Whoever may come in still can, and is as fast as the machine lets them: in the full size, while as much
    /// processor time is taken as the attack took for itself.
    async fn afterwards(&self, victim: &Victim, plan: &Plan, struck: &Struck) -> (Seen, Option<Duration>) {
        let mut regulars = Regulars::come_in(victim).await;
        let mut control = None;
        let mut seen = if is_full() {
            let burning = Attackers::burn(struck.processors).await;
            let seen = regulars.speak(plan.half * 2, plan.requests).await;
            burning.end().await;
            control = Some(p99(&seen.kept));
            seen
        } else {
            regulars.speak(Duration::ZERO, plan.requests / 4).await
        };
        seen.add(regulars.leave().await);
        (seen, control)
    }
}

impl Growth {
    fn faults(&self) -> impl Iterator<Item = String> + use<> {
        let Self { first, second, allowed } = *self;
        let steady = first + (first as f64 * MOST_GROWN) as u64 + NOISE_KIB;
        let more = (second > allowed).then(|| format!("{second} KiB more memory, {allowed} are allowed"));
        let grows = (second > steady).then(|| format!("memory grows: {first} KiB, then {second}"));
        more.into_iter().chain(grows)
    }
}

impl std::fmt::Display for Growth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { first, second, allowed } = self;
        write!(
            f,
            "memory +{second} of {allowed} KiB, {} of them in the second half",
            second.saturating_sub(*first)
        )
    }
}

impl Slowed {
    /// In the small size the machine has other things to do, and says nothing.
    fn fault(&self) -> Option<String> {
        let factor = self.attacked.as_secs_f64() / self.control?.as_secs_f64();
        (factor > MOST_SLOWED).then(|| format!("requests took {factor:.1} times as long"))
    }
}

impl std::fmt::Display for Slowed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ms = |time: Duration| time.as_secs_f64() * 1_000.0;
        write!(f, "p99 {:.1} ms, quiet {:.1}", ms(self.attacked), ms(self.quiet))?;
        self.control.map_or(Ok(()), |control| write!(f, ", control {:.1}", ms(control)))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attacks() {
    let proof = Proof::of("attacks");
    let plan = Plan::of(&proof);
    let origins = Origins::start().await;
    let mut outcomes: Vec<Outcome> = ATTACKS.iter().map(|_| Outcome::default()).collect();
    let mut left: Vec<usize> = (0..ATTACKS.len()).collect();
    let mut tries = 0;
    while !left.is_empty() && tries < TRIES {
        tries += 1;
        let alone = Semaphore::new(1);
        // All at once, so that nobody waits for them later.
        let victims = join_all(left.iter().map(|_| Victim::start(origins.ports))).await;
        let struck = left.iter().zip(victims).map(|(at, victim)| ATTACKS[*at].on(victim, &plan, &alone));
        for (at, outcome) in left.iter().zip(join_all(struck).await) {
            outcomes[*at] = outcome;
        }
        left.retain(|at| !outcomes[*at].faults.is_empty());
    }
    origins.end().await;
    let faults: Vec<_> = outcomes.iter().flat_map(|outcome| &outcome.faults).collect();
    let measured = format!(
        "{}; {tries} tries; {} faults{}",
        outcomes.iter().map(|outcome| outcome.figures.as_str()).collect::<Vec<_>>().join("; "),
        faults.len(),
        faults.iter().take(8).map(|fault| format!("; {fault}")).collect::<String>(),
    );
    let requests: u64 = outcomes.iter().map(|outcome| outcome.requests).sum();
    proof.end(requests, faults.is_empty(), &measured);
}
