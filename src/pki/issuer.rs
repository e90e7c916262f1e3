//! Builds the to-be-signed bytes of every certificate of the house, lints them and hands them out as
//! [`Prepared`]. Called by `ca`; the signature is made elsewhere (file, PKCS#11, Vault).

use std::collections::BTreeSet;

use super::authority::AuthorityCertificate;
use super::extensions as ext;
use super::key_policy::{KeyPolicy, KeyRefused, PublicKey};
use super::lint::{self, Finding};
use super::names::{self, NameError};
use super::prepared::{Body, Prepared, signature_algorithm};
use super::{encode, oid};
pub use crate::domain::AuthorityKind;
use crate::domain::{Hostname, Serial, UtcTime};

/// What a client certificate says. Everything comes from the authenticated person and the profile;
/// only the key is the requester's.
#[derive(Clone, Copy, Debug)]
pub struct ClientLeaf<'a> {
    /// Unique, reserved before this call.
    pub serial: Serial,
    /// From the signing request.
    pub public_key: &'a PublicKey,
    /// The person's display name, 1 to 64 characters.
    pub common_name: &'a str,
    /// The person's address, for an rfc822Name. ASCII only.
    pub email: Option<&'a str>,
    /// For URI names, `urn:uuid:<person id>`.
    pub uris: &'a [String],
    /// For DNS names, given by an administrator.
    pub dns_names: &'a BTreeSet<Hostname>,
    /// First second of validity.
    pub not_before: UtcTime,
    /// Last second of validity.
    pub not_after: UtcTime,
    /// Where the issuer's CRL is, plain HTTP.
    pub crl_urls: &'a [String],
    /// Where the status is asked for (OCSP), plain HTTP.
    pub ocsp_urls: &'a [String],
    /// Where the issuer's certificate is, plain HTTP.
    pub issuer_urls: &'a [String],
}

/// What an authority's certificate says.
#[derive(Clone, Copy, Debug)]
pub struct AuthorityTemplate<'a> {
    /// Which kind; decides path length and purpose.
    pub kind: AuthorityKind,
    /// Unique, reserved before this call.
    pub serial: Serial,
    /// Its P-256 key.
    pub spki_der: &'a [u8],
    /// Names the generation ("… Client Root G1"), 1 to 64 characters.
    pub common_name: &'a str,
    /// The organisation, if it is to be named.
    pub organization: Option<&'a str>,
    /// First second of validity.
    pub not_before: UtcTime,
    /// Last second of validity.
    pub not_after: UtcTime,
    /// Where its issuer's CRL is, plain HTTP; none for self-signed ones.
    pub crl_urls: &'a [String],
    /// Where its issuer's certificate is, plain HTTP; none for self-signed ones.
    pub issuer_urls: &'a [String],
}

/// How many authorities may stand below a root: another root that it vouches for, and that one's
/// issuing authority.
pub const ROOT_PATH_LEN: u8 = 2;
/// Below an issuing authority stand leaves alone.
pub const ISSUING_PATH_LEN: u8 = 0;

/// Prepares a client certificate: clientAuth only, digitalSignature only.
///
/// # Errors
/// See [`PrepareError`]. Nothing was signed; the serial may be used again.
pub fn prepare_client(
    issuer: &AuthorityCertificate,
    leaf: &ClientLeaf<'_>,
) -> Result<Prepared, PrepareError> {
    within(issuer, leaf.not_after)?;
    let mut names = Vec::new();
    if let Some(email) = leaf.email {
        names.push(names::email(email)?);
    }
    for uri in leaf.uris {
        names.push(names::uri(uri, &["urn", "https"], "scheme urn or https")?);
    }
    for name in leaf.dns_names {
        names.push(names::host(name.as_str())?);
    }
    let mut extensions = vec![
        ext::authority_key_identifier(issuer.key_id()),
        ext::subject_key_identifier(&leaf.public_key.key_id()),
        ext::key_usage(ext::DIGITAL_SIGNATURE),
        ext::extended_key_usage(oid::KP_CLIENT_AUTH),
    ];
    extensions.extend(ext::subject_alt_name(&names));
    extensions.extend(ext::crl_distribution_points(leaf.crl_urls)?);
    extensions.extend(ext::authority_info_access(leaf.ocsp_urls, leaf.issuer_urls)?);
    let subject = names::distinguished(&[(oid::COMMON_NAME, "the common name", Some(leaf.common_name))])?;
    let certificate = Fields {
        serial: leaf.serial,
        issuer: issuer.subject_der(),
        not_before: leaf.not_before,
        not_after: leaf.not_after,
        subject: &subject,
        spki: leaf.public_key.spki_der(),
        extensions: &extensions,
    };
    certificate
        .prepare(issuer.spki_der(), |tbs| [lint::lint_client(tbs), lint::lint_under(tbs, issuer)].concat())
}

/// Prepares the certificate of a self-signed authority: a root, a local server or an upstream authority.
/// The signature must be made with the key in the template.
///
/// # Errors
/// See [`PrepareError`].
pub fn prepare_root(template: &AuthorityTemplate<'_>) -> Result<Prepared, PrepareError> {
    if template.kind == AuthorityKind::Issuing {
        return Err(PrepareError::Kind("an issuing authority cannot be self-signed"));
    }
    let key = authority_key(template)?;
    let subject = authority_subject(template)?;
    let extensions = authority_extensions(template, &key, None)?;
    let fields = authority_fields(template, &subject, &subject, &extensions);
    let rules = match template.kind {
        AuthorityKind::Upstream => lint::lint_upstream_authority,
        _ => lint::lint_authority,
    };
    fields.prepare(template.spki_der, rules)
}

/// Prepares the certificate of an issuing authority under a root.
///
/// # Errors
/// See [`PrepareError`].
pub fn prepare_authority(
    issuer: &AuthorityCertificate,
    template: &AuthorityTemplate<'_>,
) -> Result<Prepared, PrepareError> {
    if template.kind != AuthorityKind::Issuing {
        return Err(PrepareError::Kind("only an issuing authority stands under another authority"));
    }
    if issuer.path_len() == Some(0) {
        return Err(PrepareError::Kind("the signing authority's path length leaves no room for another one"));
    }
    within(issuer, template.not_after)?;
    let key = authority_key(template)?;
    let subject = authority_subject(template)?;
    let extensions = authority_extensions(template, &key, Some(issuer))?;
    let fields = authority_fields(template, issuer.subject_der(), &subject, &extensions);
    fields
        .prepare(issuer.spki_der(), |tbs| [lint::lint_authority(tbs), lint::lint_under(tbs, issuer)].concat())
}

/// The fields of a TBSCertificate that differ between certificates (RFC 5280 §4.1.2).
pub(super) struct Fields<'a> {
    pub(super) serial: Serial,
    pub(super) issuer: &'a [u8],
    pub(super) not_before: UtcTime,
    pub(super) not_after: UtcTime,
    pub(super) subject: &'a [u8],
    pub(super) spki: &'a [u8],
    pub(super) extensions: &'a [Vec<u8>],
}

impl Fields<'_> {
    /// The bytes to sign.
    pub(super) fn tbs(&self) -> Vec<u8> {
        encode::sequence(&[
            &encode::context_constructed(0, &encode::number(2)), // v3
            &encode::serial(self.serial),
            &signature_algorithm(),
            self.issuer,
            &encode::sequence(&[&encode::time(self.not_before), &encode::time(self.not_after)]),
            self.subject,
            self.spki,
            &encode::context_constructed(3, &encode::sequence_of(self.extensions)),
        ])
    }

    /// The bytes to sign, if no rule speaks against them.
    pub(super) fn prepare(
        &self,
        issuer_spki: &[u8],
        rules: impl FnOnce(&[u8]) -> Vec<Finding>,
    ) -> Result<Prepared, PrepareError> {
        if self.not_before >= self.not_after {
            return Err(PrepareError::Validity { from: self.not_before, to: self.not_after });
        }
        let tbs = self.tbs();
        if tbs.len() > MAX_TBS_OCTETS {
            return Err(PrepareError::TooLong(tbs.len()));
        }
        let findings = rules(&tbs);
        if !findings.is_empty() {
            return Err(PrepareError::Lint(findings));
        }
        Ok(Prepared {
            body: Body { tbs, issuer_spki: issuer_spki.to_vec() },
            serial: self.serial,
            not_before: self.not_before,
            not_after: self.not_after,
        })
    }
}

/// What leaves room for the signature within [`super::chain::MAX_OCTETS`].
const MAX_TBS_OCTETS: usize = super::chain::MAX_OCTETS - 128;

fn authority_key(template: &AuthorityTemplate<'_>) -> Result<PublicKey, PrepareError> {
    let only_p256 = KeyPolicy { p256: true, p384: false, ed25519: false, rsa_min_bits: None };
    PublicKey::from_spki_der(template.spki_der, &only_p256).map_err(PrepareError::Key)
}

fn authority_subject(template: &AuthorityTemplate<'_>) -> Result<Vec<u8>, NameError> {
    names::distinguished(&[
        (oid::ORGANIZATION, "the organisation", template.organization),
        (oid::COMMON_NAME, "the common name", Some(template.common_name)),
    ])
}

fn authority_extensions(
    template: &AuthorityTemplate<'_>,
    key: &PublicKey,
    issuer: Option<&AuthorityCertificate>,
) -> Result<Vec<Vec<u8>>, NameError> {
    let (path_len, purpose) = match template.kind {
        AuthorityKind::Root => (ROOT_PATH_LEN, None),
        AuthorityKind::Issuing => (ISSUING_PATH_LEN, Some(oid::KP_CLIENT_AUTH)),
        AuthorityKind::LocalServer => (0, Some(oid::KP_SERVER_AUTH)),
        AuthorityKind::Upstream => (0, Some(oid::KP_CLIENT_AUTH)),
    };
    let mut extensions = Vec::new();
    extensions.extend(issuer.map(|issuer| ext::authority_key_identifier(issuer.key_id())));
    extensions.push(ext::subject_key_identifier(&key.key_id()));
    extensions.push(ext::basic_constraints(path_len));
    extensions.push(ext::key_usage(ext::KEY_CERT_SIGN | ext::CRL_SIGN));
    extensions.extend(purpose.map(ext::extended_key_usage));
    extensions.extend(ext::crl_distribution_points(template.crl_urls)?);
    extensions.extend(ext::authority_info_access(&[], template.issuer_urls)?);
    Ok(extensions)
}

fn authority_fields<'a>(
    template: &AuthorityTemplate<'a>,
    issuer: &'a [u8],
    subject: &'a [u8],
    extensions: &'a [Vec<u8>],
) -> Fields<'a> {
    Fields {
        serial: template.serial,
        issuer,
        not_before: template.not_before,
        not_after: template.not_after,
        subject,
        spki: template.spki_der,
        extensions,
    }
}

/// RFC 5280 §6.1.3 (a)(2) checks every certificate of the path at the same instant, so what outlives
/// its issuer is dead while it looks alive.
pub(super) fn within(issuer: &AuthorityCertificate, wanted: UtcTime) -> Result<(), PrepareError> {
    if wanted > issuer.not_after() {
        return Err(PrepareError::OutlivesAuthority { ends: issuer.not_after(), wanted });
    }
    Ok(())
}

/// Why nothing was prepared.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// The operator must rotate the authority first, or ask for less.
    #[error("the authority ends {ends}, the certificate would end {wanted}")]
    OutlivesAuthority {
        /// notAfter of the issuer.
        ends: UtcTime,
        /// notAfter that was asked for.
        wanted: UtcTime,
    },
    /// It would never be valid.
    #[error("a validity from {from} to {to} is empty")]
    Validity {
        /// First second.
        from: UtcTime,
        /// Last second.
        to: UtcTime,
    },
    /// A name in it cannot be written.
    #[error("a name cannot go into the certificate: {0}")]
    Name(#[from] NameError),
    /// An authority's key is not P-256.
    #[error("the key is refused: {0}")]
    Key(KeyRefused),
    /// This kind of authority cannot be made this way.
    #[error("{0}")]
    Kind(&'static str),
    /// A serial number is in the list of revoked certificates twice.
    #[error("serial {0} is listed as revoked twice")]
    Duplicate(Serial),
    /// Nobody reads it: our own edges refuse longer ones unread.
    #[error("the certificate would be longer than {most} octets, its body alone has {0}", most = super::chain::MAX_OCTETS)]
    TooLong(usize),
    /// The bytes break a rule; a fault of this program, not of the caller.
    #[error("the to-be-signed bytes break {} rule(s), the first being {}", .0.len(), lint::first(.0))]
    Lint(Vec<Finding>),
}

#[cfg(test)]
mod tests;
