//! An app that is being worked on: everybody reads so, but for those who work on it.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::domain::{PersonId, PersonRecord, Slug};

/// Longest message, in characters.
const MOST_CHARACTERS: usize = 500;
/// Longest time after which to come again: a week.
const MOST_SECONDS: u32 = 604_800;

/// Whether a route is closed, what is said then, and who passes all the same.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Maintenance {
    /// Whether the route is closed.
    pub enabled: bool,
    /// What visitors read, instead of a sentence of ours: 1 to 500 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// When it is worth coming again: 1 to 604,800.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_seconds: Option<u32>,
    /// Who passes.
    #[serde(skip_serializing_if = "Allowed::is_nobody")]
    pub allow: Allowed,
}

/// Known people who pass a closed route, if its policy lets them in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Allowed {
    /// People by id.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub people: BTreeSet<PersonId>,
    /// Groups by name.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub groups: BTreeSet<Slug>,
}

impl Allowed {
    /// Whether nobody is named.
    pub fn is_nobody(&self) -> bool {
        self.people.is_empty() && self.groups.is_empty()
    }
}

impl Maintenance {
    /// Whether whoever comes has to wait; nobody known is nobody who is allowed.
    pub fn keeps_out(&self, person: Option<&PersonRecord>) -> bool {
        let is_allowed = person.is_some_and(|person| {
            self.allow.people.contains(&person.id) || !self.allow.groups.is_disjoint(&person.groups)
        });
        self.enabled && !is_allowed
    }

    /// When it is worth coming again, if that is known.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after_seconds.map(|seconds| Duration::from_secs(seconds.into()))
    }

    /// What is wrong with it, below the options.
    pub(super) fn faults(&self) -> Vec<(String, String)> {
        let mut faults = Vec::new();
        let is_message = |text: &str| {
            (1..=MOST_CHARACTERS).contains(&text.chars().count())
                && !text.trim().is_empty()
                && !text.chars().any(char::is_control)
        };
        if self.message.as_deref().is_some_and(|text| !is_message(text)) {
            let why =
                format!("must have 1 to {MOST_CHARACTERS} characters, none of them a control character");
            faults.push(("/maintenance/message".to_owned(), why));
        }
        if self.retry_after_seconds.is_some_and(|seconds| !(1..=MOST_SECONDS).contains(&seconds)) {
            let why = format!("must be 1 to {MOST_SECONDS}");
            faults.push(("/maintenance/retry_after_seconds".to_owned(), why));
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_people_who_are_named_pass() {
        let group: Slug = "operations".parse().unwrap();
        let person = |groups: &[&Slug]| PersonRecord {
            id: PersonId::new(),
            email: "a@example.test".to_owned(),
            name: "A".to_owned(),
            groups: groups.iter().map(|group| (*group).clone()).collect(),
            disabled: false,
        };
        let (named, member, other) = (person(&[]), person(&[&group]), person(&[]));
        let allow = Allowed { people: BTreeSet::from([named.id]), groups: BTreeSet::from([group]) };
        let closed = Maintenance { enabled: true, allow, ..Maintenance::default() };
        assert!(!closed.keeps_out(Some(&named)) && !closed.keeps_out(Some(&member)));
        assert!(closed.keeps_out(Some(&other)) && closed.keeps_out(None));
        let open = Maintenance { enabled: false, ..closed };
        assert!(!open.keeps_out(Some(&other)) && !open.keeps_out(None));
        assert!(Maintenance { enabled: true, ..Maintenance::default() }.keeps_out(Some(&member)));
    }

    #[test]
    fn messages_and_times_have_bounds() {
        let faulty = |message: &str, seconds| {
            let maintenance = Maintenance {
                message: Some(message.to_owned()),
                retry_after_seconds: Some(seconds),
                ..Maintenance::default()
            };
            maintenance.faults().into_iter().map(|(field, _)| field).collect::<Vec<_>>()
        };
        assert!(faulty(&"ü".repeat(500), 604_800).is_empty());
        let long = "x".repeat(501);
        for message in ["", "  ", "a\nb", "a\u{85}b", long.as_str()] {
            assert_eq!(
                faulty(message, 0),
                ["/maintenance/message", "/maintenance/retry_after_seconds"],
                "{message:?}"
            );
        }
    }
}
