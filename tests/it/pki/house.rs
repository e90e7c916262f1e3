//! A house with its authorities, for tests: everything made through the public interface.

use std::time::Duration;

use wicketgate::domain::{Entropy, RevocationReason, Secret, Serial, UtcTime};
use wicketgate::pki::crl::{Crl, RevokedEntry, prepare_crl};
use wicketgate::pki::cross::{CrossTemplate, prepare_cross};
use wicketgate::pki::issuer::{prepare_authority, prepare_client, prepare_root};
use wicketgate::pki::keygen::{generate_p256, sign_p256};
use wicketgate::pki::ocsp::{SignerTemplate, prepare_signer};
use wicketgate::pki::{
    AuthorityCertificate, AuthorityKind, AuthorityTemplate, Certificate, ClientLeaf, KeyPolicy, Prepared,
    PublicKey,
};

/// 2026-11-23T18:00:00Z: "now" in these tests.
pub const NOW: UtcTime = UtcTime::from_unix(1_795_456_800);
pub const DAY: Duration = Duration::from_secs(86_400);

/// An authority and its key.
pub struct Authority {
    pub certificate: AuthorityCertificate,
    pub key: Secret<Vec<u8>>,
}

impl Authority {
    pub fn sign(&self, prepared: Prepared) -> Certificate {
        let signature = sign_p256(self.key.expose(), prepared.tbs()).unwrap();
        prepared.assemble(&signature).unwrap()
    }
}

/// Root, issuing authority and local server authority.
pub struct House {
    pub root: Authority,
    pub issuing: Authority,
    pub local: Authority,
}

const ROOT_CRL: &str = "http://pki.example.com/pki/root-g1.crl";
pub const OCSP: &str = "http://pki.example.com/pki/ocsp";
pub const ISSUING_CRL: &str = "http://pki.example.com/pki/issuing-g1.crl";
const ROOT_CER: &str = "http://pki.example.com/pki/root-g1.cer";
const ISSUING_CER: &str = "http://pki.example.com/pki/issuing-g1.cer";

impl House {
    pub fn new() -> Self {
        Self::until(NOW.plus(DAY * 3650))
    }

    /// A house whose authorities end then.
    pub fn until(end: UtcTime) -> Self {
        let root = self_signed(AuthorityKind::Root, "Example Client Root G1", end);
        let local = self_signed(AuthorityKind::LocalServer, "Example Local Server Authority G1", end);
        let (key, spki) = generate_p256();
        let (crl_urls, issuer_urls) = ([ROOT_CRL.to_owned()], [ROOT_CER.to_owned()]);
        let template = AuthorityTemplate {
            crl_urls: &crl_urls,
            issuer_urls: &issuer_urls,
            ..template(AuthorityKind::Issuing, &spki, "Example Client Issuing G1", end)
        };
        let certificate = root.sign(prepare_authority(&root.certificate, &template).unwrap());
        let issuing = Authority { certificate: read(&certificate), key };
        Self { root, issuing, local }
    }

    /// Another root, and the certificate in which this house's root vouches for it.
    pub fn cross(&self, end: UtcTime) -> (Authority, Certificate) {
        let next = self_signed(AuthorityKind::Root, "Example Client Root G2", end);
        let (crl_urls, issuer_urls) = ([ROOT_CRL.to_owned()], [ROOT_CER.to_owned()]);
        let template = CrossTemplate {
            serial: Serial::random(&System),
            subject: &next.certificate,
            not_before: NOW.minus(DAY),
            not_after: end,
            crl_urls: &crl_urls,
            issuer_urls: &issuer_urls,
        };
        let cross = self.root.sign(prepare_cross(&self.root.certificate, &template).unwrap());
        (next, cross)
    }

    /// A client certificate for this key, from `from` to `to`.
    pub fn client(&self, spki: &[u8], email: Option<&str>, from: UtcTime, to: UtcTime) -> Certificate {
        let policy = KeyPolicy { ed25519: true, ..KeyPolicy::default() };
        let (crl_urls, issuer_urls) = ([ISSUING_CRL.to_owned()], [ISSUING_CER.to_owned()]);
        let leaf = ClientLeaf {
            serial: Serial::random(&System),
            public_key: &PublicKey::from_spki_der(spki, &policy).unwrap(),
            common_name: "Änna Example",
            email,
            uris: &["urn:uuid:01890a5d-ac96-774b-bcce-b302099a8057".to_owned()],
            dns_names: &Default::default(),
            not_before: from,
            not_after: to,
            crl_urls: &crl_urls,
            ocsp_urls: &[OCSP.to_owned()],
            issuer_urls: &issuer_urls,
        };
        self.issuing.sign(prepare_client(&self.issuing.certificate, &leaf).unwrap())
    }

    /// A delegate of the issuing authority that signs OCSP answers.
    pub fn ocsp_signer(&self) -> (Certificate, Secret<Vec<u8>>) {
        let (key, spki) = generate_p256();
        let template = SignerTemplate {
            serial: Serial::random(&System),
            public_key: &PublicKey::from_spki_der(&spki, &KeyPolicy::default()).unwrap(),
            common_name: "Example Client Issuing G1 OCSP",
            not_before: NOW.minus(DAY),
            not_after: NOW.plus(DAY * 13),
        };
        (self.issuing.sign(prepare_signer(&self.issuing.certificate, &template).unwrap()), key)
    }

    /// A fresh key's client certificate, valid now.
    pub fn anna(&self) -> (Certificate, Secret<Vec<u8>>) {
        let (key, spki) = generate_p256();
        (self.client(&spki, Some("anna@example.com"), NOW.minus(DAY), NOW.plus(DAY * 90)), key)
    }
}

fn self_signed(kind: AuthorityKind, name: &str, end: UtcTime) -> Authority {
    let (key, spki) = generate_p256();
    let prepared = prepare_root(&template(kind, &spki, name, end)).unwrap();
    let signature = sign_p256(key.expose(), prepared.tbs()).unwrap();
    Authority { certificate: read(&prepared.assemble(&signature).unwrap()), key }
}

fn template<'a>(kind: AuthorityKind, spki: &'a [u8], name: &'a str, end: UtcTime) -> AuthorityTemplate<'a> {
    AuthorityTemplate {
        kind,
        serial: Serial::random(&System),
        spki_der: spki,
        common_name: name,
        organization: Some("Example Team"),
        not_before: NOW.minus(DAY * 30),
        not_after: end,
        crl_urls: &[],
        issuer_urls: &[],
    }
}

fn read(certificate: &Certificate) -> AuthorityCertificate {
    AuthorityCertificate::from_der(certificate.der()).unwrap()
}

/// A signed list of these certificates.
pub fn crl(issuer: &Authority, revoked: &[(Serial, RevocationReason)], url: Option<&str>) -> Crl {
    let entries: Vec<_> = revoked
        .iter()
        .map(|(serial, reason)| RevokedEntry {
            serial: *serial,
            revoked_at: NOW.minus(DAY),
            reason: *reason,
            invalid_since: (*reason == RevocationReason::KeyCompromise).then(|| NOW.minus(DAY * 2)),
        })
        .collect();
    let (from, to) = (NOW.minus(DAY / 24), NOW.plus(DAY));
    let prepared = prepare_crl(&issuer.certificate, 42, from, to, &entries, url).unwrap();
    let signature = sign_p256(issuer.key.expose(), prepared.tbs()).unwrap();
    prepared.assemble(&signature).unwrap()
}

/// The system's randomness.
pub struct System;

impl Entropy for System {
    fn fill(&self, buffer: &mut [u8]) {
        aws_lc_rs::rand::fill(buffer).unwrap();
    }
}
