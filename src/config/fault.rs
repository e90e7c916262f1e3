//! What can be wrong with a configuration, in the three parts a person needs: which key, what it
//! says, why that does not do. Also used by `wicketgate check` for ports and databases.

use std::fmt;

use serde::Serialize;

/// Longest piece of a value that is repeated to the reader, in characters.
const SHOWN_CHARS: usize = 80;

/// One fault. Display gives one line, for example `edge.threads = 0: must be 1..=256`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// The full key, for example `edge.tls.suites[1]`.
    pub key: String,
    /// What it says; absent when it is a secret, a whole table, or not set at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// Why it is refused, and what would do instead.
    pub reason: String,
    /// The environment variable that set it, if one did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
}

impl Fault {
    /// A fault of a key whose value is left out.
    pub fn of_key(key: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { key: key.into(), value: None, reason: reason.into(), from: None }
    }

    /// A fault of a value. Passwords inside URLs are masked and long values cut.
    pub fn of_value(key: impl Into<String>, value: &str, reason: impl Into<String>) -> Self {
        let value = masked_url(value);
        let cut: String = value.chars().take(SHOWN_CHARS).collect();
        let value = if cut.len() < value.len() { format!("{cut}…") } else { cut };
        Self { key: key.into(), value: Some(value), reason: reason.into(), from: None }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.key)?;
        if let Some(value) = &self.value {
            // Escaped: a value from a file or the environment may hold terminal sequences.
            write!(f, " = {value:?}")?;
        }
        write!(f, ": {}", self.reason)?;
        match &self.from {
            Some(variable) => write!(f, " (from {variable})"),
            None => Ok(()),
        }
    }
}

/// Every fault that was found, never empty. Display lists them, one a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(Fault::to_string).collect::<Vec<_>>().join("\n"))]
pub struct ConfigFaults(pub Vec<Fault>);

/// The URL without its password: neither the one between `://user:` and `@` nor a `password=` parameter.
pub(super) fn masked_url(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    // The last `@` of all: an unescaped password may itself hold `@`, `/`, `?` or `#`.
    let rest = match rest.rsplit_once('@') {
        Some((user, after)) => {
            let name = user.split(':').next().unwrap_or_default();
            format!("{name}:[redacted]@{after}")
        }
        None => rest.to_owned(),
    };
    let rest = match rest.split_once("password=") {
        Some((before, _)) => format!("{before}password=[redacted]"),
        None => rest,
    };
    format!("{scheme}://{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_one_line_with_key_value_and_reason() {
        assert_eq!(
            Fault::of_value("edge.threads", "0", "must be 1..=256").to_string(),
            "edge.threads = \"0\": must be 1..=256"
        );
        assert_eq!(Fault::of_key("a.b", "unknown key").to_string(), "a.b: unknown key");
        assert!(!Fault::of_value("k", "\u{1b}[2J\n", "odd").to_string().contains(['\u{1b}', '\n']));
    }

    #[test]
    fn passwords_in_urls_are_masked() {
        for (url, shown) in [
            ("postgres://w:p@ss/w@db/x", "postgres://w:[redacted]@db/x"),
            ("postgres://db/x", "postgres://db/x"),
            ("postgres:///x?password=p&host=/run", "postgres:///x?password=[redacted]"),
            ("sqlite:/var/lib/x.db", "sqlite:/var/lib/x.db"),
        ] {
            assert_eq!(masked_url(url), shown);
        }
    }
}
