//! When a client certificate is renewed: fractions of its lifetime, never fixed days, because there are
//! certificates of six days and of a year.

use super::time::UtcTime;

/// A renewal opens when at most one part in this many of the lifetime is left.
pub const OPENS_WITH_LEFT: i64 = 3;
/// Machines spread their renewals over one part in this many of the lifetime before that.
const SPREAD: i64 = 12;

/// When the renewal of a certificate opens: from then on its holder is asked to renew.
pub fn opens_at(not_before: UtcTime, not_after: UtcTime) -> UtcTime {
    UtcTime::from_unix(not_after.as_unix() - lifetime(not_before, not_after) / OPENS_WITH_LEFT)
}

/// When a machine renews by itself: shortly before it would be asked to, and not all at the same time.
///
/// * `seed` — tells certificates apart; the same one gives the same time, across restarts.
pub fn machine_renews_at(not_before: UtcTime, not_after: UtcTime, seed: u64) -> UtcTime {
    let spread = u64::try_from(lifetime(not_before, not_after) / SPREAD).unwrap_or_default();
    let early = seed.checked_rem(spread).and_then(|early| i64::try_from(early).ok()).unwrap_or_default();
    UtcTime::from_unix(opens_at(not_before, not_after).as_unix() - early)
}

fn lifetime(not_before: UtcTime, not_after: UtcTime) -> i64 {
    (not_after.as_unix() - not_before.as_unix()).max(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_renew_before_anyone_is_asked_to_and_not_together() {
        let (from, to) = (UtcTime::from_unix(0), UtcTime::from_unix(1200));
        assert_eq!(opens_at(from, to), UtcTime::from_unix(800));
        let times: Vec<_> = [0, 1, 99, 100].map(|seed| machine_renews_at(from, to, seed).as_unix()).into();
        assert_eq!(times, [800, 799, 701, 800]);
        assert_eq!(machine_renews_at(from, from, 7), from, "a lifetime of nothing");
    }
}
