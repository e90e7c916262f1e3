//! OCSP requests, in a body and in the path of a GET: what is taken can be answered, in the name of the
//! authority that it means and of no other.

#![no_main]

use std::sync::LazyLock;
use std::time::Duration;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use libfuzzer_sys::fuzz_target;
use wicketgate::edge::ocsp::{PATH, in_path};
use wicketgate::pki::issuer::PrepareError;
use wicketgate::pki::ocsp::{
    CertStatus, MAX_NONCE_OCTETS, MAX_SINGLE_REQUESTS, OcspRequest, prepare_response,
};
use wicketgate_fuzz::{START, house};

/// Tag, length and hash of our authority's name, and of its key.
static OURS: LazyLock<[u8; 44]> = LazyLock::new(|| {
    let authority = &house().issuing.certificate;
    // The point of a P-256 key is the end of its SubjectPublicKeyInfo.
    let point = &authority.spki_der()[authority.spki_der().len() - 65..];
    let mut both = [0; 44];
    for (part, octets) in both.chunks_exact_mut(22).zip([authority.subject_der(), point]) {
        part[..2].copy_from_slice(&[0x04, 20]);
        part[2..].copy_from_slice(digest(&SHA1_FOR_LEGACY_USE_ONLY, octets).as_ref());
    }
    both
});

fuzz_target!(|bytes: &[u8]| {
    read(bytes);
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(der) = in_path(&format!("{PATH}/{text}"))
    {
        read(&der);
    }
    // The same question, put to us.
    let mut ours = bytes.to_vec();
    let mut at = 0;
    while let Some(place) = ours.get_mut(at..at + 44) {
        if place[..2] == OURS[..2] && place[22..24] == OURS[..2] {
            place.copy_from_slice(&*OURS);
            at += 43;
        }
        at += 1;
    }
    read(&ours);
});

fn read(der: &[u8]) {
    let Ok(request) = OcspRequest::from_der(der) else { return };
    assert!((1..=MAX_SINGLE_REQUESTS).contains(&request.ids().len()));
    assert!(request.nonce().is_none_or(|nonce| (1..=MAX_NONCE_OCTETS).contains(&nonce.len())));
    assert_eq!(request.plain().is_some(), request.ids().len() == 1 && request.nonce().is_none());
    let signer = &house().signer;
    let asked = request.ids().iter().all(|id| signer.issuer().issued(id));
    let statuses: Vec<_> = request.ids().iter().map(|id| (id, CertStatus::Unknown)).collect();
    let until = START.plus(Duration::from_secs(60));
    match prepare_response(signer, &statuses, request.nonce(), START, until) {
        Ok(answer) => {
            assert!(asked);
            for id in request.ids() {
                // The asker looks for the very octets that it sent.
                assert!(answer.tbs().windows(id.der().len()).any(|window| window == id.der()));
            }
        }
        Err(PrepareError::Lint(findings)) => {
            assert!(!asked && findings.iter().all(|finding| finding.rule == "issuer"), "{findings:?}");
        }
        Err(error) => panic!("{error}"),
    }
}
