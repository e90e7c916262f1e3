//! What is asked of whom about a server certificate that somebody else issued. Reads a chain that was
//! checked when it was installed; whatever cannot be asked about is not asked about.

use der::asn1::{AnyRef, ObjectIdentifier};
use der::{Decode, Reader, SliceReader, Tag, TagNumber, Tagged};

use super::id::{IssuerId, key_octets, sha1};
use crate::domain::Serial;
use crate::pki::chain::MAX_OCTETS;
use crate::pki::read::{Signed, Tbs};
use crate::pki::{encode, oid, verify};

/// A question about one server certificate. [`StapleQuestion::read`] judges what comes back.
#[derive(Clone, Debug)]
pub struct StapleQuestion {
    responder: String,
    request: Vec<u8>,
    must_staple: bool,
    pub(super) serial: Serial,
    pub(super) issuer: IssuerId,
    pub(super) issuer_subject: Vec<u8>,
    pub(super) issuer_spki: Vec<u8>,
}

impl StapleQuestion {
    /// The question about the first certificate of `chain` (DER, leaf first).
    ///
    /// `None` when the leaf names no responder that speaks plain http, or when the next certificate is not
    /// its issuer.
    pub fn about(chain: &[Vec<u8>]) -> Option<Self> {
        let [leaf, issuer, ..] = chain else { return None };
        if leaf.len() > MAX_OCTETS || issuer.len() > MAX_OCTETS {
            return None;
        }
        let signed = Signed::from_der(leaf).ok()?;
        let tbs = Tbs::from_der(signed.body).ok()?;
        let responder = responder(tbs.extension(oid::AUTHORITY_INFO_ACCESS)?.value).ok()??;
        let above = Tbs::from_der(Signed::from_der(issuer).ok()?.body).ok()?;
        let is_issuer = above.subject == tbs.issuer
            && verify::verify(above.spki, &signed.algorithm, signed.body, signed.signature).is_ok();
        if !is_issuer {
            return None;
        }
        let serial = Serial::from_der_octets(tbs.serial).ok()?;
        let must_staple = tbs.extension(oid::TLS_FEATURE).is_some_and(|extension| {
            features(extension.value).is_ok_and(|features| features.contains(&STATUS_REQUEST))
        });
        Some(Self {
            responder,
            request: request(above.subject, above.spki, serial),
            must_staple,
            serial,
            issuer: IssuerId::named(above.subject, above.spki),
            issuer_subject: above.subject.to_vec(),
            issuer_spki: above.spki.to_vec(),
        })
    }

    /// Where it is asked: an `http://` URL of the certificate's.
    pub fn responder(&self) -> &str {
        &self.responder
    }

    /// The OCSPRequest, DER: one certificate, SHA-1 as public responders want it (RFC 9919 §3.1.1), no nonce,
    /// so that they can answer with what they have signed already.
    pub fn request(&self) -> &[u8] {
        &self.request
    }

    /// Whether clients refuse the certificate without a stapled answer (RFC 7633).
    pub fn must_staple(&self) -> bool {
        self.must_staple
    }
}

fn request(subject: &[u8], spki: &[u8], serial: Serial) -> Vec<u8> {
    let id = encode::sequence(&[
        &encode::sequence(&[&encode::oid(oid::SHA1), &encode::null()]),
        &encode::octets(&sha1(subject)),
        &encode::octets(&sha1(&key_octets(spki))),
        &encode::serial(serial),
    ]);
    let list = encode::sequence_of(&[encode::sequence(&[&id])]);
    encode::sequence(&[&encode::sequence(&[&list])])
}

/// The first plain http responder in an authorityInfoAccess value (RFC 5280 §4.2.2.1).
fn responder(value: &[u8]) -> der::Result<Option<String>> {
    AnyRef::from_der(value)?.sequence(|reader| {
        let mut found = None;
        while !reader.is_finished() {
            let (method, location) = AnyRef::decode(reader)?.sequence(access)?;
            let is_uri =
                location.tag() == (Tag::ContextSpecific { constructed: false, number: TagNumber(6) });
            if method != oid::AD_OCSP || !is_uri || location.value().len() > MAX_URL_OCTETS {
                continue;
            }
            let text = str::from_utf8(location.value()).ok().filter(|text| is_plain_http(text));
            found = found.or_else(|| text.map(str::to_owned));
        }
        Ok(found)
    })
}

fn access<'a>(reader: &mut SliceReader<'a>) -> der::Result<(ObjectIdentifier, AnyRef<'a>)> {
    Ok((ObjectIdentifier::decode(reader)?, AnyRef::decode(reader)?))
}

/// A scheme is written in either case; the rest is checked by whoever connects.
fn is_plain_http(text: &str) -> bool {
    text.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("http://"))
        && text.bytes().all(|octet| octet.is_ascii_graphic())
}

/// The features of a TLSFeature value.
fn features(value: &[u8]) -> der::Result<Vec<u16>> {
    AnyRef::from_der(value)?.sequence(|reader| {
        let mut all = Vec::new();
        while !reader.is_finished() {
            all.push(u16::decode(reader)?);
        }
        Ok(all)
    })
}

/// RFC 7633 §4.2.3.1: the number of the TLS extension `status_request`.
const STATUS_REQUEST: u16 = 5;
/// Of a responder's URL; the longest in use have less than a hundred.
const MAX_URL_OCTETS: usize = 1024;
