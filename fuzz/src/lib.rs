//! A small house of authorities for targets that need one. Its keys are made when a target starts; what
//! a seed finds must not depend on them.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use wicketgate::domain::{Entropy, Hostname, Secret, Serial, UtcTime};
use wicketgate::pki::issuer::{prepare_authority, prepare_client, prepare_root};
use wicketgate::pki::ocsp::{OcspSigner, SignerTemplate, prepare_signer};
use wicketgate::pki::{
    AuthorityCertificate, AuthorityKind, AuthorityTemplate, Certificate, ClientLeaf, KeyPolicy, Prepared,
    PublicKey, keygen,
};

/// Begin of everything that is issued here.
pub const START: UtcTime = UtcTime::from_unix(1_780_000_000);
/// End of everything that is issued here.
pub const END: UtcTime = UtcTime::from_unix(1_786_000_000);
/// Every kind of key that can be allowed.
pub const EVERY_KEY: KeyPolicy =
    KeyPolicy { p256: true, p384: true, ed25519: true, rsa_min_bits: Some(2048) };

/// An authority and its key.
pub struct Authority {
    /// The certificate.
    pub certificate: AuthorityCertificate,
    /// The private key, PKCS#8 DER.
    pub key: Secret<Vec<u8>>,
}

/// The house.
pub struct House {
    /// The authority that issues.
    pub issuing: Authority,
    /// Who answers for it.
    pub signer: OcspSigner,
    /// Key of a device, PKCS#8 DER.
    pub key: Secret<Vec<u8>>,
    /// The device's certificate.
    pub leaf: Certificate,
}

/// Octets that count up from a seed.
pub struct Counting(pub u8);

impl Entropy for Counting {
    fn fill(&self, buffer: &mut [u8]) {
        buffer.iter_mut().enumerate().for_each(|(at, octet)| *octet = self.0.wrapping_add(at as u8));
    }
}

/// The one house of this process.
pub fn house() -> &'static House {
    static HOUSE: LazyLock<House> = LazyLock::new(|| {
        let root = authority(AuthorityKind::Root, None);
        let issuing = authority(AuthorityKind::Issuing, Some(&root));
        let (_, spki) = keygen::generate_p256();
        let public_key = PublicKey::from_spki_der(&spki, &EVERY_KEY).unwrap();
        let template = SignerTemplate {
            serial: serial(3),
            public_key: &public_key,
            common_name: "OCSP",
            not_before: START,
            not_after: START.plus(std::time::Duration::from_secs(86_400)),
        };
        let signer = sign(prepare_signer(&issuing.certificate, &template).unwrap(), &issuing.key);
        let signer = OcspSigner::from_der(signer.der(), &issuing.certificate).unwrap();
        let (key, spki) = keygen::generate_p256();
        let leaf = certify(&issuing, &PublicKey::from_spki_der(&spki, &EVERY_KEY).unwrap());
        House { issuing, signer, key, leaf }
    });
    &HOUSE
}

/// The certificate of a device with this key.
pub fn certify(issuing: &Authority, public_key: &PublicKey) -> Certificate {
    let urls = ["http://127.0.0.1:8080/pki/x.crl".to_owned()];
    let uris = ["urn:uuid:01890a5d-ac96-774b-bcce-b302099a8057".to_owned()];
    let dns_names = BTreeSet::<Hostname>::new();
    let leaf = ClientLeaf {
        serial: serial(9),
        public_key,
        common_name: "A Device",
        email: Some("anna@example.com"),
        uris: &uris,
        dns_names: &dns_names,
        not_before: START,
        not_after: END,
        crl_urls: &urls,
        ocsp_urls: &urls,
        issuer_urls: &urls,
    };
    sign(prepare_client(&issuing.certificate, &leaf).unwrap(), &issuing.key)
}

/// Signs with a P-256 key.
pub fn sign(prepared: Prepared, key: &Secret<Vec<u8>>) -> Certificate {
    let signature = keygen::sign_p256(key.expose(), prepared.tbs()).unwrap();
    prepared.assemble(&signature).unwrap()
}

fn authority(kind: AuthorityKind, above: Option<&Authority>) -> Authority {
    let (key, spki_der) = keygen::generate_p256();
    let template = AuthorityTemplate {
        kind,
        serial: serial(kind as u8 + 1),
        spki_der: &spki_der,
        common_name: if above.is_some() { "Fuzz Client Issuing G1" } else { "Fuzz Client Root G1" },
        organization: None,
        not_before: START,
        not_after: END,
        crl_urls: &[],
        issuer_urls: &[],
    };
    let certificate = match above {
        Some(above) => sign(prepare_authority(&above.certificate, &template).unwrap(), &above.key),
        None => sign(prepare_root(&template).unwrap(), &key),
    };
    Authority { certificate: AuthorityCertificate::from_der(certificate.der()).unwrap(), key }
}

fn serial(last: u8) -> Serial {
    let mut octets = [0x2a; 16];
    octets[15] = last;
    Serial::from_der_octets(&octets).unwrap()
}
