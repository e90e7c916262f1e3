//! Rules for certificates.

use der::asn1::{BitStringRef, ObjectIdentifier, OctetStringRef};
use der::{Decode, Encode};
use x509_cert::ext::pkix::name::{DistributionPointName, GeneralName};
use x509_cert::ext::pkix::{
    AuthorityInfoAccessSyntax, AuthorityKeyIdentifier, BasicConstraints, CrlDistributionPoints,
    ExtendedKeyUsage, SubjectAltName,
};
use x509_cert::time::Time;

use super::{Finding, Report};
use crate::domain::Serial;
use crate::pki::authority::AuthorityCertificate;
use crate::pki::cross::CROSS_PATH_LEN;
use crate::pki::issuer::ROOT_PATH_LEN;
use crate::pki::key_policy::{KeyPolicy, PublicKey};
use crate::pki::ocsp::MAX_SIGNER_LIFETIME;
use crate::pki::oid;
use crate::pki::read::{Extension, Tbs};

/// Rules for a client certificate.
pub fn lint_client(tbs: &[u8]) -> Vec<Finding> {
    lint(tbs, |c| {
        c.leaf(oid::KP_CLIENT_AUTH);
        c.alternative_names(false, |name| {
            matches!(
                name,
                GeneralName::Rfc822Name(_)
                    | GeneralName::UniformResourceIdentifier(_)
                    | GeneralName::DnsName(_)
            )
        });
        c.crl_distribution_points();
        c.authority_info_access();
        c.only(&[
            oid::AUTHORITY_KEY_IDENTIFIER,
            oid::SUBJECT_KEY_IDENTIFIER,
            oid::KEY_USAGE,
            oid::EXTENDED_KEY_USAGE,
            oid::SUBJECT_ALT_NAME,
            oid::CRL_DISTRIBUTION_POINTS,
            oid::AUTHORITY_INFO_ACCESS,
        ]);
    })
}

/// Rules for a leaf of the local server authority.
pub fn lint_server(tbs: &[u8]) -> Vec<Finding> {
    lint(tbs, |c| {
        c.leaf(oid::KP_SERVER_AUTH);
        c.alternative_names(true, |name| matches!(name, GeneralName::DnsName(_) | GeneralName::IpAddress(_)));
        c.only(&[
            oid::AUTHORITY_KEY_IDENTIFIER,
            oid::SUBJECT_KEY_IDENTIFIER,
            oid::KEY_USAGE,
            oid::EXTENDED_KEY_USAGE,
            oid::SUBJECT_ALT_NAME,
        ]);
    })
}

/// Rules for the delegate that signs OCSP answers (RFC 6960 §4.2.2.2).
pub fn lint_ocsp_signer(tbs: &[u8]) -> Vec<Finding> {
    lint(tbs, |c| {
        c.leaf(oid::KP_OCSP_SIGNING);
        let nocheck = c.tbs.extension(oid::OCSP_NOCHECK);
        let right = nocheck.is_some_and(|nocheck| !nocheck.critical && nocheck.value == [0x05, 0x00]);
        c.must(right, "nocheck", "RFC 6960 §4.2.2.2.1", "absent, critical or not NULL");
        let short = c.tbs.not_after.since(c.tbs.not_before) <= MAX_SIGNER_LIFETIME;
        c.must(short, "signer_lifetime", "RFC 6960 §4.2.2.2.1", "lives too long for one that nobody checks");
        c.only(&[
            oid::AUTHORITY_KEY_IDENTIFIER,
            oid::SUBJECT_KEY_IDENTIFIER,
            oid::KEY_USAGE,
            oid::EXTENDED_KEY_USAGE,
            oid::OCSP_NOCHECK,
        ]);
    })
}

/// Rules for an authority: root, issuing or local server authority.
pub fn lint_authority(tbs: &[u8]) -> Vec<Finding> {
    lint(tbs, |c| {
        let self_signed = c.tbs.issuer == c.tbs.subject;
        let purpose = c.purposes();
        let path_len = if self_signed && purpose.is_none() { ROOT_PATH_LEN } else { 0 };
        c.authority(path_len);
        if !self_signed {
            c.authority_key_identifier();
        }
        match (&purpose, self_signed) {
            // A root for clients carries no purpose, the local server authority serverAuth.
            (None, true) => (),
            (Some(all), true) => {
                c.must(all == &[oid::KP_SERVER_AUTH], "purpose", "§4.2.1.12", "not serverAuth alone")
            }
            (all, false) => c.must(
                all.as_deref() == Some(&[oid::KP_CLIENT_AUTH]),
                "purpose",
                "§4.2.1.12",
                "an issuing authority is for clientAuth alone",
            ),
        }
        c.crl_distribution_points();
        c.authority_info_access();
        c.only(&AUTHORITY_EXTENSIONS);
    })
}

/// Rules for the upstream authority, which is for clientAuth alone and has nobody above it: no root is like it,
/// so that none is taken for the other.
pub fn lint_upstream_authority(tbs: &[u8]) -> Vec<Finding> {
    lint(tbs, |c| {
        c.authority(0);
        let self_signed = c.tbs.issuer == c.tbs.subject;
        c.must(self_signed, "self_issued", "§3.2", "an upstream authority has nobody above it");
        let purpose = c.purposes();
        c.must(
            purpose.as_deref() == Some(&[oid::KP_CLIENT_AUTH]),
            "purpose",
            "§4.2.1.12",
            "an upstream authority is for clientAuth alone",
        );
        c.only(&[
            oid::SUBJECT_KEY_IDENTIFIER,
            oid::BASIC_CONSTRAINTS,
            oid::KEY_USAGE,
            oid::EXTENDED_KEY_USAGE,
        ]);
    })
}

/// What an authority's certificate may have.
const AUTHORITY_EXTENSIONS: [ObjectIdentifier; 7] = [
    oid::AUTHORITY_KEY_IDENTIFIER,
    oid::SUBJECT_KEY_IDENTIFIER,
    oid::BASIC_CONSTRAINTS,
    oid::KEY_USAGE,
    oid::EXTENDED_KEY_USAGE,
    oid::CRL_DISTRIBUTION_POINTS,
    oid::AUTHORITY_INFO_ACCESS,
];

/// Rules for a cross-certificate: `subject` is the root that is vouched for, with its own name and key.
pub fn lint_cross(tbs: &[u8], subject: &AuthorityCertificate) -> Vec<Finding> {
    lint(tbs, |c| {
        c.authority(CROSS_PATH_LEN);
        c.authority_key_identifier();
        let foreign = c.tbs.issuer != c.tbs.subject;
        c.must(foreign, "self_issued", "§3.2", "a cross-certificate joins two names");
        let purpose = c.purposes();
        c.must(
            purpose.as_deref() == Some(&[oid::KP_CLIENT_AUTH]),
            "purpose",
            "§4.2.1.12",
            "a cross-certificate is for clientAuth alone",
        );
        let same = c.tbs.subject == subject.subject_der() && c.tbs.spki == subject.spki_der();
        c.must(same, "cross_subject", "§3.2", "not name and key of the root that is vouched for");
        // §4.2.1.2: what the root signed names this identifier, whichever certificate of the root is used.
        let value = c.tbs.extension(oid::SUBJECT_KEY_IDENTIFIER).map(|extension| extension.value);
        let key_id =
            value.and_then(|value| <&OctetStringRef>::from_der(value).ok()).map(OctetStringRef::as_bytes);
        c.must(key_id == Some(subject.key_id()), "cross_key_id", "§4.2.1.2", "not the root's key identifier");
        let inside = c.tbs.not_after <= subject.not_after();
        c.must(inside, "outlives_subject", "§6.1.3 (a)(2)", "ends after the root that is vouched for");
        c.crl_distribution_points();
        c.authority_info_access();
        c.only(&AUTHORITY_EXTENSIONS);
    })
}

/// Rules for a certificate and the authority that is to sign it.
pub fn lint_under(tbs: &[u8], issuer: &AuthorityCertificate) -> Vec<Finding> {
    lint_with(tbs, |c| {
        let same_name = c.tbs.issuer == issuer.subject_der();
        c.must(
            same_name,
            "issuer_name",
            "§4.1.2.4, §7.1",
            "issuer is not the authority's subject, octet by octet",
        );
        let named = c.value::<AuthorityKeyIdentifier>(oid::AUTHORITY_KEY_IDENTIFIER);
        let key_id = named.and_then(|aki| aki.key_identifier);
        let same_key = key_id.is_some_and(|id| id.as_bytes() == issuer.key_id());
        c.must(same_key, "issuer_key", "§4.2.1.1", "authority key identifier is not the authority's");
        let inside = c.tbs.not_after <= issuer.not_after();
        c.must(inside, "outlives_issuer", "§6.1.3 (a)(2)", "ends after its issuer");
        let own_key = c.tbs.spki != issuer.spki_der();
        c.must(own_key, "own_key", "§4.1.2.7", "has the key of its issuer");
        let own_name = c.tbs.subject != issuer.subject_der();
        c.must(own_name, "own_name", "§4.1.2.6", "has the name of its issuer");
    })
}

fn lint(tbs: &[u8], rules: impl FnOnce(&mut Check<'_>)) -> Vec<Finding> {
    lint_with(tbs, |check| {
        check.canonical(tbs);
        check.basics();
        check.subject_key_identifier();
        rules(check);
    })
}

fn lint_with(tbs: &[u8], rules: impl FnOnce(&mut Check<'_>)) -> Vec<Finding> {
    let mut report = Report::default();
    match Tbs::from_der(tbs) {
        Err(error) => report.add("der", "§4.1", error.to_string()),
        Ok(tbs) => rules(&mut Check { tbs, report: &mut report }),
    }
    report.0
}

struct Check<'a> {
    tbs: Tbs<'a>,
    report: &'a mut Report,
}

impl Check<'_> {
    fn must(&mut self, holds: bool, rule: &'static str, section: &'static str, detail: &str) {
        self.report.must(holds, rule, section, detail);
    }

    /// The bytes are the one DER encoding of what x509-cert understands them to be.
    fn canonical(&mut self, tbs: &[u8]) {
        let again = x509_cert::certificate::TbsCertificate::from_der(tbs).and_then(|read| {
            let validity = *read.validity();
            for at in [validity.not_before, validity.not_after] {
                // UTCTime cannot say 2050, so only the other mistake is possible.
                let late = matches!(at, Time::GeneralTime(t) if t.to_date_time().year() < 2050);
                self.must(!late, "time_form", "§4.1.2.5", "GeneralizedTime before 2050");
            }
            read.to_der()
        });
        self.must(again.as_deref() == Ok(tbs), "der", "§4.1", "not canonical DER");
    }

    fn basics(&mut self) {
        let version = self.tbs.version;
        self.must(version == 2, "version", "§4.1.2.1", "not v3");
        let serial = Serial::from_der_octets(self.tbs.serial).is_ok();
        self.must(serial, "serial", "§4.1.2.2", "serial not positive, or longer than 20 octets");
        let algorithm = self.tbs.signature;
        let ours = algorithm.oid == oid::ECDSA_WITH_SHA256 && algorithm.parameters.is_none();
        self.must(ours, "signature_algorithm", "§4.1.2.3, RFC 5758 §3.2", "not plain ecdsa-with-SHA256");
        let (issuer, subject) = (self.tbs.issuer.len() > 2, self.tbs.subject.len() > 2);
        self.must(issuer, "issuer_empty", "§4.1.2.4", "empty issuer");
        self.must(subject, "subject_empty", "§4.1.2.6", "empty subject");
        let order = self.tbs.not_before < self.tbs.not_after;
        self.must(order, "validity", "§4.1.2.5", "ends before it starts");
        let unique_ids = self.tbs.unique_ids;
        self.must(!unique_ids, "unique_ids", "§4.1.2.8", "unique identifiers are not to be generated");
        let mut ids: Vec<_> = self.tbs.extensions.iter().map(|extension| extension.id).collect();
        ids.sort();
        let once = ids.windows(2).all(|pair| pair[0] != pair[1]);
        self.must(once, "extension_twice", "§4.2", "an extension occurs twice");
    }

    /// Key, usage and purpose of a leaf, which is never an authority.
    fn leaf(&mut self, purpose: ObjectIdentifier) {
        let every = KeyPolicy::ANY;
        if let Err(refused) = PublicKey::from_spki_der(self.tbs.spki, &every) {
            self.report.add("public_key", "§4.1.2.7", refused.to_string());
        }
        self.authority_key_identifier();
        self.key_usage(&[0], "digitalSignature alone");
        let purposes = self.purposes();
        self.must(
            purposes.as_deref() == Some(&[purpose]),
            "purpose",
            "§4.2.1.12",
            "not the one purpose of its kind",
        );
        let absent = self.tbs.extension(oid::BASIC_CONSTRAINTS).is_none();
        self.must(absent, "leaf_constraints", "§4.2.1.9", "a leaf has no basic constraints");
        let foreign = self.tbs.issuer != self.tbs.subject;
        self.must(foreign, "self_issued", "§6.1", "a leaf is not self-issued");
    }

    fn authority(&mut self, path_len: u8) {
        let p256 = KeyPolicy { p256: true, p384: false, ed25519: false, rsa_min_bits: None };
        let key = PublicKey::from_spki_der(self.tbs.spki, &p256).is_ok();
        self.must(key, "public_key", "§4.1.2.7", "an authority's key is P-256");
        self.key_usage(&[5, 6], "keyCertSign and cRLSign");
        let critical = self.criticality(oid::BASIC_CONSTRAINTS) == Some(true);
        let constraints = self.value::<BasicConstraints>(oid::BASIC_CONSTRAINTS);
        let right = constraints.is_some_and(|c| c.ca && c.path_len_constraint == Some(path_len));
        self.must(
            critical && right,
            "constraints",
            "§4.2.1.9",
            "not critical, cA, with its kind's path length",
        );
    }

    /// The named bits are set, no others, and the extension is critical.
    fn key_usage(&mut self, wanted: &[usize], words: &str) {
        let critical = self.criticality(oid::KEY_USAGE) == Some(true);
        let value = self.tbs.extension(oid::KEY_USAGE).map(|extension| extension.value);
        let bits = value.and_then(|value| BitStringRef::from_der(value).ok());
        let exact =
            bits.is_some_and(|bits| (0..16).all(|n| bits.get(n).unwrap_or(false) == wanted.contains(&n)));
        self.must(critical && exact, "key_usage", "§4.2.1.3", &format!("not critical, or not {words}"));
    }

    fn subject_key_identifier(&mut self) {
        let plain = self.criticality(oid::SUBJECT_KEY_IDENTIFIER) == Some(false);
        let every = KeyPolicy::ANY;
        let wanted = PublicKey::from_spki_der(self.tbs.spki, &every).map(|key| key.key_id());
        let value = self.tbs.extension(oid::SUBJECT_KEY_IDENTIFIER).map(|extension| extension.value);
        let found =
            value.and_then(|value| <&OctetStringRef>::from_der(value).ok()).map(OctetStringRef::as_bytes);
        let right = wanted.is_ok_and(|wanted| found == Some(&wanted));
        self.must(
            plain && right,
            "subject_key_id",
            "§4.2.1.2, RFC 7093 §2",
            "not the key's identifier by method 1",
        );
    }

    fn authority_key_identifier(&mut self) {
        let plain = self.criticality(oid::AUTHORITY_KEY_IDENTIFIER) == Some(false);
        let value = self.value::<AuthorityKeyIdentifier>(oid::AUTHORITY_KEY_IDENTIFIER);
        let key_id_alone = value.is_some_and(|aki| {
            aki.key_identifier.is_some()
                && aki.authority_cert_issuer.is_none()
                && aki.authority_cert_serial_number.is_none()
        });
        self.must(plain && key_id_alone, "authority_key_id", "§4.2.1.1", "not a key identifier alone");
    }

    fn alternative_names(&mut self, required: bool, admitted: impl Fn(&GeneralName) -> bool) {
        let Some(critical) = self.criticality(oid::SUBJECT_ALT_NAME) else {
            self.must(!required, "alternative_names", "§4.2.1.6, RFC 9525 §6.3", "a server needs a name");
            return;
        };
        let names =
            self.value::<SubjectAltName>(oid::SUBJECT_ALT_NAME).map(|names| names.0).unwrap_or_default();
        let right = !critical && !names.is_empty() && names.iter().all(admitted);
        self.must(
            right,
            "alternative_names",
            "§4.2.1.6",
            "critical, empty, or a kind of name that does not belong",
        );
    }

    fn crl_distribution_points(&mut self) {
        let Some(critical) = self.criticality(oid::CRL_DISTRIBUTION_POINTS) else { return };
        let points = self.value::<CrlDistributionPoints>(oid::CRL_DISTRIBUTION_POINTS);
        let right = points.is_some_and(|points| match points.0.as_slice() {
            [point] if point.reasons.is_none() && point.crl_issuer.is_none() => match &point
                .distribution_point
            {
                Some(DistributionPointName::FullName(names)) => !names.is_empty() && names.iter().all(http),
                _ => false,
            },
            _ => false,
        });
        self.must(
            !critical && right,
            "crl_urls",
            "§4.2.1.13",
            "not one plain distribution point with http URLs",
        );
    }

    fn authority_info_access(&mut self) {
        let Some(critical) = self.criticality(oid::AUTHORITY_INFO_ACCESS) else { return };
        let access = self.value::<AuthorityInfoAccessSyntax>(oid::AUTHORITY_INFO_ACCESS);
        let right = access.is_some_and(|access| {
            let known = |d: &x509_cert::ext::pkix::AccessDescription| {
                [oid::AD_OCSP, oid::AD_CA_ISSUERS].contains(&d.access_method) && http(&d.access_location)
            };
            !access.0.is_empty() && access.0.iter().all(known)
        });
        self.must(
            !critical && right,
            "access_urls",
            "§4.2.2.1",
            "not only OCSP and caIssuers with http URLs",
        );
    }

    /// No extension but these.
    fn only(&mut self, known: &[ObjectIdentifier]) {
        let strange: Vec<String> =
            self.tbs.extensions.iter().filter(|e| !known.contains(&e.id)).map(|e| e.id.to_string()).collect();
        self.must(strange.is_empty(), "extension_unknown", "§4.2", &strange.join(", "));
    }

    fn purposes(&self) -> Option<Vec<ObjectIdentifier>> {
        let Extension { critical, value, .. } = self.tbs.extension(oid::EXTENDED_KEY_USAGE)?;
        // A critical or unreadable one counts as no purpose that we know.
        let read = ExtendedKeyUsage::from_der(value).ok().filter(|_| !critical);
        Some(read.map(|usage| usage.0).unwrap_or_default())
    }

    fn criticality(&self, id: ObjectIdentifier) -> Option<bool> {
        self.tbs.extension(id).map(|extension| extension.critical)
    }

    fn value<T: for<'v> Decode<'v>>(&self, id: ObjectIdentifier) -> Option<T> {
        self.tbs.extension(id).and_then(|extension| T::from_der(extension.value).ok())
    }
}

fn http(name: &GeneralName) -> bool {
    matches!(name, GeneralName::UniformResourceIdentifier(uri) if uri.as_str().starts_with("http://"))
}
