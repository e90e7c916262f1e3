//! Shakes hands with our own edge to see which certificate it serves.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::domain::{Fingerprint, Hostname};

/// For TCP and TLS together.
const WITHIN: Duration = Duration::from_secs(5);

/// Why no leaf was seen.
#[derive(Debug, thiserror::Error)]
pub enum ProveError {
    /// Nobody listens there; nothing can be said about the certificate.
    #[error("the edge cannot be reached")]
    Unreachable(#[source] std::io::Error),
    /// The edge was reached and showed no certificate for this name.
    #[error("the edge shows no certificate: {0}")]
    NoLeaf(String),
}

/// Says which leaf is served.
#[async_trait]
pub trait ProveServed: Send + Sync {
    /// The leaf that a visitor of `host` is shown now.
    ///
    /// # Errors
    /// As [`ProveError`] says.
    async fn served_leaf(&self, host: &Hostname) -> Result<Fingerprint, ProveError>;
}

/// Asks the edge at an address, as a visitor without a client certificate.
#[derive(Clone, Debug)]
pub struct Handshake {
    edge: SocketAddr,
}

impl Handshake {
    /// Asks the edge that listens at `edge`; an unspecified address is asked on loopback.
    pub fn new(mut edge: SocketAddr) -> Self {
        if edge.ip().is_unspecified() {
            let loopback = match edge {
                SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
                SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
            };
            edge.set_ip(loopback);
        }
        Self { edge }
    }
}

#[async_trait]
impl ProveServed for Handshake {
    async fn served_leaf(&self, host: &Hostname) -> Result<Fingerprint, ProveError> {
        let no_leaf = |error: &dyn std::fmt::Display| ProveError::NoLeaf(error.to_string());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let witness = Arc::new(Witness { provider: provider.clone(), leaf: Mutex::default() });
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| no_leaf(&error))?
            .dangerous()
            .with_custom_certificate_verifier(witness.clone())
            .with_no_client_auth();
        let name = ServerName::try_from(host.to_string()).map_err(|error| no_leaf(&error))?;
        let tcp = tokio::time::timeout(WITHIN, TcpStream::connect(self.edge)).await;
        let tcp = tcp.unwrap_or_else(|late| Err(late.into())).map_err(ProveError::Unreachable)?;
        let shake = TlsConnector::from(Arc::new(config)).connect(name, tcp);
        let shaken = tokio::time::timeout(WITHIN, shake).await;
        // A strict site hangs up on us for want of a certificate; by then it has shown its own.
        let seen = *witness.leaf.lock();
        match (seen, shaken) {
            (Some(leaf), _) => Ok(leaf),
            (None, Ok(Err(error))) => Err(no_leaf(&error)),
            (None, _) => Err(no_leaf(&"the handshake took too long")),
        }
    }
}

/// Trusts nobody and refuses nobody: it only looks. The handshake's signature is checked, so that the
/// edge has the key too. Nothing is ever sent over such a connection.
#[derive(Debug)]
struct Witness {
    provider: Arc<CryptoProvider>,
    leaf: Mutex<Option<Fingerprint>>,
}

impl Witness {
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
