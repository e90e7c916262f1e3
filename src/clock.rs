//! What time it is. The only reader of the system's wall clock; everything else is told.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::domain::UtcTime;

/// A source of wall-clock time. A service reads it once per act and passes `now` down.
pub trait Clock: Send + Sync {
    /// The current time in UTC.
    fn now(&self) -> UtcTime;
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

#[expect(clippy::disallowed_methods, reason = "this is the one reader of the system's clock")]
fn now_of_the_system() -> std::time::Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
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
    pub fn advance(&self, span: std::time::Duration) {
        self.set(self.now().plus(span));
    }
}

impl Clock for ManualClock {
    fn now(&self) -> UtcTime {
        UtcTime::from_unix(self.0.load(Ordering::SeqCst))
    }
}
