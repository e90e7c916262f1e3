//! The same P-256 certificates for every target: a server leaf, a client authority, one client.

use std::path::Path;

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

/// The one site.
pub(crate) const HOST: &str = "app.test";

/// What the visitors need.
pub(crate) struct Material {
    pub(crate) client_chain: Vec<u8>,
    pub(crate) client_key: Vec<u8>,
}

/// Writes `server.pem` (chain and key), `server.der`, `server.key`, `ca.pem`, `ca.der`, `client.der`.
pub(crate) fn make(folder: &Path) -> Result<Material> {
    let ca_key = KeyPair::generate()?;
    let mut ca = CertificateParams::default();
    ca.distinguished_name.push(DnType::CommonName, "Bench Client Issuing G1");
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let ca_certificate = ca.self_signed(&ca_key)?;

    let client_key = KeyPair::generate()?;
    let mut client = CertificateParams::default();
    client.distinguished_name.push(DnType::CommonName, "Anna");
    client.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    client.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    let client = client.signed_by(&client_key, &Issuer::from_params(&ca, &ca_key))?;

    let server_key = KeyPair::generate()?;
    let server = CertificateParams::new([HOST.to_owned()])?.self_signed(&server_key)?;

    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.join(name), bytes);
    write("ca.pem", ca_certificate.pem().as_bytes())?;
    write("ca.der", ca_certificate.der())?;
    write("client.der", client.der())?;
    write("server.pem", format!("{}{}", server.pem(), server_key.serialize_pem()).as_bytes())?;
    write("server.der", server.der())?;
    write("server.key", &server_key.serialize_der())?;
    Ok(Material { client_chain: client.der().to_vec(), client_key: client_key.serialize_der() })
}
