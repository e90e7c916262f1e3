//! Writes OCSP requests, with an encoder of the tests' own.

use aws_lc_rs::digest::{SHA256, digest};
use wicketgate::domain::Serial;
use wicketgate::pki::AuthorityCertificate;

/// Tag, length below 128, content.
pub fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    [&[tag, u8::try_from(content.len()).unwrap()], content].concat()
}

/// The DER of a question about one serial, with SHA-256.
pub fn question(issuer: &AuthorityCertificate, serial: Serial, nonce: Option<&[u8]>) -> Vec<u8> {
    let hash = |octets: &[u8]| tlv(4, digest(&SHA256, octets).as_ref());
    let sha256 = tlv(0x30, &tlv(6, &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1]));
    // The point of a P-256 key: the last 65 octets of its SubjectPublicKeyInfo (RFC 5480 §2.2).
    let key = &issuer.spki_der()[issuer.spki_der().len() - 65..];
    let number = tlv(2, serial.as_octets());
    let id = [sha256, hash(issuer.subject_der()), hash(key), number].concat();
    let list = tlv(0x30, &tlv(0x30, &tlv(0x30, &id)));
    let extensions = nonce.map_or_else(Vec::new, |nonce| {
        let extension = [tlv(6, &[0x2b, 6, 1, 5, 5, 7, 0x30, 1, 2]), tlv(4, &tlv(4, nonce))].concat();
        tlv(0xa2, &tlv(0x30, &tlv(0x30, &extension)))
    });
    let body = [list, extensions].concat();
    long(0x30, &long(0x30, &body))
}

/// As [`tlv`], for content up to 255 octets.
fn long(tag: u8, content: &[u8]) -> Vec<u8> {
    if content.len() < 0x80 {
        return tlv(tag, content);
    }
    [&[tag, 0x81, u8::try_from(content.len()).unwrap()], content].concat()
}
