//! What EST brings, both ways: transfer encoding, signing requests, the names of a renewal, credentials,
//! and the messages with certificates that our agent is answered with.

#![no_main]

use http::{HeaderMap, HeaderValue, header};
use libfuzzer_sys::fuzz_target;
use wicketgate::admin::basic;
use wicketgate::pki::{SigningRequest, cms, continuity, transfer};
use wicketgate_fuzz::{EVERY_KEY, certify, house};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(der) = transfer::decode(bytes) {
        assert!(!der.is_empty());
        assert_eq!(transfer::decode(transfer::encode(&der).as_bytes()), Ok(der.clone()));
        read(&der);
    }
    read(bytes);
    if let Ok(value) = HeaderValue::from_bytes(bytes)
        && let Some(found) = basic::read(&HeaderMap::from_iter([(header::AUTHORIZATION, value)]))
    {
        assert!(!found.user.contains(':'));
    }
});

fn read(der: &[u8]) {
    if let Ok(found) = cms::certificates(der) {
        let all: Vec<&[u8]> = found.iter().map(Vec::as_slice).collect();
        let mut sorted = found.clone();
        sorted.sort_unstable();
        assert_eq!(cms::certificates(&cms::certs_only(&all)).unwrap(), sorted);
    }
    let house = house();
    let renews = continuity::check(der, house.leaf.der()).is_ok();
    if let Ok(request) = SigningRequest::from_der(der, &EVERY_KEY) {
        let certificate = certify(&house.issuing, request.public_key());
        // Whose names are the device's by one certificate has them by the next.
        assert_eq!(renews, continuity::check(der, certificate.der()).is_ok());
    }
}
