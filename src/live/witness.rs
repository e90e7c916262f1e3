//! How this program looks at its own edge: a TLS client that takes whatever certificate it is shown, as long as the
//! edge has its key, and remembers it. Whoever uses it asks about the edge, and entrusts nothing to it.

use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use rustls::client::WantsClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, ConfigBuilder, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::tls::TlsPolicy;
use crate::domain::{Fingerprint, Networks};

/// A PROXY header (version 2) of somebody who speaks for themselves: LOCAL, and nothing else.
pub const LOCAL_HEADER: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

/// Begins a connection to our own edge as the edge wants it from here: with a PROXY header, if this host is among
/// those that have to send one.
///
/// # Errors
/// The edge does not take it.
pub async fn introduce(stream: &mut TcpStream, proxies: &Networks) -> io::Result<()> {
    match proxies.contains(stream.local_addr()?.ip()) {
        true => stream.write_all(LOCAL_HEADER).await,
        false => Ok(()),
    }
}

/// Trusts nobody and refuses nobody: it only looks. The handshake's signature is checked, so that the edge has the
/// key too.
#[derive(Debug)]
pub struct Witness {
    provider: Arc<CryptoProvider>,
    leaf: Mutex<Option<Fingerprint>>,
}

impl Witness {
    /// One that has seen nothing yet.
    pub fn new() -> Arc<Self> {
        Arc::new(Self { provider: TlsPolicy::modern().provider().clone(), leaf: Mutex::default() })
    }

    /// The leaf that it was shown last.
    pub fn leaf(&self) -> Option<Fingerprint> {
        *self.leaf.lock()
    }

    /// A client that looks through it, with TLS 1.3 and 1.2.
    ///
    /// # Errors
    /// rustls refuses the settings.
    pub fn client(self: &Arc<Self>) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, rustls::Error> {
        let builder = ClientConfig::builder_with_provider(self.provider.clone());
        let builder = builder.with_safe_default_protocol_versions()?.dangerous();
        Ok(builder.with_custom_certificate_verifier(self.clone()))
    }

    fn seen(&self, leaf: &CertificateDer<'_>) {
        *self.leaf.lock() = Some(Fingerprint::of(leaf));
    }
}

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        _leaf: &CertificateDer<'_>,
        _chain: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, leaf, signature, algorithms).inspect(|_| self.seen(leaf))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, leaf, signature, algorithms).inspect(|_| self.seen(leaf))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
