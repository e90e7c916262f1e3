//! What a client certificate may contain, who gets one, and how long it lives.
//!
//! A [`Profile`] is a name and a version of [`Rules`]. What a certificate contains is read off the
//! rules; who gets one is [`Profile::judge`]d rule by rule, so that a refusal can name its rule and a
//! draft can be rehearsed on what was asked before.

mod judge;
mod rules;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use judge::{Facts, KeyFact, Requester, Rule, Ruling, refusal};
pub use rules::{CommonName, NameRules, Outliving, RenewalRules, Requesters, RuleFault, Rules};

use super::key_policy::KeyPolicy;
use crate::domain::{Slug, UtcTime};

/// A named, versioned set of rules. All its certificates are clientAuth-only, digitalSignature-only
/// leaves; a profile decides only what is left to decide.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// Its name.
    pub name: Slug,
    /// Counts edits, from 1.
    pub version: u64,
    /// What it says.
    pub rules: Rules,
}

impl Profile {
    /// The profile for people's devices that every installation starts with.
    pub fn device() -> Self {
        #[expect(clippy::expect_used, reason = "the literal is a slug, as the test below shows")]
        let name = "device".parse().expect("`device` is a slug");
        Self { name, version: 1, rules: Rules::device() }
    }

    /// Which keys it takes.
    pub fn keys(&self) -> &KeyPolicy {
        &self.rules.keys
    }

    /// From issuance to notAfter.
    pub fn lifetime(&self) -> Duration {
        Duration::from_secs(self.rules.lifetime_seconds)
    }

    /// notBefore and notAfter of a certificate issued at `now`. Both ends are inclusive (RFC 5280
    /// §4.1.2.5), so a lifetime of one day is 86,400 seconds counted from `now`, its first included.
    pub fn validity(&self, now: UtcTime) -> (UtcTime, UtcTime) {
        let back_date = Duration::from_secs(self.rules.back_date_seconds);
        (now.minus(back_date), now.plus(self.lifetime().saturating_sub(Duration::from_secs(1))))
    }
}

#[cfg(test)]
mod tests;
