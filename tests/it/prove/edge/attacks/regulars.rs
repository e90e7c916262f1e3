//! Those who may come in, and ask for something all the time: on a kept connection of each protocol, and now
//! and then on a new one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::task::JoinSet;

use super::victim::Victim;
use crate::prove::edge::crowd::{Crowd, Visitor};

/// Between an answer and the next request.
const THINK: Duration = Duration::from_millis(2);
/// Between two new connections.
const AGAIN: Duration = Duration::from_millis(250);
/// The crowd's own beat is not needed here.
const NEVER: Duration = Duration::from_secs(24 * 3_600);
/// How much longer than wanted may pass until enough was seen. One request may take ten seconds.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often is looked whether enough was seen.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How their requests went.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// On kept connections.
    pub(super) kept: Vec<Duration>,
    /// On new ones, handshake included.
    pub(super) fresh: Vec<Duration>,
    /// Whatever was not answered with 200 in time.
    pub(super) failures: Vec<String>,
}

impl Seen {
    pub(super) fn add(&mut self, other: Self) {
        self.kept.extend(other.kept);
        self.fresh.extend(other.fresh);
        self.failures.extend(other.failures);
    }

    /// How many were answered.
    pub(super) fn answered(&self) -> usize {
        self.kept.len() + self.fresh.len()
    }
}

/// The time that 99 of 100 do not take.
pub(super) fn p99(times: &[Duration]) -> Duration {
    let mut times = times.to_vec();
    times.sort_unstable();
    let at = (times.len() * 99).div_ceil(100).saturating_sub(1);
    times.get(at).copied().unwrap_or(Duration::MAX)
}

/// They, while they ask.
pub(super) struct Regulars {
    seen: Arc<Mutex<Seen>>,
    asking: JoinSet<()>,
    is_over: Arc<AtomicBool>,
    /// Keeps the connections.
    _crowd: Crowd,
}

impl Regulars {
    /// Connects them, and lets them ask.
    pub(super) async fn come_in(victim: &Victim) -> Self {
        let crowd = Crowd::gather(&victim.gate, vec![victim.pass(), victim.pass()], NEVER).await;
        let (seen, is_over) = (Arc::<Mutex<Seen>>::default(), Arc::new(AtomicBool::new(false)));
        let mut asking = JoinSet::new();
        for visitor in &crowd.visitors {
            asking.spawn(ask(visitor.clone(), seen.clone(), is_over.clone()));
        }
        asking.spawn(come_again(crowd.visitors[0].clone(), seen.clone(), is_over.clone()));
        Self { seen, asking, is_over, _crowd: crowd }
    }

    /// Lets them ask for as long as `least`, and until `enough` requests on kept connections were answered, or
    /// one was not. What was seen since the last time.
    pub(super) async fn speak(&mut self, least: Duration, enough: usize) -> Seen {
        tokio::time::sleep(least).await;
        let since = Instant::now();
        let is_enough = |seen: &Seen| seen.kept.len() >= enough || !seen.failures.is_empty();
        while !is_enough(&self.seen.lock()) && since.elapsed() < PATIENCE {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        let mut seen = std::mem::take(&mut *self.seen.lock());
        if seen.kept.len() < enough && seen.failures.is_empty() {
            seen.failures.push(format!("only {} of {enough} requests were answered", seen.kept.len()));
        }
        seen
    }

    /// Waits for the answers that are due still. What was seen since the last time.
    pub(super) async fn leave(mut self) -> Seen {
        self.is_over.store(true, Ordering::SeqCst);
        while let Some(ended) = self.asking.join_next().await {
            ended.unwrap();
        }
        std::mem::take(&mut *self.seen.lock())
    }
}

async fn ask(visitor: Arc<Visitor>, seen: Arc<Mutex<Seen>>, is_over: Arc<AtomicBool>) {
    while !is_over.load(Ordering::SeqCst) {
        let began = Instant::now();
        let outcome = visitor.exchange().await;
        let took = began.elapsed();
        match outcome {
            Ok(200) => seen.lock().kept.push(took),
            other => return seen.lock().failures.push(format!("{:?}: {other:?}", visitor.kind)),
        }
        tokio::time::sleep(THINK).await;
    }
}

async fn come_again(visitor: Arc<Visitor>, seen: Arc<Mutex<Seen>>, is_over: Arc<AtomicBool>) {
    while !is_over.load(Ordering::SeqCst) {
        let began = Instant::now();
        let outcome = visitor.come_again().await;
        let took = began.elapsed();
        match outcome {
            Ok(200) => seen.lock().fresh.push(took),
            other => seen.lock().failures.push(format!("a new connection: {other:?}")),
        }
        tokio::time::sleep(AGAIN).await;
    }
}
