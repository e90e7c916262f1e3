//! The targets of an upstream, and which of them a request goes to.

mod lease;

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use super::breaker::{Admits, FIRST_MS, Rules};
use super::budget::Budget;
use super::places::Places;
use super::target::State;
use crate::domain::upstream::{Balance, BreakerState, Forced, Health, TargetStatus};
use crate::live::Upstream;
pub(super) use lease::ABSENT;
pub(in crate::edge) use lease::Lease;

/// One upstream.
#[derive(Debug)]
pub(in crate::edge) struct Group {
    pub(super) upstream: Arc<Upstream>,
    pub(super) targets: Vec<Arc<State>>,
    forced: Vec<Option<Forced>>,
    began: Instant,
    turn: AtomicUsize,
    /// Requests under way at each target, at most.
    most: u32,
    common: Arc<Common>,
}

/// What an upstream keeps when its options change.
#[derive(Debug, Default)]
pub(super) struct Common {
    budget: Budget,
    waiting: AtomicU32,
    /// Somewhere a request has ended.
    room: Notify,
    /// Breakers open one at a time, so that not too many do.
    opening: Mutex<()>,
}

/// Which target a request should go to.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::edge) struct Wish {
    /// Whoever has the same is served by the same target.
    pub(in crate::edge) key: u64,
    /// Whether it can be sent again, and so may be what decides about a target.
    pub(in crate::edge) repeatable: bool,
    /// Targets that it was sent to before, by their place.
    pub(in crate::edge) tried: Places,
    /// It has an answer already, though a bad one: only a target that seems well is worth another try.
    pub(in crate::edge) has_answer: bool,
    /// Any number.
    pub(in crate::edge) chance: u64,
}

/// Why there is no target for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::edge) enum NoTarget {
    /// All were tried, or may not be used.
    Left,
    /// All are busy, and enough requests wait.
    Busy,
}

/// What was chosen.
enum Choice {
    /// The target at this place; whether the request decides about it.
    Target(usize, bool),
    /// All that could be used are busy.
    Busy,
    /// There is none.
    None,
}

impl Group {
    pub(super) fn of(
        upstream: Arc<Upstream>,
        targets: Vec<Arc<State>>,
        common: Arc<Common>,
        began: Instant,
    ) -> Self {
        let options = &upstream.options;
        if options.health_check.is_none() {
            targets.iter().for_each(|state| state.forget_checks());
        }
        Self {
            forced: targets.iter().map(|state| options.forced.get(&state.target.text).copied()).collect(),
            turn: AtomicUsize::new(0),
            most: options.max_in_flight.unwrap_or(u32::MAX),
            common,
            upstream,
            targets,
            began,
        }
    }

    pub(super) fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub(in crate::edge) fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    /// Whether there is more than one target.
    pub(in crate::edge) fn is_plural(&self) -> bool {
        self.targets.len() > 1
    }

    /// A request comes in.
    pub(in crate::edge) fn count_request(&self) {
        self.common.budget.add(self.upstream.options.retry_percent);
    }

    /// Whether a request may be sent once more.
    pub(in crate::edge) fn may_try_again(&self) -> bool {
        self.upstream.options.retry_percent > 0 && self.common.budget.take(self.now())
    }

    /// Whether there is a target that a request was not sent to.
    pub(in crate::edge) fn has_another(&self, wish: &Wish) -> bool {
        let (left, good, _) = self.look(wish, self.now());
        if wish.has_answer { good.count() > 0 } else { left.count() > 0 }
    }

    /// A target for a request, as soon as one has room.
    ///
    /// # Errors
    /// As [`NoTarget`] says.
    pub(in crate::edge) async fn lease(self: &Arc<Self>, wish: Wish) -> Result<Lease, NoTarget> {
        if let Some(lease) = self.try_lease(&wish)? {
            return Ok(lease);
        }
        let options = &self.upstream.options;
        let _queue = Queue::join(&self.common.waiting, options.max_queue).ok_or(NoTarget::Busy)?;
        let patience = Duration::from_millis(options.queue_timeout_ms.into());
        let waiting = async {
            loop {
                let mut room = pin!(self.common.room.notified());
                // Listening before looking, so that nothing is missed in between.
                room.as_mut().enable();
                if let Some(lease) = self.try_lease(&wish)? {
                    return Ok(lease);
                }
                room.await;
            }
        };
        timeout(patience, waiting).await.unwrap_or(Err(NoTarget::Busy))
    }

    fn try_lease(self: &Arc<Self>, wish: &Wish) -> Result<Option<Lease>, NoTarget> {
        loop {
            let (place, is_probe) = match self.choose(wish) {
                Choice::Target(place, is_probe) => (place, is_probe),
                Choice::Busy => return Ok(None),
                Choice::None => return Err(NoTarget::Left),
            };
            let (state, group) = (self.targets[place].clone(), self.clone());
            if state.load.rise(self.most) {
                state.requests.fetch_add(1, Ordering::Relaxed);
                return Ok(Some(Lease {
                    state,
                    since: group.now(),
                    group,
                    place,
                    is_probe,
                    is_whole: wish.repeatable,
                    is_answered: false,
                    is_settled: false,
                }));
            }
            // Another thread was faster.
            if is_probe {
                state.breaker.give_back_probe(self.now() + FIRST_MS);
            }
        }
    }

    /// The targets that are left for a request, those of them that seem well, and one that waits for its probe.
    fn look(&self, wish: &Wish, now: u64) -> (Places, Places, Option<usize>) {
        let (mut left, mut good, mut probe) = (Places::default(), Places::default(), None);
        for (place, state) in self.targets.iter().enumerate() {
            if wish.tried.has(place) || self.forced[place] == Some(Forced::Open) {
                continue;
            }
            left.add(place);
            if self.forced[place] == Some(Forced::Closed) {
                good.add(place);
            } else if !self.is_unhealthy(state) {
                match state.breaker.admits(now) {
                    Admits::All => good.add(place),
                    Admits::One => probe = Some(place),
                    Admits::None => {}
                }
            }
        }
        (left, good, probe)
    }

    /// What checks have found counts as long as there are any.
    fn is_unhealthy(&self, state: &State) -> bool {
        self.upstream.options.health_check.is_some() && state.health() == Health::Unhealthy
    }

    fn choose(&self, wish: &Wish) -> Choice {
        let now = self.now();
        let (left, good, probe) = self.look(wish, now);
        // Whoever is back is noticed by a request that can be sent elsewhere if it is not.
        let has_room = |place: &usize| self.targets[*place].load.in_flight() < self.most;
        let has_second_try = || self.upstream.options.retry_percent == 0 || self.common.budget.is_left(now);
        let may_probe = !wish.has_answer && (good.count() == 0 || (wish.repeatable && has_second_try()));
        if let Some(place) = probe.filter(|_| may_probe).filter(has_room)
            && self.targets[place].breaker.take_probe()
        {
            return Choice::Target(place, true);
        }
        // Where nobody is well, anybody is better than nobody.
        let among = match good.count() {
            0 if wish.has_answer => return Choice::None,
            0 => left,
            _ => good,
        };
        if among.count() == 0 {
            return Choice::None;
        }
        let mut free = Places::default();
        among.iter().filter(has_room).for_each(|place| free.add(place));
        match free.count() {
            0 => Choice::Busy,
            _ => Choice::Target(self.pick(free, wish, now), false),
        }
    }

    fn pick(&self, among: Places, wish: &Wish, now: u64) -> usize {
        let count = among.count();
        if count == 1 {
            return among.nth(0);
        }
        match self.upstream.options.balance {
            Balance::RoundRobin => among.nth(self.turn.fetch_add(1, Ordering::Relaxed) % count),
            Balance::ConsistentHash => {
                let weight = |place: &usize| mix(self.targets[*place].hash ^ wish.key);
                among.iter().max_by_key(weight).unwrap_or_default()
            }
            Balance::LeastLoaded => {
                let first = (wish.chance % count as u64) as usize;
                let step = 1 + (wish.chance / count as u64 % (count as u64 - 1)) as usize;
                let (first, second) = (among.nth(first), among.nth((first + step) % count));
                let cost = |place: usize| self.targets[place].load.cost(now);
                if cost(second) < cost(first) { second } else { first }
            }
        }
    }

    /// Whether one more target may be left alone.
    fn may_open_one(&self) -> bool {
        if self.upstream.options.may_eject_all {
            return true;
        }
        let is_out = |(state, forced): &(&Arc<State>, &Option<Forced>)| match forced {
            Some(Forced::Open) => true,
            Some(Forced::Closed) => false,
            None => self.is_unhealthy(state) || state.breaker.state() != BreakerState::Closed,
        };
        let out = self.targets.iter().zip(&self.forced).filter(is_out).count();
        // At least half stay, and at least one.
        (out + 1) * 2 <= self.targets.len()
    }

    fn rules(&self) -> Rules {
        let options = &self.upstream.options;
        Rules { failures: options.failures_to_open, success_percent: options.success_percent }
    }

    pub(super) fn status(&self) -> impl Iterator<Item = TargetStatus> {
        self.targets.iter().zip(&self.forced).map(|(state, forced)| TargetStatus {
            upstream: self.upstream.name.clone(),
            target: state.target.text.clone(),
            breaker: match forced {
                Some(Forced::Open) => BreakerState::ForcedOpen,
                Some(Forced::Closed) => BreakerState::ForcedClosed,
                None => state.breaker.state(),
            },
            health: match self.upstream.options.health_check {
                Some(_) => state.health(),
                None => Health::Unknown,
            },
            in_flight: state.load.in_flight(),
            latency: state.load.latency(),
            requests: state.requests.load(Ordering::Relaxed),
            failures: state.failures.load(Ordering::Relaxed),
            last_failure: *state.last_failure.lock(),
        })
    }
}

/// SplitMix64's last step: near numbers come far apart.
fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// One of those who wait.
struct Queue<'a>(&'a AtomicU32);

impl<'a> Queue<'a> {
    fn join(waiting: &'a AtomicU32, most: u32) -> Option<Self> {
        let place = Self(waiting);
        // Counted at once, and taken back where it is dropped.
        (waiting.fetch_add(1, Ordering::SeqCst) < most).then_some(place)
    }
}

impl Drop for Queue<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests;
