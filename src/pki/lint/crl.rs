//! Rules for certificate revocation lists.

use der::asn1::{AnyRef, GeneralizedTime, UintRef};
use der::{Decode, Reader, SliceReader, Tag, Tagged};
use spki::AlgorithmIdentifierRef;
use x509_cert::time::Time;

use super::{Finding, Report};
use crate::domain::{RevocationReason, Serial};
use crate::pki::authority::AuthorityCertificate;
use crate::pki::oid;
use crate::pki::read::{self, Extension, extensions, sequence_bytes, tagged};

/// Rules for a complete list. A list may be long, so nothing is allocated for an entry that is in order.
pub fn lint_crl(tbs: &[u8]) -> Vec<Finding> {
    let mut report = Report::default();
    if let Err(error) = AnyRef::from_der(tbs).and_then(|any| any.sequence(|r| list(r, &mut report))) {
        report.add("der", "§5.1", error.to_string());
    }
    report.0
}

/// Rules for a list and the authority that is to sign it.
pub fn lint_crl_under(tbs: &[u8], issuer: &AuthorityCertificate) -> Vec<Finding> {
    let mut report = Report::default();
    let read = AnyRef::from_der(tbs).and_then(|any| {
        any.sequence(|reader| {
            let head = head(reader)?;
            let right = head.issuer == issuer.subject_der();
            report.must(right, "issuer_name", "§5.1.2.3, §7.1", "issuer is not the authority's subject");
            let tail = tail(reader, |_| Ok(()))?;
            let aki = tail.iter().find(|extension| extension.id == oid::AUTHORITY_KEY_IDENTIFIER);
            let key_id = aki.map(|aki| read::authority_key_id(aki.value)).transpose()?.flatten();
            let right = key_id == Some(issuer.key_id());
            report.must(right, "issuer_key", "§5.2.1", "authority key identifier is not the authority's own");
            Ok(())
        })
    });
    if let Err(error) = read {
        let error: der::Error = error;
        report.add("der", "§5.1", error.to_string());
    }
    report.0
}

/// Everything before revokedCertificates.
struct Head<'a> {
    version: u8,
    algorithm: AlgorithmIdentifierRef<'a>,
    issuer: &'a [u8],
    this_update: Time,
    next_update: Option<Time>,
}

fn head<'a>(reader: &mut SliceReader<'a>) -> der::Result<Head<'a>> {
    Ok(Head {
        version: if reader.peek_byte() == Some(INTEGER) { u8::decode(reader)? } else { 0 },
        algorithm: AlgorithmIdentifierRef::decode(reader)?,
        issuer: sequence_bytes(reader)?,
        this_update: Time::decode(reader)?,
        next_update: match reader.peek_byte() {
            Some(UTC_TIME | GENERALIZED_TIME) => Some(Time::decode(reader)?),
            _ => None,
        },
    })
}

/// revokedCertificates, handed to `entries` if present, and the extensions.
fn tail<'a>(
    reader: &mut SliceReader<'a>,
    entries: impl FnOnce(AnyRef<'a>) -> der::Result<()>,
) -> der::Result<Vec<Extension<'a>>> {
    if let Some(revoked) = tagged(reader, SEQUENCE)? {
        entries(revoked)?;
    }
    match tagged(reader, EXTENSIONS)? {
        Some(field) => extensions(field.value()),
        None => Ok(Vec::new()),
    }
}

fn list(reader: &mut SliceReader<'_>, report: &mut Report) -> der::Result<()> {
    let head = head(reader)?;
    report.must(head.version == 1, "version", "§5.1.2.1", "not v2");
    let ours = head.algorithm.oid == oid::ECDSA_WITH_SHA256 && head.algorithm.parameters.is_none();
    report.must(ours, "signature_algorithm", "§5.1.2.2", "not plain ecdsa-with-SHA256");
    report.must(head.issuer.len() > 2, "issuer_empty", "§5.1.2.3", "empty issuer");
    match head.next_update {
        None => report.add("next_update", "§5.1.2.5", "no nextUpdate"),
        Some(next) => {
            let later = next.to_unix_duration() > head.this_update.to_unix_duration();
            report.must(later, "next_update", "§5.1.2.5", "nextUpdate is not after thisUpdate");
            report.must(form_is_right(next), "time_form", "§5.1.2.5", "nextUpdate in the wrong form");
        }
    }
    report.must(form_is_right(head.this_update), "time_form", "§5.1.2.4", "thisUpdate in the wrong form");
    let extensions = tail(reader, |revoked| revoked_certificates(revoked, report))?;
    list_extensions(&extensions, report)
}

fn revoked_certificates(revoked: AnyRef<'_>, report: &mut Report) -> der::Result<()> {
    report.must(!revoked.value().is_empty(), "revoked_empty", "§5.1.2.6", "an empty list must be absent");
    let mut reader = SliceReader::new(revoked.value())?;
    let mut last: Option<Serial> = None;
    while !reader.is_finished() {
        AnyRef::decode(&mut reader)?.sequence(|entry| {
            let number = AnyRef::decode(entry)?;
            number.tag().assert_eq(Tag::Integer)?;
            let Ok(serial) = Serial::from_der_octets(number.value()) else {
                report.add("serial", "§5.1.2.6, §4.1.2.2", "a serial is not positive, or too long");
                return Ok::<_, der::Error>(());
            };
            let key = |serial: Serial| (serial.as_octets().len(), serial);
            let sorted = last.is_none_or(|last| key(last) < key(serial));
            if !sorted {
                report.add("order", "house rule", format!("{serial} is out of order or listed twice"));
            }
            last = Some(serial);
            if !form_is_right(Time::decode(entry)?) {
                report.add("time_form", "§5.1.2.6", format!("revocationDate of {serial} in the wrong form"));
            }
            if !entry.is_finished() {
                entry_extensions(sequence_bytes(entry)?, serial, report)?;
            }
            Ok(())
        })?;
    }
    Ok(())
}

fn entry_extensions(der: &[u8], serial: Serial, report: &mut Report) -> der::Result<()> {
    let all = extensions(der)?;
    if all.is_empty() {
        report.add("entry_extensions", "§5.3", format!("{serial} has an empty list"));
    }
    for Extension { id, critical, value } in all {
        let right = match id {
            oid::REASON_CODE => match *value {
                // §5.3.1: unspecified is omitted; removeFromCRL belongs on delta lists.
                [ENUMERATED, 1, code] => code != 0 && RevocationReason::from_code(code).is_some(),
                _ => false,
            },
            // §5.3.2: GeneralizedTime always.
            oid::INVALIDITY_DATE => GeneralizedTime::from_der(value).is_ok(),
            _ => false,
        };
        if !right || critical {
            report.add("entry_extensions", "§5.3", format!("{id} of {serial}"));
        }
    }
    Ok(())
}

fn list_extensions(all: &[Extension<'_>], report: &mut Report) -> der::Result<()> {
    let find = |id| all.iter().find(|extension| extension.id == id);
    let aki = find(oid::AUTHORITY_KEY_IDENTIFIER);
    let key_id = aki.map(|aki| read::authority_key_id(aki.value)).transpose()?.flatten();
    let right = aki.is_some_and(|aki| !aki.critical) && key_id.is_some();
    report.must(right, "authority_key_id", "§5.2.1", "absent, critical or without a key identifier");
    let number = find(oid::CRL_NUMBER).filter(|number| !number.critical);
    let short =
        number.is_some_and(|number| UintRef::from_der(number.value).is_ok_and(|n| n.as_bytes().len() <= 20));
    report.must(short, "crl_number", "§5.2.3", "absent, critical or longer than 20 octets");
    if let Some(point) = find(oid::ISSUING_DISTRIBUTION_POINT) {
        // Scope flags are left out: OpenSSL holds them against leaves without basic constraints.
        let right = point.critical && full_name_alone(point.value).unwrap_or(false);
        report.must(right, "distribution_point", "§5.2.5", "not critical, or not a fullName alone");
    }
    for extension in all {
        let known = matches!(
            extension.id,
            oid::AUTHORITY_KEY_IDENTIFIER | oid::CRL_NUMBER | oid::ISSUING_DISTRIBUTION_POINT
        );
        report.must(known, "extension_unknown", "§5.2", extension.id.to_string());
    }
    let mut ids: Vec<_> = all.iter().map(|extension| extension.id).collect();
    ids.sort();
    let once = ids.windows(2).all(|pair| pair[0] != pair[1]);
    report.must(once, "extension_twice", "§4.2", "an extension occurs twice");
    Ok(())
}

/// An issuingDistributionPoint with a distributionPoint [0] fullName [0], and nothing else.
fn full_name_alone(value: &[u8]) -> der::Result<bool> {
    AnyRef::from_der(value)?.sequence(|reader| {
        let Some(point) = tagged(reader, FULL_NAME)? else { return Ok(false) };
        let full_name = point.value().first() == Some(&FULL_NAME);
        AnyRef::from_der(point.value())?;
        Ok::<_, der::Error>(full_name && reader.is_finished())
    })
}

/// UTCTime through 2049, GeneralizedTime from 2050.
fn form_is_right(at: Time) -> bool {
    matches!(at, Time::UtcTime(_)) || at.to_date_time().year() >= 2050
}

const INTEGER: u8 = 0x02;
const ENUMERATED: u8 = 0x0a;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const EXTENSIONS: u8 = 0xa0;
const FULL_NAME: u8 = 0xa0;
