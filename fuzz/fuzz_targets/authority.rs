//! Certificates of authorities: what is taken says again what it said.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wicketgate::pki::AuthorityCertificate;
use wicketgate::pki::chain::{read_leaf, signed_by};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(authority) = AuthorityCertificate::from_der(bytes) {
        assert_eq!(authority.der(), bytes);
        let view = read_leaf(bytes).unwrap();
        assert!(view.is_ca);
        assert_eq!(view.serial, Some(authority.serial()));
        assert_eq!(view.subject_der, authority.subject_der());
        let _ = signed_by(bytes, authority.spki_der());
    }
});
