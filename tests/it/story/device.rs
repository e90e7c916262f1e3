//! A device: a key, and the certificate that the house gave it.

use std::path::Path;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;
use wicketgate::domain::Secret;
use wicketgate::pki::keygen;

/// A key pair with its certificate chain, leaf first.
pub struct Device {
    pub key_pem: String,
    pub chain_pem: String,
}

/// A key that waits for its certificate.
pub struct Key(Secret<Vec<u8>>);

impl Key {
    pub fn generate() -> Self {
        Self(keygen::generate_p256().0)
    }

    pub fn csr(&self) -> String {
        keygen::client_csr_pem(self.0.expose(), "whatever").unwrap()
    }

    /// With the answer of the issue call.
    pub fn with(&self, certificate: &Value) -> Device {
        let text = |field: &str| certificate[field].as_str().unwrap().to_owned();
        Device {
            key_pem: keygen::private_key_pem(self.0.expose()).expose().clone(),
            chain_pem: text("pem") + &text("chain_pem"),
        }
    }
}

impl Device {
    pub fn chain(&self) -> Vec<CertificateDer<'static>> {
        let mut chain: Vec<_> =
            CertificateDer::pem_slice_iter(self.chain_pem.as_bytes()).map(Result::unwrap).collect();
        chain.dedup();
        chain
    }

    pub fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes()).unwrap()
    }

    /// Writes `<name>.pem` and `<name>.key` into `folder`, for curl.
    pub fn write(&self, folder: &Path, name: &str) -> [String; 2] {
        [("pem", &self.chain_pem), ("key", &self.key_pem)].map(|(kind, text)| {
            let path = folder.join(format!("{name}.{kind}"));
            std::fs::write(&path, text).unwrap();
            path.to_str().unwrap().to_owned()
        })
    }
}
