//! pki
pub mod chain;
pub mod challenge;
