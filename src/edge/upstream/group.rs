//! The targets of an upstream as all threads of an edge see them, and which of them a request goes to.

mod lease;

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use super::breaker::{Admits, Breaker, FIRST_MS, Rules};
use super::budget::Budget;
use super::load::Load;
use crate::domain::Slug;
use crate::domain::upstream::{Balance, BreakerState, Forced, Health, TargetStatus};
use crate::live::{Target, Upstream};
pub(super) use lease::ABSENT;
pub(in crate::edge) use lease::Lease;

/// Everything that the threads of an edge know of targets, by upstream.
#[derive(Debug)]
pub(in crate::edge) struct Upstreams {
    began: Instant,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    groups: HashMap<Slug, Weak<Group>>,
    commons: HashMap<Slug, Weak<Common>>,
    /// Options change without what was learnt of the targets being lost.
    states: HashMap<(Slug, Target), Weak<State>>,
    next: u64,
}

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
struct Common {
    budget: Budget,
    waiting: AtomicU32,
    /// Somewhere a request has ended.
    room: Notify,
    /// Breakers open one at a time, so that not too many do.
    opening: Mutex<()>,
}

/// One target of one upstream.
#[derive(Debug)]
pub(in crate::edge) struct State {
    /// Never that of another.
    pub(super) id: u64,
    pub(super) target: Target,
    /// What tells it from others wherever it runs.
    hash: u64,
    breaker: Breaker,
    load: Load,
    health: AtomicU8,
    /// Checks in a row that say otherwise than `health` does.
    doubts: AtomicU32,
    /// A check is under way.
    pub(super) is_checked: AtomicBool,
    requests: AtomicU64,
    failures: AtomicU64,
    last_failure: Mutex<Option<&'static str>>,
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

/// Up to 64 places of targets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::edge) struct Places(u64);

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

impl Places {
    /// Most that there are.
    pub(in crate::edge) const MOST: usize = u64::BITS as usize;

    pub(in crate::edge) fn add(&mut self, place: usize) {
        self.0 |= 1 << place;
    }

    fn has(self, place: usize) -> bool {
        self.0 & (1 << place) != 0
    }

    fn count(self) -> usize {
        self.0.count_ones() as usize
    }

    fn iter(self) -> impl Iterator<Item = usize> {
        (0..Self::MOST).filter(move |place| self.has(*place))
    }

    /// The one at this position, which is below the count.
    fn nth(self, position: usize) -> usize {
        self.iter().nth(position).unwrap_or_default()
    }
}

impl Default for Upstreams {
    fn default() -> Self {
        Self { began: Instant::now(), known: Mutex::default() }
    }
}

impl Upstreams {
    /// The group of this upstream, the same for every thread.
    pub(in crate::edge) fn group(&self, upstream: &Arc<Upstream>) -> Arc<Group> {
        let mut known = self.known.lock();
        let kept = known.groups.get(&upstream.name).and_then(Weak::upgrade);
        if let Some(kept) = kept.filter(|kept| kept.upstream == *upstream) {
            return kept;
        }
        known.forget();
        let common = known.common(&upstream.name);
        let targets =
            upstream.targets.iter().take(Places::MOST).map(|target| known.state(&upstream.name, target));
        let group = Arc::new(Group::of(upstream.clone(), targets.collect(), common, self.began));
        known.groups.insert(upstream.name.clone(), Arc::downgrade(&group));
        group
    }

    /// How every target in use is seen.
    pub(in crate::edge) fn status(&self) -> Vec<TargetStatus> {
        let groups: Vec<_> = self.known.lock().groups.values().filter_map(Weak::upgrade).collect();
        let mut all: Vec<_> = groups.iter().flat_map(|group| group.status()).collect();
        all.sort_by(|a, b| (&a.upstream, &a.target).cmp(&(&b.upstream, &b.target)));
        all
    }
}

impl Known {
    /// Leaves out what nobody uses any more.
    fn forget(&mut self) {
        self.groups.retain(|_, group| group.strong_count() > 0);
        self.commons.retain(|_, common| common.strong_count() > 0);
        self.states.retain(|_, state| state.strong_count() > 0);
    }

    fn common(&mut self, upstream: &Slug) -> Arc<Common> {
        let kept = self.commons.get(upstream).and_then(Weak::upgrade);
        kept.unwrap_or_else(|| {
            let common = Arc::default();
            self.commons.insert(upstream.clone(), Arc::downgrade(&common));
            common
        })
    }

    fn state(&mut self, upstream: &Slug, target: &Target) -> Arc<State> {
        let key = (upstream.clone(), target.clone());
        if let Some(kept) = self.states.get(&key).and_then(Weak::upgrade) {
            return kept;
        }
        self.next += 1;
        // The same in every process: `DefaultHasher::new` has fixed keys.
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(target);
        let state = Arc::new(State {
            id: self.next,
            target: target.clone(),
            hash,
            breaker: Breaker::default(),
            load: Load::default(),
            health: AtomicU8::new(0),
            doubts: AtomicU32::new(0),
            is_checked: AtomicBool::new(false),
            requests: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            last_failure: Mutex::default(),
        });
        self.states.insert(key, Arc::downgrade(&state));
        state
    }
}

impl Group {
    fn of(upstream: Arc<Upstream>, targets: Vec<Arc<State>>, common: Arc<Common>, began: Instant) -> Self {
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

    fn status(&self) -> impl Iterator<Item = TargetStatus> {
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

impl State {
    fn health(&self) -> Health {
        match self.health.load(Ordering::Acquire) {
            0 => Health::Unknown,
            1 => Health::Healthy,
            _ => Health::Unhealthy,
        }
    }

    /// Nobody checks any more.
    fn forget_checks(&self) {
        self.health.store(0, Ordering::Release);
        self.doubts.store(0, Ordering::Relaxed);
    }

    /// What a check has found. Returns whether the target's health is another now.
    pub(super) fn checked(&self, is_well: bool, healthy_after: u32, unhealthy_after: u32) -> bool {
        let (health, needed) = match is_well {
            true => (1, healthy_after),
            false => (2, unhealthy_after),
        };
        if self.health.load(Ordering::Acquire) == health {
            self.doubts.store(0, Ordering::Relaxed);
            return false;
        }
        let doubts = self.doubts.fetch_add(1, Ordering::Relaxed) + 1;
        let is_first = self.health.load(Ordering::Acquire) == 0;
        // The first good check is enough: nothing speaks against it.
        if doubts < needed && !(is_first && is_well) {
            return false;
        }
        self.doubts.store(0, Ordering::Relaxed);
        self.health.store(health, Ordering::Release);
        true
    }
}

#[cfg(test)]
mod tests;
