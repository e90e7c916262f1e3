//! Which certificate is meant, and by whom it was issued.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use der::asn1::AnyRef;
use der::asn1::OctetStringRef;
use der::{Decode, SliceReader, Tag, Tagged};
use spki::{AlgorithmIdentifierRef, SubjectPublicKeyInfoRef};

use crate::domain::Serial;
use crate::pki::authority::AuthorityCertificate;
use crate::pki::oid;

/// A CertID as a request wrote it (RFC 6960 §4.1.1). Answers repeat its very octets.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CertId {
    der: Vec<u8>,
    hash: Hash,
    name_hash: Vec<u8>,
    key_hash: Vec<u8>,
    serial: Option<Serial>,
}

/// The hash in a CertID. SHA-1 names things here and protects nothing (RFC 9919 §3.1.1 keeps it for
/// older clients).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Hash {
    Sha1,
    Sha256,
    /// Nothing that we could compare.
    Other,
}

impl CertId {
    /// Reads the fields of the SEQUENCE whose octets are `der`.
    pub(in crate::pki) fn read(der: &[u8]) -> der::Result<Self> {
        AnyRef::from_der(der)?.sequence(|reader| {
            let algorithm = AlgorithmIdentifierRef::decode(reader)?;
            // RFC 5754 §2: both absent and NULL parameters are in use.
            let plain = algorithm.parameters.is_none_or(|parameters| parameters.is_null());
            let name_hash = octets(reader)?;
            let key_hash = octets(reader)?;
            let serial = AnyRef::decode(reader)?;
            serial.tag().assert_eq(Tag::Integer)?;
            if serial.value().is_empty() || serial.value().len() > MAX_SERIAL_OCTETS {
                return Err(Tag::Integer.length_error().into());
            }
            let hash = match algorithm.oid {
                oid::SHA1 if plain => Hash::Sha1,
                oid::SHA256 if plain => Hash::Sha256,
                _ => Hash::Other,
            };
            Ok(Self {
                der: der.to_vec(),
                hash,
                name_hash,
                key_hash,
                serial: Serial::from_der_octets(serial.value()).ok(),
            })
        })
    }

    /// The octets as they came.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The serial number; `None` when it is one that no certificate has (zero or negative).
    pub fn serial(&self) -> Option<Serial> {
        self.serial
    }
}

fn octets(reader: &mut SliceReader<'_>) -> der::Result<Vec<u8>> {
    let octets = <&OctetStringRef>::decode(reader)?.as_bytes();
    if octets.len() > MAX_HASH_OCTETS {
        Err(Tag::OctetString.length_error().into())
    } else {
        Ok(octets.to_vec())
    }
}

/// An issuer as CertIDs name it: hashes of its name *and* key, so that a namesake is not taken for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerId {
    sha1: [[u8; 20]; 2],
    sha256: [[u8; 32]; 2],
}

impl IssuerId {
    /// The hashes of this authority.
    pub fn of(authority: &AuthorityCertificate) -> Self {
        Self::named(authority.subject_der(), authority.spki_der())
    }

    /// The hashes of whoever has this name and this SubjectPublicKeyInfo, both DER.
    pub(super) fn named(name: &[u8], spki_der: &[u8]) -> Self {
        let key = key_octets(spki_der);
        Self { sha1: [sha1(name), sha1(&key)], sha256: [sha256(name), sha256(&key)] }
    }

    /// Whether the CertID means a certificate of this issuer.
    pub fn issued(&self, id: &CertId) -> bool {
        match id.hash {
            Hash::Sha1 => id.name_hash == self.sha1[0] && id.key_hash == self.sha1[1],
            Hash::Sha256 => id.name_hash == self.sha256[0] && id.key_hash == self.sha256[1],
            Hash::Other => false,
        }
    }
}

/// The content of the BIT STRING in a SubjectPublicKeyInfo, which is what OCSP hashes of a key.
pub(super) fn key_octets(spki_der: &[u8]) -> Vec<u8> {
    SubjectPublicKeyInfoRef::from_der(spki_der)
        .map(|spki| spki.subject_public_key.raw_bytes().to_vec())
        .unwrap_or_default()
}

pub(super) fn sha1(octets: &[u8]) -> [u8; 20] {
    let mut out = [0; 20];
    out.copy_from_slice(digest(&SHA1_FOR_LEGACY_USE_ONLY, octets).as_ref());
    out
}

fn sha256(octets: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, octets).as_ref());
    out
}

/// Of a serial in a question; RFC 5280 §4.1.2.2 knows 20 and a sign octet.
const MAX_SERIAL_OCTETS: usize = 32;
/// SHA-512.
const MAX_HASH_OCTETS: usize = 64;
