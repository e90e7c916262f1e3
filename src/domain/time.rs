//! UTC wall-clock instants in whole seconds: the only time that is stored, signed or sent.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A UTC instant in whole seconds, between 1970-01-01 and 9999-12-31T23:59:59Z.
///
/// X.509 has no fractions (RFC 5280 §4.1.2.5), so neither have we.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UtcTime(i64);

impl UtcTime {
    /// 1970-01-01T00:00:00Z.
    pub const EPOCH: Self = Self(0);
    /// 9999-12-31T23:59:59Z, which RFC 5280 §4.1.2.5 uses for "no well-defined end".
    pub const MAX: Self = Self(253_402_300_799);

    /// An instant from Unix seconds; values outside the type's range are moved to its nearest end.
    pub const fn from_unix(seconds: i64) -> Self {
        if seconds < 0 {
            Self::EPOCH
        } else if seconds > Self::MAX.0 {
            Self::MAX
        } else {
            Self(seconds)
        }
    }

    /// Seconds since 1970-01-01T00:00:00Z.
    pub const fn as_unix(self) -> i64 {
        self.0
    }

    /// This instant plus `span` (whole seconds, the fraction is dropped), at most [`Self::MAX`].
    pub fn plus(self, span: Duration) -> Self {
        Self::from_unix(self.0.saturating_add(i64::try_from(span.as_secs()).unwrap_or(i64::MAX)))
    }

    /// This instant minus `span`, at least [`Self::EPOCH`].
    pub fn minus(self, span: Duration) -> Self {
        Self::from_unix(self.0.saturating_sub(i64::try_from(span.as_secs()).unwrap_or(i64::MAX)))
    }

    /// The time from `earlier` to this instant; zero when `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_secs(u64::try_from(self.0 - earlier.0).unwrap_or(0))
    }
}

impl fmt::Display for UtcTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = OffsetDateTime::from_unix_timestamp(self.0)
            .map_err(|_| fmt::Error)?
            .format(&Rfc3339)
            .map_err(|_| fmt::Error)?;
        f.write_str(&text)
    }
}

/// The text is not an RFC 3339 date-time such as `2026-11-23T18:00:00Z`.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be an RFC 3339 date-time such as 2026-11-23T18:00:00Z")]
pub struct ParseTimeError;

impl FromStr for UtcTime {
    type Err = ParseTimeError;
    fn from_str(text: &str) -> Result<Self, ParseTimeError> {
        let parsed = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| ParseTimeError)?;
        let seconds = parsed.unix_timestamp();
        if (0..=Self::MAX.0).contains(&seconds) { Ok(Self(seconds)) } else { Err(ParseTimeError) }
    }
}

impl Serialize for UtcTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for UtcTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips_and_offsets_become_utc() {
        let noon: UtcTime = "2026-11-23T14:00:00+02:00".parse().unwrap();
        assert_eq!(noon.to_string(), "2026-11-23T12:00:00Z");
        assert_eq!(noon.to_string().parse::<UtcTime>().unwrap(), noon);
    }

    #[test]
    fn arithmetic_stays_inside_the_range() {
        assert_eq!(UtcTime::EPOCH.minus(Duration::from_secs(1)), UtcTime::EPOCH);
        assert_eq!(UtcTime::MAX.plus(Duration::MAX), UtcTime::MAX);
        assert_eq!(UtcTime::from_unix(5).since(UtcTime::from_unix(9)), Duration::ZERO);
    }
}
