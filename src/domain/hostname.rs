//! Host names in one spelling, so that SNI, Host, `:authority` and rows compare as equal bytes.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A DNS host name: lower case, ASCII (IDNs in their `xn--` form), no trailing dot, no port,
/// at most 253 characters, labels of 1 to 63 letters, digits and inner hyphens. Never an IP literal.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hostname(Arc<str>);

impl Hostname {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Parses what a peer or a person wrote: any case, one trailing dot allowed.
    ///
    /// # Errors
    /// As [`ParseHostnameError`] says.
    pub fn normalize(text: &str) -> Result<Self, ParseHostnameError> {
        let text = text.strip_suffix('.').unwrap_or(text);
        let lower = text.to_ascii_lowercase();
        let label_ok = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        // WHATWG URL: a name whose last label is a number is an IPv4 address in disguise.
        let numeric_end = lower
            .rsplit('.')
            .next()
            .is_some_and(|label| label.bytes().all(|b| b.is_ascii_digit()) || label.starts_with("0x"));
        if lower.len() > 253 || !lower.split('.').all(label_ok) || numeric_end {
            return Err(ParseHostnameError);
        }
        Ok(Self(lower.into()))
    }
}

impl fmt::Display for Hostname {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Hostname {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hostname({})", self.0)
    }
}

impl std::borrow::Borrow<str> for Hostname {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// The text is not a host name.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a host name such as app.example.com (no port, no IP address; IDNs as xn--…)")]
pub struct ParseHostnameError;

impl FromStr for Hostname {
    type Err = ParseHostnameError;
    fn from_str(text: &str) -> Result<Self, ParseHostnameError> {
        Self::normalize(text)
    }
}

impl Serialize for Hostname {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Hostname {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_name_has_one_spelling() {
        assert_eq!(Hostname::normalize("App.Example.COM.").unwrap().as_str(), "app.example.com");
    }

    #[test]
    fn ports_addresses_and_odd_labels_are_refused() {
        for bad in
            ["", ".", "a..b", "a:443", "127.0.0.1", "0x7f.1", "[::1]", "-a.b", "a_b.c", "ä.de", "1.2.3.0x4"]
        {
            assert_eq!(Hostname::normalize(bad), Err(ParseHostnameError), "{bad}");
        }
    }
}
