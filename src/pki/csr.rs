//! PKCS#10 requests. A request proves that its sender holds a private key, and brings the public
//! half; names and extensions in it are not even looked at (they come from who the sender is).

use der::Decode;
use der::asn1::AnyRef;

use super::key_policy::{KeyPolicy, KeyRefused, PublicKey};
use super::read::{Signed, sequence_bytes};
use super::verify::{SignatureError, verify};
use super::{encode, oid, pem};

/// The longest request taken, DER or PEM, in octets. An RSA-4096 request with every extension that
/// anyone asks for has less than 4 KiB.
pub const MAX_OCTETS: usize = 16 * 1024;

/// A request whose proof of possession was checked and whose key passed the policy.
#[derive(Clone, Debug)]
pub struct SigningRequest {
    public_key: PublicKey,
}

impl SigningRequest {
    /// Reads a request in DER.
    ///
    /// # Errors
    /// [`CsrError`] names what is wrong and what to do.
    pub fn from_der(der: &[u8], policy: &KeyPolicy) -> Result<Self, CsrError> {
        if der.len() > MAX_OCTETS {
            return Err(CsrError::TooLong);
        }
        let request = Signed::from_der(der).map_err(CsrError::Malformed)?;
        let spki = public_key_of(request.body).map_err(CsrError::Malformed)?;
        // The policy first: it bounds the work of checking the signature.
        let public_key = PublicKey::from_spki_der(spki, policy).map_err(CsrError::Key)?;
        verify(spki, &request.algorithm, request.body, request.signature).map_err(CsrError::Possession)?;
        Ok(Self { public_key })
    }

    /// Reads a request in PEM; text around the block is ignored.
    ///
    /// # Errors
    /// As [`Self::from_der`], and [`CsrError::NotPem`].
    pub fn from_pem(text: &str, policy: &KeyPolicy) -> Result<Self, CsrError> {
        if text.len() > MAX_OCTETS {
            return Err(CsrError::TooLong);
        }
        let der = pem::first_block(text, &["CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST"]);
        Self::from_der(&der.ok_or(CsrError::NotPem)?, policy)
    }

    /// The key to certify.
    pub fn public_key(&self) -> &PublicKey {
        &self.public_key
    }
}

/// RFC 2986 §4.1: version, subject, key, attributes. The version must be v1; the attributes are
/// ignored, and may be missing, as some old clients have it.
fn public_key_of(info: &[u8]) -> der::Result<&[u8]> {
    AnyRef::from_der(info)?.sequence(|reader| {
        if u8::decode(reader)? != 0 {
            return Err(der::Tag::Integer.value_error().into());
        }
        sequence_bytes(reader)?;
        let spki = sequence_bytes(reader)?;
        if !der::Reader::is_finished(reader) {
            AnyRef::decode(reader)?;
        }
        Ok(spki)
    })
}

/// What we would like to see in a request, as `CsrAttrs` (RFC 7030 §4.5.2): a P-256 key, and a
/// signature with SHA-256. Other keys that the profile allows are taken all the same.
pub fn wished_attributes() -> Vec<u8> {
    let curve = encode::set_of_one(&encode::oid(oid::PRIME256V1));
    encode::sequence(&[
        &encode::sequence(&[&encode::oid(oid::EC_PUBLIC_KEY), &curve]),
        &encode::oid(oid::ECDSA_WITH_SHA256),
    ])
}

/// Why a signing request is refused. The texts speak to whoever made it.
#[derive(Debug, thiserror::Error)]
pub enum CsrError {
    /// More than [`MAX_OCTETS`].
    #[error("the signing request is longer than {MAX_OCTETS} octets")]
    TooLong,
    /// No PEM block of the right kind.
    #[error("the text has no `-----BEGIN CERTIFICATE REQUEST-----` block with valid base64 in it")]
    NotPem,
    /// Not a PKCS#10 request in DER.
    #[error("the signing request is not valid PKCS#10 in DER")]
    Malformed(#[source] der::Error),
    /// The key is not one that we certify.
    #[error("the signing request's key is refused: {0}")]
    Key(KeyRefused),
    /// The request is not signed by the key in it.
    #[error("the signing request does not prove that you hold its key: {0}")]
    Possession(SignatureError),
}

#[cfg(test)]
mod tests;
