//! How the API spells targets that are found by their names.

use poem_openapi::{Enum, Object};

use crate::domain::upstream as domain;

/// What is asked of DNS about the hosts of targets that are names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[oai(rename_all = "snake_case", remote = "domain::DiscoveryKind")]
enum DiscoveryKind {
    /// A and AAAA: every address is a target of its own, on the port that is written.
    Addresses,
    /// SRV (RFC 2782): every address of every server is a target, on the port that DNS says. The lowest priority that
    /// has a target that is well, with room, is used; within it, weights are shares of the requests.
    Srv,
}

/// How targets are found by their names. Health checks name the host as it is written.
#[derive(Debug, Object)]
#[oai(deny_unknown_fields, skip_serializing_if_is_none)]
pub(super) struct Discovery {
    kind: DiscoveryKind,
    /// An answer is used for at least so long, whatever its TTL; 1 unless it is given.
    refresh_seconds_min: Option<u32>,
    /// And for at most so long; 300 unless it is given.
    refresh_seconds_max: Option<u32>,
}

impl Discovery {
    pub(super) fn read(self) -> domain::Discovery {
        let usual = domain::Discovery::of(self.kind.into());
        domain::Discovery {
            refresh_seconds_min: self.refresh_seconds_min.unwrap_or(usual.refresh_seconds_min),
            refresh_seconds_max: self.refresh_seconds_max.unwrap_or(usual.refresh_seconds_max),
            ..usual
        }
    }
}

impl From<domain::Discovery> for Discovery {
    fn from(discovery: domain::Discovery) -> Self {
        Self {
            kind: discovery.kind.into(),
            refresh_seconds_min: Some(discovery.refresh_seconds_min),
            refresh_seconds_max: Some(discovery.refresh_seconds_max),
        }
    }
}

/// What the edge knows of a name.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
pub(super) struct NameState {
    /// The target as it is written, whose host is the name.
    target: String,
    /// Addresses that it stands for; 64 at most are used.
    addresses: u64,
    /// Further ones, which are not used.
    left_out: u64,
    /// Whether it could not be resolved when it was asked for last: the addresses are those of the last good answer.
    stale: bool,
    /// Why: `no_such_name`, `empty`, `server_failure`, `timeout`, `unreachable`, `forbidden` or `broken`
    cause: Option<String>,
    /// Of the last good answer; absent before the first.
    age_seconds: Option<u64>,
}

impl From<&domain::NameStatus> for NameState {
    fn from(status: &domain::NameStatus) -> Self {
        Self {
            target: status.target.clone(),
            addresses: status.addresses as u64,
            left_out: status.left_out as u64,
            stale: status.stale.is_some(),
            cause: status.stale.map(str::to_owned),
            age_seconds: status.age.map(|age| age.as_secs()),
        }
    }
}
