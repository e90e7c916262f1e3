//! Cron expressions, only to say when the next tick will be; ticking is the scheduler's.

use chrono::{DateTime, Utc};
use croner::Cron;
use croner::parser::{CronParser, Seconds};

use crate::domain::UtcTime;

/// Whether the expression can be read, as the scheduler will read it.
pub(super) fn check(schedule: &str) -> Option<()> {
    parse(schedule).map(drop)
}

/// The next tick after `now`.
pub(super) fn next(schedule: &str, now: UtcTime) -> Option<UtcTime> {
    let now = DateTime::<Utc>::from_timestamp(now.as_unix(), 0)?;
    let next = parse(schedule)?.find_next_occurrence(&now, false).ok()?;
    Some(UtcTime::from_unix(next.timestamp()))
}

fn parse(schedule: &str) -> Option<Cron> {
    CronParser::builder().seconds(Seconds::Required).dom_and_dow(true).build().parse(schedule).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_tick_is_strictly_after_now() {
        let noon: UtcTime = "2026-11-23T12:00:00Z".parse().unwrap();
        assert_eq!(next("0 * * * * *", noon).unwrap().to_string(), "2026-11-23T12:01:00Z");
        assert_eq!(next("50 41 * * * *", noon).unwrap().to_string(), "2026-11-23T12:41:50Z");
        assert!(check("* * * * *").is_none(), "seconds are required");
    }
}
