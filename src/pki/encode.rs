//! Writes DER. Small and total: every value that these functions are given has an encoding, so
//! building a certificate cannot fail half-way. What they wrote is read back by `lint` with an
//! independent decoder before anything is signed.

use der::asn1::ObjectIdentifier;

use crate::domain::{Serial, UtcTime};

const BOOLEAN: u8 = 0x01;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const NULL: u8 = 0x05;
const OBJECT_IDENTIFIER: u8 = 0x06;
const ENUMERATED: u8 = 0x0a;
const UTF8_STRING: u8 = 0x0c;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const BMP_STRING: u8 = 0x1e;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;

/// Tag, definite minimal length, content.
pub(super) fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(content.len() + 6);
    out.push(tag);
    let length = content.len();
    if length < 0x80 {
        out.push(length as u8);
    } else {
        let octets = length.to_be_bytes();
        let significant = &octets[length.leading_zeros() as usize / 8..];
        out.push(0x80 | significant.len() as u8);
        out.extend_from_slice(significant);
    }
    out.extend_from_slice(content);
    out
}

pub(super) fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    tlv(SEQUENCE, &parts.concat())
}

pub(super) fn sequence_of(items: &[Vec<u8>]) -> Vec<u8> {
    tlv(SEQUENCE, &items.concat())
}

/// A SET of one value, which needs no sorting.
pub(super) fn set_of_one(item: &[u8]) -> Vec<u8> {
    tlv(SET, item)
}

/// A SET OF with its elements in DER order (X.690 §11.6).
pub(super) fn set_of(mut items: Vec<Vec<u8>>) -> Vec<u8> {
    items.sort();
    tlv(SET, &items.concat())
}

/// `[number]`, constructed: EXPLICIT of anything, or IMPLICIT of a constructed type's content.
pub(super) fn context_constructed(number: u8, content: &[u8]) -> Vec<u8> {
    tlv(0xa0 | number, content)
}

/// `[number]`, primitive: IMPLICIT of a primitive type's content.
pub(super) fn context(number: u8, content: &[u8]) -> Vec<u8> {
    tlv(0x80 | number, content)
}

/// An INTEGER from big-endian octets of a non-negative number.
pub(super) fn unsigned(octets: &[u8]) -> Vec<u8> {
    let start = octets.iter().position(|octet| *octet != 0).unwrap_or(octets.len());
    let significant = &octets[start..];
    if significant.first().is_none_or(|first| *first >= 0x80) {
        tlv(INTEGER, &[&[0], significant].concat())
    } else {
        tlv(INTEGER, significant)
    }
}

pub(super) fn number(value: u64) -> Vec<u8> {
    unsigned(&value.to_be_bytes())
}

pub(super) fn serial(serial: Serial) -> Vec<u8> {
    unsigned(serial.as_octets())
}

pub(super) fn enumerated(value: u8) -> Vec<u8> {
    tlv(ENUMERATED, &[value & 0x7f])
}

/// BOOLEAN TRUE; FALSE is always a default and so never written.
pub(super) fn yes() -> Vec<u8> {
    tlv(BOOLEAN, &[0xff])
}

pub(super) fn null() -> Vec<u8> {
    tlv(NULL, &[])
}

pub(super) fn oid(identifier: ObjectIdentifier) -> Vec<u8> {
    tlv(OBJECT_IDENTIFIER, identifier.as_bytes())
}

pub(super) fn octets(content: &[u8]) -> Vec<u8> {
    tlv(OCTET_STRING, content)
}

/// A BIT STRING of whole octets.
pub(super) fn bits(content: &[u8]) -> Vec<u8> {
    tlv(BIT_STRING, &[&[0], content].concat())
}

/// A named BIT STRING of up to eight bits, bit 0 first; trailing zero bits are left out (X.690 §11.2.2).
pub(super) fn named_bits(first_octet: u8) -> Vec<u8> {
    if first_octet == 0 {
        return tlv(BIT_STRING, &[0]);
    }
    tlv(BIT_STRING, &[first_octet.trailing_zeros() as u8, first_octet])
}

pub(super) fn utf8(text: &str) -> Vec<u8> {
    tlv(UTF8_STRING, text.as_bytes())
}

/// A BMPString. Characters outside the basic plane become surrogate pairs, as every PKCS#12 reader expects.
pub(super) fn bmp(text: &str) -> Vec<u8> {
    let units: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
    tlv(BMP_STRING, &units)
}

/// RFC 5280 §4.1.2.5: UTCTime through 2049, GeneralizedTime from 2050; seconds, `Z`, no fraction.
pub(super) fn time(at: UtcTime) -> Vec<u8> {
    if at < YEAR_2050 { tlv(UTC_TIME, &digits(at).as_bytes()[2..]) } else { generalized_time(at) }
}

/// A GeneralizedTime whatever the year, as invalidityDate wants it (RFC 5280 §5.3.2).
pub(super) fn generalized_time(at: UtcTime) -> Vec<u8> {
    tlv(GENERALIZED_TIME, digits(at).as_bytes())
}

/// `YYYYMMDDHHMMSSZ`.
fn digits(at: UtcTime) -> String {
    at.to_string().chars().filter(|c| c.is_ascii_digit() || *c == 'Z').collect()
}

/// 2050-01-01T00:00:00Z.
const YEAR_2050: UtcTime = UtcTime::from_unix(2_524_608_000);

#[cfg(test)]
mod tests {
    use super::*;
    use der::{Decode, Encode};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_read_back(value: u64) {
            prop_assert_eq!(u64::from_der(&number(value)).unwrap(), value);
        }

        #[test]
        fn lengths_are_minimal(length in 0usize..70_000) {
            let written = octets(&vec![7; length]);
            let read = der::asn1::OctetString::from_der(&written).unwrap();
            prop_assert_eq!(read.as_bytes().len(), length);
            prop_assert_eq!(read.to_der().unwrap(), written);
        }

        #[test]
        fn times_read_back(seconds in 0i64..=253_402_300_799) {
            let written = time(UtcTime::from_unix(seconds));
            let read = x509_cert::time::Time::from_der(&written).unwrap();
            prop_assert_eq!(read.to_unix_duration().as_secs() as i64, seconds);
        }

        #[test]
        fn named_bits_read_back(octet: u8) {
            let written = named_bits(octet);
            let read = der::asn1::BitString::from_der(&written).unwrap();
            prop_assert_eq!(read.raw_bytes().first().copied().unwrap_or(0), octet);
        }
    }

    #[test]
    fn the_form_of_time_changes_with_the_year_2050() {
        let last: UtcTime = "2049-12-31T23:59:59Z".parse().unwrap();
        let first: UtcTime = "2050-01-01T00:00:00Z".parse().unwrap();
        assert_eq!(time(last), b"\x17\x0d491231235959Z");
        assert_eq!(time(first), b"\x18\x0f20500101000000Z");
    }
}
