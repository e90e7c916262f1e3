//! An authority's certificate, read once and checked for what issuing under it needs.

use der::asn1::{AnyRef, BitStringRef, OctetStringRef};
use der::{Decode, Reader};

use super::chain::{ChainError, read_leaf};
use super::key_policy::{KeyKind, KeyPolicy, KeyRefused, PublicKey};
use super::read::{Signed, Tbs};
use super::{names, oid, pem};
use crate::domain::{Fingerprint, Serial, UtcTime};

/// The certificate of one authority: a root, an issuing, local server or upstream authority.
///
/// Names and key identifiers are kept as the very octets of the certificate, because what is issued
/// under it must repeat them exactly (RFC 5280 §4.1.2.4, §4.2.1.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorityCertificate {
    der: Vec<u8>,
    subject_der: Vec<u8>,
    key_id: Vec<u8>,
    public_key: PublicKey,
    serial: Serial,
    not_before: UtcTime,
    not_after: UtcTime,
    path_len: Option<u8>,
    common_name: String,
}

impl AuthorityCertificate {
    /// Reads a certificate in DER.
    ///
    /// # Errors
    /// Refuses what cannot issue here: no authority, no key identifier, no right to sign
    /// certificates and CRLs, or a key that is not P-256.
    pub fn from_der(der: &[u8]) -> Result<Self, AuthorityError> {
        if der.len() > MAX_OCTETS {
            return Err(AuthorityError::TooLong);
        }
        let signed = Signed::from_der(der)?;
        let tbs = Tbs::from_der(signed.body)?;
        // What is read of it elsewhere must be readable.
        read_leaf(der)?;
        let only_p256 = KeyPolicy { p256: true, p384: false, ed25519: false, rsa_min_bits: None };
        let public_key = PublicKey::from_spki_der(tbs.spki, &only_p256).map_err(AuthorityError::Key)?;
        debug_assert_eq!(public_key.kind(), KeyKind::P256);
        Ok(Self {
            der: der.to_vec(),
            subject_der: tbs.subject.to_vec(),
            key_id: key_id(&tbs)?.to_vec(),
            public_key,
            serial: Serial::from_der_octets(tbs.serial).map_err(|_| AuthorityError::Serial)?,
            not_before: tbs.not_before,
            not_after: tbs.not_after,
            path_len: may_issue(&tbs)?,
            common_name: names::common_name(tbs.subject)?,
        })
    }

    /// The whole certificate, DER.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The whole certificate, PEM.
    pub fn pem(&self) -> String {
        pem::block("CERTIFICATE", &self.der)
    }

    /// The subject Name, DER: the issuer of everything below.
    pub fn subject_der(&self) -> &[u8] {
        &self.subject_der
    }

    /// The subject key identifier: the authority key identifier of everything below.
    pub fn key_id(&self) -> &[u8] {
        &self.key_id
    }

    /// The SubjectPublicKeyInfo, DER.
    pub fn spki_der(&self) -> &[u8] {
        self.public_key.spki_der()
    }

    /// The serial number.
    pub fn serial(&self) -> Serial {
        self.serial
    }

    /// First second of validity.
    pub fn not_before(&self) -> UtcTime {
        self.not_before
    }

    /// Last second of validity.
    pub fn not_after(&self) -> UtcTime {
        self.not_after
    }

    /// How many authorities may follow below it; `None` is no limit.
    pub fn path_len(&self) -> Option<u8> {
        self.path_len
    }

    /// SHA-256 of the certificate.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.der)
    }

    /// The subject's common name; empty if it has none.
    pub fn common_name(&self) -> &str {
        &self.common_name
    }
}

fn key_id<'a>(tbs: &Tbs<'a>) -> Result<&'a [u8], AuthorityError> {
    let extension = tbs.extension(oid::SUBJECT_KEY_IDENTIFIER).ok_or(AuthorityError::NoKeyId)?;
    let octets = <&OctetStringRef>::from_der(extension.value)?.as_bytes();
    if octets.is_empty() || octets.len() > 64 { Err(AuthorityError::NoKeyId) } else { Ok(octets) }
}

/// RFC 5280 §6.1.4 (k), (n) and §6.3.3 (f): cA, keyCertSign and cRLSign.
fn may_issue(tbs: &Tbs<'_>) -> Result<Option<u8>, AuthorityError> {
    let constraints = tbs.extension(oid::BASIC_CONSTRAINTS).ok_or(AuthorityError::NotAnAuthority)?;
    let (ca, path_len) = basic_constraints(constraints.value)?;
    let usage = tbs.extension(oid::KEY_USAGE).ok_or(AuthorityError::NotAnAuthority)?;
    let bits = BitStringRef::from_der(usage.value)?;
    let has = |position| bits.get(position).unwrap_or(false);
    if ca && has(5) && has(6) { Ok(path_len) } else { Err(AuthorityError::NotAnAuthority) }
}

/// cA and pathLenConstraint of a basicConstraints value.
pub(super) fn basic_constraints(value: &[u8]) -> der::Result<(bool, Option<u8>)> {
    AnyRef::from_der(value)?.sequence(|reader| {
        let ca = if reader.peek_byte() == Some(0x01) { bool::decode(reader)? } else { false };
        let path_len = if reader.is_finished() { None } else { Some(u8::decode(reader)?) };
        Ok((ca, path_len))
    })
}

/// Longer certificates of authorities are refused unread.
pub const MAX_OCTETS: usize = 16 * 1024;

/// Why a certificate cannot serve as an authority here.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// More than [`MAX_OCTETS`].
    #[error("the certificate is longer than {MAX_OCTETS} octets")]
    TooLong,
    /// Not a certificate in DER.
    #[error("not a certificate in DER")]
    Malformed(#[from] der::Error),
    /// Without basicConstraints cA, keyCertSign or cRLSign.
    #[error("the certificate may not sign certificates and CRLs")]
    NotAnAuthority,
    /// Without a subjectKeyIdentifier.
    #[error("the certificate has no subject key identifier")]
    NoKeyId,
    /// Serial numbers must be positive and have at most 20 octets.
    #[error("the certificate's serial number is not positive or too long")]
    Serial,
    /// Authorities of this house sign with ECDSA P-256.
    #[error("the authority's key is not an EC P-256 key")]
    Key(#[source] KeyRefused),
}

impl From<ChainError> for AuthorityError {
    fn from(error: ChainError) -> Self {
        match error {
            ChainError::TooLong => Self::TooLong,
            ChainError::Malformed(cause) => Self::Malformed(cause),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::fixtures;

    #[test]
    fn a_certificate_with_an_extension_that_cannot_be_read_is_no_authoritys() {
        // id, OCTET STRING and SEQUENCE of authorityKeyIdentifier and extKeyUsage.
        for id in [[0x55, 0x1d, 0x23], [0x55, 0x1d, 0x25]] {
            let issuing = fixtures::issuing_under(&fixtures::root());
            let mut der = issuing.certificate.der().to_vec();
            let at = der.windows(3).position(|window| window == id).unwrap();
            let sequence = at + der[at..].iter().position(|octet| *octet == 0x30).unwrap();
            der[sequence] = 0x01;
            let refused = AuthorityCertificate::from_der(&der).unwrap_err();
            assert!(matches!(refused, AuthorityError::Malformed(_)), "{refused:?}");
        }
    }
}
