//! Keys and requests that no honest program makes, octet by octet.

use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, KeyUsagePurpose};

/// Curve and octets of a public key's point.
pub(super) const P384: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];
pub(super) const RSA_2048: &[u8] = &[];

fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let mut der = vec![tag];
    match length {
        0..=0x7f => der.push(length as u8),
        0x80..=0xff => der.extend([0x81, length as u8]),
        _ => der.extend([0x82, (length >> 8) as u8, length as u8]),
    }
    der.extend(content);
    der
}

fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    tlv(0x30, &parts.concat())
}

fn unsigned(octets: &[u8]) -> Vec<u8> {
    let sign = octets.first().is_some_and(|first| *first >= 0x80);
    tlv(0x02, &[if sign { &[0][..] } else { &[] }, octets].concat())
}

fn spki(algorithm: &[u8], key: &[u8]) -> Vec<u8> {
    sequence(&[algorithm, &tlv(0x03, &[&[0], key].concat())])
}

const EC_PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const PRIME256V1: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const RSA_ENCRYPTION: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const RSASSA_PSS: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a];
const ED25519: &[u8] = &[0x2b, 0x65, 0x70];
const ECDSA_WITH_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];

pub(super) fn ec(curve: &[u8], point: &[u8]) -> Vec<u8> {
    spki(&sequence(&[&tlv(0x06, EC_PUBLIC_KEY), &tlv(0x06, curve)]), point)
}

pub(super) fn p256(point: &[u8]) -> Vec<u8> {
    ec(PRIME256V1, point)
}

pub(super) fn explicit_curve() -> Vec<u8> {
    spki(&sequence(&[&tlv(0x06, EC_PUBLIC_KEY), &sequence(&[])]), &[4; 65])
}

pub(super) fn rsa(modulus: &[u8], exponent: &[u8]) -> Vec<u8> {
    let key = sequence(&[&unsigned(modulus), &unsigned(exponent)]);
    spki(&sequence(&[&tlv(0x06, RSA_ENCRYPTION), &tlv(0x05, &[])]), &key)
}

pub(super) fn pss() -> Vec<u8> {
    spki(&sequence(&[&tlv(0x06, RSASSA_PSS)]), &sequence(&[&unsigned(&[0xff; 256]), &unsigned(&[1, 0, 1])]))
}

pub(super) fn ed25519() -> Vec<u8> {
    spki(&sequence(&[&tlv(0x06, ED25519)]), &[7; 32])
}

/// A modulus of 2048 bits that is 1 modulo every small prime, and so a power of 65537, as every modulus of
/// that generator is.
pub(super) fn roca() -> Vec<u8> {
    let is_prime = |n: u32| (2..n).take_while(|d| d * d <= n).all(|d| !n.is_multiple_of(d));
    let mut modulus =
        (2..=751).filter(|n| is_prime(*n)).fold(vec![1], |product, prime| times(&product, prime));
    while modulus.len() < 256 {
        modulus = times(&modulus, 251);
    }
    while modulus.len() == 256 && modulus[0] < 0x80 {
        modulus = times(&modulus, 2);
    }
    // The product is even.
    *modulus.last_mut().unwrap() |= 1;
    modulus
}

/// Big-endian times a small number.
fn times(number: &[u8], factor: u32) -> Vec<u8> {
    let mut carry = 0u32;
    let mut result: Vec<u8> = number
        .iter()
        .rev()
        .map(|octet| {
            let sum = u32::from(*octet) * factor + carry;
            carry = sum >> 8;
            sum as u8
        })
        .collect();
    while carry > 0 {
        result.push(carry as u8);
        carry >>= 8;
    }
    result.reverse();
    result
}

/// A PKCS#10 request with this key and a signature that may be anything.
pub(super) fn request(spki: &[u8], signature: &[u8]) -> Vec<u8> {
    let info = sequence(&[&tlv(0x02, &[0]), &sequence(&[]), spki, &tlv(0xa0, &[])]);
    let algorithm = sequence(&[&tlv(0x06, ECDSA_WITH_SHA256)]);
    sequence(&[&info, &algorithm, &tlv(0x03, &[&[0], signature].concat())])
}

/// The key on another curve, or an RSA key, for as long as the tests run.
pub(super) fn leaked(kind: &[u8]) -> &'static [u8] {
    let spki = if kind == P384 { ec(P384, &[4; 97]) } else { rsa(&[0xff; 256], &[1, 0, 1]) };
    Box::leak(spki.into_boxed_slice())
}

/// A self-signed certificate that is an authority in all but what `spoil` does.
pub(super) fn certificate(spoil: fn(&mut CertificateParams)) -> Vec<u8> {
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    spoil(&mut params);
    params.self_signed(&key).unwrap().der().to_vec()
}
