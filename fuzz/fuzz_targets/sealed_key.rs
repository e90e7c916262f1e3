//! Private keys under a passphrase: any bytes are a key or refused, and a damaged file never gives
//! another key.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use wicketgate::pki::keygen;
use wicketgate::pki::sealed_key::{open, seal};
use wicketgate_fuzz::{Counting, house};

const PASSPHRASE: &str = "correct horse battery staple";

static SEALED: LazyLock<Vec<u8>> =
    LazyLock::new(|| seal(house().key.expose(), PASSPHRASE, &Counting(7)).unwrap());

fuzz_target!(|bytes: &[u8]| {
    let _ = open(bytes, PASSPHRASE);
    let mut damaged = SEALED.clone();
    for pair in bytes.chunks_exact(2) {
        let at = usize::from(pair[0]) % damaged.len();
        damaged[at] ^= pair[1];
    }
    if let Ok(key) = open(&damaged, PASSPHRASE) {
        let public = |key: &[u8]| keygen::public_key(key).unwrap();
        assert_eq!(public(key.expose()), public(house().key.expose()));
    }
});
