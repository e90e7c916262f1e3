//! Writes PKCS#12 files (RFC 7292): one private key, its certificate and the chain above it, for
//! import into a phone, a browser or a key store.
//!
//! Two encodings, because no single one opens everywhere: Apple and Android refused AES files for
//! years and call it a wrong password, and FIPS systems refuse 3DES. See [`Encoding`].

mod kdf;
mod password;
mod seal;
#[cfg(test)]
mod tests;

pub use password::{Password, PasswordError};

use aws_lc_rs::digest::{SHA256, digest};

use self::seal::Suite;
use super::key_policy::{KeyKind, KeyPolicy, PublicKey};
use super::read::{Signed, Tbs};
use super::{encode, keygen, oid};
use crate::domain::{Entropy, Secret};

/// How the file is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// PBES2 (PBKDF2 with HMAC-SHA-256, AES-256-CBC) and an HMAC-SHA-256 MAC: what current software reads.
    Modern,
    /// pbeWithSHAAnd3-KeyTripleDES-CBC and a SHA-1 MAC: what older phones and key stores read.
    Compat,
}

impl Encoding {
    /// The name in interfaces.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Modern => "modern",
            Self::Compat => "compat",
        }
    }
}

/// Writes one file.
///
/// * `key_pkcs8` — the private key, PKCS#8 DER.
/// * `leaf_der` — its certificate; `chain_der` — the authorities above it, nearest first.
/// * `friendly_name` — what key stores show, at most [`MAX_NAME_CHARS`] characters.
/// * `entropy` — salts and initialisation vectors.
///
/// # Errors
/// Refuses a name that is too long, certificates or keys that are not DER, and a P-256 certificate
/// with another key than its own. For other kinds of key the caller knows that they belong together.
pub fn write(
    encoding: Encoding,
    key_pkcs8: &[u8],
    leaf_der: &[u8],
    chain_der: &[&[u8]],
    friendly_name: &str,
    password: &Password,
    entropy: &dyn Entropy,
) -> Result<Vec<u8>, Pkcs12Error> {
    if friendly_name.chars().count() > MAX_NAME_CHARS {
        return Err(Pkcs12Error::Name);
    }
    if !matches!(der::asn1::AnyRef::try_from(key_pkcs8), Ok(any) if der::Tagged::tag(&any) == der::Tag::Sequence)
    {
        return Err(Pkcs12Error::Key);
    }
    for certificate in chain_der.iter().chain([&leaf_der]) {
        Signed::from_der(certificate)
            .and_then(|c| Tbs::from_der(c.body).map(drop))
            .map_err(Pkcs12Error::Certificate)?;
    }
    belong_together(key_pkcs8, leaf_der)?;
    let suite = Suite::of(encoding);
    // localKeyId ties key and certificate together; SHA-256's first 20 octets are as good as the usual SHA-1.
    let leaf_digest = digest(&SHA256, leaf_der);
    let attributes = attributes(friendly_name, &leaf_digest.as_ref()[..20]);

    let mut certificates = vec![certificate_bag(leaf_der, &attributes)];
    certificates.extend(chain_der.iter().map(|der| certificate_bag(der, &[])));
    let certificates = encode::sequence_of(&certificates);
    let key = suite.encrypt(key_pkcs8, password, entropy)?;
    let key_bag = bag(oid::PKCS8_SHROUDED_KEY_BAG, &key.as_encrypted_private_key_info(), &attributes);

    let safe = encode::sequence(&[
        &suite.encrypt(&certificates, password, entropy)?.as_encrypted_data(),
        &data(&encode::sequence(&[&key_bag])),
    ]);
    let mac = suite.mac(&safe, password, entropy);
    Ok(encode::sequence(&[&encode::number(3), &data(&safe), &mac]))
}

/// A file with the wrong key imports without a word and then never connects.
fn belong_together(key_pkcs8: &[u8], leaf_der: &[u8]) -> Result<(), Pkcs12Error> {
    let leaf = Signed::from_der(leaf_der).map_err(Pkcs12Error::Certificate)?;
    let spki = Tbs::from_der(leaf.body).map_err(Pkcs12Error::Certificate)?.spki;
    let certified = PublicKey::from_spki_der(spki, &KeyPolicy::default());
    if !certified.is_ok_and(|key| key.kind() == KeyKind::P256) {
        return Ok(());
    }
    match keygen::public_key(key_pkcs8) {
        Ok(public) if public == spki => Ok(()),
        _ => Err(Pkcs12Error::Mismatch),
    }
}

/// §4.1: ContentInfo of type data.
fn data(content: &[u8]) -> Vec<u8> {
    let content = encode::context_constructed(0, &encode::octets(content));
    encode::sequence(&[&encode::oid(oid::PKCS7_DATA), &content])
}

/// §4.2: a SafeBag.
fn bag(kind: der::asn1::ObjectIdentifier, value: &[u8], attributes: &[u8]) -> Vec<u8> {
    encode::sequence(&[&encode::oid(kind), &encode::context_constructed(0, value), attributes])
}

/// §4.2.3: a CertBag with an X.509 certificate.
fn certificate_bag(der: &[u8], attributes: &[u8]) -> Vec<u8> {
    let certificate = encode::context_constructed(0, &encode::octets(der));
    let value = encode::sequence(&[&encode::oid(oid::X509_CERTIFICATE), &certificate]);
    bag(oid::CERT_BAG, &value, attributes)
}

/// RFC 2985 §5.5: friendlyName and localKeyId.
fn attributes(friendly_name: &str, key_id: &[u8]) -> Vec<u8> {
    let attribute = |id, value: &[u8]| encode::sequence(&[&encode::oid(id), &encode::set_of_one(value)]);
    encode::set_of(vec![
        attribute(oid::FRIENDLY_NAME, &encode::bmp(friendly_name)),
        attribute(oid::LOCAL_KEY_ID, &encode::octets(key_id)),
    ])
}

/// RFC 2985 §5.5.1: a friendlyName has at most 255 characters.
pub const MAX_NAME_CHARS: usize = 255;

/// Why no file was written.
#[derive(Debug, thiserror::Error)]
pub enum Pkcs12Error {
    /// More than [`MAX_NAME_CHARS`].
    #[error("the friendly name has more than {MAX_NAME_CHARS} characters")]
    Name,
    /// Not PKCS#8 DER.
    #[error("the private key is not PKCS#8 in DER")]
    Key,
    /// Not a certificate in DER.
    #[error("a certificate is not DER")]
    Certificate(#[source] der::Error),
    /// The certificate is for another key.
    #[error("the certificate is for another key")]
    Mismatch,
    /// The cipher refused.
    #[error("the content could not be encrypted")]
    Encrypt,
}

/// Key material while it is being used.
type Key = Secret<Vec<u8>>;
