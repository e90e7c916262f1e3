//! The self-signed certificate that answers TLS-ALPN-01 (RFC 8737 §3). Made by rcgen, never by the gate.

use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256};

use crate::domain::{Hostname, Secret};

/// A certificate for exactly `host` with a critical acmeIdentifier extension that holds `digest`
/// (SHA-256 of the key authorization, 32 octets). Returns DER and the PKCS#8 key.
///
/// # Errors
/// A sentence: the digest has the wrong length, or the key could not be made.
pub fn tls_alpn_certificate(host: &Hostname, digest: &[u8]) -> Result<(Vec<u8>, Secret<Vec<u8>>), String> {
    if digest.len() != 32 {
        return Err(format!("the digest has {} octets instead of 32", digest.len()));
    }
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|cause| cause.to_string())?;
    let mut params = CertificateParams::new([host.to_string()]).map_err(|cause| cause.to_string())?;
    params.distinguished_name = DistinguishedName::new();
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let certificate = params.self_signed(&key).map_err(|cause| cause.to_string())?;
    Ok((certificate.der().to_vec(), Secret::new(key.serialize_der())))
}
