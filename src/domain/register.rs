//! What edges know, as values: the deltas that rows hold, the feed carries and the register applies.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::authority::{AuthorityKind, AuthorityState};
use super::fingerprint::Fingerprint;
use super::id::{DeviceId, PersonId};
use super::revocation::RevocationReason;
use super::serial::Serial;
use super::slug::Slug;
use super::time::UtcTime;

/// An authority as edges know it: enough to trust its leaves and to name causes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthorityRecord {
    /// The slug of this generation.
    pub name: Slug,
    /// What it signs. Only issuing authorities stand behind client certificates.
    pub kind: AuthorityKind,
    /// Where in its life it stands.
    pub state: AuthorityState,
    /// Its certificate, DER.
    #[serde(with = "bytes_as_base64")]
    pub certificate: Vec<u8>,
    /// Its subject name, DER: the root-hint and the issuer of its leaves.
    #[serde(with = "bytes_as_base64")]
    pub subject: Vec<u8>,
    /// Its public key, SubjectPublicKeyInfo DER.
    #[serde(with = "bytes_as_base64")]
    pub spki: Vec<u8>,
    /// The end of its validity.
    pub not_after: UtcTime,
}

/// A person as edges know them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PersonRecord {
    /// The immutable identity.
    pub id: PersonId,
    /// The address for the plain header of a route.
    pub email: String,
    /// The display name.
    pub name: String,
    /// The groups they are in.
    pub groups: BTreeSet<Slug>,
    /// Whether they are shut out.
    pub disabled: bool,
}

/// One client certificate as it enters the register.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateRecord {
    /// SHA-256 of its DER, hexadecimal in JSON.
    #[serde(with = "text")]
    pub fingerprint: Fingerprint,
    /// Its serial; always one of ours.
    pub serial: Serial,
    /// The authority that signed it.
    pub authority: Slug,
    /// The profile it was issued under.
    pub profile: Slug,
    /// Whose it is.
    pub person: PersonId,
    /// On which device.
    pub device: DeviceId,
    /// Start of validity, inclusive.
    pub not_before: UtcTime,
    /// End of validity, inclusive.
    pub not_after: UtcTime,
    /// When and why it was revoked, if it was.
    pub revoked: Option<(UtcTime, RevocationReason)>,
}

/// One step of the register.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "delta", rename_all = "snake_case")]
pub enum Delta {
    /// An authority appears or changes its state.
    Authority(AuthorityRecord),
    /// A person appears or changes.
    Person(PersonRecord),
    /// A certificate was issued.
    Certificate(CertificateRecord),
    /// A certificate was revoked.
    Revoked {
        /// Which.
        #[serde(with = "text")]
        fingerprint: Fingerprint,
        /// When.
        at: UtcTime,
        /// Why.
        reason: RevocationReason,
    },
    /// A hold was lifted.
    Released {
        /// Which.
        #[serde(with = "text")]
        fingerprint: Fingerprint,
    },
}

/// A delta with its place in the one order of the register.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Strictly increasing, without gaps, across replicas and restarts.
    pub epoch: u64,
    /// What changed.
    pub delta: Delta,
}

/// How many edges are connected, and how many have taken over what was published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Enforced {
    /// Connected edges.
    pub edges: u32,
    /// Those that acknowledged in time.
    pub acknowledged: u32,
}

impl Enforced {
    /// Both this and another change.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self { edges: self.edges.max(other.edges), acknowledged: self.acknowledged.min(other.acknowledged) }
    }
}

/// Binary fields as base64 text in JSON.
pub(crate) mod bytes_as_base64 {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        STANDARD.decode(String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// Values with `Display` and `FromStr` as text in JSON.
mod text {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<T: std::fmt::Display, S: Serializer>(
        value: &T,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(super) fn deserialize<'de, T, D>(deserializer: D) -> Result<T, D::Error>
    where
        T: std::str::FromStr<Err: std::fmt::Display>,
        D: Deserializer<'de>,
    {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
