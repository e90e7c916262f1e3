//! Public keys: what passes a policy has one kind, one identifier, and the very octets that were given.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wicketgate::pki::{KeyKind, KeyPolicy, PublicKey};

fuzz_target!(|bytes: &[u8]| {
    let every = KeyPolicy { p256: true, p384: true, ed25519: true, rsa_min_bits: Some(512) };
    let none = KeyPolicy { p256: false, p384: false, ed25519: false, rsa_min_bits: None };
    assert!(PublicKey::from_spki_der(bytes, &none).is_err());
    if let Ok(key) = PublicKey::from_spki_der(bytes, &every) {
        assert_eq!(key.spki_der(), bytes);
        if let KeyKind::Rsa { bits } = key.kind() {
            assert!((2048..=4096).contains(&bits));
        }
    }
});
