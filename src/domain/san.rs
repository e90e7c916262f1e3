//! Names in certificates as a policy asks for them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::hostname::Hostname;

/// Longest pattern for a name, in octets.
const MAX_PATTERN: usize = 255;

/// A kind of name in a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SanKind {
    /// dNSName.
    Dns,
    /// rfc822Name.
    Email,
    /// uniformResourceIdentifier.
    Uri,
}

impl SanKind {
    const ALL: [(Self, &'static str); 3] =
        [(Self::Dns, "dns:"), (Self::Email, "email:"), (Self::Uri, "uri:")];
}

/// A name in a certificate, or how one ends: `dns:a.example.com`, `dns:*.example.com`, `email:*@example.com`,
/// `uri:urn:uuid:…`. Letter case counts in URIs only.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SanPattern {
    kind: SanKind,
    is_ending: bool,
    text: Box<str>,
}

impl SanPattern {
    /// Of which kind the name is.
    pub fn kind(&self) -> SanKind {
        self.kind
    }

    /// Whether a name of that kind fits. Something has to stand before an ending.
    pub fn fits(&self, name: &str) -> bool {
        let (name, text) = (name.as_bytes(), self.text.as_bytes());
        let compared = match (self.is_ending, name.len().checked_sub(text.len())) {
            (_, None) | (true, Some(0)) => return false,
            (true, Some(before)) => &name[before..],
            (false, Some(_)) => name,
        };
        match self.kind {
            SanKind::Dns | SanKind::Email => compared.eq_ignore_ascii_case(text),
            SanKind::Uri => compared == text,
        }
    }
}

impl fmt::Display for SanPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = SanKind::ALL.iter().find(|(kind, _)| *kind == self.kind).map_or("", |(_, word)| word);
        write!(f, "{kind}{}{}", if self.is_ending { "*" } else { "" }, self.text)
    }
}

/// The text is not a pattern.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be dns:, email: or uri: and a name, or * and how it ends: dns:a.example.com, dns:*.example.com, email:*@example.com, uri:urn:uuid:…"
)]
pub struct ParseSanPatternError;

impl FromStr for SanPattern {
    type Err = ParseSanPatternError;
    fn from_str(text: &str) -> Result<Self, ParseSanPatternError> {
        let found = SanKind::ALL.iter().find_map(|(kind, word)| Some((*kind, text.strip_prefix(word)?)));
        let (kind, rest) = found.ok_or(ParseSanPatternError)?;
        let (is_ending, text) = match rest.strip_prefix('*') {
            Some(ending) => (true, ending),
            None => (false, rest),
        };
        // A dot at the end would never be found in a certificate.
        let is_host = |host: &str| !host.ends_with('.') && Hostname::normalize(host).is_ok();
        let is_sound = match (kind, is_ending) {
            (SanKind::Dns, false) => is_host(text),
            (SanKind::Dns, true) => text.strip_prefix('.').is_some_and(is_host),
            (SanKind::Email, false) => {
                text.rsplit_once('@').is_some_and(|(local, host)| !local.is_empty() && is_host(host))
            }
            (SanKind::Email, true) => text.strip_prefix('@').is_some_and(is_host),
            (SanKind::Uri, false) => text.contains(':'),
            (SanKind::Uri, true) => !text.is_empty(),
        };
        let is_plain = text.bytes().all(|b| b.is_ascii_graphic() && b != b'*');
        if !is_sound || !is_plain || text.len() > MAX_PATTERN {
            return Err(ParseSanPatternError);
        }
        let text = if kind == SanKind::Uri { text.to_owned() } else { text.to_ascii_lowercase() };
        Ok(Self { kind, is_ending, text: text.into() })
    }
}

impl Serialize for SanPattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SanPattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> SanPattern {
        text.parse().unwrap()
    }

    #[test]
    fn patterns_take_the_whole_name_or_its_end() {
        for (text, name, expected) in [
            ("dns:a.example.com", "A.example.com", true),
            ("dns:a.example.com", "x.a.example.com", false),
            ("dns:*.example.com", "a.b.example.com", true),
            ("dns:*.example.com", "example.com", false),
            ("dns:*.example.com", ".example.com", false),
            ("dns:*.example.com", "badexample.com", false),
            ("email:anna@example.com", "anna@EXAMPLE.com", true),
            ("email:*@example.com", "anna@example.com", true),
            ("email:*@example.com", "anna@x.example.com", false),
            ("uri:urn:uuid:1", "urn:uuid:1", true),
            ("uri:urn:uuid:1", "URN:uuid:1", false),
            ("uri:*/laptop", "https://x/laptop", true),
        ] {
            assert_eq!(pattern(text).fits(name), expected, "{text} {name}");
            assert_eq!(pattern(text).to_string(), text);
        }
        for text in [
            "",
            "dns:",
            "dns:*",
            "dns:*example.com",
            "dns:*.",
            "dns:a.*.com",
            "dns:a.example.com.",
            "ip:10.0.0.1",
            "email:*",
            "email:anna",
            "email:@example.com",
            "email:*example.com",
            "uri:",
            "uri:*",
            "uri:x",
            "uri:*é",
            "uri:a b:c",
            "DNS:a.example.com",
            "dns:1.2.3.4",
        ] {
            assert_eq!(text.parse::<SanPattern>(), Err(ParseSanPatternError), "{text:?}");
        }
        assert_eq!(pattern("dns:A.Example.com").to_string(), "dns:a.example.com");
        assert!(!pattern("dns:ab.de").fits("ä.de"), "octets, not characters");
    }
}
