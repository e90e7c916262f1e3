//! How fast somebody gives or takes who is waited for. What counts is the time in which nothing can go on but for
//! them: a wait begins when there is nothing of theirs to read, or no room for what is written, and ends with the
//! next octet that moves. Who has nothing to ask for, or waits for an app, is not waited for.

use std::time::Duration;

use tokio::time::Instant;

/// Longer than any exchange, short enough for the timer's arithmetic.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// One direction of one exchange, or of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    timeout: Duration,
    /// Octets that have to move while `timeout` is waited in all; 0: however few.
    least: u64,
    wait: Option<Wait>,
    /// Of the window that is being measured: what was waited before this wait, and what moved.
    waited: Duration,
    octets: u64,
}

/// A wait that goes on.
#[derive(Clone, Copy, Debug)]
struct Wait {
    since: Instant,
    /// What came before belongs to a window that has been judged.
    counted_from: Instant,
}

impl Pace {
    /// Too slow is a wait of `timeout`, or less than `rate` octets a second over waits of `timeout` together.
    pub(super) fn new(timeout: Duration, rate: Option<u64>) -> Self {
        let timeout = timeout.min(FOREVER);
        let millis = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        let least = rate.map_or(0, |rate| rate.saturating_mul(millis) / 1_000);
        Self { timeout, least, wait: None, waited: Duration::ZERO, octets: 0 }
    }

    /// From here on, only a wait of the whole timeout is too slow.
    pub(super) fn lift(&mut self) {
        self.least = 0;
    }

    /// Nothing that came before counts.
    pub(super) fn begin_anew(&mut self) {
        (self.wait, self.waited, self.octets) = (None, Duration::ZERO, 0);
    }

    /// They are waited for, from now on or still.
    pub(super) fn waits(&mut self, now: impl FnOnce() -> Instant) {
        if self.wait.is_none() {
            let now = now();
            self.wait = Some(Wait { since: now, counted_from: now });
        }
    }

    /// So much moved: no wait goes on. Asks the clock only if one did.
    pub(super) fn moved(&mut self, octets: u64, now: impl FnOnce() -> Instant) {
        if let Some(wait) = self.wait.take() {
            self.waited += now().saturating_duration_since(wait.counted_from);
        }
        self.octets = self.octets.saturating_add(octets);
    }

    /// When it is to be judged, if nothing moves until then.
    pub(super) fn due(&self) -> Option<Instant> {
        let wait = self.wait?;
        let stalled = wait.since + self.timeout;
        let window = wait.counted_from + self.timeout.saturating_sub(self.waited);
        Some(if self.least > 0 { stalled.min(window) } else { stalled })
    }

    /// Whether that was too slow, at `now`. If it was not, another window begins when one is over.
    pub(super) fn is_too_slow(&mut self, now: Instant) -> bool {
        if self.due().is_none_or(|due| due > now) {
            return false;
        }
        let Some(wait) = self.wait.as_mut() else { return false };
        if wait.since + self.timeout <= now || self.octets < self.least {
            return true;
        }
        wait.counted_from = now;
        (self.waited, self.octets) = (Duration::ZERO, 0);
        false
    }
}

#[cfg(test)]
mod tests {
    use std::iter::{once, repeat_n};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const MINUTE: Duration = Duration::from_secs(60);

    /// Waits of `wait` before each of these octets: the number of the wait that was too slow.
    fn fails(mut pace: Pace, wait: Duration, octets: impl Iterator<Item = u64>) -> Option<usize> {
        let mut now = Instant::now();
        for (number, octets) in octets.enumerate() {
            pace.waits(|| now);
            let end = now + wait;
            while let Some(due) = pace.due().filter(|due| *due <= end) {
                if pace.is_too_slow(due) {
                    return Some(number);
                }
            }
            now = end;
            pace.moved(octets, || now);
        }
        None
    }

    fn of(rate: u64) -> Pace {
        Pace::new(MINUTE, Some(rate))
    }

    #[test]
    fn one_octet_a_minute_ends_with_the_first_window() {
        assert_eq!(fails(of(256), 59 * SECOND, repeat_n(1, 9)), Some(1));
        assert_eq!(fails(Pace::new(MINUTE, None), 59 * SECOND, repeat_n(1, 9)), None);
        assert_eq!(fails(Pace::new(MINUTE, None), MINUTE, repeat_n(1, 9)), Some(0), "a stall");
        let mut lifted = of(256);
        lifted.lift();
        assert_eq!(fails(lifted, 59 * SECOND, repeat_n(1, 9)), None);
    }

    #[test]
    fn a_quick_beginning_does_not_pay_for_ever() {
        let octets = once(1 << 20).chain(repeat_n(100, 200));
        // Windows of 60 waits: the first has the beginning.
        assert_eq!(fails(of(256), SECOND, octets), Some(119));
    }

    #[test]
    fn who_is_just_fast_enough_goes_on() {
        assert_eq!(fails(of(256), SECOND, repeat_n(261, 1_000)), None);
        // The octets of the last wait come after it.
        assert_eq!(fails(of(256), SECOND, repeat_n(250, 1_000)), Some(59));
    }

    #[test]
    fn only_waiting_counts() {
        let (mut pace, mut now) = (of(256), Instant::now());
        for _ in 0..100 {
            pace.moved(1, || now);
            now += MINUTE;
            assert_eq!(pace.due(), None);
            assert!(!pace.is_too_slow(now));
            pace.waits(|| now);
            now += SECOND / 2;
            assert!(!pace.is_too_slow(now));
        }
        now += MINUTE;
        assert!(pace.is_too_slow(now));
    }
}
