//! The operating system's randomness.

use crate::domain::Entropy;

/// Randomness of the operating system, by way of aws-lc.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    #[expect(clippy::expect_used, reason = "a system without randomness must stop, not sign with zeros")]
    fn fill(&self, buffer: &mut [u8]) {
        aws_lc_rs::rand::fill(buffer).expect("the operating system has no randomness to give");
    }
}
