//! The targets of an upstream, and which of them a request goes to. A group is the same for all threads as long as
//! nobody edits the upstream; its `members` are swapped under it when names get other addresses.

mod choice;
mod lease;
mod members;
mod tried;

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use super::breaker::{FIRST_MS, Rules};
use super::budget::Budget;
use super::discovery::{Name, Names};
use super::target::State;
use super::wire::Key;
use crate::domain::upstream::{BreakerState, Forced, Health, TargetStatus};
use crate::live::{Upstream, UpstreamIdentity};
use choice::Choice;
pub(super) use lease::ABSENT;
pub(in crate::edge) use lease::Lease;
use members::Member;
pub(super) use members::{Members, Source};
pub(in crate::edge) use tried::Tried;

/// One upstream.
#[derive(Debug)]
pub(in crate::edge) struct Group {
    pub(super) upstream: Arc<Upstream>,
    pub(super) sources: Vec<Source>,
    members: ArcSwap<Members>,
    began: Instant,
    turn: AtomicUsize,
    /// Requests under way at each target, at most.
    most: u32,
    pub(super) common: Arc<Common>,
    /// Tells connections apart that were made by other rules.
    manner: u64,
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
    /// What is known of names.
    pub(super) names: Names,
}

/// Which target a request should go to.
#[derive(Clone, Debug, Default)]
pub(in crate::edge) struct Wish {
    /// Whoever has the same is served by the same target.
    pub(in crate::edge) key: u64,
    /// Whether it can be sent again, and so may be what decides about a target.
    pub(in crate::edge) repeatable: bool,
    /// Targets that it was sent to before.
    pub(in crate::edge) tried: Tried,
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

impl Group {
    pub(super) fn of(
        upstream: Arc<Upstream>,
        (sources, members): (Vec<Source>, Members),
        common: Arc<Common>,
        began: Instant,
    ) -> Self {
        let options = &upstream.options;
        let group = Self {
            turn: AtomicUsize::new(0),
            members: ArcSwap::from_pointee(members),
            most: options.max_in_flight.unwrap_or(u32::MAX),
            manner: BuildHasherDefault::<DefaultHasher>::default().hash_one((
                options.protocol,
                &options.tls,
                upstream.roots(),
            )),
            common,
            upstream,
            sources,
            began,
        };
        group.settle_in();
        group
    }

    /// Has these members from now on. What is under way at others goes on.
    pub(super) fn swap(&self, members: Members) {
        self.members.store(Arc::new(members));
        self.settle_in();
        // Those who wait have others to go to.
        self.common.room.notify_waiters();
    }

    fn settle_in(&self) {
        let members = self.members.load();
        if self.upstream.options.health_check.is_none() {
            members.all.iter().for_each(|member| member.state.forget_checks());
        }
        // Where those have gone that were well, too many of the rest may be left alone: they are tried at once.
        let _one_at_a_time = self.common.opening.lock();
        let is_open = |member: &&Member| member.state.breaker.state() == BreakerState::Open;
        let open = members.all.iter().filter(is_open).count();
        if !self.upstream.options.may_eject_all && open * 2 > members.all.len() {
            members
                .all
                .iter()
                .filter(is_open)
                .for_each(|member| member.state.breaker.pause_until(self.now()));
        }
    }

    /// The targets that there are now.
    pub(super) fn states(&self) -> Vec<Arc<State>> {
        self.members.load().all.iter().map(|member| member.state.clone()).collect()
    }

    /// The names that targets are found by.
    pub(super) fn names(&self) -> impl Iterator<Item = &Arc<Name>> {
        self.sources.iter().filter_map(|source| match source {
            Source::Named(name) => Some(name),
            Source::Itself(_) => None,
        })
    }

    pub(super) fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub(in crate::edge) fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    /// Which connections a request to this target may go over.
    pub(super) fn key(&self, state: &State, identity: Option<&UpstreamIdentity>) -> Key {
        let generation = identity.map_or(0, |identity| identity.generation);
        Key { target: state.id, manner: self.manner, generation }
    }

    /// Whether there is more than one target.
    pub(in crate::edge) fn is_plural(&self) -> bool {
        self.members.load().all.len() > 1
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
        let (left, good, _) = self.look(&self.members.load(), wish, self.now());
        if wish.has_answer { good.count() > 0 } else { left.count() > 0 }
    }

    /// A target for a request, as soon as one has room.
    ///
    /// # Errors
    /// As [`NoTarget`] says.
    pub(in crate::edge) async fn lease(self: &Arc<Self>, wish: &Wish) -> Result<Lease, NoTarget> {
        if let Some(lease) = self.try_lease(wish)? {
            return Ok(lease);
        }
        let options = &self.upstream.options;
        let _queue = Queue::join(&self.common.waiting, options.max_queue).ok_or_else(|| self.in_vain())?;
        let patience = Duration::from_millis(options.queue_timeout_ms.into());
        let waiting = async {
            loop {
                let mut room = pin!(self.common.room.notified());
                // Listening before looking, so that nothing is missed in between.
                room.as_mut().enable();
                if let Some(lease) = self.try_lease(wish)? {
                    return Ok(lease);
                }
                room.await;
            }
        };
        timeout(patience, waiting).await.unwrap_or_else(|_| Err(self.in_vain()))
    }

    /// Why nobody waits any longer.
    fn in_vain(&self) -> NoTarget {
        if self.members.load().is_awaited { NoTarget::Left } else { NoTarget::Busy }
    }

    /// A target for a request, if one has room.
    ///
    /// # Errors
    /// As [`NoTarget`] says.
    pub(super) fn try_lease(self: &Arc<Self>, wish: &Wish) -> Result<Option<Lease>, NoTarget> {
        loop {
            let members = self.members.load();
            let (place, is_probe) = match self.choose(&members, wish) {
                Choice::Target(place, is_probe) => (place, is_probe),
                Choice::Busy => return Ok(None),
                // The first answer about a name is on its way.
                Choice::None if members.is_awaited => return Ok(None),
                Choice::None => return Err(NoTarget::Left),
            };
            let (state, group) = (members.all[place].state.clone(), self.clone());
            if state.load.rise(self.most) {
                state.requests.fetch_add(1, Ordering::Relaxed);
                return Ok(Some(Lease {
                    state,
                    since: group.now(),
                    group,
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

    /// What checks have found counts as long as there are any.
    fn is_unhealthy(&self, state: &State) -> bool {
        self.upstream.options.health_check.is_some() && state.health() == Health::Unhealthy
    }

    /// Whether `state` may be left alone, too.
    fn may_open(&self, state: &State) -> bool {
        if self.upstream.options.may_eject_all {
            return true;
        }
        let members = self.members.load();
        let is_out = |member: &&Member| match member.forced {
            Some(Forced::Open) => true,
            Some(Forced::Closed) => false,
            None => self.is_unhealthy(&member.state) || member.state.breaker.state() != BreakerState::Closed,
        };
        // Where stand-ins are well, those they stand in for may all be left alone.
        let rank = members.all.iter().find(|member| member.state.id == state.id).map(|member| member.rank);
        if rank.is_some_and(|rank| members.all.iter().any(|other| other.rank != rank && !is_out(&other))) {
            return true;
        }
        let out = members.all.iter().filter(is_out).count();
        // At least half stay, and at least one.
        (out + 1) * 2 <= members.all.len()
    }

    fn rules(&self) -> Rules {
        let options = &self.upstream.options;
        Rules { failures: options.failures_to_open, success_percent: options.success_percent }
    }

    pub(super) fn status(&self) -> Vec<TargetStatus> {
        let status = |Member { state, forced, .. }: &Member| TargetStatus {
            upstream: self.upstream.name.clone(),
            target: state.target.text.clone(),
            address: state.target.address,
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
        };
        self.members.load().all.iter().map(status).collect()
    }
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
