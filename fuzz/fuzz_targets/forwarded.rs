//! Chains of addresses: the first line is `Forwarded`, the second `X-Forwarded-For`. What is believed is written as it
//! is read, and says again who visits.

#![no_main]

use std::net::IpAddr;
use std::sync::LazyLock;

use http::{HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;
use wicketgate::domain::Networks;
use wicketgate::edge::forwarded::{Chain, read};

const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));

static TRUSTED: LazyLock<Networks> =
    LazyLock::new(|| ["10.0.0.0/8", "fd00::/8"].iter().map(|text| text.parse().unwrap()).collect());

fuzz_target!(|octets: &[u8]| {
    let mut lines = octets.splitn(2, |octet| *octet == b'\n');
    let mut headers = HeaderMap::new();
    for name in ["forwarded", "x-forwarded-for"] {
        let line = lines.next().unwrap_or_default();
        if !line.is_empty() {
            let Ok(value) = HeaderValue::from_bytes(line) else { return };
            headers.append(name, value);
        }
    }
    let Ok(Some(chain)) = read(&headers, PEER, &TRUSTED) else { return };
    for (name, value) in [("forwarded", &chain.forwarded), ("x-forwarded-for", &chain.forwarded_for)] {
        let again = HeaderMap::from_iter([(name.parse().unwrap(), HeaderValue::try_from(value).unwrap())]);
        let Ok(Some(Chain { visitor, .. })) = read(&again, PEER, &TRUSTED) else { panic!("{chain:?}") };
        assert_eq!(visitor, chain.visitor);
        assert!(visitor == PEER || chain.forwarded_for.contains(&visitor.to_string()), "{chain:?}");
    }
    // What was written before the visitor is of no matter.
    if !TRUSTED.contains(chain.visitor) {
        let before = |value: &HeaderValue| [b"\\\"=\xff, ".as_slice(), value.as_bytes()].concat();
        let dirty: HeaderMap = headers
            .iter()
            .map(|(name, value)| (name.clone(), HeaderValue::from_bytes(&before(value)).unwrap()))
            .collect();
        assert_eq!(read(&dirty, PEER, &TRUSTED), Ok(Some(chain.clone())));
    }
    // Nobody stands before who visits, but those who hide.
    assert!(!TRUSTED.contains(chain.visitor) || !chain.forwarded_for.is_empty());
});
