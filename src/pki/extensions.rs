//! Writes the extensions of our certificates and CRLs, each as a whole `Extension`.

use der::asn1::ObjectIdentifier;

use super::names::{self, NameError};
use super::{encode, oid};

/// keyUsage bits as the first octet of the BIT STRING (RFC 5280 §4.2.1.3).
pub(super) const DIGITAL_SIGNATURE: u8 = 0x80;
pub(super) const KEY_CERT_SIGN: u8 = 0x04;
pub(super) const CRL_SIGN: u8 = 0x02;

pub(super) fn plain(id: ObjectIdentifier, value: &[u8]) -> Vec<u8> {
    encode::sequence(&[&encode::oid(id), &encode::octets(value)])
}

pub(super) fn critical(id: ObjectIdentifier, value: &[u8]) -> Vec<u8> {
    encode::sequence(&[&encode::oid(id), &encode::yes(), &encode::octets(value)])
}

/// §4.2.1.1: not critical, the key identifier form alone.
pub(super) fn authority_key_identifier(key_id: &[u8]) -> Vec<u8> {
    plain(oid::AUTHORITY_KEY_IDENTIFIER, &encode::sequence(&[&encode::context(0, key_id)]))
}

/// §4.2.1.2: not critical.
pub(super) fn subject_key_identifier(key_id: &[u8]) -> Vec<u8> {
    plain(oid::SUBJECT_KEY_IDENTIFIER, &encode::octets(key_id))
}

/// §4.2.1.3: critical.
pub(super) fn key_usage(bits: u8) -> Vec<u8> {
    critical(oid::KEY_USAGE, &encode::named_bits(bits))
}

/// §4.2.1.12: not critical.
pub(super) fn extended_key_usage(purpose: ObjectIdentifier) -> Vec<u8> {
    plain(oid::EXTENDED_KEY_USAGE, &encode::sequence(&[&encode::oid(purpose)]))
}

/// §4.2.1.9: critical in a certificate of an authority.
pub(super) fn basic_constraints(path_len: u8) -> Vec<u8> {
    critical(oid::BASIC_CONSTRAINTS, &encode::sequence(&[&encode::yes(), &encode::number(path_len.into())]))
}

/// §4.2.1.6: not critical, as the subject is never empty. `None` when there is no name.
pub(super) fn subject_alt_name(names: &[Vec<u8>]) -> Option<Vec<u8>> {
    (!names.is_empty()).then(|| plain(oid::SUBJECT_ALT_NAME, &encode::sequence_of(names)))
}

/// §4.2.1.13: one distribution point; several URLs are several ways to the same CRL.
pub(super) fn crl_distribution_points(urls: &[String]) -> Result<Option<Vec<u8>>, NameError> {
    if urls.is_empty() {
        return Ok(None);
    }
    let names = urls.iter().map(|url| http(url)).collect::<Result<Vec<_>, _>>()?;
    let point = encode::sequence(&[&encode::context_constructed(0, &full_name(&names))]);
    Ok(Some(plain(oid::CRL_DISTRIBUTION_POINTS, &encode::sequence(&[&point]))))
}

/// §4.2.2.1: where the status is asked for, and where the issuer's certificate is.
pub(super) fn authority_info_access(
    ocsp_urls: &[String],
    issuer_urls: &[String],
) -> Result<Option<Vec<u8>>, NameError> {
    if ocsp_urls.is_empty() && issuer_urls.is_empty() {
        return Ok(None);
    }
    let access = |method, url: &String| Ok(encode::sequence(&[&encode::oid(method), &http(url)?]));
    let ocsp = ocsp_urls.iter().map(|url| access(oid::AD_OCSP, url));
    let issuers = issuer_urls.iter().map(|url| access(oid::AD_CA_ISSUERS, url));
    let descriptions = ocsp.chain(issuers).collect::<Result<Vec<_>, NameError>>()?;
    Ok(Some(plain(oid::AUTHORITY_INFO_ACCESS, &encode::sequence_of(&descriptions))))
}

/// §5.2.5: critical. The same URL as in the certificates, else verifiers see another scope.
pub(super) fn issuing_distribution_point(url: &str) -> Result<Vec<u8>, NameError> {
    let point = encode::context_constructed(0, &full_name(&[http(url)?]));
    Ok(critical(oid::ISSUING_DISTRIBUTION_POINT, &encode::sequence(&[&point])))
}

/// §5.2.3: not critical.
pub(super) fn crl_number(number: u64) -> Vec<u8> {
    plain(oid::CRL_NUMBER, &encode::number(number))
}

/// DistributionPointName `fullName [0]`; it is a CHOICE, so the tag around it is explicit.
fn full_name(names: &[Vec<u8>]) -> Vec<u8> {
    encode::context_constructed(0, &names.concat())
}

/// Revocation data comes over plain HTTP: over HTTPS, checking it would need what it checks
/// (RFC 5280 §8).
fn http(url: &str) -> Result<Vec<u8>, NameError> {
    names::uri(url, &["http"], "plain http")
}
