//! Reads questions. Strict DER, small bounds, and nothing in them is trusted: whoever asks is anyone.

use der::asn1::{AnyRef, OctetStringRef};
use der::{Decode, Reader, SliceReader, Tag, Tagged};

use super::id::CertId;
use crate::pki::oid;
use crate::pki::read::{self, sequence_bytes, tagged};

/// Longer requests are refused unread. One CertID and a nonce take about 200 octets.
pub const MAX_REQUEST_OCTETS: usize = 4096;
/// Certificates that one request may ask about.
pub const MAX_SINGLE_REQUESTS: usize = 8;
/// RFC 9654 §2.1: 1 to 128 octets.
pub const MAX_NONCE_OCTETS: usize = 128;

/// A question about certificates of one or more issuers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OcspRequest {
    ids: Vec<CertId>,
    nonce: Option<Vec<u8>>,
}

/// Why a request is not one; answered with `malformedRequest`.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum MalformedRequest {
    /// More than [`MAX_REQUEST_OCTETS`].
    #[error("the request is longer than {MAX_REQUEST_OCTETS} octets")]
    TooLong,
    /// Not an OCSPRequest in DER.
    #[error("not an OCSP request in DER")]
    Encoding(#[from] der::Error),
    /// Another version than v1.
    #[error("the request is of another version than v1")]
    Version,
    /// No certificate, or more than [`MAX_SINGLE_REQUESTS`].
    #[error("a request names 1 to {MAX_SINGLE_REQUESTS} certificates")]
    Count,
    /// A nonce that is empty or longer than [`MAX_NONCE_OCTETS`] (RFC 9654 §2.1).
    #[error("a nonce has 1 to {MAX_NONCE_OCTETS} octets")]
    Nonce,
    /// An extension that must be understood and is not, or one that occurs twice.
    #[error("the request has an extension that is critical and unknown, or occurs twice")]
    Extension,
}

impl OcspRequest {
    /// Reads an OCSPRequest (RFC 6960 §4.1.1).
    ///
    /// A signature on it is not looked at: the status of a certificate is no secret.
    ///
    /// # Errors
    /// As [`MalformedRequest`] says.
    pub fn from_der(der: &[u8]) -> Result<Self, MalformedRequest> {
        if der.len() > MAX_REQUEST_OCTETS {
            return Err(MalformedRequest::TooLong);
        }
        AnyRef::from_der(der)?.sequence(|reader| {
            let body = AnyRef::decode(reader)?;
            tagged(reader, SIGNATURE)?;
            body.sequence(request)
        })
    }

    /// What is asked about; at least one.
    pub fn ids(&self) -> &[CertId] {
        &self.ids
    }

    /// What the answer must repeat.
    pub fn nonce(&self) -> Option<&[u8]> {
        self.nonce.as_deref()
    }

    /// The certificate, when the answer may serve everyone who asks: one certificate and no nonce.
    pub fn plain(&self) -> Option<&CertId> {
        match (self.ids.as_slice(), &self.nonce) {
            ([id], None) => Some(id),
            _ => None,
        }
    }
}

fn request(reader: &mut SliceReader<'_>) -> Result<OcspRequest, MalformedRequest> {
    // v1 is the default and so absent in DER; written out, as some do, it does no harm.
    if let Some(version) = tagged(reader, VERSION)?
        && u8::from_der(version.value())? != 0
    {
        return Err(MalformedRequest::Version);
    }
    tagged(reader, REQUESTOR_NAME)?;
    let mut list = SliceReader::new(sequence_content(AnyRef::decode(reader)?)?)?;
    let mut ids = Vec::new();
    while !list.is_finished() {
        if ids.len() == MAX_SINGLE_REQUESTS {
            return Err(MalformedRequest::Count);
        }
        ids.push(AnyRef::decode(&mut list)?.sequence(single)?);
    }
    if ids.is_empty() {
        return Err(MalformedRequest::Count);
    }
    let nonce = match tagged(reader, REQUEST_EXTENSIONS)? {
        Some(field) => extensions(field.value())?,
        None => None,
    };
    Ok(OcspRequest { ids, nonce })
}

fn sequence_content(any: AnyRef<'_>) -> der::Result<&[u8]> {
    any.tag().assert_eq(Tag::Sequence)?;
    Ok(any.value())
}

fn single(reader: &mut SliceReader<'_>) -> Result<CertId, MalformedRequest> {
    let id = CertId::read(sequence_bytes(reader)?)?;
    if let Some(field) = tagged(reader, SINGLE_EXTENSIONS)? {
        // serviceLocator and its like are for responders that forward.
        let known = read::extensions(field.value())?.iter().all(|extension| !extension.critical);
        known.then_some(()).ok_or(MalformedRequest::Extension)?;
    }
    Ok(id)
}

/// The nonce among the request's extensions.
fn extensions(der: &[u8]) -> Result<Option<Vec<u8>>, MalformedRequest> {
    let mut nonce = None;
    for extension in read::extensions(der)? {
        match extension.id {
            oid::OCSP_NONCE if nonce.is_some() => return Err(MalformedRequest::Extension),
            oid::OCSP_NONCE => {
                let octets = <&OctetStringRef>::from_der(extension.value)?.as_bytes();
                if octets.is_empty() || octets.len() > MAX_NONCE_OCTETS {
                    return Err(MalformedRequest::Nonce);
                }
                nonce = Some(octets.to_vec());
            }
            // Preferred algorithms and acceptable responses are wishes: there is one of each here.
            _ if extension.critical => return Err(MalformedRequest::Extension),
            _ => {}
        }
    }
    Ok(nonce)
}

const VERSION: u8 = 0xa0;
const REQUESTOR_NAME: u8 = 0xa1;
const REQUEST_EXTENSIONS: u8 = 0xa2;
const SIGNATURE: u8 = 0xa0;
const SINGLE_EXTENSIONS: u8 = 0xa0;
