//! The rules of routes, and their buckets: the same for all threads, and for each version of the configuration as
//! long as the rule is the same. What no version in use has any more is let go.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Weak};
use std::time::Duration;

use governor::Quota;
use governor::clock::DefaultClock;
use parking_lot::Mutex;

use super::Limited;
use super::buckets::{Buckets, Key, Room};
use super::source::Source;
use crate::domain::RouteId;
use crate::domain::route::{RatePer, RateRule};
use crate::live::{Identity, Route};
use crate::telemetry::metrics::Limit;

/// Sources of all routes together, and as many devices and people; about 60 octets each.
const MOST_KEYS: usize = 262_144;

/// The buckets of all routes, by what they are for.
pub(super) struct OfRoutes {
    known: Mutex<HashMap<(RouteId, RateRule), Weak<Buckets>>>,
    room: Arc<Room>,
}

/// One rule of a route.
pub(in crate::edge) struct Rule {
    per: RatePer,
    buckets: Arc<Buckets>,
}

impl Default for OfRoutes {
    fn default() -> Self {
        Self { known: Mutex::default(), room: Room::of(MOST_KEYS) }
    }
}

impl OfRoutes {
    /// The rules of this route, with the buckets that they have had so far. Those for everyone come last, wherever
    /// they stand: what a narrower one refuses uses up nothing that is everybody's.
    pub(super) fn rules(&self, route: &Route) -> Vec<Rule> {
        let mut known = self.known.lock();
        let rule = |rule: &RateRule| {
            let slot = known.entry((route.id, *rule)).or_default();
            let buckets = slot.upgrade().unwrap_or_else(|| {
                let fresh = Arc::new(Buckets::of(quota(rule), self.room.clone(), DefaultClock::default()));
                *slot = Arc::downgrade(&fresh);
                fresh
            });
            Rule { per: rule.per, buckets }
        };
        let mut rules: Vec<_> = route.options.rate.iter().map(rule).collect();
        rules.sort_by_key(|rule| rule.per == RatePer::Everyone);
        rules
    }

    /// Forgets what is not needed any more.
    pub(super) fn forget(&self) {
        let in_use: Vec<_> = {
            let mut known = self.known.lock();
            known.retain(|_, buckets| buckets.strong_count() > 0);
            known.values().filter_map(Weak::upgrade).collect()
        };
        in_use.iter().for_each(|buckets| buckets.forget());
    }
}

/// Draws on every rule. One that refuses leaves what was drawn before it drawn.
///
/// * `source` — none for sources that are not counted.
///
/// # Errors
/// The first rule that refuses.
pub(in crate::edge) fn draw(
    rules: &[Rule],
    identity: Option<&Identity>,
    source: Option<Source>,
) -> Result<(), Limited> {
    for rule in rules {
        if let Some(key) = key(rule.per, identity, source) {
            rule.buckets.draw(key).map_err(|wait| Limited { limit: Limit::Route, wait })?;
        }
    }
    Ok(())
}

/// Nobody known is nobody in particular: then the source is all that there is to count by.
fn key(per: RatePer, identity: Option<&Identity>, source: Option<Source>) -> Option<Key> {
    match (per, identity) {
        (RatePer::Everyone, _) => Some(Key::Everyone),
        (RatePer::Device, Some(identity)) => Some(Key::Device(identity.device())),
        (RatePer::Person, Some(identity)) => Some(Key::Person(identity.person().id)),
        (RatePer::Source, _) | (RatePer::Device | RatePer::Person, None) => source.map(Key::Source),
    }
}

/// The rule as governor has it. It was checked that no number is 0.
fn quota(rule: &RateRule) -> Quota {
    let requests = NonZeroU32::new(rule.requests).unwrap_or(NonZeroU32::MIN);
    let burst = rule.burst.and_then(NonZeroU32::new).unwrap_or(requests);
    let refill = Duration::from_secs(rule.seconds.into()) / requests.get();
    Quota::with_period(refill).unwrap_or(Quota::per_second(requests)).allow_burst(burst)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: RateRule = RateRule { per: RatePer::Everyone, requests: 10, seconds: 60, burst: None };

    #[test]
    fn a_rule_gives_its_requests_in_its_time() {
        let of = |rule| (quota(&rule).burst_size().get(), quota(&rule).replenish_interval());
        assert_eq!(of(RULE), (10, Duration::from_secs(6)));
        assert_eq!(of(RateRule { burst: Some(3), ..RULE }), (3, Duration::from_secs(6)));
        let widest = RateRule { requests: 1, seconds: 86_400, burst: Some(100_000), ..RULE };
        let buckets = Buckets::of(quota(&widest), Room::of(1), DefaultClock::default());
        assert!((0..100_000).all(|_| buckets.draw(Key::Everyone).is_ok()), "nothing overflows");
        assert!(buckets.draw(Key::Everyone).is_err());
    }

    #[test]
    fn strangers_are_counted_by_where_they_come_from() {
        let source = Source::V6(1);
        for per in [RatePer::Source, RatePer::Device, RatePer::Person] {
            assert_eq!(key(per, None, Some(source)), Some(Key::Source(source)));
            assert_eq!(key(per, None, None), None, "an exempt network");
        }
        assert_eq!(key(RatePer::Everyone, None, None), Some(Key::Everyone));
    }
}
