//! A small house of authorities for unit tests.

use crate::domain::{Entropy, Secret, Serial, UtcTime};

use super::issuer::{
    AuthorityKind, AuthorityTemplate, ClientLeaf, prepare_authority, prepare_client, prepare_root,
};
use super::{AuthorityCertificate, Certificate, KeyPolicy, PublicKey, keygen};

/// An authority and its key.
pub(super) struct Authority {
    pub(super) certificate: AuthorityCertificate,
    pub(super) key: Secret<Vec<u8>>,
}

impl Authority {
    pub(super) fn sign(&self, message: &[u8]) -> Vec<u8> {
        keygen::sign_p256(self.key.expose(), message).unwrap()
    }
}

pub(super) const START: UtcTime = UtcTime::from_unix(1_780_000_000);
pub(super) const END: UtcTime = UtcTime::from_unix(2_400_000_000);

pub(super) fn serial(last: u8) -> Serial {
    let mut octets = [0x2a; 16];
    octets[15] = last;
    Serial::from_der_octets(&octets).unwrap()
}

pub(super) fn template<'a>(
    kind: AuthorityKind,
    spki_der: &'a [u8],
    common_name: &'a str,
) -> AuthorityTemplate<'a> {
    AuthorityTemplate {
        kind,
        serial: serial(kind as u8 + 1),
        spki_der,
        common_name,
        organization: None,
        not_before: START,
        not_after: END,
        crl_urls: &[],
        issuer_urls: &[],
    }
}

pub(super) fn self_signed(kind: AuthorityKind, name: &str) -> Authority {
    let (key, spki) = keygen::generate_p256();
    let prepared = prepare_root(&template(kind, &spki, name)).unwrap();
    let signature = keygen::sign_p256(key.expose(), prepared.tbs()).unwrap();
    let certificate = prepared.assemble(&signature).unwrap();
    Authority { certificate: AuthorityCertificate::from_der(certificate.der()).unwrap(), key }
}

pub(super) fn root() -> Authority {
    self_signed(AuthorityKind::Root, "Test Client Root G1")
}

pub(super) fn issuing_under(root: &Authority) -> Authority {
    let (key, spki) = keygen::generate_p256();
    let template = template(AuthorityKind::Issuing, &spki, "Test Client Issuing G1");
    let prepared = prepare_authority(&root.certificate, &template).unwrap();
    let signature = root.sign(prepared.tbs());
    let certificate = prepared.assemble(&signature).unwrap();
    Authority { certificate: AuthorityCertificate::from_der(certificate.der()).unwrap(), key }
}

pub(super) fn public_key() -> PublicKey {
    PublicKey::from_spki_der(&keygen::generate_p256().1, &KeyPolicy::default()).unwrap()
}

static NO_NAMES: std::collections::BTreeSet<crate::domain::Hostname> = std::collections::BTreeSet::new();

pub(super) fn leaf<'a>(public_key: &'a PublicKey, urls: &'a [String], uris: &'a [String]) -> ClientLeaf<'a> {
    ClientLeaf {
        serial: serial(9),
        public_key,
        common_name: "Änna Example",
        email: Some("anna@example.com"),
        uris,
        dns_names: &NO_NAMES,
        not_before: START,
        not_after: END,
        crl_urls: urls,
        ocsp_urls: urls,
        issuer_urls: urls,
    }
}

pub(super) fn client(issuing: &Authority, public_key: &PublicKey) -> Certificate {
    let urls = ["http://localhost/pki/x.crl".to_owned()];
    let uris = ["urn:uuid:01890a5d-ac96-774b-bcce-b302099a8057".to_owned()];
    let prepared = prepare_client(&issuing.certificate, &leaf(public_key, &urls, &uris)).unwrap();
    let signature = issuing.sign(prepared.tbs());
    prepared.assemble(&signature).unwrap()
}

/// Octets that count up from a seed; enough where only sameness matters.
pub(super) struct Counting(pub(super) u8);

impl Entropy for Counting {
    fn fill(&self, buffer: &mut [u8]) {
        buffer.iter_mut().enumerate().for_each(|(at, octet)| *octet = self.0.wrapping_add(at as u8));
    }
}
