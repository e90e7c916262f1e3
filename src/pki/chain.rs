//! placeholder until the real one is merged
use crate::domain::{Serial, UtcTime};
/// x
pub struct LeafView {
    /// x
    pub serial: Option<Serial>,
    /// x
    pub issuer_der: Vec<u8>,
    /// x
    pub authority_key_id: Option<Vec<u8>>,
    /// x
    pub not_before: UtcTime,
    /// x
    pub not_after: UtcTime,
    /// x
    pub client_auth: bool,
    /// x
    pub has_eku: bool,
    /// x
    pub spki_der: Vec<u8>,
    /// x
    pub is_ca: bool,
}
/// x
#[derive(Debug, thiserror::Error)]
#[error("x")]
pub struct ChainError;
/// x
pub fn read_leaf(_der: &[u8]) -> Result<LeafView, ChainError> {
    Err(ChainError)
}
/// x
pub fn signed_by(_c: &[u8], _i: &[u8]) -> bool {
    false
}
