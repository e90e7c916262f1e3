//! Checks signatures that others made, with aws-lc.

use aws_lc_rs::signature::{self as aws, UnparsedPublicKey, VerificationAlgorithm};
use der::asn1::{AnyRef, ObjectIdentifier};
use der::{Decode, Reader, SliceReader};
use spki::{AlgorithmIdentifierRef, SubjectPublicKeyInfoRef};

use super::{oid, read};

/// Why a signature does not count.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// Weak, unknown, or not for this kind of key.
    #[error(
        "the signature algorithm {0} is not accepted with this key; sign with SHA-256, SHA-384 or SHA-512"
    )]
    Algorithm(String),
    /// RSASSA-PSS with parameters that are out of fashion or cannot be checked.
    #[error(
        "these RSASSA-PSS parameters are not accepted; use SHA-256, SHA-384 or SHA-512 for hash and \
         mask, and a salt as long as the hash (OpenSSL: `-sigopt rsa_pss_saltlen:digest`)"
    )]
    PssParameters,
    /// The key cannot be read.
    #[error("the public key cannot be read")]
    Key,
    /// It is not this key's signature of these bytes.
    #[error("the signature does not fit the key and the signed content")]
    Mismatch,
}

/// Checks that `signature` over `message` was made with the private half of `spki_der`.
pub(super) fn verify(
    spki_der: &[u8],
    algorithm: &AlgorithmIdentifierRef<'_>,
    message: &[u8],
    signature: &[u8],
) -> Result<(), SignatureError> {
    let spki = SubjectPublicKeyInfoRef::from_der(spki_der).map_err(|_| SignatureError::Key)?;
    let key = spki.subject_public_key.as_bytes().ok_or(SignatureError::Key)?;
    let curve = spki.algorithm.parameters.and_then(|any| any.decode_as::<ObjectIdentifier>().ok());
    let verifier: &dyn VerificationAlgorithm = match (spki.algorithm.oid, curve, algorithm.oid) {
        // Any of the hashes with either curve: a P-256 key whose request is signed with SHA-384 is common.
        (oid::EC_PUBLIC_KEY, Some(oid::PRIME256V1), oid::ECDSA_WITH_SHA256) => &aws::ECDSA_P256_SHA256_ASN1,
        (oid::EC_PUBLIC_KEY, Some(oid::PRIME256V1), oid::ECDSA_WITH_SHA384) => &aws::ECDSA_P256_SHA384_ASN1,
        (oid::EC_PUBLIC_KEY, Some(oid::PRIME256V1), oid::ECDSA_WITH_SHA512) => &aws::ECDSA_P256_SHA512_ASN1,
        (oid::EC_PUBLIC_KEY, Some(oid::SECP384R1), oid::ECDSA_WITH_SHA256) => &aws::ECDSA_P384_SHA256_ASN1,
        (oid::EC_PUBLIC_KEY, Some(oid::SECP384R1), oid::ECDSA_WITH_SHA384) => &aws::ECDSA_P384_SHA384_ASN1,
        (oid::EC_PUBLIC_KEY, Some(oid::SECP384R1), oid::ECDSA_WITH_SHA512) => &aws::ECDSA_P384_SHA512_ASN1,
        (oid::ED25519, None, oid::ED25519) => &aws::ED25519,
        (oid::RSA_ENCRYPTION, None, oid::SHA256_WITH_RSA) => &aws::RSA_PKCS1_2048_8192_SHA256,
        (oid::RSA_ENCRYPTION, None, oid::SHA384_WITH_RSA) => &aws::RSA_PKCS1_2048_8192_SHA384,
        (oid::RSA_ENCRYPTION, None, oid::SHA512_WITH_RSA) => &aws::RSA_PKCS1_2048_8192_SHA512,
        (oid::RSA_ENCRYPTION, None, oid::RSASSA_PSS) => {
            pss(algorithm.parameters).ok_or(SignatureError::PssParameters)?
        }
        _ => return Err(SignatureError::Algorithm(algorithm.oid.to_string())),
    };
    UnparsedPublicKey::new(verifier, key).verify(message, signature).map_err(|_| SignatureError::Mismatch)
}

/// RFC 4055 §3.1. Only hash = mask hash and salt length = hash length, which is what everyone uses
/// and all that aws-lc checks; the SHA-1 defaults are refused with the rest.
fn pss(parameters: Option<AnyRef<'_>>) -> Option<&'static dyn VerificationAlgorithm> {
    parameters?.sequence(|reader| Ok::<_, der::Error>(pss_fields(reader))).ok()?
}

fn pss_fields(reader: &mut SliceReader<'_>) -> Option<&'static dyn VerificationAlgorithm> {
    let hash = AlgorithmIdentifierRef::from_der(read::tagged(reader, 0xa0).ok()??.value()).ok()?.oid;
    let mask = AlgorithmIdentifierRef::from_der(read::tagged(reader, 0xa1).ok()??.value()).ok()?;
    let mask_hash = mask.parameters?.sequence(identifier).ok()?;
    let salt = u16::from_der(read::tagged(reader, 0xa2).ok()??.value()).ok()?;
    if let Some(trailer) = read::tagged(reader, 0xa3).ok()? {
        // trailerFieldBC(1) is the default and the only one defined.
        (u8::from_der(trailer.value()).ok()? == 1).then_some(())?;
    }
    if mask.oid != oid::MGF1 || mask_hash != hash || !reader.is_finished() {
        return None;
    }
    match (hash, salt) {
        (oid::SHA256, 32) => Some(&aws::RSA_PSS_2048_8192_SHA256),
        (oid::SHA384, 48) => Some(&aws::RSA_PSS_2048_8192_SHA384),
        (oid::SHA512, 64) => Some(&aws::RSA_PSS_2048_8192_SHA512),
        _ => None,
    }
}

/// The identifier of an AlgorithmIdentifier whose parameters do not matter (NULL or absent).
fn identifier(reader: &mut SliceReader<'_>) -> der::Result<ObjectIdentifier> {
    let id = ObjectIdentifier::decode(reader)?;
    if !reader.is_finished() {
        AnyRef::decode(reader)?;
    }
    Ok(id)
}
