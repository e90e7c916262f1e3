//! Looks at certificates that a visitor presented, to say *why* they are refused. Never decides that
//! one is accepted: that takes the register. Bounded, and safe on hostile bytes.

use std::collections::BTreeSet;

use der::asn1::{AnyRef, ObjectIdentifier};
use der::{Decode, Reader, Tag};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use super::authority::basic_constraints;
use super::read::{self, Signed, Tbs};
use super::{names, oid, verify};
use crate::domain::{Hostname, Serial, UtcTime};

/// Longer certificates are refused unread.
pub const MAX_OCTETS: usize = 16 * 1024;

/// What a presented certificate claims. All of it is the visitor's word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeafView {
    /// `None` when it is zero, negative or longer than 20 octets.
    pub serial: Option<Serial>,
    /// The issuer Name, DER.
    pub issuer_der: Vec<u8>,
    /// The subject Name, DER.
    pub subject_der: Vec<u8>,
    /// The key identifier of the issuer, if it is named.
    pub authority_key_id: Option<Vec<u8>>,
    /// First second of validity.
    pub not_before: UtcTime,
    /// Last second of validity.
    pub not_after: UtcTime,
    /// It has an extended key usage, and clientAuth is in it.
    pub client_auth: bool,
    /// It has an extended key usage.
    pub has_eku: bool,
    /// The SubjectPublicKeyInfo, DER.
    pub spki_der: Vec<u8>,
    /// It says that it is an authority.
    pub is_ca: bool,
}

/// Reads a presented certificate.
///
/// # Errors
/// [`ChainError`]; never panics, whatever the bytes.
pub fn read_leaf(der: &[u8]) -> Result<LeafView, ChainError> {
    if der.len() > MAX_OCTETS {
        return Err(ChainError::TooLong);
    }
    let tbs = Tbs::from_der(Signed::from_der(der)?.body)?;
    let purposes = tbs.extension(oid::EXTENDED_KEY_USAGE).map(|ext| purposes(ext.value)).transpose()?;
    let authority_key_id = match tbs.extension(oid::AUTHORITY_KEY_IDENTIFIER) {
        Some(extension) => read::authority_key_id(extension.value)?.map(<[u8]>::to_vec),
        None => None,
    };
    let is_ca = match tbs.extension(oid::BASIC_CONSTRAINTS) {
        Some(extension) => basic_constraints(extension.value)?.0,
        None => false,
    };
    Ok(LeafView {
        serial: Serial::from_der_octets(tbs.serial).ok(),
        issuer_der: tbs.issuer.to_vec(),
        subject_der: tbs.subject.to_vec(),
        authority_key_id,
        not_before: tbs.not_before,
        not_after: tbs.not_after,
        client_auth: purposes.as_ref().is_some_and(|all| all.contains(&oid::KP_CLIENT_AUTH)),
        has_eku: purposes.is_some(),
        spki_der: tbs.spki.to_vec(),
        is_ca,
    })
}

/// Says whether the key `issuer_spki_der` signed this certificate. Anything unreadable, and any
/// algorithm that we do not take, is `false`.
pub fn signed_by(cert_der: &[u8], issuer_spki_der: &[u8]) -> bool {
    if cert_der.len() > MAX_OCTETS || issuer_spki_der.len() > MAX_OCTETS {
        return false;
    }
    Signed::from_der(cert_der).is_ok_and(|certificate| {
        let Signed { body, algorithm, signature } = certificate;
        verify::verify(issuer_spki_der, &algorithm, body, signature).is_ok()
    })
}

/// The DNS names of a certificate of ours, in its subjectAltName.
///
/// # Errors
/// [`ChainError`].
pub fn dns_names(der: &[u8]) -> Result<BTreeSet<Hostname>, ChainError> {
    if der.len() > MAX_OCTETS {
        return Err(ChainError::TooLong);
    }
    let tbs = Tbs::from_der(Signed::from_der(der)?.body)?;
    let Some(extension) = tbs.extension(oid::SUBJECT_ALT_NAME) else { return Ok(BTreeSet::new()) };
    let names = SubjectAltName::from_der(extension.value)?.0;
    let host = |name: &GeneralName| match name {
        GeneralName::DnsName(name) => Hostname::normalize(name.as_str()).ok(),
        _ => None,
    };
    Ok(names.iter().filter_map(host).collect())
}

/// Names in a certificate's subjectAltName, as they are written there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AlternativeNames {
    /// dNSName.
    pub dns: Vec<String>,
    /// rfc822Name.
    pub emails: Vec<String>,
    /// uniformResourceIdentifier.
    pub uris: Vec<String>,
}

/// The alternative names of a certificate; none if it has no such extension.
///
/// # Errors
/// [`ChainError`], also if the extension is there twice: readers would not agree on its names.
pub fn alternative_names(der: &[u8]) -> Result<AlternativeNames, ChainError> {
    if der.len() > MAX_OCTETS {
        return Err(ChainError::TooLong);
    }
    let tbs = Tbs::from_der(Signed::from_der(der)?.body)?;
    let mut found = tbs.extensions.iter().filter(|extension| extension.id == oid::SUBJECT_ALT_NAME);
    let Some(extension) = found.next() else { return Ok(AlternativeNames::default()) };
    if found.next().is_some() {
        return Err(ChainError::Malformed(Tag::Sequence.value_error().into()));
    }
    let mut names = AlternativeNames::default();
    for name in SubjectAltName::from_der(extension.value)?.0 {
        match name {
            GeneralName::DnsName(name) => names.dns.push(name.as_str().to_owned()),
            GeneralName::Rfc822Name(name) => names.emails.push(name.as_str().to_owned()),
            GeneralName::UniformResourceIdentifier(name) => names.uris.push(name.as_str().to_owned()),
            _ => {}
        }
    }
    Ok(names)
}

/// The common name of a certificate's subject, or empty text.
///
/// # Errors
/// [`ChainError`].
pub fn common_name(der: &[u8]) -> Result<String, ChainError> {
    if der.len() > MAX_OCTETS {
        return Err(ChainError::TooLong);
    }
    Ok(names::common_name(Tbs::from_der(Signed::from_der(der)?.body)?.subject)?)
}

/// The purposes in an extendedKeyUsage.
pub(super) fn purposes(value: &[u8]) -> der::Result<Vec<ObjectIdentifier>> {
    AnyRef::from_der(value)?.sequence(|reader| {
        let mut all = Vec::new();
        while !reader.is_finished() {
            all.push(ObjectIdentifier::decode(reader)?);
        }
        Ok(all)
    })
}

/// Why a presented certificate cannot be looked at.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// More than [`MAX_OCTETS`].
    #[error("the certificate is longer than {MAX_OCTETS} octets")]
    TooLong,
    /// Not a certificate in DER.
    #[error("not a certificate in DER")]
    Malformed(#[from] der::Error),
}

#[cfg(test)]
mod tests;
