//! Those who attack, in a process of their own that takes what processor time the others leave.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::kernel;
use super::mark::Mark;
use super::process::{Part, Process};
use super::{connections, streams};
use crate::edge::line::Line;
use crate::prove::edge::crowd::Gate;

/// Between the end of a connection and the next.
const AGAIN: Duration = Duration::from_millis(20);
/// How long those who attack may take to come.
const GATHERED_WITHIN: Duration = Duration::from_secs(30);
/// How often is looked whether they are there.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Threads of the process.
const THREADS: u32 = 2;
/// Those who only take processor time look so often whether it is enough.
const BEAT: Duration = Duration::from_millis(10);

/// What an attack is done with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arm {
    /// Heads that do not end, and hellos that do not.
    Slowloris,
    /// Answers that nobody takes.
    SlowRead,
    /// Requests that are taken back.
    RapidReset,
    /// Requests that the edge is made to take back.
    MadeYouReset,
    /// Heads in pieces without end.
    Continuation,
    /// Small blocks that become large heads, and answers that nobody takes.
    Bomb,
    /// Handshakes that are left after the edge's part.
    Handshakes,
    /// Frames that mean nothing.
    Floods,
    /// One octet now and then.
    Trickle,
}

impl Arm {
    const ALL: [Self; 9] = [
        Self::Slowloris,
        Self::SlowRead,
        Self::RapidReset,
        Self::MadeYouReset,
        Self::Continuation,
        Self::Bomb,
        Self::Handshakes,
        Self::Floods,
        Self::Trickle,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Slowloris => "slowloris",
            Self::SlowRead => "slow read",
            Self::RapidReset => "rapid reset",
            Self::MadeYouReset => "made you reset",
            Self::Continuation => "CONTINUATION",
            Self::Bomb => "HPACK bomb",
            Self::Handshakes => "handshakes",
            Self::Floods => "floods",
            Self::Trickle => "trickle",
        }
    }
}

/// What they did.
#[derive(Default)]
struct Tally {
    began: AtomicU64,
    connections: AtomicU64,
    acts: AtomicU64,
}

/// One who attacks.
pub(super) struct Striker {
    pub(super) number: usize,
    /// Streams that are used at the same time.
    pub(super) streams: usize,
    pub(super) mark: Arc<Mark>,
    has_begun: bool,
    is_on: watch::Receiver<bool>,
    tally: Arc<Tally>,
}

impl Striker {
    /// A connection is there.
    pub(super) fn connected(&mut self) {
        self.tally.connections.fetch_add(1, Ordering::Relaxed);
        if !std::mem::replace(&mut self.has_begun, true) {
            self.tally.began.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A connection that speaks HTTP/2, on whose streams so many octets may come.
    pub(super) async fn line(&self, window: u32) -> io::Result<Line> {
        Line::open(self.mark.shake_two().await?, window).await
    }

    /// So much was done to the edge.
    pub(super) fn acted(&self, count: usize) {
        self.tally.acts.fetch_add(count as u64, Ordering::Relaxed);
    }

    /// Whether the attack goes on.
    pub(super) fn is_on(&self) -> bool {
        *self.is_on.borrow()
    }

    /// Waits until the attack is over.
    pub(super) async fn over(&mut self) {
        let _ = self.is_on.wait_for(|is_on| !is_on).await;
    }

    /// Waits for a while: whether the attack goes on then.
    pub(super) async fn pause(&mut self, pause: Duration) -> bool {
        tokio::select! {
            () = self.over() => false,
            () = tokio::time::sleep(pause) => true,
        }
    }

    /// One connection after the other, as long as the attack goes on. The last one is left to the edge.
    async fn strike(mut self, arm: Arm) {
        while self.is_on() {
            // Whatever it is that the edge ends it with.
            let _ = match arm {
                Arm::Slowloris => connections::slowloris(&mut self).await,
                Arm::SlowRead => connections::slow_read(&mut self).await,
                Arm::Handshakes => connections::handshakes(&mut self).await,
                Arm::RapidReset => streams::rapid_reset(&mut self).await,
                Arm::MadeYouReset => streams::made_you_reset(&mut self).await,
                Arm::Continuation => streams::continuation(&mut self).await,
                Arm::Bomb => streams::bomb(&mut self).await,
                Arm::Floods => streams::floods(&mut self).await,
                Arm::Trickle => streams::trickle(&mut self).await,
            };
            self.pause(AGAIN).await;
        }
    }
}

/// Not a test of its own: the process of those who attack.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attacker() {
    let Some(mut orders) = Part::Attacker.orders() else { return };
    let order = orders.next().await.unwrap();
    let number = |name: &str| order[name].as_u64().unwrap();
    let Some(arm) = Arm::ALL.into_iter().find(|arm| order["arm"] == arm.name()) else {
        let busy = BEAT.mul_f64((order["share"].as_f64().unwrap() / f64::from(THREADS)).clamp(0.0, 1.0));
        (0..THREADS).for_each(|_| drop(tokio::spawn(burn(busy))));
        orders.say(&json!({ "began": THREADS }));
        return orders.end().await;
    };
    let root = STANDARD.decode(order["root"].as_str().unwrap()).unwrap();
    let mark = Arc::new(Mark::of(number("port").try_into().unwrap(), root));
    let (state, is_on) = watch::channel(true);
    let (tally, all) = (Arc::<Tally>::default(), number("connections"));
    let mut strikers = JoinSet::new();
    for number in 0..all as usize {
        let (mark, is_on, tally) = (mark.clone(), is_on.clone(), tally.clone());
        let streams = order["streams"].as_u64().unwrap() as usize;
        let striker = Striker { number, streams, mark, has_begun: false, is_on, tally };
        strikers.spawn(striker.strike(arm));
    }
    let since = Instant::now();
    while tally.began.load(Ordering::Relaxed) < all && since.elapsed() < GATHERED_WITHIN {
        tokio::time::sleep(LOOK_EVERY).await;
    }
    orders.say(&json!({ "began": tally.began.load(Ordering::Relaxed) }));
    // Told to hold still.
    if orders.next().await.is_some() {
        state.send_replace(false);
        orders.say(&json!({
            "connections": tally.connections.load(Ordering::Relaxed),
            "acts": tally.acts.load(Ordering::Relaxed),
        }));
        orders.end().await;
    }
}

/// Takes processor time, for nothing.
async fn burn(busy: Duration) {
    let mut beat = tokio::time::interval(BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        beat.tick().await;
        let began = Instant::now();
        while began.elapsed() < busy {
            std::hint::spin_loop();
        }
    }
}

/// What an attack came to.
pub(super) struct Struck {
    pub(super) connections: u64,
    pub(super) acts: u64,
    /// Processors that those who attacked had, on average.
    pub(super) processors: f64,
}

/// Those who attack, as others see them.
pub(super) struct Attackers {
    process: Process,
    began: Instant,
    processor_seconds: f64,
}

impl Attackers {
    /// Starts an attack, and waits until everybody has begun.
    pub(super) async fn strike(arm: Arm, connections: u64, streams: u64, gate: &Gate) -> Self {
        let root = STANDARD.encode(&gate.root);
        let order = json!({
            "arm": arm.name(), "connections": connections, "streams": streams, "port": gate.port, "root": root,
        });
        let attackers = Self::start(&order).await;
        assert_eq!(attackers.1, connections, "{}: not everybody could begin", arm.name());
        attackers.0
    }

    /// Takes as many processors, for nothing.
    pub(super) async fn burn(processors: f64) -> Self {
        Self::start(&json!({ "arm": "none", "share": processors })).await.0
    }

    async fn start(order: &Value) -> (Self, u64) {
        let mut process = Process::start_behind_others(Part::Attacker);
        process.tell(order).await;
        let said = process.hear().await;
        let processor_seconds = kernel::processor_seconds(process.pid);
        (Self { process, began: Instant::now(), processor_seconds }, said["began"].as_u64().unwrap())
    }

    /// Ends the attack, but no connection.
    pub(super) async fn hold(&mut self) -> Struck {
        let processor_seconds = kernel::processor_seconds(self.process.pid) - self.processor_seconds;
        let processors = processor_seconds / self.began.elapsed().as_secs_f64();
        self.process.tell(&json!({})).await;
        let said = self.process.hear().await;
        let count = |name: &str| said[name].as_u64().unwrap();
        Struck { connections: count("connections"), acts: count("acts"), processors }
    }

    /// Ends them.
    pub(super) async fn end(self) {
        self.process.end().await;
    }
}
