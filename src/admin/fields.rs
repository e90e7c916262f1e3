//! What people type, read into types that cannot be wrong. Faults are collected, so that a form learns
//! of all of them at once.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::str::FromStr;

use poem::http::StatusCode;

use super::error::{FieldFault, Outcome, Problem};
use crate::domain::Slug;

/// Longest name of a person, device or token, in characters. X.520 allows 64 in a common name.
pub const MAX_NAME: usize = 64;
/// RFC 5321 §4.5.3.1.3 leaves 254 for an address.
const MAX_EMAIL: usize = 254;

/// Collects what is wrong with a request.
#[derive(Debug, Default)]
pub struct Faults(Vec<FieldFault>);

impl Faults {
    /// Notes a fault.
    pub fn add(&mut self, pointer: &str, code: &str, detail: impl Into<String>) {
        self.0.push(FieldFault::new(pointer, code, detail));
    }

    /// The value, or a fault at `pointer`.
    pub fn take<T, E: Display>(&mut self, pointer: &str, read: Result<T, E>) -> Option<T> {
        read.map_err(|error| self.add(pointer, "invalid", super::error::sentence(&error.to_string()))).ok()
    }

    /// The same for what may be absent.
    pub fn take_if<T, E: Display>(&mut self, pointer: &str, read: Option<Result<T, E>>) -> Option<T> {
        read.and_then(|read| self.take(pointer, read))
    }

    /// How many there are so far.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none so far.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Goes on only without faults.
    ///
    /// # Errors
    /// 422 with every fault.
    pub fn none(self) -> Outcome<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        Err(Problem::fields(StatusCode::UNPROCESSABLE_ENTITY, self.0))
    }

    /// The value that was taken, or every fault. A value is absent only when there is a fault.
    ///
    /// # Errors
    /// 422 with every fault.
    pub fn unless<T>(self, value: Option<T>) -> Outcome<T> {
        self.none()?;
        value.ok_or_else(|| Problem::internal("a value was neither taken nor faulted"))
    }
}

/// A name that people read: trimmed, 1 to [`MAX_NAME`] characters, none of them invisible.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn name(text: &str) -> Result<String, String> {
    let name = text.trim();
    if name.is_empty() || name.chars().count() > MAX_NAME {
        return Err(format!("must have 1 to {MAX_NAME} characters"));
    }
    // Bidirectional overrides and zero-width characters let one name look like another.
    let invisible = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
    };
    if name.chars().any(invisible) {
        return Err("must not contain control or invisible characters".to_owned());
    }
    Ok(name.to_owned())
}

/// A mail address in lower case: ASCII, `local@domain`, as mail servers take it without quoting.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn email(text: &str) -> Result<String, String> {
    let refuse = || "must be a mail address such as anna@example.com".to_owned();
    let address = text.trim().to_lowercase();
    let (local, domain) = address.rsplit_once('@').ok_or_else(refuse)?;
    let local_ok = (1..=64).contains(&local.len())
        && local.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+/=?^_`{|}~.-".contains(&b))
        && !local.starts_with('.')
        && !local.ends_with('.')
        && !local.contains("..");
    let domain_ok = crate::domain::Hostname::normalize(domain).is_ok_and(|host| host.as_str() == domain);
    if !local_ok || !domain_ok || address.len() > MAX_EMAIL {
        return Err(refuse());
    }
    Ok(address)
}

/// Names of groups.
pub fn groups(names: &[String], pointer: &str, faults: &mut Faults) -> BTreeSet<Slug> {
    parsed(names, pointer, faults)
}

/// A list of values of one type.
pub fn parsed<T>(texts: &[String], pointer: &str, faults: &mut Faults) -> BTreeSet<T>
where
    T: FromStr<Err: Display> + Ord,
{
    texts
        .iter()
        .enumerate()
        .filter_map(|(index, text)| faults.take(&format!("{pointer}/{index}"), text.parse()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_lower_cased_and_odd_ones_refused() {
        assert_eq!(email(" Anna@Example.COM ").unwrap(), "anna@example.com");
        for bad in
            ["", "anna", "@x.y", "a@", "a b@x.y", "a@b@c@", "a..b@x.y", "a@-x.y", "a@1.2.3.4", "\"a\"@x.y"]
        {
            assert!(email(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_have_no_invisible_characters() {
        assert_eq!(name("  Anna's iPhone ").unwrap(), "Anna's iPhone");
        for bad in ["", "   ", "a\nb", "a\u{202e}b", "\u{200b}"] {
            assert!(name(bad).is_err(), "{bad:?}");
        }
        assert!(name(&"x".repeat(65)).is_err());
    }
}
