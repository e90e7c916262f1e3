//! Shakes hands with our own edge to see which certificate it serves.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::domain::{Fingerprint, Hostname, Networks};
use crate::live::witness::{self, Witness};

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
    proxies: Networks,
}

impl Handshake {
    /// Asks the edge that listens at `edge`; an unspecified address is asked on loopback.
    ///
    /// * `proxies` — from where that edge wants a PROXY header.
    pub fn new(mut edge: SocketAddr, proxies: Networks) -> Self {
        if edge.ip().is_unspecified() {
            let loopback = match edge {
                SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
                SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
            };
            edge.set_ip(loopback);
        }
        Self { edge, proxies }
    }
}

#[async_trait]
impl ProveServed for Handshake {
    async fn served_leaf(&self, host: &Hostname) -> Result<Fingerprint, ProveError> {
        let no_leaf = |error: &dyn std::fmt::Display| ProveError::NoLeaf(error.to_string());
        let witness = Witness::new();
        let config = witness.client().map_err(|error| no_leaf(&error))?.with_no_client_auth();
        let name = ServerName::try_from(host.to_string()).map_err(|error| no_leaf(&error))?;
        let connect = async {
            let mut tcp = TcpStream::connect(self.edge).await?;
            witness::introduce(&mut tcp, &self.proxies).await?;
            Ok::<_, std::io::Error>(tcp)
        };
        let tcp = tokio::time::timeout(WITHIN, connect).await;
        let tcp = tcp.unwrap_or_else(|late| Err(late.into())).map_err(ProveError::Unreachable)?;
        let shake = TlsConnector::from(Arc::new(config)).connect(name, tcp);
        let shaken = tokio::time::timeout(WITHIN, shake).await;
        // A strict site hangs up on us for want of a certificate; by then it has shown its own.
        match (witness.leaf(), shaken) {
            (Some(leaf), _) => Ok(leaf),
            (None, Ok(Err(error))) => Err(no_leaf(&error)),
            (None, _) => Err(no_leaf(&"the handshake took too long")),
        }
    }
}
