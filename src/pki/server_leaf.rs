//! Leaves of the local server authority: what a site serves until its public certificate is there,
//! and what the admin listener serves always. The one place where a leaf is signed on the spot: the
//! key of this authority opens no client's way in.

use super::authority::{AuthorityCertificate, AuthorityError};
use super::extensions as ext;
use super::issuer::{Fields, PrepareError, within};
use super::key_policy::{KeyPolicy, PublicKey};
use super::keygen::{self, KeygenError};
use super::prepared::AssembleError;
use super::{lint, names, oid};
use crate::domain::{Secret, Serial, UtcTime};

/// The organizational unit in every such leaf, so that whoever meets one knows what it is.
pub const LABEL: &str = "local server authority";

/// Makes a key and a serverAuth certificate for these names (DNS names or IP addresses, at least one).
///
/// Returns the certificate's DER and the key's PKCS#8 DER.
///
/// # Errors
/// [`ServerLeafError`]; nothing is kept.
pub fn local_server_leaf(
    authority_cert_der: &[u8],
    authority_key_pkcs8: &[u8],
    names: &[&str],
    serial: Serial,
    not_before: UtcTime,
    not_after: UtcTime,
) -> Result<(Vec<u8>, Secret<Vec<u8>>), ServerLeafError> {
    let issuer = AuthorityCertificate::from_der(authority_cert_der)?;
    within(&issuer, not_after)?;
    let (key, spki) = keygen::generate_p256();
    let public_key = PublicKey::from_spki_der(&spki, &KeyPolicy::default()).map_err(PrepareError::Key)?;
    let first = names.first().ok_or(ServerLeafError::NoName)?;
    // The common name is for people; verifiers read the subjectAltName (RFC 9525 §6.3).
    let common_name = if first.len() <= names::MAX_ATTRIBUTE_CHARS { first } else { LABEL };
    let subject = names::distinguished(&[
        (oid::ORGANIZATIONAL_UNIT, "the organizational unit", Some(LABEL)),
        (oid::COMMON_NAME, "the common name", Some(common_name)),
    ])
    .map_err(PrepareError::Name)?;
    let names = names.iter().map(|name| names::host(name)).collect::<Result<Vec<_>, _>>();
    let mut extensions = vec![
        ext::authority_key_identifier(issuer.key_id()),
        ext::subject_key_identifier(&public_key.key_id()),
        ext::key_usage(ext::DIGITAL_SIGNATURE),
        ext::extended_key_usage(oid::KP_SERVER_AUTH),
    ];
    extensions.extend(ext::subject_alt_name(&names.map_err(PrepareError::Name)?));
    let fields = Fields {
        serial,
        issuer: issuer.subject_der(),
        not_before,
        not_after,
        subject: &subject,
        spki: public_key.spki_der(),
        extensions: &extensions,
    };
    let prepared = fields.prepare(issuer.spki_der(), |tbs| {
        [lint::lint_server(tbs), lint::lint_under(tbs, &issuer)].concat()
    })?;
    let signature = keygen::sign_p256(authority_key_pkcs8, prepared.tbs())?;
    Ok((prepared.assemble(&signature)?.der().to_vec(), key))
}

/// Why no server leaf was made.
#[derive(Debug, thiserror::Error)]
pub enum ServerLeafError {
    /// A server certificate needs a name.
    #[error("a server certificate needs at least one name")]
    NoName,
    /// The authority's certificate cannot issue.
    #[error("the local server authority's certificate is unusable")]
    Authority(#[from] AuthorityError),
    /// The certificate cannot be built.
    #[error("the server certificate cannot be built: {0}")]
    Prepare(#[from] PrepareError),
    /// The authority's key cannot be used.
    #[error("the local server authority's key is unusable")]
    Key(#[from] KeygenError),
    /// Certificate and key of the authority do not belong together.
    #[error("the local server authority's certificate and key do not belong together")]
    Assemble(#[from] AssembleError),
}
