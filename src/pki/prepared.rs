//! What lies between deciding to sign and having signed.
//!
//! [`Prepared`] holds the linted to-be-signed bytes. It cannot be cloned and [`Prepared::assemble`]
//! consumes it, so one preparation yields at most one certificate.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use der::Decode;
use spki::SubjectPublicKeyInfoRef;

use super::read::Signed;
use super::{encode, oid, pem};
use crate::domain::{Fingerprint, Serial, UtcTime};

/// A certificate that is ready to be signed with ecdsa-with-SHA256.
#[derive(Debug)]
pub struct Prepared {
    pub(super) body: Body,
    pub(super) serial: Serial,
    pub(super) not_before: UtcTime,
    pub(super) not_after: UtcTime,
}

impl Prepared {
    /// The bytes to sign.
    pub fn tbs(&self) -> &[u8] {
        &self.body.tbs
    }

    /// The SubjectPublicKeyInfo, DER, of the key that is to sign.
    pub fn issuer_spki(&self) -> &[u8] {
        &self.body.issuer_spki
    }

    /// SHA-256 of the bytes to sign: what an intent records.
    pub fn tbs_sha256(&self) -> [u8; 32] {
        let mut octets = [0; 32];
        octets.copy_from_slice(digest(&SHA256, &self.body.tbs).as_ref());
        octets
    }

    /// The serial number in it.
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

    /// Joins the bytes and their signature (a DER ECDSA-Sig-Value).
    ///
    /// # Errors
    /// Refuses a signature that is not the issuer's over exactly these bytes.
    pub fn assemble(self, signature: &[u8]) -> Result<Certificate, AssembleError> {
        Ok(Certificate { der: self.body.assemble(signature)?, serial: self.serial })
    }
}

/// A signed certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    der: Vec<u8>,
    serial: Serial,
}

impl Certificate {
    /// DER.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// PEM.
    pub fn pem(&self) -> String {
        pem::block("CERTIFICATE", &self.der)
    }

    /// SHA-256 of the DER.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.der)
    }

    /// The serial number.
    pub fn serial(&self) -> Serial {
        self.serial
    }
}

/// To-be-signed bytes and the key whose signature they wait for.
#[derive(Debug)]
pub(super) struct Body {
    pub(super) tbs: Vec<u8>,
    pub(super) issuer_spki: Vec<u8>,
}

impl Body {
    /// The whole signed structure, after the checks that [`Prepared::assemble`] promises.
    pub(super) fn assemble(self, signature: &[u8]) -> Result<Vec<u8>, AssembleError> {
        // An ECDSA P-256 signature has at most 72 octets; the bound keeps nonsense out of the output.
        if signature.len() > MAX_SIGNATURE_OCTETS {
            return Err(AssembleError::Signature);
        }
        let whole = encode::sequence(&[&self.tbs, &signature_algorithm(), &encode::bits(signature)]);
        // What is checked is what was assembled, read back, not what we believe that we wrote.
        let signed = Signed::from_der(&whole).map_err(AssembleError::Encoding)?;
        if signed.body != self.tbs {
            return Err(AssembleError::Changed);
        }
        let spki = SubjectPublicKeyInfoRef::from_der(&self.issuer_spki).map_err(AssembleError::Encoding)?;
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, spki.subject_public_key.raw_bytes())
            .verify(signed.body, signed.signature)
            .map_err(|_| AssembleError::Signature)?;
        Ok(whole)
    }
}

/// RFC 5758 §3.2: ecdsa-with-SHA256, without parameters.
pub(super) fn signature_algorithm() -> Vec<u8> {
    encode::sequence(&[&encode::oid(oid::ECDSA_WITH_SHA256)])
}

const MAX_SIGNATURE_OCTETS: usize = 72;

/// Why nothing was assembled. The prepared bytes are gone; prepare again, under a new serial.
#[derive(Debug, thiserror::Error)]
pub enum AssembleError {
    /// Another key, other bytes, or no signature at all.
    #[error("the signature is not the issuing authority's over the prepared bytes")]
    Signature,
    /// The assembled structure does not hold the prepared bytes.
    #[error("the assembled bytes differ from the prepared ones")]
    Changed,
    /// The assembled structure cannot be read back.
    #[error("the assembled bytes cannot be read back")]
    Encoding(#[source] der::Error),
}
