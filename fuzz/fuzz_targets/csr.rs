//! Signing requests, in DER and in PEM: never a panic, and what is taken is taken again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wicketgate::pki::{KeyPolicy, PublicKey, SigningRequest};

fuzz_target!(|bytes: &[u8]| {
    let policy = KeyPolicy { p256: true, p384: true, ed25519: true, rsa_min_bits: Some(2048) };
    if let Ok(request) = SigningRequest::from_der(bytes, &policy) {
        let key = request.public_key();
        assert_eq!(PublicKey::from_spki_der(key.spki_der(), &policy).as_ref(), Ok(key));
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = SigningRequest::from_pem(text, &policy);
    }
});
