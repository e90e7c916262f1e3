//! A request at a target: what it counts for while it lasts, and what is learnt of the target by its end.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Group;
use crate::domain::upstream::BreakerState;
use crate::edge::upstream::breaker::{FIRST_MS, Failure};
use crate::edge::upstream::target::State;

/// The failure of a connection that could not be made.
pub(in crate::edge::upstream) const ABSENT: &str = "connect";
/// A failed answer counts for at least this, or a target that fails at once would seem the fastest.
const FAILED_LIKE: Duration = Duration::from_secs(1);

/// A request at a target, from before it is sent until its answer is through.
#[derive(Debug)]
pub(in crate::edge) struct Lease {
    pub(in crate::edge::upstream) state: Arc<State>,
    pub(super) group: Arc<Group>,
    pub(super) is_probe: bool,
    /// The visitor has sent all there is: time that passes is the target's.
    pub(super) is_whole: bool,
    pub(super) since: u64,
    /// The head of a good answer has come.
    pub(super) is_answered: bool,
    pub(super) is_settled: bool,
}

impl Lease {
    /// The head of a good answer came after `took`. Whether the target has done well is known when the rest is
    /// through, too; a request that decides about its target decides now.
    pub(in crate::edge) fn answered(&mut self, took: Duration) {
        let now = self.group.now();
        self.is_answered = true;
        if self.is_probe {
            self.state.load.begin_anew();
            self.settle_well(now);
        }
        self.state.load.observe(took, now);
    }

    fn settle_well(&mut self, now: u64) {
        if !self.is_settled {
            self.is_settled = true;
            self.state.breaker.succeeded(now, self.is_probe);
        }
    }

    /// No answer, or a bad one. Says how in a word.
    pub(in crate::edge) fn failed(&mut self, how: &'static str, chance: u64) {
        let (state, group) = (&self.state, &self.group);
        let now = group.now();
        state.load.observe(FAILED_LIKE, now);
        state.failures.fetch_add(1, Ordering::Relaxed);
        *state.last_failure.lock() = Some(how);
        let was_probe = self.is_probe && !self.is_settled;
        self.is_settled = true;
        let failure = Failure { was_probe, is_absence: how == ABSENT, chance };
        let _one_at_a_time = group.common.opening.lock();
        let before = state.breaker.state();
        state.breaker.failed(now, failure, group.rules(), || group.may_open(state));
        if before == BreakerState::Closed && state.breaker.state() == BreakerState::Open {
            tracing::warn!(
                upstream = %group.upstream.name, target = %state.target, cause = how,
                "A target is left alone for a while"
            );
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.state.load.fall();
        let now = self.group.now();
        if self.is_answered {
            self.settle_well(now);
        } else if !self.is_settled {
            self.given_up(now);
        }
        // Everybody looks: what one of them wants may be of no use to another.
        if self.group.common.waiting.load(Ordering::SeqCst) > 0 {
            self.group.common.room.notify_waiters();
        }
    }
}

impl Lease {
    /// The visitor has left before there was an answer. That says nothing of the target, but how long it took.
    fn given_up(&self, now: u64) {
        let waited = Duration::from_millis(now.saturating_sub(self.since));
        if self.is_whole && waited > self.state.load.latency().unwrap_or(FAILED_LIKE) {
            self.state.load.observe(waited, now);
        }
        if self.is_probe {
            self.state.breaker.give_back_probe(now + FIRST_MS);
        }
    }
}
