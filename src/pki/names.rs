//! Distinguished names and general names, checked and written.

use core::net::IpAddr;

use der::Decode;
use der::asn1::{AnyRef, ObjectIdentifier};
use x509_cert::ext::pkix::name::DirectoryString;

use super::{encode, oid};
use crate::domain::Hostname;

/// RFC 5280 appendix A.1, ub-common-name and its siblings: at most 64 characters.
pub const MAX_ATTRIBUTE_CHARS: usize = 64;

/// Why a name cannot go into a certificate.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// An attribute of the subject.
    #[error(
        "{field} must have 1 to {MAX_ATTRIBUTE_CHARS} characters, none of them a control character or one that hides or turns text"
    )]
    Attribute {
        /// Which one.
        field: &'static str,
    },
    /// Not a mail address that an rfc822Name can hold.
    #[error("the e-mail address must be ASCII, local-part@host, at most 254 characters")]
    Email,
    /// Not a URI of the wanted kind.
    #[error("{0:?} is not an absolute URI of {1}")]
    Uri(String, &'static str),
    /// Neither a host name nor an IP address.
    #[error("{0:?} is neither a host name nor an IP address")]
    Host(String),
}

/// A Name with one attribute per RDN, in the order given; absent ones are left out.
pub(super) fn distinguished(
    attributes: &[(ObjectIdentifier, &'static str, Option<&str>)],
) -> Result<Vec<u8>, NameError> {
    let mut rdns = Vec::new();
    for (id, field, text) in attributes {
        let Some(text) = text else { continue };
        let tidy = !text.trim().is_empty()
            && text.chars().count() <= MAX_ATTRIBUTE_CHARS
            && !text.chars().any(|c| char::is_control(c) || is_invisible(c));
        if !tidy {
            return Err(NameError::Attribute { field });
        }
        // RFC 5280 §4.1.2.4: UTF8String.
        let attribute = encode::sequence(&[&encode::oid(*id), &encode::utf8(text)]);
        rdns.push(encode::set_of_one(&attribute));
    }
    Ok(encode::sequence_of(&rdns))
}

/// Characters that make a name look like another one: marks and overrides of direction, spaces without
/// width, separators of lines. Joiners (U+200C, U+200D) belong to several scripts and stay.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// The first common name in a Name, or empty text.
pub(super) fn common_name(name_der: &[u8]) -> der::Result<String> {
    let name = x509_cert::name::Name::from_der(name_der)?;
    let found = name.iter().find(|attribute| attribute.oid == oid::COMMON_NAME);
    let text = found.map(|attribute| AnyRef::from(&attribute.value).decode_as::<DirectoryString>());
    Ok(text.transpose()?.map(|text| text.value().into_owned()).unwrap_or_default())
}

/// A GeneralName `rfc822Name [1] IA5String`.
pub(super) fn email(address: &str) -> Result<Vec<u8>, NameError> {
    // RFC 5280 §4.2.1.6: the Mailbox of RFC 2821; quoted local parts are not worth their trouble.
    let (local, host) = address.rsplit_once('@').ok_or(NameError::Email)?;
    let atom = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~.".contains(&b);
    let local_ok = (1..=64).contains(&local.len())
        && local.bytes().all(atom)
        && !local.starts_with('.')
        && !local.ends_with('.')
        && !local.contains("..");
    if !local_ok || address.len() > 254 || Hostname::normalize(host).is_err() || host.ends_with('.') {
        return Err(NameError::Email);
    }
    Ok(encode::context(1, address.as_bytes()))
}

/// A GeneralName `uniformResourceIdentifier [6] IA5String` with one of these schemes.
pub(super) fn uri(text: &str, schemes: &[&str], kind: &'static str) -> Result<Vec<u8>, NameError> {
    let refused = || NameError::Uri(text.to_owned(), kind);
    // RFC 5280 §4.2.1.6: absolute, with a scheme and a scheme-specific part; IA5String is ASCII.
    let (scheme, rest) = text.split_once(':').ok_or_else(refused)?;
    let scheme_ok = schemes.contains(&scheme);
    let rest_ok =
        !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&b));
    // With an authority part, the host must be there (RFC 5280 §4.2.1.6).
    let host_ok = rest.strip_prefix("//").is_none_or(|rest| !rest.starts_with('/') && !rest.is_empty());
    let slashes_ok = scheme != "http" || rest.starts_with("//");
    if !(scheme_ok && rest_ok && host_ok && slashes_ok) || text.len() > 2048 {
        return Err(refused());
    }
    Ok(encode::context(6, text.as_bytes()))
}

/// A GeneralName for a TLS server: `dNSName [2]`, or `iPAddress [7]` for an address.
pub(super) fn host(text: &str) -> Result<Vec<u8>, NameError> {
    match text.parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) => Ok(encode::context(7, &address.octets())),
        Ok(IpAddr::V6(address)) => Ok(encode::context(7, &address.octets())),
        Err(_) => {
            let (prefix, name) = text.strip_prefix("*.").map_or(("", text), |name| ("*.", name));
            let name = Hostname::normalize(name).map_err(|_| NameError::Host(text.to_owned()))?;
            Ok(encode::context(2, format!("{prefix}{name}").as_bytes()))
        }
    }
}
