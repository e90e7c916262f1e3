//! Targets that are found by a name in DNS, and not written down one by one.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::domain::Slug;

/// What is asked of DNS about the host of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DiscoveryKind {
    /// Its A and AAAA records: every address is a target of its own, on the port that is written.
    Addresses,
    /// Its SRV records (RFC 2782): every address of every server they name is a target, on the port they name. The
    /// lowest priority that has a target that is well, with room, is used; within it, weights are shares of the
    /// requests. Weight 0 beside others counts as a tenth of 1.
    Srv,
}

/// How the targets behind a name are found, and how often it is looked.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Discovery {
    /// What is asked.
    pub kind: DiscoveryKind,
    /// An answer is used for at least so long, in seconds, whatever it says: 1 to 3,600.
    #[serde(default = "least")]
    pub refresh_seconds_min: u32,
    /// And for at most so long, in seconds: 1 to 86,400.
    #[serde(default = "most")]
    pub refresh_seconds_max: u32,
}

const fn least() -> u32 {
    1
}

const fn most() -> u32 {
    300
}

impl Discovery {
    /// With the bounds that nobody has changed.
    pub const fn of(kind: DiscoveryKind) -> Self {
        Self { kind, refresh_seconds_min: least(), refresh_seconds_max: most() }
    }

    /// What is wrong with it: the field as a JSON pointer, and why.
    pub(super) fn faults(&self) -> Vec<(String, String)> {
        let (least, most) = (self.refresh_seconds_min, self.refresh_seconds_max);
        let mut faults = Vec::new();
        let mut fault = |field: &str, why: &str| {
            faults.push((format!("/discovery/{field}"), why.to_owned()));
        };
        if !(1..=3_600).contains(&least) {
            fault("refresh_seconds_min", "must be 1 to 3600");
        }
        if !(1..=86_400).contains(&most) {
            fault("refresh_seconds_max", "must be 1 to 86400");
        } else if most < least {
            fault("refresh_seconds_max", "must not be below refresh_seconds_min");
        }
        faults
    }
}

/// What an edge knows of one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameStatus {
    /// Of which upstream.
    pub upstream: Slug,
    /// The target as it is written, whose host is the name.
    pub target: String,
    /// Addresses that it stands for.
    pub addresses: usize,
    /// Those beyond the most that are used.
    pub left_out: usize,
    /// Why the addresses could not be asked for anew, in a word, if so: they are those of the last good answer.
    pub stale: Option<&'static str>,
    /// Of the last good answer.
    pub age: Option<Duration>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_written_has_its_default_and_each_fault_names_its_field() {
        let read = |text: &str| serde_json::from_str::<Discovery>(text).unwrap();
        let plain = read(r#"{"kind":"addresses"}"#);
        assert_eq!(plain, Discovery::of(DiscoveryKind::Addresses));
        assert!(plain.faults().is_empty());
        for (least, most, fields) in [
            (0, 300, vec!["/discovery/refresh_seconds_min"]),
            (3_601, 4_000, vec!["/discovery/refresh_seconds_min"]),
            (1, 0, vec!["/discovery/refresh_seconds_max"]),
            (1, 86_401, vec!["/discovery/refresh_seconds_max"]),
            (60, 59, vec!["/discovery/refresh_seconds_max"]),
            (60, 60, vec![]),
        ] {
            let discovery =
                Discovery { refresh_seconds_min: least, refresh_seconds_max: most, ..plain.clone() };
            let found: Vec<_> = discovery.faults().into_iter().map(|(field, _)| field).collect();
            assert_eq!(found, fields, "{least} {most}");
        }
    }
}
