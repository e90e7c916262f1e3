//! The visitors: raw HTTP/1.1 over rustls, so that they cost less than any proxy.

use std::cell::Cell as Shared;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::certificates::{HOST, Material};
use super::peers::Target;

/// Visitors with a kept connection each.
const KEPT: usize = 64;
/// Visitors that come anew each time.
const COMING: usize = 16;
/// What each asks.
const REQUEST: &[u8] = b"GET /some/page?with=query HTTP/1.1\r\nhost: app.test\r\nuser-agent: bench/1\r\n\
    accept: text/html,application/json\r\naccept-encoding: gzip\r\ncookie: session=0123456789abcdef\r\n\r\n";

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cell {
    /// Requests over kept connections; handshakes are done before the clock starts.
    KeepAlive,
    /// TCP, full TLS handshake with client certificate, one request, close.
    Handshakes,
}

impl Cell {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::KeepAlive => "keep-alive",
            Self::Handshakes => "handshakes",
        }
    }
}

/// One measurement.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) done: u64,
    pub(crate) errors: u64,
    pub(crate) took: Duration,
    pub(crate) cpu_seconds: f64,
}

impl Sample {
    pub(crate) fn per_second(&self) -> f64 {
        self.done as f64 / self.took.as_secs_f64()
    }

    pub(crate) fn cpu_per_100k(&self) -> f64 {
        self.cpu_seconds / self.done.max(1) as f64 * 100_000.0
    }
}

struct Visitors {
    connector: TlsConnector,
    target: std::net::SocketAddr,
    done: Shared<u64>,
    errors: Shared<u64>,
    over: Shared<bool>,
}

pub(crate) fn run(
    runtime: &tokio::runtime::Runtime,
    target: &Target,
    cell: Cell,
    material: &Material,
    span: Duration,
) -> Result<Sample> {
    let visitors = Rc::new(Visitors {
        connector: TlsConnector::from(Arc::new(config(material)?)),
        target: target.address,
        done: Shared::new(0),
        errors: Shared::new(0),
        over: Shared::new(false),
    });
    let local = tokio::task::LocalSet::new();
    local.block_on(runtime, async {
        let mut kept = Vec::new();
        if cell == Cell::KeepAlive {
            for _ in 0..KEPT {
                let mut stream = visitors.connect().await?;
                exchange(&mut stream, &mut Vec::new()).await?;
                kept.push(stream);
            }
        }
        let (began, cpu) = (Instant::now(), cpu_seconds(target.pid())?);
        let tasks: Vec<_> = match cell {
            Cell::KeepAlive => kept
                .into_iter()
                .map(|stream| tokio::task::spawn_local(visitors.clone().stay(stream)))
                .collect(),
            Cell::Handshakes => {
                (0..COMING).map(|_| tokio::task::spawn_local(visitors.clone().come_and_go())).collect()
            }
        };
        tokio::time::sleep(span).await;
        visitors.over.set(true);
        let sample = Sample {
            done: visitors.done.get(),
            errors: visitors.errors.get(),
            took: began.elapsed(),
            cpu_seconds: cpu_seconds(target.pid())? - cpu,
        };
        for task in tasks {
            task.await?;
        }
        if sample.done == 0 {
            bail!("{} answered nothing", target.name);
        }
        Ok(sample)
    })
}

impl Visitors {
    async fn connect(&self) -> Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(self.target).await?;
        stream.set_nodelay(true)?;
        Ok(self.connector.connect(ServerName::try_from(HOST)?, stream).await?)
    }

    async fn stay(self: Rc<Self>, mut stream: TlsStream<TcpStream>) {
        let mut buffer = Vec::with_capacity(16 * 1024);
        while !self.over.get() {
            if exchange(&mut stream, &mut buffer).await.is_err() {
                self.errors.set(self.errors.get() + 1);
                return;
            }
            self.done.set(self.done.get() + 1);
        }
    }

    async fn come_and_go(self: Rc<Self>) {
        let mut buffer = Vec::with_capacity(16 * 1024);
        while !self.over.get() {
            let visit = async {
                let mut stream = self.connect().await?;
                exchange(&mut stream, &mut buffer).await?;
                // A close without lingering in TIME_WAIT, or the ports run out.
                socket2::SockRef::from(stream.get_ref().0).set_linger(Some(Duration::ZERO))?;
                anyhow::Ok(())
            };
            let count = if visit.await.is_ok() { &self.done } else { &self.errors };
            count.set(count.get() + 1);
        }
    }
}

/// One request and its whole answer, which must be 200.
async fn exchange(stream: &mut TlsStream<TcpStream>, buffer: &mut Vec<u8>) -> Result<()> {
    stream.write_all(REQUEST).await?;
    stream.flush().await?;
    buffer.clear();
    loop {
        if stream.read_buf(buffer).await? == 0 {
            bail!("closed");
        }
        let mut headers = [httparse::EMPTY_HEADER; 32];
        let mut head = httparse::Response::new(&mut headers);
        let httparse::Status::Complete(octets) = head.parse(buffer)? else { continue };
        if head.code != Some(200) {
            bail!("status {:?}", head.code);
        }
        let length = head.headers.iter().find(|line| line.name.eq_ignore_ascii_case("content-length"));
        let length: usize = std::str::from_utf8(length.context("no length")?.value)?.parse()?;
        while buffer.len() < octets + length {
            if stream.read_buf(buffer).await? == 0 {
                bail!("closed");
            }
        }
        return Ok(());
    }
}

/// User and system time of a process so far, all threads.
fn cpu_seconds(pid: u32) -> Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The program's name stands in parentheses and may hold anything; fields count from behind it.
    let fields: Vec<&str> = text.rsplit(')').next().context("fields")?.split_whitespace().collect();
    let ticks = |at: usize| -> Result<f64> { Ok(fields.get(at).context("a field")?.parse::<u64>()? as f64) };
    // proc(5): fields 14 and 15 of the whole line, in ticks of 1/100 s on Linux.
    Ok((ticks(11)? + ticks(12)?) / 100.0)
}

fn config(material: &Material) -> Result<ClientConfig> {
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites = vec![aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256];
    provider.kx_groups = vec![aws_lc_rs::kx_group::X25519];
    let provider = Arc::new(provider);
    let chain = vec![CertificateDer::from(material.client_chain.clone())];
    let key = PrivateKeyDer::Pkcs8(material.client_key.clone().into());
    let mut config = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Unchecked(provider)))
        .with_client_auth_cert(chain, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}

/// The visitors share one core with the backend and must not be what is measured.
#[derive(Debug)]
struct Unchecked(Arc<CryptoProvider>);

impl ServerCertVerifier for Unchecked {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
