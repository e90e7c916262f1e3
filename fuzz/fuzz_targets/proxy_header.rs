//! What load balancers say of visitors: one verdict, that more octets do not change, and what is said is written and
//! read the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wicketgate::edge::proxy_header::{MOST, Parsed, Said, parse, write_v1, write_v2};

fuzz_target!(|octets: &[u8]| {
    let verdict = parse(octets);
    // As it comes off a socket: the beginning alone, then more.
    for cut in 0..octets.len().min(MOST) {
        match parse(&octets[..cut]) {
            Ok(Parsed::Partial) => {}
            early => {
                assert_eq!(early, verdict);
                break;
            }
        }
    }
    let Ok(Parsed::Whole(said, length)) = verdict else {
        assert!(verdict.is_err() || octets.len() < MOST);
        return;
    };
    assert!((1..=octets.len().min(MOST)).contains(&length));
    if let Said::Visitor { source, destination } = said {
        for header in [write_v1(source, destination).into_bytes(), write_v2(source, destination, None)] {
            assert_eq!(parse(&header), Ok(Parsed::Whole(said, header.len())));
        }
    }
});
