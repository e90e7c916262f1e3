//! How often a request may be tried again: a share of all requests, so that a sick upstream does not get more of
//! them than a healthy one, and a few besides, so that little traffic is not without second tries.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// Thousandths of a second try.
const ONE: i64 = 1_000;
/// What there is at the beginning, and what idle time fills up to: one more each second.
const RESERVE: i64 = 10 * ONE;
/// The most that can be saved.
const MOST: i64 = 100 * ONE;

/// The second tries that are left to one upstream.
#[derive(Debug)]
pub(super) struct Budget {
    left: AtomicI64,
    /// Milliseconds.
    filled_at: AtomicU64,
}

impl Default for Budget {
    fn default() -> Self {
        Self { left: AtomicI64::new(RESERVE), filled_at: AtomicU64::new(0) }
    }
}

impl Budget {
    /// A request comes, of which `percent` may be tried again.
    pub(super) fn add(&self, percent: u32) {
        if self.left.load(Ordering::Relaxed) < MOST {
            self.left.fetch_add(i64::from(percent) * ONE / 100, Ordering::Relaxed);
        }
    }

    /// Takes a second try, if one is left at `now`, in milliseconds.
    pub(super) fn take(&self, now: u64) -> bool {
        self.fill(now);
        let taken = self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| (left >= ONE).then_some(left - ONE));
        taken.is_ok()
    }

    /// Whether a second try is left.
    pub(super) fn is_left(&self, now: u64) -> bool {
        self.fill(now);
        self.left.load(Ordering::Relaxed) >= ONE
    }

    fn fill(&self, now: u64) {
        let since = self.filled_at.load(Ordering::Relaxed);
        let seconds = now.saturating_sub(since) / 1_000;
        if seconds == 0 {
            return;
        }
        let to = since + seconds * 1_000;
        if self.filled_at.compare_exchange(since, to, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            let more = i64::try_from(seconds).unwrap_or(MOST).saturating_mul(ONE);
            let _ = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                (left < RESERVE).then(|| left.saturating_add(more).min(RESERVE))
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_the_requests_and_a_reserve_may_be_tried_again() {
        let budget = Budget::default();
        let takes = |now| (0..1_000).take_while(|_| budget.take(now)).count();
        assert_eq!(takes(0), 10);
        (0..100).for_each(|_| budget.add(20));
        assert_eq!(takes(0), 20);
        assert_eq!(takes(3_999), 3, "one a second");
        assert_eq!(takes(60_000), 10, "up to the reserve");
        (0..10_000).for_each(|_| budget.add(20));
        assert_eq!(takes(60_000), 100, "nothing is saved without end");
    }
}
