//! PKCS#12 files are written, not read: whatever goes in, what comes out opens in a reader that is not
//! ours and holds what went in.

#![no_main]

use libfuzzer_sys::fuzz_target;
use p12_keystore::{KeyStore, Pkcs12ImportPolicy};
use wicketgate::pki::pkcs12::{Encoding, MAX_NAME_CHARS, Password, write};
use wicketgate_fuzz::{Counting, house};

fuzz_target!(|input: (bool, u8, &str, &str, bool, &[u8])| {
    let (modern, seed, name, password, chain, foreign) = input;
    let Ok(password) = Password::new(password) else { return };
    let (encoding, entropy) = (if modern { Encoding::Modern } else { Encoding::Compat }, Counting(seed));
    let house = house();
    let (key, leaf) = (house.key.expose(), house.leaf.der());
    // Foreign bytes as a certificate, an authority and a key.
    let _ = write(encoding, key, foreign, &[], name, &password, &entropy);
    let _ = write(encoding, key, leaf, &[foreign], name, &password, &entropy);
    assert!(write(encoding, foreign, leaf, &[], name, &password, &entropy).is_err());

    let above = [house.issuing.certificate.der()];
    let above: &[&[u8]] = if chain { &above } else { &[] };
    let Ok(file) = write(encoding, key, leaf, above, name, &password, &entropy) else {
        assert!(name.chars().count() > MAX_NAME_CHARS);
        return;
    };
    let store = KeyStore::from_pkcs12(&file, password.expose(), Pkcs12ImportPolicy::Strict).unwrap();
    let (alias, found) = store.private_key_chain().unwrap();
    // This reader takes BMPString at its word; surrogate pairs, which others read, it passes over.
    assert!(alias == name || name.chars().any(|character| character > '\u{ffff}'));
    assert_eq!(found.key().as_der(), key.as_slice());
    let certificates: Vec<&[u8]> = found.certs().iter().map(|certificate| certificate.as_der()).collect();
    assert_eq!(certificates, [&[leaf], above].concat());
    let other = format!("{}.", password.expose());
    assert!(KeyStore::from_pkcs12(&file, &other, Pkcs12ImportPolicy::Strict).is_err());
});
