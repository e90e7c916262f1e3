//! When a target is left alone, and when it is tried again. Counts in atomics: several threads ask and tell it
//! with every request, and a count that is lost between two of them decides nothing.

use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

use crate::domain::upstream::BreakerState;

/// Answers of the last ten seconds below which no share is taken.
const FEWEST: u32 = 20;
/// Seconds that are looked back on.
const SECONDS: usize = 10;
/// The first pause, in milliseconds; each further one is twice as long, up to [`LONGEST_MS`].
pub(super) const FIRST_MS: u64 = 1_000;
/// The longest pause, in milliseconds.
const LONGEST_MS: u64 = 60_000;

const CLOSED: u8 = 0;
const OPEN: u8 = 1;
const PROBATION: u8 = 2;

/// When it opens.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// Failures in a row.
    pub(super) failures: u32,
    /// Share of good answers, in percent, below which it opens; 0: never.
    pub(super) success_percent: u32,
}

/// The breaker of one target. Times are milliseconds since some beginning.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    state: AtomicU8,
    /// In a row.
    failures: AtomicU32,
    /// Times it has opened since it was last closed by a good answer.
    opened: AtomicU32,
    /// Until when it is open.
    until: AtomicU64,
    window: [Second; SECONDS],
}

#[derive(Debug, Default)]
struct Second {
    number: AtomicU64,
    good: AtomicU32,
    bad: AtomicU32,
}

/// A failure.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Failure {
    /// Of the one request that decides.
    pub(super) was_probe: bool,
    /// Nobody is there: one is as good as many.
    pub(super) is_absence: bool,
    /// Any number.
    pub(super) chance: u64,
}

/// What may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admits {
    /// Anything.
    All,
    /// One request, to see.
    One,
    /// Nothing.
    None,
}

impl Breaker {
    pub(super) fn state(&self) -> BreakerState {
        match self.state.load(Ordering::Acquire) {
            CLOSED => BreakerState::Closed,
            OPEN => BreakerState::Open,
            _ => BreakerState::Probation,
        }
    }

    /// What may be sent at `now`.
    pub(super) fn admits(&self, now: u64) -> Admits {
        match self.state.load(Ordering::Acquire) {
            CLOSED => Admits::All,
            OPEN if now >= self.until.load(Ordering::Acquire) => Admits::One,
            _ => Admits::None,
        }
    }

    /// Takes the one request that may be sent; whether nobody else has.
    pub(super) fn take_probe(&self) -> bool {
        self.state.compare_exchange(OPEN, PROBATION, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// The one request came to nothing, for no fault of the target that is known; nobody is sent next before
    /// `until`.
    pub(super) fn give_back_probe(&self, until: u64) {
        self.until.fetch_max(until, Ordering::AcqRel);
        let _ = self.state.compare_exchange(PROBATION, OPEN, Ordering::AcqRel, Ordering::Acquire);
    }

    /// A good answer. `was_probe`: the one that decides.
    pub(super) fn succeeded(&self, now: u64, was_probe: bool) {
        self.failures.store(0, Ordering::Relaxed);
        self.at(now).good.fetch_add(1, Ordering::Relaxed);
        if was_probe {
            self.opened.store(0, Ordering::Relaxed);
            self.window.iter().for_each(Second::forget);
            self.state.store(CLOSED, Ordering::Release);
        }
    }

    /// None, or a bad one. It opens if the rules say so and `may_open`.
    pub(super) fn failed(&self, now: u64, failure: Failure, rules: Rules, may_open: impl FnOnce() -> bool) {
        let Failure { was_probe, is_absence, chance } = failure;
        let weight = if is_absence { rules.failures } else { 1 };
        let failures = self.failures.fetch_add(weight, Ordering::Relaxed).saturating_add(weight);
        self.at(now).bad.fetch_add(1, Ordering::Relaxed);
        let is_due = || {
            self.state.load(Ordering::Acquire) == CLOSED
                && (failures >= rules.failures || self.is_poor(now, rules.success_percent))
        };
        if was_probe || (is_due() && may_open()) {
            self.open(now, chance);
        }
    }

    /// The pause is over then.
    pub(super) fn pause_until(&self, then: u64) {
        self.until.store(then, Ordering::Release);
    }

    fn open(&self, now: u64, chance: u64) {
        let times = self.opened.fetch_add(1, Ordering::Relaxed).min(16);
        let pause = FIRST_MS.saturating_mul(1 << times).min(LONGEST_MS);
        // Not all at one moment.
        let pause = pause - pause / 10 + chance % (pause / 5);
        self.until.store(now + pause, Ordering::Release);
        self.state.store(OPEN, Ordering::Release);
    }

    /// Whether too few of the last answers were good.
    fn is_poor(&self, now: u64, percent: u32) -> bool {
        let second = now / 1_000;
        let recent = self.window.iter().filter(|one| {
            let number = one.number.load(Ordering::Relaxed);
            second.saturating_sub(number) < SECONDS as u64
        });
        let (good, bad) = recent.fold((0, 0), |(good, bad), one| {
            (good + one.good.load(Ordering::Relaxed), bad + one.bad.load(Ordering::Relaxed))
        });
        good + bad >= FEWEST && good * 100 < (good + bad) * percent
    }

    fn at(&self, now: u64) -> &Second {
        let number = now / 1_000;
        let second = &self.window[(number % SECONDS as u64) as usize];
        if second.number.swap(number, Ordering::Relaxed) != number {
            second.forget();
        }
        second
    }
}

impl Second {
    fn forget(&self) {
        self.good.store(0, Ordering::Relaxed);
        self.bad.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules { failures: 3, success_percent: 50 };

    fn fail(breaker: &Breaker, now: u64) {
        breaker.failed(now, Failure::default(), RULES, || true);
    }

    #[test]
    fn where_nobody_is_there_it_opens_at_once() {
        let breaker = Breaker::default();
        breaker.failed(0, Failure { is_absence: true, ..Failure::default() }, RULES, || true);
        assert_eq!(breaker.admits(0), Admits::None);
    }

    #[test]
    fn failures_in_a_row_open_it_and_one_request_decides() {
        let breaker = Breaker::default();
        fail(&breaker, 0);
        fail(&breaker, 0);
        breaker.succeeded(0, false);
        fail(&breaker, 0);
        fail(&breaker, 0);
        assert_eq!(breaker.admits(0), Admits::All);
        fail(&breaker, 0);
        assert_eq!((breaker.admits(0), breaker.admits(899)), (Admits::None, Admits::None));
        assert_eq!(breaker.admits(900), Admits::One);
        assert!(breaker.take_probe() && !breaker.take_probe());
        assert_eq!(breaker.admits(5_000), Admits::None, "one at a time");
        breaker.succeeded(5_000, true);
        assert_eq!(breaker.admits(5_000), Admits::All);
    }

    #[test]
    fn each_failed_probe_makes_the_pause_longer_up_to_a_bound() {
        let breaker = Breaker::default();
        let (mut now, mut pauses) = (0, Vec::new());
        for _ in 0..3 {
            fail(&breaker, now);
        }
        for _ in 0..9 {
            let pause = (0..).step_by(100).find(|ms| breaker.admits(now + ms) == Admits::One).unwrap();
            pauses.push(pause);
            now += pause;
            assert!(breaker.take_probe());
            breaker.failed(now, Failure { was_probe: true, ..Failure::default() }, RULES, || true);
        }
        assert_eq!(pauses, [900, 1_800, 3_600, 7_200, 14_400, 28_800, 54_000, 54_000, 54_000]);
    }

    #[test]
    fn a_probe_that_nobody_waited_for_can_be_taken_again() {
        let breaker = Breaker::default();
        (0..3).for_each(|_| fail(&breaker, 0));
        assert!(breaker.take_probe());
        breaker.give_back_probe(0);
        assert_eq!(breaker.admits(1_000), Admits::One);
    }

    #[test]
    fn too_few_good_answers_open_it_and_old_ones_do_not_count() {
        let breaker = Breaker::default();
        let bad_then_good = |now| {
            fail(&breaker, now);
            fail(&breaker, now);
            breaker.succeeded(now, false);
        };
        (0..6).for_each(|_| bad_then_good(1_000));
        assert_eq!(breaker.admits(1_000), Admits::All, "18 say nothing");
        (0..6).for_each(|_| bad_then_good(30_000));
        assert_eq!(breaker.admits(30_000), Admits::All, "nor do those of half a minute ago");
        bad_then_good(31_000);
        assert_eq!(breaker.admits(31_000), Admits::None);
    }

    #[test]
    fn it_stays_closed_where_it_may_not_open() {
        let breaker = Breaker::default();
        (0..9).for_each(|_| breaker.failed(0, Failure::default(), RULES, || false));
        assert_eq!(breaker.admits(0), Admits::All);
    }
}
