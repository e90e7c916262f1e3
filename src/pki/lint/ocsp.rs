//! Rules for OCSP answers.

use der::asn1::{AnyRef, GeneralizedTime, OctetStringRef};
use der::{Decode, Reader, SliceReader, Tag, Tagged};

use super::{Finding, Report};
use crate::domain::{RevocationReason, UtcTime};
use crate::pki::ocsp::{CertId, MAX_NONCE_OCTETS, OcspSigner};
use crate::pki::oid;
use crate::pki::read::{extensions, sequence_bytes, tagged};

/// Rules for the to-be-signed part of an answer, and the delegate that is to sign it.
pub fn lint_ocsp(tbs: &[u8], signer: &OcspSigner) -> Vec<Finding> {
    let mut report = Report::default();
    if let Err(error) = AnyRef::from_der(tbs).and_then(|any| any.sequence(|r| data(r, signer, &mut report))) {
        report.add("der", "RFC 6960 §4.2.1", error.to_string());
    }
    report.0
}

/// ResponseData.
fn data(reader: &mut SliceReader<'_>, signer: &OcspSigner, report: &mut Report) -> der::Result<()> {
    let explicit_version = tagged(reader, VERSION)?.is_some();
    report.must(!explicit_version, "version", "RFC 6960 §4.2.1", "v1 is the default and so absent");
    let by_key = tagged(reader, BY_KEY)?;
    let key = by_key.map(|field| <&OctetStringRef>::from_der(field.value())).transpose()?;
    let ours = key.is_some_and(|key| key.as_bytes() == signer.key_hash());
    report.must(ours, "responder_id", "RFC 9919 §3.2.1", "not the signer's by key");
    let produced_at = instant(reader)?;
    let inside = signer.not_before() <= produced_at && produced_at <= signer.not_after();
    report.must(inside, "produced_at", "RFC 6960 §2.4", "the signer is not valid when it answers");
    let mut singles = SliceReader::new(AnyRef::decode(reader)?.value())?;
    report.must(!singles.is_finished(), "responses", "RFC 6960 §4.2.1", "no certificate is answered for");
    while !singles.is_finished() {
        AnyRef::decode(&mut singles)?.sequence(|reader| single(reader, produced_at, signer, report))?;
    }
    if let Some(field) = tagged(reader, RESPONSE_EXTENSIONS)? {
        let all = extensions(field.value())?;
        let nonce_alone = matches!(all.as_slice(), [nonce] if nonce.id == oid::OCSP_NONCE && !nonce.critical);
        let nonce = all.first().map(|nonce| <&OctetStringRef>::from_der(nonce.value)).transpose()?;
        let length = nonce.map_or(0, |nonce| nonce.as_bytes().len());
        let right = nonce_alone && (1..=MAX_NONCE_OCTETS).contains(&length);
        report.must(right, "nonce", "RFC 9654 §2.1", "not one plain nonce of 1 to 128 octets alone");
    }
    Ok(())
}

/// SingleResponse.
fn single(
    reader: &mut SliceReader<'_>,
    produced_at: UtcTime,
    signer: &OcspSigner,
    report: &mut Report,
) -> der::Result<()> {
    let id = CertId::read(sequence_bytes(reader)?)?;
    let ours = signer.issuer().issued(&id);
    report.must(ours, "issuer", "RFC 6960 §4.2.2.2", "the certificate is not of the signer's authority");
    status(AnyRef::decode(reader)?, &id, produced_at, report)?;
    let this_update = instant(reader)?;
    let known = this_update <= produced_at;
    report.must(known, "this_update", "RFC 6960 §2.4", "thisUpdate is after producedAt");
    let next_update = tagged(reader, NEXT_UPDATE)?.map(|field| instant_of(field.value())).transpose()?;
    let later = next_update.is_some_and(|next| next > this_update);
    report.must(later, "next_update", "RFC 9919 §3.2.4", "absent, or not after thisUpdate");
    let backed = next_update.is_none_or(|next| next <= signer.not_after());
    report.must(backed, "outlives_signer", "RFC 6960 §4.2.2.2", "may be used after its signer's end");
    Ok(())
}

/// CertStatus.
fn status(choice: AnyRef<'_>, id: &CertId, produced_at: UtcTime, report: &mut Report) -> der::Result<()> {
    let Tag::ContextSpecific { constructed, number } = choice.tag() else {
        report.add("status", "RFC 6960 §4.2.1", "none of good, revoked and unknown");
        return Ok(());
    };
    match (number.value(), constructed) {
        // `good` for a number that no certificate can have would be a lie whatever the rows say.
        (0, false) => {
            let right = choice.value().is_empty() && id.serial().is_some();
            report.must(right, "status", "RFC 6960 §2.2", "good for a serial that is none");
        }
        (2, false) => {
            report.must(choice.value().is_empty(), "status", "RFC 6960 §4.2.1", "unknown with content");
        }
        (1, true) => {
            let mut reader = SliceReader::new(choice.value())?;
            let at = instant(&mut reader)?;
            report.must(at <= produced_at, "revocation_time", "RFC 6960 §4.4.2", "revoked in the future");
            if let Some(reason) = tagged(&mut reader, REASON)? {
                let right = match reason.value() {
                    [ENUMERATED, 1, code] => *code != 0 && RevocationReason::from_code(*code).is_some(),
                    _ => false,
                };
                report.must(right, "reason", "§5.3.1", "unspecified(0), removeFromCRL(8) or none of them");
            }
            report.must(reader.is_finished(), "status", "RFC 6960 §4.2.1", "more than time and reason");
        }
        _ => report.add("status", "RFC 6960 §4.2.1", "none of good, revoked and unknown"),
    }
    Ok(())
}

/// GeneralizedTime without a fraction, always.
fn instant(reader: &mut SliceReader<'_>) -> der::Result<UtcTime> {
    Ok(seconds(GeneralizedTime::decode(reader)?))
}

fn instant_of(der: &[u8]) -> der::Result<UtcTime> {
    Ok(seconds(GeneralizedTime::from_der(der)?))
}

fn seconds(at: GeneralizedTime) -> UtcTime {
    UtcTime::from_unix(i64::try_from(at.to_unix_duration().as_secs()).unwrap_or(i64::MAX))
}

const ENUMERATED: u8 = 0x0a;
const VERSION: u8 = 0xa0;
const BY_KEY: u8 = 0xa2;
const RESPONSE_EXTENSIONS: u8 = 0xa1;
const NEXT_UPDATE: u8 = 0xa0;
const REASON: u8 = 0xa0;
