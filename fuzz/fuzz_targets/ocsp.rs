//! OCSP requests, in a body and in the path of a GET: what is taken can be answered.

#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use wicketgate::edge::ocsp::{PATH, in_path};
use wicketgate::pki::ocsp::{
    CertStatus, MAX_NONCE_OCTETS, MAX_SINGLE_REQUESTS, OcspRequest, prepare_response,
};
use wicketgate_fuzz::{START, house};

fuzz_target!(|bytes: &[u8]| {
    read(bytes);
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(der) = in_path(&format!("{PATH}/{text}"))
    {
        read(&der);
    }
});

fn read(der: &[u8]) {
    let Ok(request) = OcspRequest::from_der(der) else { return };
    assert!((1..=MAX_SINGLE_REQUESTS).contains(&request.ids().len()));
    assert!(request.nonce().is_none_or(|nonce| (1..=MAX_NONCE_OCTETS).contains(&nonce.len())));
    assert_eq!(request.plain().is_some(), request.ids().len() == 1 && request.nonce().is_none());
    let house = house();
    assert!(request.ids().iter().all(|id| !house.signer.issuer().issued(id)), "a hash was guessed");
    let statuses: Vec<_> = request.ids().iter().map(|id| (id, CertStatus::Unknown)).collect();
    let until = START.plus(Duration::from_secs(60));
    let answer = prepare_response(&house.signer, &statuses, request.nonce(), START, until).unwrap();
    for id in request.ids() {
        // The asker looks for the very octets that it sent.
        assert!(answer.tbs().windows(id.der().len()).any(|window| window == id.der()));
    }
}
