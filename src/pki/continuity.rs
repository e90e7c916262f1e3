//! Renewal by the same names (RFC 7030 §4.2.2): the request of a renewal repeats the subject and the
//! subjectAltName of the certificate that it renews, and says so by its own bytes.

use der::asn1::{AnyRef, ObjectIdentifier};
use der::{Decode, Reader};

use super::keygen::{KeygenError, sign_request};
use super::read::{self, Signed, Tbs, sequence_bytes};
use super::{encode, oid};

/// Attributes of one request at most.
const MAX_ATTRIBUTES: usize = 16;

/// Checks that a request, DER, asks for the names of this certificate, DER, and for no change of them.
/// Its signature is not looked at here.
///
/// # Errors
/// [`OtherNames`] says which name differs.
pub fn check(request: &[u8], certificate: &[u8]) -> Result<(), OtherNames> {
    let held = Tbs::from_der(Signed::from_der(certificate)?.body)?;
    let wanted = wishes(Signed::from_der(request)?.body)?;
    if wanted.change {
        return Err(OtherNames::Change);
    }
    // The same bytes, or the same text in another string type.
    if wanted.subject != held.subject && attributes(wanted.subject)? != attributes(held.subject)? {
        return Err(OtherNames::Subject);
    }
    let held = held.extension(oid::SUBJECT_ALT_NAME).map(|extension| extension.value);
    if names(wanted.alternatives)? != names(held)? { Err(OtherNames::Alternatives) } else { Ok(()) }
}

/// A request in DER for a P-256 private key in PKCS#8 DER, that repeats the names of `certificate`.
///
/// # Errors
/// [`KeygenError::Key`] for another kind of key, [`KeygenError::Certificate`] for what is not a certificate.
pub fn renewal_request(key_pkcs8: &[u8], certificate: &[u8]) -> Result<Vec<u8>, KeygenError> {
    let unreadable = |_: der::Error| KeygenError::Certificate;
    let held = Tbs::from_der(Signed::from_der(certificate).map_err(unreadable)?.body).map_err(unreadable)?;
    let alternatives = held.extension(oid::SUBJECT_ALT_NAME).map(|extension| {
        let extension =
            encode::sequence(&[&encode::oid(oid::SUBJECT_ALT_NAME), &encode::octets(extension.value)]);
        let extensions = encode::set_of_one(&encode::sequence(&[&extension]));
        encode::sequence(&[&encode::oid(oid::EXTENSION_REQUEST), &extensions])
    });
    sign_request(key_pkcs8, held.subject, &alternatives.unwrap_or_default())
}

/// What a request asks for.
struct Wishes<'a> {
    subject: &'a [u8],
    alternatives: Option<&'a [u8]>,
    /// It carries changeSubjectName.
    change: bool,
}

/// RFC 2986 §4.1: version, subject, key, attributes.
fn wishes(info: &[u8]) -> der::Result<Wishes<'_>> {
    AnyRef::from_der(info)?.sequence(|reader| {
        u8::decode(reader)?;
        let subject = sequence_bytes(reader)?;
        sequence_bytes(reader)?;
        let mut wishes = Wishes { subject, alternatives: None, change: false };
        if reader.is_finished() {
            return Ok(wishes);
        }
        let mut attributes = der::SliceReader::new(AnyRef::decode(reader)?.value())?;
        let mut count = 0;
        while !attributes.is_finished() {
            count += 1;
            if count > MAX_ATTRIBUTES {
                return Err(der::Tag::Set.length_error().into());
            }
            let (kind, values) = AnyRef::decode(&mut attributes)?.sequence(|reader| {
                Ok::<_, der::Error>((ObjectIdentifier::decode(reader)?, AnyRef::decode(reader)?.value()))
            })?;
            wishes.change |= kind == oid::CHANGE_SUBJECT_NAME;
            if kind == oid::EXTENSION_REQUEST {
                // RFC 2985 §5.4.2: a single value, Extensions.
                let extensions = read::extensions(values)?;
                let found = extensions.iter().find(|extension| extension.id == oid::SUBJECT_ALT_NAME);
                wishes.alternatives = found.map(|extension| extension.value).or(wishes.alternatives);
            }
        }
        Ok(wishes)
    })
}

/// The attributes of a Name in order, as identifier and text, whatever string type holds the text.
fn attributes(name: &[u8]) -> der::Result<Vec<(ObjectIdentifier, &[u8])>> {
    let mut rdns = der::SliceReader::new(AnyRef::from_der(name)?.value())?;
    let mut all = Vec::new();
    while !rdns.is_finished() {
        let mut set = der::SliceReader::new(AnyRef::decode(&mut rdns)?.value())?;
        while !set.is_finished() {
            let attribute = AnyRef::decode(&mut set)?.sequence(|reader| {
                Ok::<_, der::Error>((ObjectIdentifier::decode(reader)?, AnyRef::decode(reader)?.value()))
            })?;
            all.push(attribute);
        }
    }
    Ok(all)
}

/// The general names of an extension's value, sorted: their order says nothing.
fn names(value: Option<&[u8]>) -> der::Result<Vec<&[u8]>> {
    let Some(value) = value else { return Ok(Vec::new()) };
    let mut reader = der::SliceReader::new(AnyRef::from_der(value)?.value())?;
    let mut all = Vec::new();
    while !reader.is_finished() {
        all.push(reader.tlv_bytes()?);
    }
    all.sort_unstable();
    Ok(all)
}

/// How a request differs from the certificate that it is to renew.
#[derive(Debug, thiserror::Error)]
pub enum OtherNames {
    /// Another subject.
    #[error("the request's subject is not the current certificate's: repeat it exactly")]
    Subject,
    /// Other alternative names.
    #[error("the request's subjectAltName is not the current certificate's: repeat it exactly")]
    Alternatives,
    /// It asks for a change.
    #[error("names are not changed by a renewal: leave changeSubjectName out")]
    Change,
    /// Not a request or not a certificate.
    #[error("the signing request is not valid PKCS#10 in DER")]
    Malformed(#[from] der::Error),
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::pki::{fixtures, keygen};

    fn held() -> Vec<u8> {
        let issuing = fixtures::issuing_under(&fixtures::root());
        fixtures::client(&issuing, &fixtures::public_key()).der().to_vec()
    }

    #[test]
    fn a_renewal_repeats_the_names_of_its_certificate() {
        let certificate = held();
        let (key, _) = keygen::generate_p256();
        let request = renewal_request(key.expose(), &certificate).unwrap();
        check(&request, &certificate).unwrap();
        let other = keygen::client_csr(key.expose(), "Somebody Else").unwrap();
        assert!(matches!(check(&other, &certificate), Err(OtherNames::Subject)));
        let tbs = Tbs::from_der(Signed::from_der(&certificate).unwrap().body).unwrap();
        let bare = sign_request(key.expose(), tbs.subject, &[]).unwrap();
        assert!(matches!(check(&bare, &certificate), Err(OtherNames::Alternatives)));
        let change = encode::sequence(&[&encode::oid(oid::CHANGE_SUBJECT_NAME), &encode::set_of(vec![])]);
        let change = sign_request(key.expose(), tbs.subject, &change).unwrap();
        assert!(matches!(check(&change, &certificate), Err(OtherNames::Change)));
    }

    #[test]
    fn the_string_type_of_a_name_makes_no_difference() {
        let certificate = held();
        let tbs = Tbs::from_der(Signed::from_der(&certificate).unwrap().body).unwrap();
        let mut subject = tbs.subject.to_vec();
        let at = subject.iter().position(|octet| *octet == 0x0c).unwrap();
        subject[at] = 0x13; // PrintableString
        assert_eq!(attributes(&subject).unwrap(), attributes(tbs.subject).unwrap());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>, flip in 0usize..2000) {
            let certificate = held();
            let _ = check(&bytes, &certificate);
            let (key, _) = keygen::generate_p256();
            let mut request = renewal_request(key.expose(), &certificate).unwrap();
            let at = flip % request.len();
            request[at] ^= 0x11;
            let _ = check(&request, &certificate);
            let _ = check(&request, &bytes);
        }
    }
}
