//! The audit outside the database: signed checkpoints, the text of an export, and the check of one.
//!
//! An export is lines of JSON: a header, every link with its event, each checkpoint behind its link,
//! events that have no link, and an end that counts them ([`export`]). [`verify`] reads it with nothing
//! else at hand, and against what the reader kept elsewhere: an earlier checkpoint, or the key.

pub mod export;
pub mod verdict;
pub mod verify;

#[cfg(test)]
mod tests;

pub use export::{Export, FORMAT, Header, Key, Line, Link, MAX_LINE};
pub use verdict::{Fault, Found, Verdict};
pub use verify::{Pinned, Trust, Verifier, verify_export};

use aws_lc_rs::digest::{SHA256, digest};
use spki::AlgorithmIdentifierRef;

use super::oid;
use super::verify::SignatureError;
use crate::domain::Fingerprint;
use crate::domain::audit_chain::Checkpoint;

/// The id of the key with this SubjectPublicKeyInfo. It commits to the key, so that a checkpoint names
/// the only key that may have signed it.
pub fn key_id(spki: &[u8]) -> String {
    let mut octets = [0; 32];
    octets.copy_from_slice(digest(&SHA256, spki).as_ref());
    format!("audit-{}", Fingerprint(octets))
}

/// Checks that `checkpoint` was signed by the key with this SubjectPublicKeyInfo.
///
/// # Errors
/// `SignatureError::Key` when it names another key, `SignatureError::Mismatch` when it says
/// something else than what was signed.
pub fn check_signature(checkpoint: &Checkpoint, spki: &[u8]) -> Result<(), SignatureError> {
    if checkpoint.key_id != key_id(spki) {
        return Err(SignatureError::Key);
    }
    let algorithm = AlgorithmIdentifierRef { oid: oid::ECDSA_WITH_SHA256, parameters: None };
    super::verify::verify(spki, &algorithm, &checkpoint.statement(), &checkpoint.signature)
}
