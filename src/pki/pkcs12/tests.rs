use aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY;

use super::kdf::{Purpose, derive};
use super::*;
use crate::pki::fixtures::{self, Counting, root};
use crate::pki::{Certificate, keygen};

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02X}")).collect()
}

/// The vectors that every implementation of appendix B is checked against since OpenSSL's.
#[test]
fn the_key_derivation_gives_the_known_vectors() {
    let smeg = [0x0a, 0x58, 0xcf, 0x64, 0x53, 0x0d, 0x82, 0x3f];
    let queeg = [0x05, 0xde, 0xc9, 0x59, 0xac, 0xff, 0x72, 0xf7];
    let sha1 = |purpose, password, salt: &[u8], iterations, length| {
        hex(derive(&SHA1_FOR_LEGACY_USE_ONLY, purpose, password, salt, iterations, length).expose())
    };
    let key = Purpose::EncryptionKey;
    assert_eq!(sha1(key, "smeg", &smeg, 1, 24), "8AAAE6297B6CB04642AB5B077851284EB7128F1A2A7FBCA3");
    assert_eq!(sha1(Purpose::Iv, "smeg", &smeg, 1, 8), "79993DFE048D3B76");
    assert_eq!(sha1(key, "queeg", &queeg, 1000, 24), "ED2034E36328830FF09DF1E1A07DD357185DAC0D4F9EB3D4");
    assert_eq!(sha1(Purpose::Iv, "queeg", &queeg, 1000, 8), "11DEDAD7758D4860");
}

/// A key and its certificate.
fn anna() -> (Secret<Vec<u8>>, Certificate) {
    let (key, spki) = keygen::generate_p256();
    let public_key = PublicKey::from_spki_der(&spki, &KeyPolicy::default()).unwrap();
    (key, fixtures::client(&fixtures::issuing_under(&root()), &public_key))
}

#[test]
fn what_is_not_a_key_or_a_certificate_is_refused() {
    let (key, leaf) = anna();
    let password = Password::generate(&Counting(1));
    let write = |key: &[u8], leaf: &[u8], chain: &[&[u8]], name: &str| {
        write(Encoding::Compat, key, leaf, chain, name, &password, &Counting(2))
    };
    assert!(matches!(write(b"", leaf.der(), &[], "x"), Err(Pkcs12Error::Key)));
    assert!(matches!(write(key.expose(), b"\x30\x00", &[], "x"), Err(Pkcs12Error::Certificate(_))));
    assert!(matches!(write(key.expose(), leaf.der(), &[b"x"], "x"), Err(Pkcs12Error::Certificate(_))));
    let (other, _) = keygen::generate_p256();
    assert!(matches!(write(other.expose(), leaf.der(), &[], "x"), Err(Pkcs12Error::Mismatch)));
    let long = "x".repeat(MAX_NAME_CHARS + 1);
    assert!(matches!(write(key.expose(), leaf.der(), &[], &long), Err(Pkcs12Error::Name)));
    assert!(write(key.expose(), leaf.der(), &[leaf.der()], "Änna's 📱").is_ok());
}

#[test]
fn no_file_holds_its_key_or_password_in_the_clear() {
    let (key, leaf) = anna();
    let password = Password::generate(&Counting(1));
    for encoding in [Encoding::Modern, Encoding::Compat] {
        let file = write(encoding, key.expose(), leaf.der(), &[], "x", &password, &Counting(2)).unwrap();
        let holds = |needle: &[u8]| file.windows(needle.len()).any(|window| window == needle);
        // The private scalar is the OCTET STRING after the version of RFC 5915.
        let at = key.expose().windows(5).position(|w| w == [2, 1, 1, 4, 32]).unwrap() + 5;
        assert!(!holds(&key.expose()[at..at + 32]) && !holds(password.expose().as_bytes()));
        assert!(!holds(leaf.der()), "certificates are encrypted too");
    }
}
