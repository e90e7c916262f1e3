//! Reads certificates without trusting them: bounded, borrowing, never panicking.
//!
//! Where `x509-cert` decodes into a tree and normalises, this keeps slices of the very bytes that
//! were signed, which is what names, key ids and signatures must be compared by.

use der::asn1::{AnyRef, BitStringRef, ObjectIdentifier, OctetStringRef};
use der::{Decode, Reader, SliceReader, Tag, TagNumber, Tagged};
use spki::AlgorithmIdentifierRef;
use x509_cert::time::Time;

use crate::domain::UtcTime;

/// More extensions than any certificate in the wild has; bounds the work on hostile bytes.
const MAX_EXTENSIONS: usize = 64;

/// A SEQUENCE of signed bytes, algorithm and signature: certificate, CRL or request.
pub(super) struct Signed<'a> {
    pub(super) body: &'a [u8],
    pub(super) algorithm: AlgorithmIdentifierRef<'a>,
    pub(super) signature: &'a [u8],
}

impl<'a> Signed<'a> {
    pub(super) fn from_der(der: &'a [u8]) -> der::Result<Self> {
        let outer = AnyRef::from_der(der)?;
        outer.sequence(|reader| {
            let body = reader.tlv_bytes()?;
            let algorithm = AlgorithmIdentifierRef::decode(reader)?;
            let bits = BitStringRef::decode(reader)?;
            let signature = bits.as_bytes().ok_or_else(|| Tag::BitString.value_error())?;
            Ok(Self { body, algorithm, signature })
        })
    }
}

/// One extension; `value` is what the OCTET STRING holds.
#[derive(Clone, Copy)]
pub(super) struct Extension<'a> {
    pub(super) id: ObjectIdentifier,
    pub(super) critical: bool,
    pub(super) value: &'a [u8],
}

/// A TBSCertificate (RFC 5280 §4.1.2), fields as slices of the input, tag and length included.
pub(super) struct Tbs<'a> {
    /// 0 is v1, 2 is v3.
    pub(super) version: u8,
    /// Content octets of the INTEGER.
    pub(super) serial: &'a [u8],
    pub(super) signature: AlgorithmIdentifierRef<'a>,
    pub(super) issuer: &'a [u8],
    pub(super) not_before: UtcTime,
    pub(super) not_after: UtcTime,
    pub(super) subject: &'a [u8],
    pub(super) spki: &'a [u8],
    pub(super) unique_ids: bool,
    pub(super) extensions: Vec<Extension<'a>>,
}

impl<'a> Tbs<'a> {
    pub(super) fn from_der(der: &'a [u8]) -> der::Result<Self> {
        AnyRef::from_der(der)?.sequence(|reader| {
            let version = match tagged(reader, VERSION)? {
                Some(field) => u8::from_der(field.value())?,
                None => 0,
            };
            let serial = AnyRef::decode(reader)?;
            serial.tag().assert_eq(Tag::Integer)?;
            let signature = AlgorithmIdentifierRef::decode(reader)?;
            let issuer = sequence_bytes(reader)?;
            let validity = AnyRef::decode(reader)?;
            let (not_before, not_after) =
                validity.sequence(|r| Ok::<_, der::Error>((instant(r)?, instant(r)?)))?;
            let subject = sequence_bytes(reader)?;
            let spki = sequence_bytes(reader)?;
            let unique_ids =
                tagged(reader, ISSUER_UNIQUE_ID)?.is_some() | tagged(reader, SUBJECT_UNIQUE_ID)?.is_some();
            let extensions = match tagged(reader, EXTENSIONS)? {
                Some(field) => extensions(field.value())?,
                None => Vec::new(),
            };
            Ok(Self {
                version,
                serial: serial.value(),
                signature,
                issuer,
                not_before,
                not_after,
                subject,
                spki,
                unique_ids,
                extensions,
            })
        })
    }

    /// The value of the first extension with this identifier.
    pub(super) fn extension(&self, id: ObjectIdentifier) -> Option<&Extension<'a>> {
        self.extensions.iter().find(|extension| extension.id == id)
    }
}

/// Extensions from their SEQUENCE.
pub(super) fn extensions(der: &[u8]) -> der::Result<Vec<Extension<'_>>> {
    AnyRef::from_der(der)?.sequence(|reader| {
        let mut all = Vec::new();
        while !reader.is_finished() {
            if all.len() == MAX_EXTENSIONS {
                return Err(Tag::Sequence.length_error().into());
            }
            all.push(AnyRef::decode(reader)?.sequence(extension)?);
        }
        Ok(all)
    })
}

fn extension<'a>(reader: &mut SliceReader<'a>) -> der::Result<Extension<'a>> {
    let id = ObjectIdentifier::decode(reader)?;
    let critical = if reader.peek_byte() == Some(BOOLEAN) { bool::decode(reader)? } else { false };
    let value = <&OctetStringRef>::decode(reader)?.as_bytes();
    Ok(Extension { id, critical, value })
}

/// The key identifier inside an authorityKeyIdentifier value, if it has one (RFC 5280 §4.2.1.1).
pub(super) fn authority_key_id(value: &[u8]) -> der::Result<Option<&[u8]>> {
    AnyRef::from_der(value)?.sequence(|reader| {
        let mut key_id = None;
        while !reader.is_finished() {
            let field = AnyRef::decode(reader)?;
            if field.tag() == (Tag::ContextSpecific { constructed: false, number: TagNumber(0) }) {
                key_id = Some(field.value());
            }
        }
        Ok(key_id)
    })
}

/// The next value if its first octet is `tag`.
pub(super) fn tagged<'a>(reader: &mut SliceReader<'a>, tag: u8) -> der::Result<Option<AnyRef<'a>>> {
    if reader.peek_byte() == Some(tag) { AnyRef::decode(reader).map(Some) } else { Ok(None) }
}

/// The next SEQUENCE, whole.
pub(super) fn sequence_bytes<'a>(reader: &mut SliceReader<'a>) -> der::Result<&'a [u8]> {
    if reader.peek_byte() != Some(SEQUENCE) {
        return Err(Tag::Sequence.value_error().into());
    }
    reader.tlv_bytes()
}

fn instant(reader: &mut SliceReader<'_>) -> der::Result<UtcTime> {
    let seconds = Time::decode(reader)?.to_unix_duration().as_secs();
    Ok(UtcTime::from_unix(i64::try_from(seconds).unwrap_or(i64::MAX)))
}

const BOOLEAN: u8 = 0x01;
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const ISSUER_UNIQUE_ID: u8 = 0x81;
const SUBJECT_UNIQUE_ID: u8 = 0x82;
const EXTENSIONS: u8 = 0xa3;
