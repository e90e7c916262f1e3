//! How often someone may try: sign-in by source and by account, setup and invitations by source, bad
//! tokens by source. Memory is bounded; when it is full, newcomers share one bucket.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use super::secret;
use crate::admin::listener::Entrance;
use crate::admin::operations::Budget;

/// Keys kept by one limiter at most; about 100 bytes each.
const MAX_KEYS: usize = 50_000;

/// Attempts at once, and the time after which one more is given.
#[derive(Clone, Copy, Debug)]
pub struct Allowance {
    /// Attempts at once.
    pub burst: NonZeroU32,
    /// One more after this time.
    pub refill: Duration,
}

const fn allowance(burst: u32, refill_seconds: u64) -> Allowance {
    match NonZeroU32::new(burst) {
        Some(burst) => Allowance { burst, refill: Duration::from_secs(refill_seconds) },
        None => Allowance { burst: NonZeroU32::MIN, refill: Duration::from_secs(refill_seconds) },
    }
}

/// What everybody gets.
#[derive(Clone, Copy, Debug)]
pub struct Allowances {
    /// Sign-ins from one source.
    pub sign_in_by_source: Allowance,
    /// Sign-ins to one account, from wherever; at the door and inside each.
    pub sign_in_by_account: Allowance,
    /// Uses of the setup link from one source.
    pub setup: Allowance,
    /// Openings of invitations from one source.
    pub acceptance: Allowance,
    /// Renewals by certificate from one source. Nobody guesses there, and many machines may share an address.
    pub renewal: Allowance,
    /// Bad tokens from one source.
    pub bad_tokens: Allowance,
}

impl Default for Allowances {
    fn default() -> Self {
        Self {
            sign_in_by_source: allowance(20, 6),
            sign_in_by_account: allowance(10, 15),
            setup: allowance(10, 10),
            acceptance: allowance(20, 6),
            renewal: allowance(120, 1),
            bad_tokens: allowance(30, 2),
        }
    }
}

/// The limiters.
#[derive(Debug)]
pub struct Limits {
    sign_in_by_source: Limiter,
    sign_in_by_account: Limiter,
    sign_in_by_account_at_door: Limiter,
    setup: Limiter,
    acceptance: Limiter,
    renewal: Limiter,
    bad_tokens: Limiter,
}

impl Limits {
    /// Fresh limiters.
    pub fn new(allowances: &Allowances) -> Self {
        Self {
            sign_in_by_source: Limiter::new(allowances.sign_in_by_source),
            sign_in_by_account: Limiter::new(allowances.sign_in_by_account),
            sign_in_by_account_at_door: Limiter::new(allowances.sign_in_by_account),
            setup: Limiter::new(allowances.setup),
            acceptance: Limiter::new(allowances.acceptance),
            renewal: Limiter::new(allowances.renewal),
            bad_tokens: Limiter::new(allowances.bad_tokens),
        }
    }

    /// Draws on a budget.
    ///
    /// # Errors
    /// The time to wait.
    pub fn draw(&self, budget: Budget, source: IpAddr) -> Result<(), Duration> {
        let limiter = match budget {
            Budget::SignIn => &self.sign_in_by_source,
            Budget::Setup => &self.setup,
            Budget::Acceptance => &self.acceptance,
            Budget::Renewal => &self.renewal,
        };
        limiter.draw(source_key(source))
    }

    /// Counts a sign-in to an account, whether it exists or not. The door has a limiter of its own: who
    /// guesses there keeps nobody out of the console.
    ///
    /// # Errors
    /// The time to wait.
    pub fn draw_account(&self, entrance: Entrance, email: &str) -> Result<(), Duration> {
        let mut key = [0; 16];
        key.copy_from_slice(&secret::hash(email).0[..16]);
        match entrance {
            Entrance::Door => self.sign_in_by_account_at_door.draw(key),
            Entrance::Console | Entrance::Socket => self.sign_in_by_account.draw(key),
        }
    }

    /// Counts a bad token.
    ///
    /// # Errors
    /// The time to wait.
    pub fn draw_bad_token(&self, source: IpAddr) -> Result<(), Duration> {
        self.bad_tokens.draw(source_key(source))
    }
}

/// What one source is counted under.
pub type Key = [u8; 16];

/// Who counts as one source: an IPv4 address, or the /64 that one IPv6 customer gets.
pub fn source_key(source: IpAddr) -> Key {
    match source.to_canonical() {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => (u128::from(address) & !u128::from(u64::MAX)).to_be_bytes(),
    }
}

/// The bucket of newcomers when memory is full. No source has this key: it is a documentation prefix.
const SHARED: Key = [0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

/// Counts draws by key.
#[derive(Debug)]
pub(in crate::admin) struct Limiter {
    limiter: DefaultKeyedRateLimiter<Key>,
    clock: DefaultClock,
}

impl Limiter {
    pub(in crate::admin) fn new(allowance: Allowance) -> Self {
        let quota = Quota::with_period(allowance.refill)
            .unwrap_or_else(|| Quota::per_second(NonZeroU32::MIN))
            .allow_burst(allowance.burst);
        Self { limiter: RateLimiter::keyed(quota), clock: DefaultClock::default() }
    }

    /// # Errors
    /// The time to wait.
    pub(in crate::admin) fn draw(&self, key: Key) -> Result<(), Duration> {
        let mut key = key;
        if self.limiter.len() >= MAX_KEYS {
            self.limiter.retain_recent();
            if self.limiter.len() >= MAX_KEYS {
                key = SHARED;
            }
        }
        self.limiter.check_key(&key).map_err(|denied| denied.wait_time_from(self.clock.now()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_counted_apart_and_ipv6_customers_together() {
        let limits = Limits::new(&Allowances { setup: allowance(2, 60), ..Allowances::default() });
        let draw = |source: &str| limits.draw(Budget::Setup, source.parse().unwrap());
        assert!(draw("192.0.2.1").is_ok() && draw("192.0.2.1").is_ok());
        assert!(draw("192.0.2.1").unwrap_err() > Duration::from_secs(30));
        assert!(draw("::ffff:192.0.2.1").is_err(), "the same address in its IPv6 spelling");
        assert!(draw("192.0.2.2").is_ok());
        assert!(draw("2001:db8:1:2::1").is_ok() && draw("2001:db8:1:2::2").is_ok());
        assert!(draw("2001:db8:1:2::3").is_err());
    }
}
