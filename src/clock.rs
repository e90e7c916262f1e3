//! What time it is. The only reader of the system's wall clock; everything else is told.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

use crate::domain::UtcTime;

/// A source of wall-clock time. A service reads it once per act and passes `now` down.
pub trait Clock: Send + Sync {
    /// The current time in UTC.
    fn now(&self) -> UtcTime;

    /// What the host's clock shows: for what others compare with theirs, never for who is let in.
    fn wall(&self) -> UtcTime {
        self.now()
    }
}

/// The clock that services share.
pub type SharedClock = Arc<dyn Clock>;

/// The system's wall clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> UtcTime {
        let since = now_of_the_system();
        UtcTime::from_unix(i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
    }
}

/// Milliseconds since 1970-01-01T00:00:00Z as the host's clock shows them: for log lines, and nothing else.
pub fn wall_ms() -> u64 {
    u64::try_from(now_of_the_system().as_millis()).unwrap_or(u64::MAX)
}

/// The system's wall clock in nanoseconds since 1970, for spans: what others compare with theirs, and nobody
/// decides by.
pub fn wall_nanos() -> u64 {
    u64::try_from(now_of_the_system().as_nanos()).unwrap_or(u64::MAX)
}

#[expect(clippy::disallowed_methods, reason = "this is the one reader of the system's clock")]
fn now_of_the_system() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// A wall clock that does not run backwards: if the one below it is set back, time goes on evenly from where it
/// was, so that nothing that has ended begins again. What decides who is let in reads the time here.
///
/// A leap ahead is followed at once, since it lets nobody in, and counts as the time that was only when it has
/// lasted: a clock that was wrong for a moment locks nobody out afterwards.
pub struct ForwardOnly {
    wall: SharedClock,
    ticks: Box<dyn Fn() -> Duration + Send + Sync>,
    /// Seconds that the even time is ahead of the ticks.
    ahead: AtomicI64,
    leap: Mutex<Option<Leap>>,
}

/// A leap ahead that has not lasted yet.
#[derive(Clone, Copy)]
struct Leap {
    ahead: i64,
    since: i64,
}

/// Seconds by which whole seconds of two clocks may differ from one look to the next.
const ROUNDING: i64 = 2;
/// How long a leap ahead has to last.
const LASTING: Duration = Duration::from_secs(600);

impl ForwardOnly {
    /// What `wall` shows, as long as it does not run backwards.
    pub fn over(wall: SharedClock) -> Arc<Self> {
        let start = Instant::now();
        Self::ticking(wall, move || start.elapsed())
    }

    /// The same, evenly measured by `ticks`, which never run backwards.
    pub fn ticking(wall: SharedClock, ticks: impl Fn() -> Duration + Send + Sync + 'static) -> Arc<Self> {
        let clock = Self { wall, ticks: Box::new(ticks), ahead: AtomicI64::new(0), leap: Mutex::new(None) };
        clock.ahead.store(clock.wall.now().as_unix() - clock.ticked(), Ordering::Release);
        Arc::new(clock)
    }

    /// It has been `past` already, as somebody noted before the clock was started.
    pub fn has_been(&self, past: UtcTime) {
        self.ahead.fetch_max(past.as_unix() - self.ticked(), Ordering::AcqRel);
    }

    /// How far the wall clock is behind.
    pub fn set_back(&self) -> Duration {
        let even = self.ticked() + self.ahead.load(Ordering::Acquire);
        Duration::from_secs(u64::try_from(even - self.wall.now().as_unix()).unwrap_or(0))
    }

    fn ticked(&self) -> i64 {
        i64::try_from((self.ticks)().as_secs()).unwrap_or(i64::MAX)
    }

    /// The wall clock is ahead of the even time.
    fn leapt(&self, ahead: i64, ticked: i64) {
        let known = self.ahead.load(Ordering::Acquire);
        let mut leap = self.leap.lock();
        let since = leap.filter(|leap| leap.ahead.abs_diff(ahead) <= ROUNDING.unsigned_abs());
        let since = since.map_or(ticked, |leap| leap.since);
        let has_lasted = ticked - since >= LASTING.as_secs().cast_signed();
        if ahead - known <= ROUNDING || has_lasted {
            self.ahead.fetch_max(ahead, Ordering::AcqRel);
            *leap = None;
        } else {
            *leap = Some(Leap { ahead, since });
        }
    }
}

impl Clock for ForwardOnly {
    fn now(&self) -> UtcTime {
        let (wall, ticked) = (self.wall.now(), self.ticked());
        let even = ticked + self.ahead.load(Ordering::Acquire);
        if wall.as_unix() <= even {
            return UtcTime::from_unix(even);
        }
        self.leapt(wall.as_unix() - ticked, ticked);
        wall
    }

    fn wall(&self) -> UtcTime {
        self.wall.now()
    }
}

/// A clock that moves only when told to, for tests.
#[derive(Debug)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    /// A clock standing at `now`.
    pub fn at(now: UtcTime) -> Arc<Self> {
        Arc::new(Self(AtomicI64::new(now.as_unix())))
    }

    /// Moves the clock, forwards or backwards.
    pub fn set(&self, now: UtcTime) {
        self.0.store(now.as_unix(), Ordering::SeqCst);
    }

    /// Moves the clock forward.
    pub fn advance(&self, span: Duration) {
        self.set(self.now().plus(span));
    }
}

impl Clock for ManualClock {
    fn now(&self) -> UtcTime {
        UtcTime::from_unix(self.0.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use super::*;

    struct Times {
        wall: Arc<ManualClock>,
        ticks: Arc<AtomicU64>,
        clock: Arc<ForwardOnly>,
    }

    const HOUR: i64 = 3_600;

    impl Times {
        fn begin() -> Self {
            let (wall, ticks) = (ManualClock::at(UtcTime::from_unix(1_000_000)), Arc::new(AtomicU64::new(7)));
            let ticking = ticks.clone();
            let ticking = move || Duration::from_secs(ticking.load(Ordering::SeqCst));
            Self { clock: ForwardOnly::ticking(wall.clone(), ticking), wall, ticks }
        }

        /// Time goes on by `seconds`, and the wall clock by `more` than that.
        fn pass(&self, seconds: i64, more: i64) -> i64 {
            self.ticks.fetch_add(seconds.unsigned_abs(), Ordering::SeqCst);
            self.wall.set(UtcTime::from_unix(self.wall.now().as_unix() + seconds + more));
            self.clock.now().as_unix() - 1_000_000
        }
    }

    #[test]
    fn a_clock_that_is_set_back_goes_on_evenly() {
        let times = Times::begin();
        assert_eq!(times.pass(10, 0), 10);
        assert_eq!(times.pass(10, -24 * HOUR), 20);
        assert_eq!(times.clock.set_back(), Duration::from_secs(24 * 3_600));
        assert_eq!(times.pass(HOUR, 0), 20 + HOUR);
        assert_eq!(times.pass(0, 24 * HOUR), 20 + HOUR, "set right again");
        assert_eq!(times.clock.set_back(), Duration::ZERO);
    }

    #[test]
    fn a_leap_ahead_is_followed_and_forgotten_if_it_does_not_last() {
        let times = Times::begin();
        assert_eq!(times.pass(1, 365 * 24 * HOUR), 1 + 365 * 24 * HOUR);
        assert_eq!(times.pass(60, 0), 61 + 365 * 24 * HOUR);
        assert_eq!(times.pass(1, -365 * 24 * HOUR), 62, "nobody is locked out for a year");
    }

    #[test]
    fn a_leap_ahead_that_lasts_is_the_time() {
        let times = Times::begin();
        times.pass(1, 10 * HOUR);
        times.pass(300, 1);
        times.pass(301, 0);
        assert_eq!(times.pass(1, -10 * HOUR), 603 + 1 + 10 * HOUR);
    }

    #[test]
    fn what_was_noted_before_the_start_has_been() {
        let times = Times::begin();
        times.clock.has_been(UtcTime::from_unix(1_000_000 + HOUR));
        assert_eq!(times.pass(5, 0), 5 + HOUR);
        times.clock.has_been(UtcTime::from_unix(1_000_000 - HOUR));
        assert_eq!(times.pass(0, 0), 5 + HOUR);
    }
}
