//! Where randomness comes from. The real source is `keys::SystemEntropy`; tests bring a seeded one.

/// A source of cryptographically secure random bytes.
///
/// A source that cannot deliver must not return: predictable serials or keys are worse than none.
pub trait Entropy: Send + Sync {
    /// Fills the whole buffer.
    fn fill(&self, buffer: &mut [u8]);
}
