//! Signing keys behind one asynchronous trait: a sealed row now, PKCS#11 or Vault Transit later.

use std::fmt;

use async_trait::async_trait;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};

use crate::pki::keygen;

/// Names a signing key, wherever it lives.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KeyId(pub String);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why nothing was signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// The key cannot be read.
    #[error("signing key {0} cannot be read")]
    Key(KeyId),
    /// The signer refused or failed.
    #[error("signing with key {0} failed")]
    Failed(KeyId),
}

/// Signs to-be-signed bytes of certificates and CRLs with ecdsa-with-SHA256 (RFC 5758 §3.2).
#[async_trait]
pub trait Signer: Send + Sync {
    /// Which key signs.
    fn key_id(&self) -> &KeyId;

    /// Its public half, SubjectPublicKeyInfo DER.
    fn public_key(&self) -> &[u8];

    /// Signs; the signature is a DER `ECDSA-Sig-Value`.
    ///
    /// # Errors
    /// [`SignError`]; then nothing was signed, or nobody has seen it.
    async fn sign(&self, tbs: &[u8]) -> Result<Vec<u8>, SignError>;
}

/// A P-256 key that was sealed in the database and is open in memory.
pub struct SealedSigner {
    id: KeyId,
    key: EcdsaKeyPair,
    public_key: Vec<u8>,
}

impl SealedSigner {
    /// Opens the key from PKCS#8 DER.
    ///
    /// # Errors
    /// [`SignError::Key`] when it is not a P-256 key.
    pub fn from_pkcs8(id: KeyId, pkcs8: &[u8]) -> Result<Self, SignError> {
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8);
        match (key, keygen::public_key(pkcs8)) {
            (Ok(key), Ok(public_key)) => Ok(Self { id, key, public_key }),
            _ => Err(SignError::Key(id)),
        }
    }
}

#[async_trait]
impl Signer for SealedSigner {
    fn key_id(&self) -> &KeyId {
        &self.id
    }

    fn public_key(&self) -> &[u8] {
        &self.public_key
    }

    async fn sign(&self, tbs: &[u8]) -> Result<Vec<u8>, SignError> {
        // 15 microseconds: not worth another thread.
        let signature =
            self.key.sign(&SystemRandom::new(), tbs).map_err(|_| SignError::Failed(self.id.clone()))?;
        Ok(signature.as_ref().to_vec())
    }
}
