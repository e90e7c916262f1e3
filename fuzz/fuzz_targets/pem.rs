//! PEM as people paste it: what is found can be written, and is found again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wicketgate::pki::pem;

fuzz_target!(|text: &str| {
    for label in ["CERTIFICATE", "CERTIFICATE REQUEST", "X509 CRL"] {
        let all = pem::blocks(text, label);
        if let Some(first) = pem::first_block(text, &[label]) {
            let again = pem::block(label, &first);
            assert_eq!(pem::first_block(&again, &[label]), Some(first));
        }
        for der in all {
            assert_eq!(pem::blocks(&pem::block(label, &der), label), [der]);
        }
    }
});
