//! Exports of the audit: the verdict is one whatever the bytes, and clean only for what could be ours.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wicketgate::domain::audit_chain::LinkHash;
use wicketgate::pki::audit::{Pinned, Trust, verify_export};

fuzz_target!(|bytes: &[u8]| {
    let verdict = verify_export(bytes, Trust::default());
    assert!(verdict.faults.len() as u64 <= verdict.fault_count);
    assert_eq!(verdict.is_clean(), verdict.fault_count == 0);
    if verdict.is_clean() {
        assert!(verdict.installation_id.is_some());
        assert_eq!(verdict.head.map_or(0, |head| head.number), verdict.links);
        assert!(!verify_export(&bytes[..bytes.len() - 1], Trust::default()).is_clean());
    }
    // Whoever pins what is not in it hears of it.
    let pinned = Trust { checkpoint: Some(Pinned::Hash(LinkHash([0x5a; 32]))), keys: Vec::new() };
    assert!(!verify_export(bytes, pinned).is_clean());
});
