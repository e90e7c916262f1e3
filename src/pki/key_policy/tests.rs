use super::*;
use crate::pki::encode;
use crate::pki::keygen::generate_p256;

fn spki(algorithm: &[u8], key: &[u8]) -> Vec<u8> {
    encode::sequence(&[algorithm, &encode::bits(key)])
}

fn ec(curve: ObjectIdentifier, point: &[u8]) -> Vec<u8> {
    spki(&encode::sequence(&[&encode::oid(oid::EC_PUBLIC_KEY), &encode::oid(curve)]), point)
}

fn rsa(modulus: &[u8], exponent: &[u8]) -> Vec<u8> {
    let key = encode::sequence(&[&encode::unsigned(modulus), &encode::unsigned(exponent)]);
    spki(&encode::sequence(&[&encode::oid(oid::RSA_ENCRYPTION), &encode::null()]), &key)
}

fn refusal(der: &[u8]) -> KeyRefused {
    PublicKey::from_spki_der(der, &KeyPolicy::default()).unwrap_err()
}

/// An odd number of `bits` bits without small factors that is no RSA key of a sane generator's either.
fn modulus(bits: usize) -> Vec<u8> {
    let mut octets = vec![0xff; bits / 8];
    loop {
        if weaknesses(&octets).is_ok() {
            return octets;
        }
        let last = octets.len() - 1;
        octets[last] = octets[last].wrapping_sub(2);
        if octets[last] == 0xff {
            octets[last - 1] -= 1;
        }
    }
}

#[test]
fn the_key_identifier_is_method_one_of_rfc_7093() {
    let (_, der) = generate_p256();
    let key = PublicKey::from_spki_der(&der, &KeyPolicy::default()).unwrap();
    assert_eq!(key.kind(), KeyKind::P256);
    let point = &der[der.len() - 65..];
    assert_eq!(key.key_id(), digest(&SHA256, point).as_ref()[..20]);
    assert_eq!(key.sha256(), digest(&SHA256, &der).as_ref());
}

#[test]
fn elliptic_curve_keys_are_checked_to_the_last_bit() {
    let (_, der) = generate_p256();
    let point = &der[der.len() - 65..];
    let mut off_curve = point.to_vec();
    off_curve[64] ^= 1;
    assert_eq!(refusal(&ec(oid::PRIME256V1, &off_curve)), KeyRefused::NotOnCurve);
    let compressed = [&[0x02], &point[1..33]].concat();
    assert_eq!(refusal(&ec(oid::PRIME256V1, &compressed)), KeyRefused::EcEncoding);
    assert_eq!(refusal(&ec(oid::SECP384R1, point)), KeyRefused::EcEncoding);
    assert_eq!(refusal(&ec(oid::PRIME256V1, &[0])), KeyRefused::EcEncoding);
    let p521 = ObjectIdentifier::new_unwrap("1.3.132.0.35");
    assert_eq!(refusal(&ec(p521, point)), KeyRefused::Curve("1.3.132.0.35".into()));
    let explicit = encode::sequence(&[&encode::oid(oid::EC_PUBLIC_KEY), &encode::sequence(&[])]);
    assert_eq!(refusal(&spki(&explicit, point)), KeyRefused::EcEncoding);
}

#[test]
fn rsa_keys_have_a_size_an_exponent_and_no_known_weakness() {
    let good = |bits, exponent: &[u8]| rsa(&modulus(bits), exponent);
    for bits in [2048, 3072, 4096] {
        let key = PublicKey::from_spki_der(&good(bits, &[1, 0, 1]), &KeyPolicy::default()).unwrap();
        assert_eq!(key.kind(), KeyKind::Rsa { bits: bits as u32 });
    }
    for bits in [1024, 2040, 4104, 16_384] {
        let refused = refusal(&rsa(&vec![0xff; bits / 8], &[1, 0, 1]));
        assert_eq!(refused, KeyRefused::RsaSize { bits: bits as u32, min: 2048 });
    }
    for exponent in [&[3][..], &[1], &[1, 0, 0], &[0xff, 0xff], &[1, 0, 0, 0, 1], &[0x7f; 64]] {
        assert_eq!(refusal(&good(2048, exponent)), KeyRefused::RsaExponent);
    }
    let even = [vec![0xff; 255], vec![0xfe]].concat();
    assert_eq!(refusal(&rsa(&even, &[1, 0, 1])), KeyRefused::RsaWeak("its modulus has a small factor"));
}

/// The number 1 is 65537^0 modulo every prime, which is all that the fingerprint asks.
#[test]
fn the_fingerprint_of_the_broken_generator_is_recognised() {
    let mut roca = vec![0; 256];
    roca[255] = 1;
    assert!(matches!(weaknesses(&roca), Err(KeyRefused::RsaWeak(text)) if text.contains("ROCA")));
}

#[test]
fn what_a_profile_does_not_take_is_refused_with_what_it_takes() {
    let ed25519 = spki(&encode::sequence(&[&encode::oid(oid::ED25519)]), &[7; 32]);
    let refused = KeyRefused::NotInProfile { kind: "Ed25519", instead: "EC P-256" };
    assert_eq!(refusal(&ed25519), refused);
    let taken = PublicKey::from_spki_der(&ed25519, &KeyPolicy { ed25519: true, ..KeyPolicy::default() });
    assert_eq!(taken.unwrap().kind(), KeyKind::Ed25519);
    let no_rsa = KeyPolicy { rsa_min_bits: None, ..KeyPolicy::default() };
    let refused = PublicKey::from_spki_der(&rsa(&modulus(2048), &[1, 0, 1]), &no_rsa);
    assert_eq!(refused.unwrap_err(), KeyRefused::NotInProfile { kind: "RSA", instead: "EC P-256" });
    // A policy cannot go below the floor.
    let lax = KeyPolicy { rsa_min_bits: Some(512), ..KeyPolicy::default() };
    let refused = PublicKey::from_spki_der(&rsa(&[0xff; 128], &[1, 0, 1]), &lax);
    assert_eq!(refused.unwrap_err(), KeyRefused::RsaSize { bits: 1024, min: 2048 });
    let x25519 =
        spki(&encode::sequence(&[&encode::oid(ObjectIdentifier::new_unwrap("1.3.101.110"))]), &[7; 32]);
    assert_eq!(refusal(&x25519), KeyRefused::Algorithm("1.3.101.110".into()));
    assert_eq!(refusal(b"nonsense"), KeyRefused::Malformed);
}
