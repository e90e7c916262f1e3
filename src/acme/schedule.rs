//! Decides when a server certificate is ordered. Called for each site by [`super::Acme`], at every tick.
//!
//! Pure: no clock, no store, no network. The caller brings `now` and what is on record. All points in
//! a certificate's life are fractions of its lifetime (6-day and 45-day certificates exist), or the
//! moment that was picked in the authority's suggested window (RFC 9773).

use std::time::Duration;

use crate::domain::UtcTime;

/// Without a suggestion, a certificate is due when one part in this many of its lifetime is left.
const KEEP: u64 = 3;
/// The same for certificates that live shorter than [`SHORT`].
const KEEP_SHORT: u64 = 2;
/// What the authority suggests is followed until one part in this many is left.
const BACKSTOP: u64 = 6;
/// The same for certificates that live shorter than [`SHORT`].
const BACKSTOP_SHORT: u64 = 4;
/// When one part in this many is left, attempts are made at least every [`EMERGENCY_PAUSE`].
const EMERGENCY: u64 = 20;
/// Lifetimes below this are short.
const SHORT: Duration = Duration::from_secs(10 * 24 * 3600);
/// Pauses after the first failures; after more, [`DAILY`].
const PAUSES: [Duration; 3] = [Duration::from_secs(60), Duration::from_secs(600), Duration::from_secs(6000)];
/// Pause after many failures.
const DAILY: Duration = Duration::from_secs(24 * 3600);
/// Longest pause in an emergency.
const EMERGENCY_PAUSE: Duration = Duration::from_secs(3600);
/// Jitter adds up to one part in this many to a pause, so that many sites do not march in step.
const JITTER_SHARE: u64 = 10;
/// Jitter is drawn from 0 up to, but without, this.
pub const JITTER_RANGE: u16 = 1000;

/// The dates of the certificate in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// First second.
    pub not_before: UtcTime,
    /// Last second.
    pub not_after: UtcTime,
}

/// The authority's suggested window for this very certificate, and the moment that was picked in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Its first second.
    pub start: UtcTime,
    /// Its last second.
    pub end: UtcTime,
    /// The moment that was picked, and kept.
    pub selected: UtcTime,
}

/// What happened so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attempts {
    /// Failures since the last success.
    pub failures: u32,
    /// The last of them.
    pub last_failed_at: Option<UtcTime>,
    /// Until when the authority asked to be left alone (`Retry-After`).
    pub blocked_until: Option<UtcTime>,
    /// When a person asked for a renewal.
    pub requested_at: Option<UtcTime>,
    /// Whether an order is under way.
    pub under_way: bool,
}

/// Why an order is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// An order was begun and not ended.
    UnderWay,
    /// There is no public certificate yet.
    First,
    /// A person asked for it.
    Requested,
    /// The authority suggested it.
    Suggested,
    /// Enough of its lifetime has passed.
    Lifetime,
    /// Almost all of its lifetime has passed.
    Emergency,
}

/// Whether to order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// At once.
    Now(Reason),
    /// Not before this moment, which is after `now`.
    At(UtcTime, Reason),
}

/// Says whether an order for a name is due at `now`.
///
/// * `certificate` — the public certificate in use; none when there is none.
/// * `window` — the authority's suggestion for it; a senseless one counts as absent.
/// * `jitter` — drawn when the last attempt failed, `0..`[`JITTER_RANGE`].
pub fn due(
    certificate: Option<Validity>,
    window: Option<Window>,
    attempts: &Attempts,
    jitter: u16,
    now: UtcTime,
) -> Due {
    let (wanted, reason) = wanted(certificate, window, attempts, now);
    let urgent = certificate.is_some_and(|certificate| now >= point(certificate, EMERGENCY));
    let reason = if urgent { Reason::Emergency } else { reason };
    let at = wanted.max(allowed(attempts, jitter, urgent));
    if at <= now { Due::Now(reason) } else { Due::At(at, reason) }
}

fn wanted(
    certificate: Option<Validity>,
    window: Option<Window>,
    attempts: &Attempts,
    now: UtcTime,
) -> (UtcTime, Reason) {
    if attempts.under_way {
        return (now, Reason::UnderWay);
    }
    if attempts.requested_at.is_some() {
        return (now, Reason::Requested);
    }
    let Some(certificate) = certificate else { return (now, Reason::First) };
    let short = certificate.not_after.since(certificate.not_before) < SHORT;
    let sensible = window.filter(|window| {
        window.start < window.end
            && (window.start..=window.end).contains(&window.selected)
            && window.start < certificate.not_after
    });
    match sensible {
        // A window never postpones past the backstop: the authority's clock or ours may be wrong.
        Some(window) => {
            let backstop = point(certificate, if short { BACKSTOP_SHORT } else { BACKSTOP });
            if window.selected <= backstop {
                (window.selected, Reason::Suggested)
            } else {
                (backstop, Reason::Lifetime)
            }
        }
        None => (point(certificate, if short { KEEP_SHORT } else { KEEP }), Reason::Lifetime),
    }
}

/// When one part in `parts` of the lifetime is left.
fn point(certificate: Validity, parts: u64) -> UtcTime {
    let lifetime = certificate.not_after.since(certificate.not_before).as_secs();
    certificate.not_after.minus(Duration::from_secs(lifetime / parts))
}

/// Before this moment nothing is tried.
fn allowed(attempts: &Attempts, jitter: u16, urgent: bool) -> UtcTime {
    let blocked = attempts.blocked_until.unwrap_or(UtcTime::EPOCH);
    let Some(failed) = attempts.last_failed_at.filter(|_| attempts.failures > 0) else { return blocked };
    // Who pushed the button after the last failure has perhaps mended something.
    if attempts.requested_at.is_some_and(|asked| asked > failed) {
        return blocked;
    }
    let index = usize::try_from(attempts.failures - 1).unwrap_or(usize::MAX);
    let pause = PAUSES.get(index).copied().unwrap_or(DAILY);
    let pause = if urgent { pause.min(EMERGENCY_PAUSE) } else { pause };
    let share =
        pause.as_secs() * u64::from(jitter.min(JITTER_RANGE)) / (JITTER_SHARE * u64::from(JITTER_RANGE));
    failed.plus(pause + Duration::from_secs(share)).max(blocked)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DAY: i64 = 86_400;
    const T0: i64 = 1_800_000_000;

    fn at(days: i64) -> UtcTime {
        UtcTime::from_unix(T0 + days * DAY)
    }

    fn lives(days: i64) -> Option<Validity> {
        Some(Validity { not_before: at(0), not_after: at(days) })
    }

    fn window(start: i64, end: i64, selected: i64) -> Option<Window> {
        Some(Window { start: at(start), end: at(end), selected: at(selected) })
    }

    #[test]
    fn a_table_of_lives() {
        let calm = Attempts::default();
        let asked = Attempts { requested_at: Some(at(1)), ..calm };
        let begun = Attempts { under_way: true, ..calm };
        for (name, certificate, window, attempts, now, expected) in [
            ("no certificate", None, None, calm, 0, Due::Now(Reason::First)),
            ("young", lives(90), None, calm, 1, Due::At(at(60), Reason::Lifetime)),
            ("a third left", lives(90), None, calm, 60, Due::Now(Reason::Lifetime)),
            ("short: half", lives(6), None, calm, 2, Due::At(at(3), Reason::Lifetime)),
            ("short: due", lives(6), None, calm, 3, Due::Now(Reason::Lifetime)),
            ("45 days", lives(45), None, calm, 29, Due::At(at(30), Reason::Lifetime)),
            ("suggested", lives(90), window(50, 52, 51), calm, 1, Due::At(at(51), Reason::Suggested)),
            (
                "suggestion later than a third",
                lives(90),
                window(62, 64, 63),
                calm,
                61,
                Due::At(at(63), Reason::Suggested),
            ),
            ("mass revocation", lives(90), window(2, 3, 2), calm, 5, Due::Now(Reason::Suggested)),
            (
                "never past the backstop",
                lives(90),
                window(85, 89, 88),
                calm,
                1,
                Due::At(at(75), Reason::Lifetime),
            ),
            (
                "senseless: upside down",
                lives(90),
                window(52, 50, 51),
                calm,
                1,
                Due::At(at(60), Reason::Lifetime),
            ),
            ("senseless: outside", lives(90), window(50, 52, 55), calm, 1, Due::At(at(60), Reason::Lifetime)),
            (
                "senseless: after the end",
                lives(90),
                window(100, 101, 100),
                calm,
                1,
                Due::At(at(60), Reason::Lifetime),
            ),
            ("asked for", lives(90), None, asked, 2, Due::Now(Reason::Requested)),
            ("begun", lives(90), None, begun, 2, Due::Now(Reason::UnderWay)),
            ("almost over", lives(100), window(50, 99, 98), calm, 96, Due::Now(Reason::Emergency)),
            ("over", lives(90), None, calm, 200, Due::Now(Reason::Emergency)),
        ] {
            assert_eq!(due(certificate, window, &attempts, 0, at(now)), expected, "{name}");
        }
    }

    #[test]
    fn pauses_grow_from_a_minute_to_a_day_and_end_at_the_second() {
        for (failures, pause) in [(1, 60), (2, 600), (3, 6000), (4, DAY), (40, DAY)] {
            let attempts = Attempts { failures, last_failed_at: Some(at(1)), ..Attempts::default() };
            let end = at(1).plus(Duration::from_secs(pause as u64));
            assert_eq!(due(None, None, &attempts, 0, end), Due::Now(Reason::First));
            let before = end.minus(Duration::from_secs(1));
            assert_eq!(due(None, None, &attempts, 0, before), Due::At(end, Reason::First));
        }
    }

    #[test]
    fn the_authoritys_retry_after_is_honoured_even_by_a_button() {
        let attempts = Attempts {
            failures: 1,
            last_failed_at: Some(at(1)),
            blocked_until: Some(at(3)),
            requested_at: Some(at(2)),
            under_way: true,
        };
        assert_eq!(due(None, None, &attempts, 0, at(2)), Due::At(at(3), Reason::UnderWay));
        let free = Attempts { blocked_until: None, ..attempts };
        assert_eq!(
            due(None, None, &free, 0, at(2)),
            Due::Now(Reason::UnderWay),
            "the button skips the pause"
        );
    }

    #[test]
    fn an_emergency_is_tried_hourly() {
        let attempts = Attempts { failures: 9, last_failed_at: Some(at(96)), ..Attempts::default() };
        let next = at(96).plus(EMERGENCY_PAUSE);
        assert_eq!(due(lives(100), None, &attempts, 0, at(96)), Due::At(next, Reason::Emergency));
    }

    proptest! {
        #[test]
        fn it_is_due_before_the_end_unless_it_must_wait(
            life in 1_000_i64..40_000_000,
            passed in 0_i64..40_000_000,
            suggested in proptest::option::of((0_i64..50_000_000, 0_i64..5_000_000, 0_i64..5_000_000)),
            failures in 0_u32..10,
            failed_ago in 0_i64..200_000,
            jitter in 0..JITTER_RANGE,
        ) {
            let start = UtcTime::from_unix(T0);
            let now = UtcTime::from_unix(T0 + passed);
            let certificate = Validity { not_before: start, not_after: UtcTime::from_unix(T0 + life) };
            let window = suggested.map(|(from, length, pick)| Window {
                start: UtcTime::from_unix(T0 + from),
                end: UtcTime::from_unix(T0 + from + length),
                selected: UtcTime::from_unix(T0 + from + pick),
            });
            let failed = UtcTime::from_unix(T0 + passed - failed_ago);
            let attempts = Attempts { failures, last_failed_at: Some(failed), ..Attempts::default() };
            match due(Some(certificate), window, &attempts, jitter, now) {
                Due::At(at, _) => {
                    prop_assert!(at > now);
                    // Never later than the backstop and one daily pause with its jitter.
                    let latest = point(certificate, BACKSTOP).max(failed.plus(DAILY + DAILY / 10));
                    prop_assert!(at <= latest, "{at} {latest}");
                    // Asked again at that moment, the answer is yes.
                    prop_assert!(matches!(due(Some(certificate), window, &attempts, jitter, at), Due::Now(_)));
                }
                Due::Now(_) => {
                    // Once due, it stays due.
                    let later = now.plus(Duration::from_secs(life as u64));
                    prop_assert!(matches!(due(Some(certificate), window, &attempts, jitter, later), Due::Now(_)));
                }
            }
        }
    }
}
