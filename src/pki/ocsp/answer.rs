//! Judges what a responder says of a server certificate: it counts only if the certificate's issuer, or whom
//! the issuer named for it, signed exactly this, and while it is in time. Bounded, and safe on hostile bytes.

use std::time::Duration;

use der::asn1::{AnyRef, BitStringRef, GeneralizedTime, ObjectIdentifier, OctetStringRef};
use der::{Decode, Reader, SliceReader, Tag, Tagged};
use spki::AlgorithmIdentifierRef;

use super::id::{CertId, key_octets, sha1};
use super::question::StapleQuestion;
use super::response::CertStatus;
use crate::domain::{RevocationReason, UtcTime};
use crate::pki::read::{self, Signed, Tbs, sequence_bytes, tagged};
use crate::pki::{chain, oid, verify};

/// Longer answers are refused unread; what responders send has 300 to 3000 octets.
pub const MAX_ANSWER_OCTETS: usize = 64 * 1024;

/// What the issuer says of the certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StapleAnswer {
    /// Good, taken back, or not known.
    pub status: CertStatus,
    /// Since when it is known to be so.
    pub this_update: UtcTime,
    /// The first second in which it does not count any more: nextUpdate, or the end of whoever signed it.
    pub until: UtcTime,
}

/// Why an answer says nothing of the certificate.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnswerFault {
    /// More than [`MAX_ANSWER_OCTETS`].
    #[error("the answer is longer than {MAX_ANSWER_OCTETS} octets")]
    TooLong,
    /// Not an OCSPResponse in DER.
    #[error("not an OCSP answer in DER")]
    Encoding(#[from] der::Error),
    /// The responder refused: an OCSPResponseStatus other than successful (RFC 6960 §4.2.1).
    #[error("the responder answers with its error status {0}")]
    Refused(u8),
    /// Another kind of answer than the one there is.
    #[error("the answer is not a basic OCSP response")]
    NotBasic,
    /// Neither the issuer nor a delegate of its in force.
    #[error("the answer comes from nobody who may speak for the certificate's issuer")]
    Stranger,
    /// Not signed by whom it says.
    #[error("the answer's signature does not hold")]
    Signature,
    /// Not exactly one statement about the certificate that was asked about.
    #[error("the answer is not about the certificate that was asked about")]
    OtherCertificate,
    /// An extension that must be understood and is not.
    #[error("the answer has a critical extension that is unknown")]
    Extension,
    /// It begins to count later.
    #[error("the answer counts from {0} on only")]
    Early(UtcTime),
    /// It does not count any more.
    #[error("the answer counted until {0}")]
    Late(UtcTime),
    /// It does not say until when it counts, so it cannot be kept.
    #[error("the answer does not say until when it counts")]
    Endless,
}

impl StapleQuestion {
    /// Judges the OCSPResponse `der` as the answer to this question at `now`.
    ///
    /// Whether a delegate was taken back itself is not looked at: those who get the stapled answer judge it
    /// again.
    ///
    /// # Errors
    /// As [`AnswerFault`] says; never panics, whatever the bytes.
    pub fn read(&self, der: &[u8], now: UtcTime) -> Result<StapleAnswer, AnswerFault> {
        if der.len() > MAX_ANSWER_OCTETS {
            return Err(AnswerFault::TooLong);
        }
        let basic = basic(response(der)?)?;
        let data = AnyRef::from_der(basic.data)?.sequence(data)?;
        let signer_ends = self.signer_ends(&basic, &data.responder, now)?;
        let mut own = data.singles.iter().filter(|single| self.is_meant(&single.id));
        let (Some(single), None) = (own.next(), own.next()) else {
            return Err(AnswerFault::OtherCertificate);
        };
        if data.has_critical || single.has_critical {
            return Err(AnswerFault::Extension);
        }
        let next_update = single.next_update.ok_or(AnswerFault::Endless)?;
        // A certificate counts in its last second, an answer not in that of its nextUpdate.
        let until = signer_ends.map_or(next_update, |ends| next_update.min(ends.plus(SECOND)));
        if single.this_update > now {
            return Err(AnswerFault::Early(single.this_update));
        }
        if until <= now {
            return Err(AnswerFault::Late(until));
        }
        Ok(StapleAnswer { status: single.status, this_update: single.this_update, until })
    }

    fn is_meant(&self, id: &CertId) -> bool {
        id.serial() == Some(self.serial) && self.issuer.issued(id)
    }

    /// The end of the delegate that signed; `None` when the issuer itself did.
    fn signer_ends(
        &self,
        basic: &Basic<'_>,
        responder: &Responder<'_>,
        now: UtcTime,
    ) -> Result<Option<UtcTime>, AnswerFault> {
        let signed = |spki: &[u8]| {
            let signature = verify::verify(spki, &basic.algorithm, basic.data, basic.signature);
            signature.map_err(|_| AnswerFault::Signature)
        };
        if responder.is(&self.issuer_subject, &self.issuer_spki) {
            return signed(&self.issuer_spki).map(|()| None);
        }
        for certificate in &basic.certificates {
            // One that cannot be read is nobody's; another may be the delegate's.
            let Ok(certificate) = Signed::from_der(certificate) else { continue };
            let Ok(tbs) = Tbs::from_der(certificate.body) else { continue };
            if responder.is(tbs.subject, tbs.spki) && self.is_delegate(&certificate, &tbs, now) {
                return signed(tbs.spki).map(|()| Some(tbs.not_after));
            }
        }
        Err(AnswerFault::Stranger)
    }

    /// RFC 6960 §4.2.2.2: issued directly by whoever issued the certificate in question, for this purpose.
    fn is_delegate(&self, certificate: &Signed<'_>, tbs: &Tbs<'_>, now: UtcTime) -> bool {
        let may_answer = tbs.extension(oid::EXTENDED_KEY_USAGE).is_some_and(|extension| {
            chain::purposes(extension.value).is_ok_and(|purposes| purposes.contains(&oid::KP_OCSP_SIGNING))
        });
        let Signed { body, algorithm, signature } = certificate;
        may_answer
            && tbs.issuer == self.issuer_subject
            && (tbs.not_before..=tbs.not_after).contains(&now)
            && verify::verify(&self.issuer_spki, algorithm, body, signature).is_ok()
    }
}

/// Who says that they answer.
enum Responder<'a> {
    /// By the Name, DER.
    Name(&'a [u8]),
    /// By SHA-1 of the key.
    Key(&'a [u8]),
}

impl Responder<'_> {
    fn is(&self, subject: &[u8], spki: &[u8]) -> bool {
        match self {
            Self::Name(name) => *name == subject,
            Self::Key(hash) => *hash == sha1(&key_octets(spki)),
        }
    }
}

/// A BasicOCSPResponse, as slices of the input.
struct Basic<'a> {
    data: &'a [u8],
    algorithm: AlgorithmIdentifierRef<'a>,
    signature: &'a [u8],
    certificates: Vec<&'a [u8]>,
}

/// A ResponseData.
struct Data<'a> {
    responder: Responder<'a>,
    singles: Vec<Single>,
    has_critical: bool,
}

/// A SingleResponse.
struct Single {
    id: CertId,
    status: CertStatus,
    this_update: UtcTime,
    next_update: Option<UtcTime>,
    has_critical: bool,
}

/// The octets of the BasicOCSPResponse in an OCSPResponse.
fn response(der: &[u8]) -> Result<&[u8], AnswerFault> {
    AnyRef::from_der(der)?.sequence(|reader| {
        let status = AnyRef::decode(reader)?;
        status.tag().assert_eq(Tag::Enumerated)?;
        match status.value() {
            [0] => {}
            [code] => return Err(AnswerFault::Refused(*code)),
            _ => return Err(der::Error::from(Tag::Enumerated.value_error()).into()),
        }
        let bytes = tagged(reader, RESPONSE_BYTES)?.ok_or(AnswerFault::NotBasic)?;
        AnyRef::from_der(bytes.value())?.sequence(|reader| {
            let kind = ObjectIdentifier::decode(reader)?;
            let octets = <&OctetStringRef>::decode(reader)?.as_bytes();
            if kind == oid::OCSP_BASIC { Ok(octets) } else { Err(AnswerFault::NotBasic) }
        })
    })
}

fn basic(der: &[u8]) -> der::Result<Basic<'_>> {
    AnyRef::from_der(der)?.sequence(|reader| {
        let data = sequence_bytes(reader)?;
        let algorithm = AlgorithmIdentifierRef::decode(reader)?;
        let bits = BitStringRef::decode(reader)?;
        let signature = bits.as_bytes().ok_or_else(|| Tag::BitString.value_error())?;
        let certificates = match tagged(reader, CERTIFICATES)? {
            Some(field) => certificates(field.value())?,
            None => Vec::new(),
        };
        Ok(Basic { data, algorithm, signature, certificates })
    })
}

fn certificates(der: &[u8]) -> der::Result<Vec<&[u8]>> {
    AnyRef::from_der(der)?.sequence(|reader| {
        let mut all = Vec::new();
        while !reader.is_finished() {
            if all.len() == MAX_CERTIFICATES {
                return Err(Tag::Sequence.length_error().into());
            }
            all.push(sequence_bytes(reader)?);
        }
        Ok(all)
    })
}

fn data<'a>(reader: &mut SliceReader<'a>) -> der::Result<Data<'a>> {
    if let Some(version) = tagged(reader, VERSION)?
        && u8::from_der(version.value())? != 0
    {
        return Err(Tag::Integer.value_error().into());
    }
    let responder = match tagged(reader, BY_NAME)? {
        Some(name) => Responder::Name(name.value()),
        None => {
            let key = tagged(reader, BY_KEY)?.ok_or_else(|| Tag::Sequence.value_error())?;
            Responder::Key(<&OctetStringRef>::from_der(key.value())?.as_bytes())
        }
    };
    GeneralizedTime::decode(reader)?; // producedAt: thisUpdate and nextUpdate say what counts.
    let singles = AnyRef::decode(reader)?.sequence(|reader| {
        let mut all = Vec::new();
        while !reader.is_finished() {
            if all.len() == MAX_SINGLES {
                return Err(Tag::Sequence.length_error().into());
            }
            all.push(AnyRef::decode(reader)?.sequence(single)?);
        }
        Ok::<_, der::Error>(all)
    })?;
    let has_critical = has_critical(reader)?;
    Ok(Data { responder, singles, has_critical })
}

fn single(reader: &mut SliceReader<'_>) -> der::Result<Single> {
    let id = CertId::read(sequence_bytes(reader)?)?;
    let status = status(AnyRef::decode(reader)?)?;
    let this_update = seconds(GeneralizedTime::decode(reader)?);
    let next_update = match tagged(reader, NEXT_UPDATE)? {
        Some(field) => Some(seconds(GeneralizedTime::from_der(field.value())?)),
        None => None,
    };
    let has_critical = has_critical(reader)?;
    Ok(Single { id, status, this_update, next_update, has_critical })
}

/// CertStatus.
fn status(choice: AnyRef<'_>) -> der::Result<CertStatus> {
    let Tag::ContextSpecific { constructed, number } = choice.tag() else {
        return Err(choice.tag().value_error().into());
    };
    match (number.value(), constructed) {
        (0, false) if choice.value().is_empty() => Ok(CertStatus::Good),
        (2, false) if choice.value().is_empty() => Ok(CertStatus::Unknown),
        (1, true) => {
            let mut reader = SliceReader::new(choice.value())?;
            let at = seconds(GeneralizedTime::decode(&mut reader)?);
            let code = match tagged(&mut reader, REASON)?.map(|reason| reason.value()) {
                Some([ENUMERATED, 1, code]) => *code,
                _ => 0,
            };
            let reason = RevocationReason::from_code(code).unwrap_or(RevocationReason::Unspecified);
            Ok(CertStatus::Revoked { at, reason })
        }
        _ => Err(choice.tag().value_error().into()),
    }
}

/// Whether there are extensions that must be understood; none of them is.
fn has_critical(reader: &mut SliceReader<'_>) -> der::Result<bool> {
    match tagged(reader, EXTENSIONS)? {
        Some(field) => Ok(read::extensions(field.value())?.iter().any(|extension| extension.critical)),
        None => Ok(false),
    }
}

fn seconds(at: GeneralizedTime) -> UtcTime {
    UtcTime::from_unix(i64::try_from(at.to_unix_duration().as_secs()).unwrap_or(i64::MAX))
}

const SECOND: Duration = Duration::from_secs(1);
/// Of one answer; a delegate and those above it.
const MAX_CERTIFICATES: usize = 4;
/// Statements in one answer; there should be one.
const MAX_SINGLES: usize = 8;
const ENUMERATED: u8 = 0x0a;
const VERSION: u8 = 0xa0;
const BY_NAME: u8 = 0xa1;
const BY_KEY: u8 = 0xa2;
const NEXT_UPDATE: u8 = 0xa0;
const REASON: u8 = 0xa0;
const RESPONSE_BYTES: u8 = 0xa0;
const CERTIFICATES: u8 = 0xa0;
/// `[1]` in ResponseData and in SingleResponse.
const EXTENSIONS: u8 = 0xa1;

#[cfg(test)]
mod tests;
