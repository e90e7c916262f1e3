//! What is attacked, as an attacker sees it: an address, a name and how to shake hands there.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::edge::fixture::APP;

/// Handshakes at the same time, lest those who come to wait be late already.
const SHAKING: usize = 16;

/// The edge.
pub(super) struct Mark {
    port: u16,
    one: Arc<ClientConfig>,
    two: Arc<ClientConfig>,
    shaking: Semaphore,
}

impl Mark {
    /// The one at this port, whose certificate comes from `root`.
    pub(super) fn of(port: u16, root: Vec<u8>) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(root)).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut one = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut two = one.clone();
        one.alpn_protocols = vec![b"http/1.1".to_vec()];
        two.alpn_protocols = vec![b"h2".to_vec()];
        Self { port, one: Arc::new(one), two: Arc::new(two), shaking: Semaphore::new(SHAKING) }
    }

    /// A connection, from this address if there is one, that takes so many octets before they are read.
    pub(super) async fn connect(&self, from: Option<Ipv4Addr>, buffer: Option<u32>) -> io::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        if let Some(octets) = buffer {
            socket.set_recv_buffer_size(octets)?;
        }
        if let Some(address) = from {
            socket.bind(SocketAddr::from((address, 0)))?;
        }
        let stream = socket.connect(SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// One that speaks HTTP/1.1.
    pub(super) async fn shake_one(&self, buffer: Option<u32>) -> io::Result<TlsStream<TcpStream>> {
        self.shake(self.one.clone(), buffer).await
    }

    /// One that speaks HTTP/2.
    pub(super) async fn shake_two(&self) -> io::Result<TlsStream<TcpStream>> {
        self.shake(self.two.clone(), None).await
    }

    async fn shake(&self, tls: Arc<ClientConfig>, buffer: Option<u32>) -> io::Result<TlsStream<TcpStream>> {
        let _permit = self.shaking.acquire().await.map_err(io::Error::other)?;
        let stream = self.connect(None, buffer).await?;
        TlsConnector::from(tls).connect(name(), stream).await
    }

    /// The first flight of a handshake.
    pub(super) fn hello(&self) -> Vec<u8> {
        let mut session = ClientConnection::new(self.one.clone(), name()).unwrap();
        let mut hello = Vec::new();
        while session.wants_write() {
            session.write_tls(&mut hello).unwrap();
        }
        hello
    }
}

fn name() -> ServerName<'static> {
    ServerName::try_from(APP).unwrap()
}
