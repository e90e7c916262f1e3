//! Keys that open things and keys that sign things.
//!
//! Two key-encryption keys (design, decision 15), each from a 0600 file, `$CREDENTIALS_DIRECTORY` or an
//! environment secret, never in the data directory or a backup. They wrap data keys ([`Vault`]), and
//! those seal columns; re-wrapping under a new key touches only the wrapped data keys.

pub mod entropy;
pub mod kek;
pub mod signer;
pub mod vault;

pub use entropy::SystemEntropy;
pub use kek::{Kek, KeyFault, Purpose};
pub use signer::{KeyId, SealedSigner, SignError, Signer};
pub use vault::{Place, Vault, Vaults, WrappedKey};
