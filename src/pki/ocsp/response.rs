//! Builds answers: the bytes to sign, linted, and what goes out when they are signed.

use der::Decode;
use der::asn1::AnyRef;

use super::id::CertId;
use super::signer::OcspSigner;
use crate::domain::{RevocationReason, UtcTime};
use crate::pki::issuer::PrepareError;
use crate::pki::prepared::{AssembleError, Body};
use crate::pki::{encode, extensions as ext, lint, oid};

/// What is known of one certificate (RFC 6960 §2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertStatus {
    /// Issued by this authority, and not taken back.
    Good,
    /// Taken back.
    Revoked {
        /// When.
        at: UtcTime,
        /// Why.
        reason: RevocationReason,
    },
    /// Never issued by this authority.
    Unknown,
}

/// Why there is no answer about certificates (RFC 6960 §4.2.1). Not signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ErrorStatus {
    /// The request is not one.
    MalformedRequest = 1,
    /// Something of ours failed.
    InternalError = 2,
    /// Later, perhaps.
    TryLater = 3,
    /// We have no authority over these certificates (RFC 9919 §3.2.3).
    Unauthorized = 6,
}

/// The whole OCSPResponse for an error, DER.
pub const fn error_response(status: ErrorStatus) -> [u8; 5] {
    [0x30, 3, 0x0a, 1, status as u8]
}

/// Prepares one answer in the name of `signer`.
///
/// * `statuses` — in the order of the request; at least one.
/// * `nonce` — repeated from the request.
/// * `now` — producedAt and thisUpdate: the statuses were read at or after it (RFC 6960 §2.4).
/// * `next_update` — until when the answer may be used; not after the signer's end.
///
/// # Errors
/// [`PrepareError::Validity`] when `next_update` is not later than `now`; [`PrepareError::Lint`].
pub fn prepare_response(
    signer: &OcspSigner,
    statuses: &[(&CertId, CertStatus)],
    nonce: Option<&[u8]>,
    now: UtcTime,
    next_update: UtcTime,
) -> Result<PreparedResponse, PrepareError> {
    if now >= next_update {
        return Err(PrepareError::Validity { from: now, to: next_update });
    }
    let singles: Vec<_> = statuses.iter().map(|(id, status)| single(id, status, now, next_update)).collect();
    let extensions = match nonce {
        Some(nonce) => {
            let nonce = ext::plain(oid::OCSP_NONCE, &encode::octets(nonce));
            encode::context_constructed(1, &encode::sequence(&[&nonce]))
        }
        None => Vec::new(),
    };
    let tbs = encode::sequence(&[
        &encode::context_constructed(2, &encode::octets(signer.key_hash())), // byKey
        &encode::generalized_time(now),
        &encode::sequence_of(&singles),
        &extensions,
    ]);
    let findings = lint::lint_ocsp(&tbs, signer);
    if !findings.is_empty() {
        return Err(PrepareError::Lint(findings));
    }
    let body = Body { tbs, issuer_spki: signer.spki_der().to_vec() };
    Ok(PreparedResponse { body, signer: signer.der().to_vec(), next_update })
}

fn single(id: &CertId, status: &CertStatus, this_update: UtcTime, next_update: UtcTime) -> Vec<u8> {
    let status = match status {
        CertStatus::Good => encode::context(0, &[]),
        CertStatus::Revoked { at, reason } => {
            let mut info = encode::generalized_time(*at);
            // As on a list (RFC 5280 §5.3.1): absent instead of unspecified(0).
            if *reason != RevocationReason::Unspecified {
                info.extend(encode::context_constructed(0, &encode::enumerated(reason.code())));
            }
            encode::context_constructed(1, &info)
        }
        CertStatus::Unknown => encode::context(2, &[]),
    };
    encode::sequence(&[
        id.der(),
        &status,
        &encode::generalized_time(this_update),
        &encode::context_constructed(0, &encode::generalized_time(next_update)),
    ])
}

/// An answer that is ready to be signed with ecdsa-with-SHA256. One-shot, like [`crate::pki::Prepared`].
#[derive(Debug)]
pub struct PreparedResponse {
    body: Body,
    signer: Vec<u8>,
    next_update: UtcTime,
}

impl PreparedResponse {
    /// The bytes to sign.
    pub fn tbs(&self) -> &[u8] {
        &self.body.tbs
    }

    /// Joins the bytes, their signature (a DER ECDSA-Sig-Value) and the signer's certificate.
    ///
    /// # Errors
    /// Refuses a signature that is not the signer's over exactly these bytes.
    pub fn assemble(self, signature: &[u8]) -> Result<OcspResponse, AssembleError> {
        let checked = self.body.assemble(signature)?;
        // What was checked, with the certificate behind it: verifiers have the authority's at most.
        let fields = AnyRef::from_der(&checked).map_err(AssembleError::Encoding)?.value();
        let certificates = encode::context_constructed(0, &encode::sequence(&[&self.signer]));
        let basic = encode::sequence(&[fields, &certificates]);
        let bytes = encode::sequence(&[&encode::oid(oid::OCSP_BASIC), &encode::octets(&basic)]);
        let successful = encode::enumerated(0);
        let der = encode::sequence(&[&successful, &encode::context_constructed(0, &bytes)]);
        Ok(OcspResponse { der, next_update: self.next_update })
    }
}

/// A signed answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OcspResponse {
    der: Vec<u8>,
    next_update: UtcTime,
}

impl OcspResponse {
    /// The OCSPResponse, DER.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// Until when it may be used.
    pub fn next_update(&self) -> UtcTime {
        self.next_update
    }
}
