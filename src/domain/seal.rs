//! Authenticated encryption as a promise, so that those who store sealed bytes need not know the keys.

/// Seals bytes to a place: what was sealed with one associated data opens with no other.
pub trait Seal: Send + Sync {
    /// Encrypts and authenticates `plain`, bound to `place`.
    fn seal(&self, place: &[u8], plain: &[u8]) -> Vec<u8>;

    /// Opens what [`Self::seal`] made for the same `place`.
    ///
    /// # Errors
    /// [`SealBroken`] when the bytes were changed, moved from another place, or sealed under another key.
    fn open(&self, place: &[u8], sealed: &[u8]) -> Result<Vec<u8>, SealBroken>;

    /// Whether `sealed` was sealed under a key that is kept only to open old things.
    fn is_outdated(&self, _sealed: &[u8]) -> bool {
        false
    }
}

/// Sealed bytes did not open: changed, moved to another place, or sealed under a key we do not have.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("sealed data does not open: it was changed, moved, or sealed under another key")]
pub struct SealBroken;
