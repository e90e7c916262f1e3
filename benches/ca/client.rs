//! Sixteen kept connections over TLS on loopback, to our API or step-ca's.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::house::House;
use super::load::{self, Sample};
use super::material::name_of;

/// A kept connection.
pub(crate) struct Connection(SendRequest<Full<Bytes>>);

/// What a connection needs.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) address: SocketAddr,
    /// The authority of its server certificate, DER.
    pub(crate) root: Vec<u8>,
}

impl Connection {
    pub(crate) async fn to(place: &Place) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(place.root.clone()))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let stream = TcpStream::connect(place.address).await?;
        stream.set_nodelay(true)?;
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let stream = connector.connect(ServerName::try_from("localhost")?, stream).await?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self(sender))
    }

    /// One without TLS.
    pub(crate) async fn in_the_clear(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self(sender))
    }

    /// Sends and reads the whole answer, which must have `status`.
    pub(crate) async fn exchange(&mut self, request: Request<Full<Bytes>>, status: u16) -> Result<Bytes> {
        self.0.ready().await?;
        let response = self.0.send_request(request).await?;
        let found = response.status().as_u16();
        let body = response.into_body().collect().await?.to_bytes();
        if found != status {
            bail!("answered {found}: {}", String::from_utf8_lossy(&body));
        }
        Ok(body)
    }
}

/// A request with a JSON body.
pub(crate) fn post(path: &str, token: Option<&str>, body: &Value) -> Result<Request<Full<Bytes>>> {
    let mut request =
        Request::post(path).header("host", "localhost").header("content-type", "application/json");
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    request.body(Full::new(Bytes::from(body.to_string()))).context("a request")
}

/// A request without a body.
pub(crate) fn get(path: &str, token: &str) -> Result<Request<Full<Bytes>>> {
    let request = Request::get(path).header("host", "localhost");
    let request = request.header("authorization", format!("Bearer {token}"));
    request.body(Full::new(Bytes::new())).context("a request")
}

/// One connection for each client.
pub(crate) async fn connections(place: &Place) -> Result<Vec<Connection>> {
    let mut connections = Vec::new();
    for _ in 0..super::CLIENTS {
        connections.push(Connection::to(place).await?);
    }
    Ok(connections)
}

/// Sends each request over the kept connections; each answer must have `status`.
pub(crate) async fn send_all(
    place: &Place,
    status: u16,
    count: usize,
    request: impl Fn(usize) -> Result<Request<Full<Bytes>>> + Clone + Send + Sync + 'static,
) -> Result<Sample> {
    let workers = connections(place).await?.into_iter().map(|connection| {
        let (connection, request) = (Arc::new(tokio::sync::Mutex::new(connection)), request.clone());
        move |index: usize| {
            let (connection, request) = (connection.clone(), request.clone());
            async move { connection.lock().await.exchange(request(index)?, status).await.map(drop) }
        }
    });
    Ok(load::run(count, workers.collect()).await)
}

/// Each request as an administrator's call of our API.
pub(crate) async fn issue_by_api(house: &House, requests: &[String]) -> Result<Sample> {
    let (requests, token): (Arc<[String]>, _) = (requests.into(), house.token.clone());
    let count = requests.len();
    send_all(&house.place, 201, count, move |index| {
        let body = json!({ "csr": requests[index], "device_name": name_of(index) });
        post("/api/v1/certificates", Some(&token), &body)
    })
    .await
}
