//! Random values that open something, and the hashes under which they are kept.
//!
//! Secrets are 178 bits and more, so a plain SHA-256 is enough to keep them, and looking one up by its
//! hash takes the same time whatever was guessed.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::domain::{Entropy, Fingerprint, Secret};

/// Bytes of a session, an invitation and a setup link.
const OCTETS: usize = 32;
/// Characters of the same in base64url.
pub const LENGTH: usize = 43;

/// A fresh secret of 256 bits, 43 characters of base64url.
pub fn fresh(entropy: &dyn Entropy) -> Secret<String> {
    let mut octets = zeroize::Zeroizing::new([0; OCTETS]);
    entropy.fill(octets.as_mut());
    Secret::new(URL_SAFE_NO_PAD.encode(&octets[..]))
}

/// The hash under which a secret is kept.
pub fn hash(secret: &str) -> Fingerprint {
    Fingerprint::of(secret.as_bytes())
}

/// Whether `text` can be a secret of ours at all.
pub fn is_well_formed(text: &str) -> bool {
    text.len() == LENGTH && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}
