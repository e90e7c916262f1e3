//! The delegate that signs answers in an authority's name (RFC 6960 §4.2.2.2): its own key, a short
//! life, no other power, and nobody need ask whether it was revoked.

use std::time::Duration;

use super::id::{IssuerId, key_octets, sha1};
use crate::domain::{Serial, UtcTime};
use crate::pki::authority::AuthorityCertificate;
use crate::pki::issuer::{Fields, PrepareError, within};
use crate::pki::key_policy::PublicKey;
use crate::pki::lint::{self, Finding};
use crate::pki::prepared::Prepared;
use crate::pki::read::{Signed, Tbs};
use crate::pki::verify::{self, SignatureError};
use crate::pki::{encode, extensions as ext, names, oid};

/// A signer whose revocation nobody checks must end soon (RFC 6960 §4.2.2.2.1).
pub const MAX_SIGNER_LIFETIME: Duration = Duration::from_secs(31 * 86_400);

/// What a signer's certificate says.
#[derive(Clone, Copy, Debug)]
pub struct SignerTemplate<'a> {
    /// Unique, reserved before this call.
    pub serial: Serial,
    /// Its P-256 key.
    pub public_key: &'a PublicKey,
    /// Names the signer, 1 to 64 characters.
    pub common_name: &'a str,
    /// First second of validity.
    pub not_before: UtcTime,
    /// Last second of validity.
    pub not_after: UtcTime,
}

/// Prepares the certificate of an OCSP signer directly under `issuer`: OCSPSigning only,
/// digitalSignature only, id-pkix-ocsp-nocheck, and no place where its own status could be asked.
///
/// # Errors
/// See [`PrepareError`].
pub fn prepare_signer(
    issuer: &AuthorityCertificate,
    template: &SignerTemplate<'_>,
) -> Result<Prepared, PrepareError> {
    within(issuer, template.not_after)?;
    let extensions = [
        ext::authority_key_identifier(issuer.key_id()),
        ext::subject_key_identifier(&template.public_key.key_id()),
        ext::key_usage(ext::DIGITAL_SIGNATURE),
        ext::extended_key_usage(oid::KP_OCSP_SIGNING),
        ext::plain(oid::OCSP_NOCHECK, &encode::null()),
    ];
    let subject = names::distinguished(&[(oid::COMMON_NAME, "the common name", Some(template.common_name))])?;
    let fields = Fields {
        serial: template.serial,
        issuer: issuer.subject_der(),
        not_before: template.not_before,
        not_after: template.not_after,
        subject: &subject,
        spki: template.public_key.spki_der(),
        extensions: &extensions,
    };
    fields.prepare(issuer.spki_der(), |tbs| {
        [lint::lint_ocsp_signer(tbs), lint::lint_under(tbs, issuer)].concat()
    })
}

/// A signer's certificate, read once and checked against the authority in whose name it answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OcspSigner {
    der: Vec<u8>,
    spki: Vec<u8>,
    key_hash: [u8; 20],
    issuer: IssuerId,
    not_before: UtcTime,
    not_after: UtcTime,
}

/// Why a certificate does not make a signer.
#[derive(Debug, thiserror::Error)]
pub enum SignerError {
    /// Not a certificate in DER.
    #[error("not a certificate in DER")]
    Malformed(#[from] der::Error),
    /// Another authority's, or nobody's.
    #[error("the certificate was not signed by the authority in whose name it would answer")]
    Foreign(#[from] SignatureError),
    /// Not what RFC 6960 asks of a delegate.
    #[error("the certificate breaks {} rule(s), the first being {}", .0.len(), lint::first(.0))]
    Lint(Vec<Finding>),
}

impl OcspSigner {
    /// Reads a signer's certificate in DER; `issuer` is who must have signed it.
    ///
    /// # Errors
    /// As [`SignerError`] says.
    pub fn from_der(der: &[u8], issuer: &AuthorityCertificate) -> Result<Self, SignerError> {
        let signed = Signed::from_der(der)?;
        verify::verify(issuer.spki_der(), &signed.algorithm, signed.body, signed.signature)?;
        let findings = [lint::lint_ocsp_signer(signed.body), lint::lint_under(signed.body, issuer)].concat();
        if !findings.is_empty() {
            return Err(SignerError::Lint(findings));
        }
        let tbs = Tbs::from_der(signed.body)?;
        Ok(Self {
            der: der.to_vec(),
            spki: tbs.spki.to_vec(),
            key_hash: sha1(&key_octets(tbs.spki)),
            issuer: IssuerId::of(issuer),
            not_before: tbs.not_before,
            not_after: tbs.not_after,
        })
    }

    /// The certificate, DER.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// Its SubjectPublicKeyInfo, DER.
    pub fn spki_der(&self) -> &[u8] {
        &self.spki
    }

    /// SHA-1 of its key: the responder's name in answers (RFC 6960 §4.2.1).
    pub fn key_hash(&self) -> &[u8; 20] {
        &self.key_hash
    }

    /// In whose name it answers.
    pub fn issuer(&self) -> &IssuerId {
        &self.issuer
    }

    /// First second of validity.
    pub fn not_before(&self) -> UtcTime {
        self.not_before
    }

    /// Last second of validity.
    pub fn not_after(&self) -> UtcTime {
        self.not_after
    }
}
