//! Certificates that visitors present: read for a cause, never for a permission, and never a panic.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wicketgate::pki::chain::{read_leaf, signed_by};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(view) = read_leaf(bytes) {
        assert!(!view.client_auth || view.has_eku);
        // Its own key as the issuer's: a self-signed one may verify, anything else must not panic.
        let _ = signed_by(bytes, &view.spki_der);
    }
    // A certificate and a key, both a stranger's.
    let (key, certificate) = bytes.split_at(bytes.len() / 3);
    let _ = signed_by(certificate, key);
});
