//! How loaded a target seems: the latency of its answers, quick to rise and slow to fall, times what is under way.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// In this time, in seconds, an old latency loses two thirds of its weight.
const DECAY: f64 = 10.0;
/// What an unknown target counts for each request under way, in microseconds: nobody knows yet whether it answers.
const UNKNOWN: f64 = 1_000_000.0;

/// The load of one target. Counts are shared by all threads; one that is lost matters to nobody.
#[derive(Debug, Default)]
pub(super) struct Load {
    /// Microseconds, as the bits of an `f64`; 0 until the first answer.
    latency: AtomicU64,
    /// Of `latency`, in milliseconds.
    at: AtomicU64,
    in_flight: AtomicU32,
}

impl Load {
    /// One more, if there may be; whether there is.
    pub(super) fn rise(&self, most: u32) -> bool {
        let rise = |under_way| (under_way < most).then_some(under_way + 1);
        self.in_flight.fetch_update(Ordering::SeqCst, Ordering::SeqCst, rise).is_ok()
    }

    /// What was observed is of another time: the target is back.
    pub(super) fn begin_anew(&self) {
        self.latency.store(0, Ordering::Relaxed);
    }

    pub(super) fn fall(&self) {
        self.in_flight.fetch_sub(1, Ordering::SeqCst);
    }

    pub(super) fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// An answer came after `took`, at `now` in milliseconds.
    pub(super) fn observe(&self, took: Duration, now: u64) {
        let took = took.as_secs_f64() * 1e6;
        let before = self.decayed(now);
        let latency = if took >= before {
            took
        } else {
            let weight = self.weight(now);
            f64::from_bits(self.latency.load(Ordering::Relaxed)) * weight + took * (1.0 - weight)
        };
        self.latency.store(latency.to_bits(), Ordering::Relaxed);
        self.at.store(now, Ordering::Relaxed);
    }

    /// What one more request would meet, in microseconds, where `share` requests are as much as one elsewhere.
    pub(super) fn cost(&self, now: u64, share: f64) -> f64 {
        let (latency, under_way) = (self.decayed(now), f64::from(self.in_flight()) / share);
        if latency == 0.0 { under_way * UNKNOWN } else { latency * (under_way + 1.0) }
    }

    /// The latency of the last answers, if there were any.
    pub(super) fn latency(&self) -> Option<Duration> {
        let latency = f64::from_bits(self.latency.load(Ordering::Relaxed));
        (latency > 0.0).then(|| Duration::from_secs_f64(latency / 1e6))
    }

    fn decayed(&self, now: u64) -> f64 {
        f64::from_bits(self.latency.load(Ordering::Relaxed)) * self.weight(now)
    }

    fn weight(&self, now: u64) -> f64 {
        let age = now.saturating_sub(self.at.load(Ordering::Relaxed));
        (-(age as f64) / 1_000.0 / DECAY).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_answer_counts_at_once_and_is_forgotten_slowly() {
        let load = Load::default();
        load.observe(Duration::from_millis(1), 0);
        load.observe(Duration::from_millis(100), 0);
        assert!((load.cost(0, 1.0) - 100_000.0).abs() < 1.0);
        load.observe(Duration::from_millis(1), 10);
        assert!(load.cost(10, 1.0) > 90_000.0);
        assert!(load.cost(60_000, 1.0) < 1_000.0, "tried again after a while");
    }

    #[test]
    fn what_is_under_way_counts() {
        let (idle, busy) = (Load::default(), Load::default());
        for load in [&idle, &busy] {
            load.observe(Duration::from_millis(5), 0);
        }
        assert!(busy.rise(1) && !busy.rise(1));
        assert!(busy.cost(0, 1.0) > idle.cost(0, 1.0));
        busy.fall();
        assert!((busy.cost(0, 1.0) - idle.cost(0, 1.0)).abs() < f64::EPSILON);
        let unknown = Load::default();
        assert!(unknown.cost(0, 1.0) < idle.cost(0, 1.0), "a new one is tried");
        assert!(unknown.rise(9));
        assert!(unknown.cost(0, 1.0) > idle.cost(0, 1.0), "but not by everybody at once");
        assert!(unknown.cost(0, 2.0) < unknown.cost(0, 1.0), "who takes twice as much is half as busy");
    }
}
