//! The chain of the audit: what is hashed and what is signed, byte for byte. Used by the store, which
//! chains, by the authority, which signs checkpoints, and by whoever checks an export.
//!
//! The encoding is version 1. Every part has its length before it, so no two events, and no event and
//! checkpoint, share an encoding. A later version gets other domain words and another export format.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest::{Context, SHA256};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Fingerprint, UtcTime};

/// Says that a hash is one of a link.
const LINK: &[u8] = b"wicketgate audit link 1";
/// Says that signed bytes are a checkpoint.
const CHECKPOINT: &[u8] = b"wicketgate audit checkpoint 1";

/// An event of the audit as it is hashed and exported: every column of its row, as text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditEvent {
    /// Its identity.
    pub id: String,
    /// When it was written.
    pub at: UtcTime,
    /// `started` or `finished`.
    pub phase: String,
    /// The `started` event of the same act.
    pub act: String,
    /// Who acts.
    pub actor: String,
    /// What is done.
    pub action: String,
    /// To what kind of thing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object_kind: Option<String>,
    /// To which of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object_id: Option<String>,
    /// How it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// What else is to be known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The request that asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

impl AuditEvent {
    /// Feeds the columns, in the order of the table, to `hash`.
    fn hash_into(&self, hash: &mut Context) {
        put(hash, self.id.as_bytes());
        put(hash, &self.at.as_unix().to_be_bytes());
        for text in [&self.phase, &self.act, &self.actor, &self.action] {
            put(hash, text.as_bytes());
        }
        for text in [&self.object_kind, &self.object_id, &self.outcome, &self.detail, &self.request_id] {
            // Absent and empty are two things.
            hash.update(&[u8::from(text.is_some())]);
            put(hash, text.as_deref().unwrap_or_default().as_bytes());
        }
    }
}

/// The hash of a link: SHA-256 over the hash before it, its number and its event.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct LinkHash(pub [u8; 32]);

impl LinkHash {
    /// What stands before link 1.
    pub const GENESIS: Self = Self([0; 32]);

    /// The hash of link `number`, which holds `event` and follows the link of this hash.
    #[must_use]
    pub fn next(self, number: u64, event: &AuditEvent) -> Self {
        let mut hash = Context::new(&SHA256);
        put(&mut hash, LINK);
        hash.update(&self.0);
        hash.update(&number.to_be_bytes());
        event.hash_into(&mut hash);
        let mut octets = [0; 32];
        octets.copy_from_slice(hash.finish().as_ref());
        Self(octets)
    }
}

/// Length, then bytes.
fn put(hash: &mut Context, part: &[u8]) {
    hash.update(&(part.len() as u64).to_be_bytes());
    hash.update(part);
}

impl fmt::Display for LinkHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Fingerprint(self.0).fmt(f)
    }
}

impl fmt::Debug for LinkHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LinkHash({self})")
    }
}

/// The text is not 64 lower-case hexadecimal digits.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be the hash of a link: 64 lower-case hexadecimal digits")]
pub struct ParseLinkHashError;

impl FromStr for LinkHash {
    type Err = ParseLinkHashError;
    fn from_str(text: &str) -> Result<Self, ParseLinkHashError> {
        text.parse::<Fingerprint>().map(|hash| Self(hash.0)).map_err(|_| ParseLinkHashError)
    }
}

impl Serialize for LinkHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for LinkHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The end of the chain, or any place in it. Link 0 is the place before the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChainHead {
    /// The number of the link.
    pub number: u64,
    /// Its hash.
    pub hash: LinkHash,
}

impl ChainHead {
    /// Before the first link.
    pub const START: Self = Self { number: 0, hash: LinkHash::GENESIS };

    /// The link that puts `event` behind this one.
    #[must_use]
    pub fn next(self, event: &AuditEvent) -> Self {
        let number = self.number + 1;
        Self { number, hash: self.hash.next(number, event) }
    }
}

/// A signed statement that the chain of this installation had this hash at this number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checkpoint {
    /// Whose chain.
    pub installation_id: String,
    /// Up to which link.
    pub number: u64,
    /// The hash of that link, and so of everything before it.
    pub hash: LinkHash,
    /// When it was signed.
    pub at: UtcTime,
    /// Which key signed it: `audit-` and the SHA-256 of its SubjectPublicKeyInfo.
    pub key_id: String,
    /// ECDSA with P-256 and SHA-256 over [`Checkpoint::statement`], a DER `ECDSA-Sig-Value`; base64 in JSON.
    #[serde(with = "base64_text")]
    pub signature: Vec<u8>,
}

impl Checkpoint {
    /// The bytes that are signed: everything but the signature.
    pub fn statement(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(256);
        let mut part = |part: &[u8]| {
            bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
            bytes.extend_from_slice(part);
        };
        part(CHECKPOINT);
        part(self.installation_id.as_bytes());
        part(&self.number.to_be_bytes());
        part(&self.hash.0);
        part(&self.at.as_unix().to_be_bytes());
        part(self.key_id.as_bytes());
        bytes
    }

    /// The place in the chain that it is about.
    pub fn head(&self) -> ChainHead {
        ChainHead { number: self.number, hash: self.hash }
    }
}

/// Bytes as base64 (RFC 4648 §4) in JSON.
pub mod base64_text {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes bytes as text.
    ///
    /// # Errors
    /// The serializer's.
    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    /// Reads text as bytes.
    ///
    /// # Errors
    /// The deserializer's, and that the text is not base64.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        STANDARD.decode(String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn event() -> AuditEvent {
        AuditEvent {
            id: "0192f0c1-2345-7abc-8def-0123456789ab".to_owned(),
            at: UtcTime::from_unix(1_800_000_000),
            phase: "finished".to_owned(),
            act: "0192f0c1-2345-7abc-8def-0123456789aa".to_owned(),
            actor: "system:test".to_owned(),
            action: "certificate.issue".to_owned(),
            object_kind: None,
            object_id: None,
            outcome: Some("succeeded".to_owned()),
            detail: Some(String::new()),
            request_id: None,
        }
    }

    #[test]
    fn version_1_of_the_encoding_never_changes() {
        let hash = ChainHead::START.next(&event()).hash;
        assert_eq!(hash.to_string(), "bfc4583b9b6ca16b8071f13ed746747dabe61ed05e21a99a3f4d034a5d8e00d8");
    }

    #[test]
    fn every_column_the_number_and_the_past_count() {
        let base = event();
        let all = [
            AuditEvent { id: "x".to_owned(), ..base.clone() },
            AuditEvent { at: UtcTime::from_unix(1_800_000_001), ..base.clone() },
            AuditEvent { phase: "started".to_owned(), ..base.clone() },
            AuditEvent { act: "x".to_owned(), ..base.clone() },
            AuditEvent { actor: "x".to_owned(), ..base.clone() },
            AuditEvent { action: "x".to_owned(), ..base.clone() },
            AuditEvent { object_kind: Some("x".to_owned()), ..base.clone() },
            AuditEvent { object_id: Some("x".to_owned()), ..base.clone() },
            AuditEvent { outcome: None, ..base.clone() },
            AuditEvent { detail: None, ..base.clone() },
            AuditEvent { request_id: Some(String::new()), ..base.clone() },
        ];
        let mut hashes: Vec<LinkHash> = all.iter().map(|event| LinkHash::GENESIS.next(1, event)).collect();
        hashes.extend([LinkHash::GENESIS.next(1, &base), LinkHash::GENESIS.next(2, &base)]);
        hashes.push(LinkHash([1; 32]).next(1, &base));
        for (at, hash) in hashes.iter().enumerate() {
            assert!(!hashes[..at].contains(hash), "{at}");
        }
    }

    #[test]
    fn a_checkpoint_and_its_text_are_one() {
        let checkpoint = Checkpoint {
            installation_id: "i".to_owned(),
            number: 7,
            hash: LinkHash([9; 32]),
            at: UtcTime::from_unix(1_800_000_000),
            key_id: "audit-k".to_owned(),
            signature: vec![1, 2, 3],
        };
        let text = serde_json::to_string(&checkpoint).unwrap();
        assert_eq!(serde_json::from_str::<Checkpoint>(&text).unwrap(), checkpoint);
        let other = Checkpoint { number: 8, ..checkpoint.clone() };
        assert_ne!(other.statement(), checkpoint.statement());
    }

    proptest! {
        /// Text that moves from one column to the next makes another event.
        #[test]
        fn columns_never_run_into_each_other(a in ".{0,8}", b in ".{0,8}", cut in 0_usize..8) {
            let joined: Vec<char> = a.chars().chain(b.chars()).collect();
            let cut = cut.min(joined.len());
            let (left, right): (String, String) = (joined[..cut].iter().collect(), joined[cut..].iter().collect());
            let of = |left: &str, right: &str| {
                let (action, actor) = (left.to_owned(), right.to_owned());
                LinkHash::GENESIS.next(1, &AuditEvent { action, actor, ..event() })
            };
            prop_assert_eq!(of(&a, &b) == of(&left, &right), a == left);
        }
    }
}
