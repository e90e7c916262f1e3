//! Builds certificate revocation lists (RFC 5280 §5): complete, direct, one per authority.

use super::authority::AuthorityCertificate;
use super::extensions as ext;
use super::issuer::PrepareError;
use super::prepared::{AssembleError, Body, signature_algorithm};
use super::{encode, lint, oid, pem};
use crate::domain::{RevocationReason, Serial, UtcTime};

/// One revoked certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RevokedEntry {
    /// Its serial number.
    pub serial: Serial,
    /// When it was revoked.
    pub revoked_at: UtcTime,
    /// Why.
    pub reason: RevocationReason,
    /// Since when its key is believed to be in other hands, if known.
    pub invalid_since: Option<UtcTime>,
}

/// Prepares the complete list of what `issuer` revoked.
///
/// * `number` — strictly greater than that of any list of this issuer before (§5.2.3).
/// * `entries` — in any order; they come out sorted by serial number, so equal sets give equal lists.
/// * `distribution_url` — the URL in the certificates' distribution points, octet by octet. `None` for
///   a root's list: OpenSSL's `-crl_check_all` checks the root itself against it, and a root's
///   certificate has no distribution point to match.
///
/// # Errors
/// Refuses an empty validity, a serial listed twice, and a URL that is not plain HTTP.
pub fn prepare_crl(
    issuer: &AuthorityCertificate,
    number: u64,
    this_update: UtcTime,
    next_update: UtcTime,
    entries: &[RevokedEntry],
    distribution_url: Option<&str>,
) -> Result<PreparedCrl, PrepareError> {
    if this_update >= next_update {
        return Err(PrepareError::Validity { from: this_update, to: next_update });
    }
    let revoked = revoked_certificates(entries)?;
    let mut extensions = vec![ext::authority_key_identifier(issuer.key_id()), ext::crl_number(number)];
    extensions.extend(distribution_url.map(ext::issuing_distribution_point).transpose()?);
    let tbs = encode::sequence(&[
        &encode::number(1), // v2
        &signature_algorithm(),
        issuer.subject_der(),
        &encode::time(this_update),
        &encode::time(next_update),
        &revoked,
        &encode::context_constructed(0, &encode::sequence_of(&extensions)),
    ]);
    let findings = [lint::lint_crl(&tbs), lint::lint_crl_under(&tbs, issuer)].concat();
    if !findings.is_empty() {
        return Err(PrepareError::Lint(findings));
    }
    Ok(PreparedCrl { body: Body { tbs, issuer_spki: issuer.spki_der().to_vec() }, number })
}

/// revokedCertificates, or nothing at all when there are none (§5.1.2.6).
fn revoked_certificates(entries: &[RevokedEntry]) -> Result<Vec<u8>, PrepareError> {
    let mut sorted: Vec<&RevokedEntry> = entries.iter().collect();
    // Shorter octet strings are smaller numbers, as serials have no leading zeros.
    sorted.sort_unstable_by_key(|entry| (entry.serial.as_octets().len(), entry.serial));
    if let Some(twice) = sorted.windows(2).find(|pair| pair[0].serial == pair[1].serial) {
        return Err(PrepareError::Duplicate(twice[0].serial));
    }
    if sorted.is_empty() {
        return Ok(Vec::new());
    }
    Ok(encode::sequence_of(&sorted.into_iter().map(entry).collect::<Vec<_>>()))
}

fn entry(entry: &RevokedEntry) -> Vec<u8> {
    let mut extensions = Vec::new();
    // §5.3.1: reasonCode should be absent instead of unspecified(0).
    if entry.reason != RevocationReason::Unspecified {
        extensions.push(ext::plain(oid::REASON_CODE, &encode::enumerated(entry.reason.code())));
    }
    if let Some(since) = entry.invalid_since {
        extensions.push(ext::plain(oid::INVALIDITY_DATE, &encode::generalized_time(since)));
    }
    let extensions = if extensions.is_empty() { Vec::new() } else { encode::sequence_of(&extensions) };
    encode::sequence(&[&encode::serial(entry.serial), &encode::time(entry.revoked_at), &extensions])
}

/// A list that is ready to be signed with ecdsa-with-SHA256. One-shot, like [`super::Prepared`].
#[derive(Debug)]
pub struct PreparedCrl {
    body: Body,
    number: u64,
}

impl PreparedCrl {
    /// The bytes to sign.
    pub fn tbs(&self) -> &[u8] {
        &self.body.tbs
    }

    /// The list's number.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Joins the bytes and their signature (a DER ECDSA-Sig-Value).
    ///
    /// # Errors
    /// Refuses a signature that is not the issuer's over exactly these bytes.
    pub fn assemble(self, signature: &[u8]) -> Result<Crl, AssembleError> {
        Ok(Crl { der: self.body.assemble(signature)?, number: self.number })
    }
}

/// A signed certificate revocation list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crl {
    der: Vec<u8>,
    number: u64,
}

impl Crl {
    /// DER.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// DER, which may be long, given away.
    pub fn into_der(self) -> Vec<u8> {
        self.der
    }

    /// PEM.
    pub fn pem(&self) -> String {
        pem::block("X509 CRL", &self.der)
    }

    /// The list's number.
    pub fn number(&self) -> u64 {
        self.number
    }
}

#[cfg(test)]
mod tests;
