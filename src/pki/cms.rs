//! Certificates as a "certs-only" CMS message: SignedData without content and without signers
//! (RFC 5652 §5.1, as RFC 7030 §4.1.3 uses it). Nothing is verified here: it is a bag.

use der::asn1::{AnyRef, ObjectIdentifier};
use der::{Decode, Reader, Tag, TagNumber, Tagged};

use super::read::sequence_bytes;
use super::{encode, oid};

/// The longest message taken, in octets.
pub const MAX_OCTETS: usize = 128 * 1024;
/// More certificates than any chain of ours has; bounds the work on hostile bytes.
const MAX_CERTIFICATES: usize = 16;

/// Writes a message with these certificates, DER each. The order does not survive: DER sorts a set.
pub fn certs_only(certificates: &[&[u8]]) -> Vec<u8> {
    let mut sorted = certificates.to_vec();
    sorted.sort_unstable();
    let nothing = encode::set_of(Vec::new());
    let signed_data = encode::sequence(&[
        &encode::number(1),
        &nothing,
        &encode::sequence(&[&encode::oid(oid::PKCS7_DATA)]),
        &encode::context_constructed(0, &sorted.concat()),
        &nothing,
    ]);
    encode::sequence(&[&encode::oid(oid::PKCS7_SIGNED_DATA), &encode::context_constructed(0, &signed_data)])
}

/// Reads the certificates out of a message, DER each. Never panics, whatever the bytes.
///
/// # Errors
/// [`CmsError`] says what is wrong.
pub fn certificates(message: &[u8]) -> Result<Vec<Vec<u8>>, CmsError> {
    if message.len() > MAX_OCTETS {
        return Err(CmsError::TooLong);
    }
    let (kind, content) = AnyRef::from_der(message)?
        .sequence(|reader| Ok::<_, der::Error>((ObjectIdentifier::decode(reader)?, explicit(reader)?)))?;
    if kind != oid::PKCS7_SIGNED_DATA {
        return Err(CmsError::OtherContent(kind));
    }
    let bag = AnyRef::from_der(content)?.sequence(|reader| {
        u8::decode(reader)?;
        reader.tlv_bytes()?; // digestAlgorithms
        sequence_bytes(reader)?; // encapContentInfo
        let mut bag = None;
        while !reader.is_finished() {
            let field = AnyRef::decode(reader)?;
            if field.tag() == context(0) {
                bag = Some(field.value());
            }
        }
        Ok::<_, der::Error>(bag.unwrap_or_default())
    })?;
    let mut rest = der::SliceReader::new(bag)?;
    let mut found = Vec::new();
    while !rest.is_finished() {
        if found.len() == MAX_CERTIFICATES {
            return Err(CmsError::TooMany);
        }
        found.push(sequence_bytes(&mut rest)?.to_vec());
    }
    Ok(found)
}

/// The content of `[0] EXPLICIT`.
fn explicit<'a>(reader: &mut der::SliceReader<'a>) -> der::Result<&'a [u8]> {
    let field = AnyRef::decode(reader)?;
    field.tag().assert_eq(context(0))?;
    Ok(field.value())
}

fn context(number: u32) -> Tag {
    Tag::ContextSpecific { constructed: true, number: TagNumber(number) }
}

/// Why a message gives no certificates.
#[derive(Debug, thiserror::Error)]
pub enum CmsError {
    /// More than [`MAX_OCTETS`].
    #[error("the message is longer than {MAX_OCTETS} octets")]
    TooLong,
    /// More certificates than we take.
    #[error("the message holds more than {MAX_CERTIFICATES} certificates")]
    TooMany,
    /// Another kind of message.
    #[error("the message is of type {0}, not signed data")]
    OtherContent(ObjectIdentifier),
    /// Not CMS in DER.
    #[error("the message is not CMS in DER")]
    Malformed(#[from] der::Error),
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_was_written_reads_back_sorted() {
        let (a, b) = (encode::sequence(&[&encode::number(2)]), encode::sequence(&[&encode::number(1)]));
        assert_eq!(certificates(&certs_only(&[&a, &b])).unwrap(), [b, a]);
        assert!(certificates(&certs_only(&[])).unwrap().is_empty());
    }

    #[test]
    fn a_flood_of_certificates_is_refused() {
        let one = encode::sequence(&[]);
        let many = vec![one.as_slice(); MAX_CERTIFICATES + 1];
        assert!(matches!(certificates(&certs_only(&many)), Err(CmsError::TooMany)));
        assert!(matches!(certificates(&vec![0x30; MAX_OCTETS + 1]), Err(CmsError::TooLong)));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>, cut in 0usize..200, flip in 0usize..200) {
            let _ = certificates(&bytes);
            let one = encode::sequence(&[&encode::octets(&bytes)]);
            let mut message = certs_only(&[&one]);
            let at = flip % message.len();
            message[at] ^= 0x15;
            let _ = certificates(&message);
            message.truncate(cut);
            let _ = certificates(&message);
        }
    }
}
