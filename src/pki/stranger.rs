//! A client certificate of nobody's: signed by an authority that is made for it and forgotten. With it the
//! edge asks itself whether strangers are refused. Made by rcgen, never by the gate.

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, PKCS_ECDSA_P256_SHA256,
};

use crate::domain::Secret;

/// The certificate as DER, and its PKCS#8 key.
///
/// # Errors
/// A sentence: a key could not be made.
pub fn stranger() -> Result<(Vec<u8>, Secret<Vec<u8>>), String> {
    make().map_err(|cause| cause.to_string())
}

fn make() -> Result<(Vec<u8>, Secret<Vec<u8>>), rcgen::Error> {
    let (above, key) =
        (KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?, KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?);
    let mut authority = named("Nobody's Authority");
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let mut leaf = named("Nobody");
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let certificate = leaf.signed_by(&key, &Issuer::new(authority, above))?;
    Ok((certificate.der().to_vec(), Secret::new(key.serialize_der())))
}

fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}
