//! The rules that speak before every signature must speak about any bytes.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wicketgate::pki::lint::{lint_authority, lint_client, lint_crl, lint_server};

fuzz_target!(|bytes: &[u8]| {
    let client = lint_client(bytes);
    let server = lint_server(bytes);
    // No bytes are both.
    assert!(!client.is_empty() || !server.is_empty());
    let authority = lint_authority(bytes);
    assert!(!client.is_empty() || !authority.is_empty());
    let list = lint_crl(bytes);
    assert!(!list.is_empty() || !client.is_empty());
});
