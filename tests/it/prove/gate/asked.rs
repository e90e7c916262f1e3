//! What is asked for: chosen by chance, from everything that decides about it.

use base64::Engine;
use wicketgate::pki::keygen::{client_csr_pem, generate_p256};

use crate::prove::seed::Seed;

/// How the person stands for whom it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    Good,
    Disabled,
    /// With a name that no certificate can bear.
    LongName,
    /// With a name that hides something.
    HiddenName,
    /// With an address that no certificate can bear.
    StrangeAddress,
}

impl Who {
    pub(super) const ALL: [Self; 5] =
        [Self::Good, Self::Disabled, Self::LongName, Self::HiddenName, Self::StrangeAddress];
}

/// One request, however it travels.
#[derive(Clone)]
pub(super) struct Asked {
    pub(super) who: Who,
    /// What kind of signing request, in a word.
    pub(super) kind: &'static str,
    /// One for each path: a key belongs to one lineage.
    csrs: Vec<String>,
    /// Not the one profile that there is, if present.
    pub(super) profile: Option<&'static str>,
    pub(super) device: &'static str,
}

/// How many paths there are at most.
const PATHS: usize = 6;

/// Signing requests that are the same for every path.
pub(super) struct Pool {
    kept: Vec<(&'static str, String)>,
}

fn by_rcgen(algorithm: &'static rcgen::SignatureAlgorithm) -> String {
    let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
    rcgen::CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap()
}

/// A request that wishes for everything that nobody gets.
fn wishful() -> String {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let names = ["evil.example".to_owned(), "10.0.0.1".to_owned(), "*.example.com".to_owned()];
    let mut params = rcgen::CertificateParams::new(names).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, "root");
    params.key_usages =
        vec![rcgen::KeyUsagePurpose::KeyEncipherment, rcgen::KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    params.serialize_request(&key).unwrap().pem().unwrap()
}

fn pem(der: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN CERTIFICATE REQUEST-----\n{text}\n-----END CERTIFICATE REQUEST-----\n")
}

fn der(pem: &str) -> Vec<u8> {
    let text: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    base64::engine::general_purpose::STANDARD.decode(text).unwrap()
}

fn fresh() -> String {
    client_csr_pem(generate_p256().0.expose(), "a device").unwrap()
}

fn changed(change: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut octets = der(&fresh());
    change(&mut octets);
    pem(&octets)
}

impl Pool {
    /// * `used` — a signing request with whose key a certificate is on record already.
    pub(super) fn new(used: String) -> Self {
        let huge = format!("-----BEGIN CERTIFICATE REQUEST-----\n{}", "A".repeat(17 * 1024));
        let kept = vec![
            ("used", used),
            ("ed25519", by_rcgen(&rcgen::PKCS_ED25519)),
            ("nothing", String::new()),
            ("no PEM", "hello".to_owned()),
            ("a certificate", fresh().replace("CERTIFICATE REQUEST", "CERTIFICATE")),
            ("too long", huge),
            ("half", changed(|der| der.truncate(der.len() / 2))),
            ("more behind", changed(|der| der.push(0))),
            ("another signature", changed(|der| *der.last_mut().unwrap() ^= 1)),
            (
                "another name",
                changed(|der| {
                    let at = der.windows(8).position(|part| part == b"a device").unwrap();
                    der[at] = b'A';
                }),
            ),
        ];
        Self { kept }
    }
}

impl Asked {
    pub(super) fn choose(pool: &Pool, seed: &mut Seed) -> Self {
        let who = if seed.below(3) == 0 { *seed.one_of(&Who::ALL) } else { Who::Good };
        let each = |kind, make: fn() -> String| (kind, (0..PATHS).map(|_| make()).collect());
        let (kind, csrs) = match seed.below(1024) {
            // A key takes a tenth of a second.
            0..2 => each("rsa", || by_rcgen(&rcgen::PKCS_RSA_SHA256)),
            2..64 => each("p384", || by_rcgen(&rcgen::PKCS_ECDSA_P384_SHA384)),
            64..128 => each("wishful", wishful),
            128..352 => each("p256", fresh),
            _ => {
                let (kind, csr) = seed.one_of(&pool.kept).clone();
                (kind, vec![csr; PATHS])
            }
        };
        let profile = (seed.below(8) == 0).then_some("other");
        // One fault of form at a time: a path that reads its body first names it before who it is for.
        let well_formed = profile.is_some() || who == Who::Disabled || seed.below(10) != 0;
        let device = if well_formed { "phone" } else { *seed.one_of(&["", "   ", "a\nb", "a\u{0}b"]) };
        Self { who, kind, csrs, profile, device }
    }

    /// The signing request for the path of this number.
    pub(super) fn csr(&self, path: usize) -> &str {
        &self.csrs[path]
    }

    /// Whether there is nothing about it that only some paths can say.
    pub(super) fn is_about_key_and_person_alone(&self) -> bool {
        self.profile.is_none() && self.device == "phone"
    }
}
