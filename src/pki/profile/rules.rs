//! What an administrator can set, with its bounds.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::domain::{Hostname, Slug};
use crate::pki::key_policy::{KeyPolicy, RSA_FLOOR_BITS, RSA_MAX_BITS};

/// Shortest life of a client certificate, in seconds: shorter ones end while they are being installed.
pub const MIN_LIFETIME_SECONDS: u64 = 300;
/// Longest life of a client certificate, in seconds: three years.
pub const MAX_LIFETIME_SECONDS: u64 = 3 * 365 * 86_400;
/// The most that notBefore lies before the issuance, in seconds: an hour is more than any clock that
/// still validates certificates is late.
pub const MAX_BACK_DATE_SECONDS: u64 = 3_600;
/// The most DNS suffixes, groups or devices that one profile names.
pub const MAX_LIST: usize = 64;

/// The rules of a profile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rules {
    /// From issuance to notAfter, in seconds.
    pub lifetime_seconds: u64,
    /// How far notBefore lies before issuance, in seconds, for devices whose clock is late.
    pub back_date_seconds: u64,
    /// Which keys it takes.
    pub keys: KeyPolicy,
    /// Which names its certificates carry.
    pub names: NameRules,
    /// Who may ask.
    pub requesters: Requesters,
    /// For members of which groups; for everyone when empty.
    pub groups: BTreeSet<Slug>,
    /// How many lineages with a living certificate one person may have under this profile.
    pub devices_per_person: Option<u32>,
    /// What happens on renewal.
    pub renewal: RenewalRules,
    /// What happens when a certificate would outlive its issuer.
    pub outliving: Outliving,
}

/// Which names a certificate carries. All of them come from the person, the device or an administrator;
/// names in a signing request are never looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NameRules {
    /// What stands in the common name.
    pub common_name: CommonName,
    /// Whether the person's address is an rfc822Name.
    pub email: bool,
    /// Whether `urn:uuid:<person id>` is a URI name.
    pub person_uri: bool,
    /// Whether `urn:uuid:<device id>` is a URI name.
    pub device_uri: bool,
    /// Below which names an administrator may give DNS names; none when empty.
    pub dns_suffixes: BTreeSet<Hostname>,
}

/// What stands in the common name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CommonName {
    /// The person's display name.
    PersonName,
    /// The device's name.
    DeviceName,
    /// The person's id, for those who want no names in certificates.
    PersonId,
}

/// Who may ask for a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Requesters {
    /// The person themselves, and administrators.
    OwnerOrAdministrator,
    /// Administrators only, for others and themselves.
    Administrator,
    /// The person themselves only: nobody gets a certificate in another's name.
    Owner,
}

/// What happens on renewal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RenewalRules {
    /// After how many seconds the predecessor is revoked as superseded; it lives to its end when absent.
    pub overlap_seconds: Option<u64>,
    /// Whether the successor needs a key of its own.
    pub new_key: bool,
}

/// What happens when a certificate would outlive its issuer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outliving {
    /// It is refused: the operator rolls the authority over first.
    Refuse,
    /// It ends with its issuer, and the answer says so.
    Cap,
}

/// A rule that cannot be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleFault {
    /// Where it stands, as a JSON pointer.
    pub pointer: &'static str,
    /// What it must be.
    pub must: String,
}

impl Rules {
    /// For people's devices: 90 days, back-dated five minutes, the default keys, a week of overlap.
    pub fn device() -> Self {
        Self {
            lifetime_seconds: 90 * 86_400,
            back_date_seconds: 300,
            keys: KeyPolicy::default(),
            names: NameRules {
                common_name: CommonName::PersonName,
                email: true,
                person_uri: true,
                device_uri: false,
                dns_suffixes: BTreeSet::new(),
            },
            requesters: Requesters::OwnerOrAdministrator,
            groups: BTreeSet::new(),
            devices_per_person: None,
            renewal: RenewalRules { overlap_seconds: Some(7 * 86_400), new_key: false },
            outliving: Outliving::Refuse,
        }
    }

    /// Everything that is out of bounds, at once.
    pub fn faults(&self) -> Vec<RuleFault> {
        let mut faults = Vec::new();
        let mut must = |holds: bool, pointer, must: String| {
            if !holds {
                faults.push(RuleFault { pointer, must });
            }
        };
        let lifetime = self.lifetime_seconds;
        must(
            (MIN_LIFETIME_SECONDS..=MAX_LIFETIME_SECONDS).contains(&lifetime),
            "/lifetime_seconds",
            format!("must be {MIN_LIFETIME_SECONDS} to {MAX_LIFETIME_SECONDS}"),
        );
        must(
            self.back_date_seconds <= MAX_BACK_DATE_SECONDS,
            "/back_date_seconds",
            format!("must be at most {MAX_BACK_DATE_SECONDS}"),
        );
        let keys = &self.keys;
        must(
            keys.p256 || keys.p384 || keys.ed25519 || keys.rsa_min_bits.is_some(),
            "/key_types",
            "must name at least one kind of key".to_owned(),
        );
        must(
            keys.rsa_min_bits.is_none_or(|bits| (RSA_FLOOR_BITS..=RSA_MAX_BITS).contains(&bits)),
            "/rsa_min_bits",
            format!("must be {RSA_FLOOR_BITS} to {RSA_MAX_BITS}"),
        );
        must(
            self.renewal.overlap_seconds.is_none_or(|overlap| overlap < lifetime),
            "/overlap_seconds",
            "must be less than lifetime_seconds".to_owned(),
        );
        must(
            self.devices_per_person.is_none_or(|most| (1..=10_000).contains(&most)),
            "/devices_per_person",
            "must be 1 to 10000".to_owned(),
        );
        must(self.groups.len() <= MAX_LIST, "/groups", format!("must be at most {MAX_LIST}"));
        must(
            self.names.dns_suffixes.len() <= MAX_LIST,
            "/dns_suffixes",
            format!("must be at most {MAX_LIST}"),
        );
        faults
    }
}
