//! Small values in text: what is read is written as it was read, or in its one form.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wicketgate::domain::{Fingerprint, Hostname, RevocationReason, Serial, Slug, UtcTime};

fuzz_target!(|text: &str| {
    if let Ok(serial) = text.parse::<Serial>() {
        assert_eq!(serial.to_string(), text);
        assert_eq!(Serial::from_der_octets(serial.as_octets()).ok().is_some(), serial.as_octets()[0] < 0x80);
    }
    if let Ok(slug) = text.parse::<Slug>() {
        assert_eq!(slug.to_string(), text);
    }
    if let Ok(host) = text.parse::<Hostname>() {
        assert_eq!(host.to_string().parse::<Hostname>().unwrap(), host);
    }
    if let Ok(print) = text.parse::<Fingerprint>() {
        assert_eq!(print.to_string().parse::<Fingerprint>().unwrap(), print);
    }
    if let Ok(at) = text.parse::<UtcTime>() {
        assert_eq!(at.to_string().parse::<UtcTime>().unwrap(), at);
    }
    if let Ok(reason) = text.parse::<RevocationReason>() {
        assert_eq!(reason.name(), text);
    }
});
