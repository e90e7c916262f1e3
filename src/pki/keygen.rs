//! Key pairs and requests of our own, for the command line, the local server authority and tests.

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};

use super::names::{self, NameError};
use super::prepared::signature_algorithm;
use super::{encode, oid, pem};
use crate::domain::Secret;

/// Makes a P-256 key pair: the private key as PKCS#8 DER, the public key as SubjectPublicKeyInfo DER.
#[expect(
    clippy::expect_used,
    reason = "aws-lc fails here only when memory or the system's randomness is gone, and then nothing that follows may go on"
)]
pub fn generate_p256() -> (Secret<Vec<u8>>, Vec<u8>) {
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new())
        .expect("a P-256 key pair can be made");
    let pkcs8 = Secret::new(pkcs8.as_ref().to_vec());
    let spki = public_key(pkcs8.expose()).expect("a fresh key pair can be read");
    (pkcs8, spki)
}

/// The SubjectPublicKeyInfo of a P-256 private key in PKCS#8 DER.
///
/// # Errors
/// [`KeygenError::Key`] when it is not one.
pub fn public_key(key_pkcs8: &[u8]) -> Result<Vec<u8>, KeygenError> {
    let public: PublicKeyX509Der<'_> =
        pair(key_pkcs8)?.public_key().as_der().map_err(|_| KeygenError::Key)?;
    Ok(public.as_ref().to_vec())
}

/// Signs with a P-256 private key in PKCS#8 DER: ecdsa-with-SHA256, as a DER ECDSA-Sig-Value.
///
/// # Errors
/// [`KeygenError::Key`] when it is not a P-256 key.
pub fn sign_p256(key_pkcs8: &[u8], message: &[u8]) -> Result<Vec<u8>, KeygenError> {
    let signature = pair(key_pkcs8)?.sign(&SystemRandom::new(), message).map_err(|_| KeygenError::Key)?;
    Ok(signature.as_ref().to_vec())
}

/// A PKCS#10 request in DER for a P-256 private key in PKCS#8 DER.
///
/// # Errors
/// [`KeygenError`] for another kind of key, or a name that does not fit.
pub fn client_csr(key_pkcs8: &[u8], common_name: &str) -> Result<Vec<u8>, KeygenError> {
    let subject = names::distinguished(&[(oid::COMMON_NAME, "the common name", Some(common_name))])?;
    sign_request(key_pkcs8, &subject, &[])
}

/// A request with this subject, DER, and these attributes, DER one after another in their order.
pub(super) fn sign_request(
    key_pkcs8: &[u8],
    subject: &[u8],
    attributes: &[u8],
) -> Result<Vec<u8>, KeygenError> {
    let attributes = encode::context_constructed(0, attributes);
    let info = encode::sequence(&[&encode::number(0), subject, &public_key(key_pkcs8)?, &attributes]);
    let signature = sign_p256(key_pkcs8, &info)?;
    Ok(encode::sequence(&[&info, &signature_algorithm(), &encode::bits(&signature)]))
}

/// As [`client_csr`], in PEM.
///
/// # Errors
/// As [`client_csr`].
pub fn client_csr_pem(key_pkcs8: &[u8], common_name: &str) -> Result<String, KeygenError> {
    Ok(pem::block("CERTIFICATE REQUEST", &client_csr(key_pkcs8, common_name)?))
}

/// A PKCS#8 private key as an unencrypted PEM block.
pub fn private_key_pem(key_pkcs8: &[u8]) -> Secret<String> {
    Secret::new(pem::block("PRIVATE KEY", key_pkcs8))
}

fn pair(key_pkcs8: &[u8]) -> Result<EcdsaKeyPair, KeygenError> {
    EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, key_pkcs8).map_err(|_| KeygenError::Key)
}

/// Why no key, signature or request was made.
#[derive(Debug, thiserror::Error)]
pub enum KeygenError {
    /// Not a P-256 private key in PKCS#8 DER.
    #[error("not a P-256 private key in PKCS#8 DER")]
    Key,
    /// Not a certificate in DER.
    #[error("not a certificate in DER")]
    Certificate,
    /// The name does not fit into a request.
    #[error("the name cannot go into the request: {0}")]
    Name(#[from] NameError),
}
