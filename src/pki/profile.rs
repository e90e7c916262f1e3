//! What a client certificate may contain and how long it lives.

use std::time::Duration;

use super::key_policy::KeyPolicy;
use crate::domain::{Slug, UtcTime};

/// A named set of rules for client certificates. All of them are clientAuth-only, digitalSignature-only
/// leaves; a profile decides only what is left to decide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Its name.
    pub name: Slug,
    /// From issuance to notAfter.
    pub lifetime: Duration,
    /// How far notBefore lies before issuance, for devices whose clock is late.
    pub back_date: Duration,
    /// Which keys it takes.
    pub keys: KeyPolicy,
}

impl Profile {
    /// The profile for people's devices: 90 days, back-dated five minutes, the default keys.
    pub fn device() -> Self {
        #[expect(clippy::expect_used, reason = "the literal is a slug, as the test below shows")]
        let name = "device".parse().expect("`device` is a slug");
        Self {
            name,
            lifetime: Duration::from_secs(90 * 86_400),
            back_date: Duration::from_secs(300),
            keys: KeyPolicy::default(),
        }
    }

    /// notBefore and notAfter of a certificate issued at `now`.
    pub fn validity(&self, now: UtcTime) -> (UtcTime, UtcTime) {
        (now.minus(self.back_date), now.plus(self.lifetime))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_certificate_lives_ninety_days_and_starts_a_little_early() {
        let now = UtcTime::from_unix(1_800_000_000);
        let (from, to) = Profile::device().validity(now);
        assert_eq!(now.since(from), Duration::from_secs(300));
        assert_eq!(to.since(now), Duration::from_secs(90 * 86_400));
    }
}
