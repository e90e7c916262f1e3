//! Who gets a certificate: every rule of a profile said yes or no to, with the reason in words. Pure:
//! the caller brings the facts, and keeps them, so that a draft can be judged on them later.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{Profile, Requesters};
use crate::domain::{Hostname, Slug};
use crate::pki::key_policy::KeyKind;

/// What a request is judged by. No names of people and no addresses: it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// Who asks.
    pub requester: Requester,
    /// The groups of the person it is for.
    pub groups: BTreeSet<Slug>,
    /// The key to be certified.
    pub key: KeyFact,
    /// Whether the key was in a certificate that was revoked for keyCompromise.
    pub key_is_blocked: bool,
    /// Whether the key is in a certificate of another lineage.
    pub key_is_used_elsewhere: bool,
    /// Whether this is a renewal, and if so whether with its predecessor's key.
    pub renewal: Option<bool>,
    /// How many other lineages with a living certificate, or with one under way, the person has under
    /// this profile.
    pub other_devices: u32,
    /// The DNS names that were asked for.
    pub dns_names: BTreeSet<Hostname>,
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Requester {
    /// The person it is for.
    Owner,
    /// An administrator, for somebody else.
    Administrator,
    /// The program itself, and processes of its host.
    System,
}

/// The kind of a key, as it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum KeyFact {
    /// ECDSA on NIST P-256.
    P256,
    /// ECDSA on NIST P-384.
    P384,
    /// EdDSA on Curve25519.
    Ed25519,
    /// RSA.
    Rsa {
        /// Length of the modulus.
        bits: u32,
    },
}

impl From<KeyKind> for KeyFact {
    fn from(kind: KeyKind) -> Self {
        match kind {
            KeyKind::P256 => Self::P256,
            KeyKind::P384 => Self::P384,
            KeyKind::Ed25519 => Self::Ed25519,
            KeyKind::Rsa { bits } => Self::Rsa { bits },
        }
    }
}

impl From<KeyFact> for KeyKind {
    fn from(fact: KeyFact) -> Self {
        match fact {
            KeyFact::P256 => Self::P256,
            KeyFact::P384 => Self::P384,
            KeyFact::Ed25519 => Self::Ed25519,
            KeyFact::Rsa { bits } => Self::Rsa { bits },
        }
    }
}

/// The rules by name, in the order in which they are said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// A key that is known to be in other hands is never certified again.
    BlockedKey,
    /// A key belongs to one lineage.
    KeyReuse,
    /// The profile takes keys of this kind.
    KeyType,
    /// The profile lets this one ask.
    Requester,
    /// The person is in one of the profile's groups.
    Group,
    /// The person has room for one more device.
    DevicesPerPerson,
    /// A successor has a key of its own.
    RenewalKey,
    /// DNS names are below the profile's suffixes and given by an administrator.
    DnsNames,
}

impl Rule {
    /// Every rule, in order.
    pub const ALL: [Self; 8] = [
        Self::BlockedKey,
        Self::KeyReuse,
        Self::KeyType,
        Self::Requester,
        Self::Group,
        Self::DevicesPerPerson,
        Self::RenewalKey,
        Self::DnsNames,
    ];

    /// The name in rows, JSON and messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::BlockedKey => "blocked_key",
            Self::KeyReuse => "key_reuse",
            Self::KeyType => "key_type",
            Self::Requester => "requester",
            Self::Group => "group",
            Self::DevicesPerPerson => "devices_per_person",
            Self::RenewalKey => "renewal_key",
            Self::DnsNames => "dns_names",
        }
    }

    /// The rule of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|rule| rule.name() == name)
    }
}

/// What one rule says to one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruling {
    /// Which rule.
    pub rule: Rule,
    /// Whether it lets the request pass.
    pub admits: bool,
    /// Why, in words that say what to do.
    pub because: String,
}

/// The first ruling that refuses, if one does.
pub fn refusal(rulings: Vec<Ruling>) -> Option<Ruling> {
    rulings.into_iter().find(|ruling| !ruling.admits)
}

impl Profile {
    /// What every rule says to a request, in the order of [`Rule::ALL`]. It passes if all admit it.
    pub fn judge(&self, facts: &Facts) -> Vec<Ruling> {
        Rule::ALL
            .into_iter()
            .map(|rule| {
                let verdict = self.apply(rule, facts);
                let admits = verdict.is_ok();
                let (Ok(because) | Err(because)) = verdict;
                Ruling { rule, admits, because }
            })
            .collect()
    }

    fn apply(&self, rule: Rule, facts: &Facts) -> Result<String, String> {
        match rule {
            Rule::BlockedKey => no(
                facts.key_is_blocked,
                "the key is not blocked",
                "this key belonged to a certificate that was revoked for keyCompromise: make a new key",
            ),
            Rule::KeyReuse => no(
                facts.key_is_used_elsewhere,
                "the key is in no other device's certificate",
                "this key is in another device's certificate: make a key of its own for each device",
            ),
            Rule::KeyType => match self.rules.keys.admit(facts.key.into()) {
                Ok(()) => Ok("the profile takes this kind of key".to_owned()),
                Err(refused) => Err(refused.to_string()),
            },
            Rule::Requester => self.requester(facts.requester),
            Rule::Group => self.group(&facts.groups),
            Rule::DevicesPerPerson => self.devices(facts),
            Rule::RenewalKey => no(
                self.rules.renewal.new_key && facts.renewal == Some(true),
                "the key may be this one",
                "this profile renews with a new key only: make one and ask again",
            ),
            Rule::DnsNames => self.dns_names(facts),
        }
    }

    fn requester(&self, requester: Requester) -> Result<String, String> {
        let admits = match self.rules.requesters {
            Requesters::OwnerOrAdministrator => true,
            Requesters::Administrator => requester != Requester::Owner,
            Requesters::Owner => requester == Requester::Owner,
        };
        no(
            !admits,
            "the profile lets this one ask",
            match self.rules.requesters {
                Requesters::Owner => "under this profile only the person themselves may ask",
                _ => "under this profile only administrators may ask",
            },
        )
    }

    fn group(&self, groups: &BTreeSet<Slug>) -> Result<String, String> {
        let wanted = &self.rules.groups;
        if wanted.is_empty() {
            return Ok("the profile is for everyone".to_owned());
        }
        match groups.intersection(wanted).next() {
            Some(shared) => Ok(format!("the person is in the group {shared}")),
            None => {
                let names: Vec<_> = wanted.iter().map(Slug::as_str).collect();
                Err(format!("this profile is for members of {}: ask an administrator", names.join(", ")))
            }
        }
    }

    fn devices(&self, facts: &Facts) -> Result<String, String> {
        match self.rules.devices_per_person {
            None => Ok("the profile sets no limit".to_owned()),
            Some(most) if facts.other_devices < most => {
                Ok(format!("{} other devices, {most} may be had", facts.other_devices))
            }
            Some(most) => Err(format!(
                "the person has {} devices under this profile and may have {most}: revoke one first",
                facts.other_devices
            )),
        }
    }

    fn dns_names(&self, facts: &Facts) -> Result<String, String> {
        if facts.dns_names.is_empty() {
            return Ok("no DNS name was asked for".to_owned());
        }
        // A successor has the names that its predecessor was given; nobody can ask for others there.
        if facts.requester == Requester::Owner && facts.renewal.is_none() {
            return Err("DNS names are given by administrators only".to_owned());
        }
        // A whole label must match: `evilexample.com` is not below `example.com`.
        let below = |name: &Hostname, suffix: &Hostname| {
            let rest = name.as_str().strip_suffix(suffix.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        let suffixes = &self.rules.names.dns_suffixes;
        match facts.dns_names.iter().find(|name| !suffixes.iter().any(|suffix| below(name, suffix))) {
            None => Ok("every DNS name is below one of the profile's suffixes".to_owned()),
            Some(stranger) => Err(format!("{stranger} is not below any of this profile's DNS suffixes")),
        }
    }
}

fn no(hit: bool, fine: &str, refused: &str) -> Result<String, String> {
    if hit { Err(refused.to_owned()) } else { Ok(fine.to_owned()) }
}
