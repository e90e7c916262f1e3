//! From an accepted socket to a finished handshake. The ClientHello picks the site; nothing is served
//! under a name that was not asked for.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use rustls::server::Acceptor;
use rustls_acme::is_tls_alpn_challenge;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use super::access_log;
use super::worker::Worker;
use crate::domain::Hostname;
use crate::live::Site;
use crate::telemetry::metrics::Handshake;

/// RFC 8446 §6: a fatal alert in the clear, `unrecognized_name` (RFC 6066 §3).
const UNRECOGNIZED_NAME: [u8; 7] = [0x15, 0x03, 0x03, 0x00, 0x02, 0x02, 0x70];

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
enum HandshakeFailure {
    /// It took too long, ClientHello included.
    #[error("timeout")]
    Timeout,
    /// The edge stops.
    #[error("draining")]
    Draining,
    /// The edge has no configuration yet.
    #[error("no_configuration")]
    NoConfiguration,
    /// The ClientHello names no host.
    #[error("no_server_name")]
    NoName,
    /// The ClientHello names a host that is not a site.
    #[error("unknown_server_name")]
    UnknownName,
    /// TLS-ALPN-01 without an open challenge.
    #[error("no_open_challenge")]
    NoChallenge,
    /// The peer is not speaking TLS with us, or left.
    #[error("{0}")]
    Tls(#[from] io::Error),
}

/// Shakes hands. `None` when there is nothing left to serve: it failed, or it was a challenge.
pub(super) async fn shake(
    worker: &Rc<Worker>,
    stream: TcpStream,
    peer: SocketAddr,
) -> Option<(TlsStream<TcpStream>, Arc<Site>)> {
    let shared = &worker.shared;
    let mut name = None;
    let outcome = tokio::select! {
        biased;
        () = shared.stop.cancelled() => Err(HandshakeFailure::Draining),
        outcome = tokio::time::timeout(
            shared.settings.handshake_timeout,
            negotiate(worker, stream, &mut name),
        ) => outcome.unwrap_or(Err(HandshakeFailure::Timeout)),
    };
    match outcome {
        Ok(Some(served)) => {
            shared.metrics.handshakes.count(Handshake::Completed);
            Some(served)
        }
        Ok(None) => {
            shared.metrics.handshakes.count(Handshake::Challenge);
            None
        }
        Err(failure) => {
            shared.metrics.handshakes.count(result_of(&failure));
            access_log::handshake_failed(peer, name.as_ref(), &failure);
            None
        }
    }
}

async fn negotiate(
    worker: &Rc<Worker>,
    stream: TcpStream,
    name: &mut Option<Hostname>,
) -> Result<Option<(TlsStream<TcpStream>, Arc<Site>)>, HandshakeFailure> {
    // rustls bounds a handshake message, and with it the ClientHello, at 64 KiB.
    let mut start = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
    let hello = start.client_hello();
    *name = hello.server_name().and_then(|name| Hostname::normalize(name).ok());
    let is_challenge = is_tls_alpn_challenge(&hello);
    let Some(configuration) = worker.shared.holder.snapshot().map(|snapshot| snapshot.configuration) else {
        return Err(refuse(&mut start.io, HandshakeFailure::NoConfiguration).await);
    };
    if is_challenge {
        let Some(config) = configuration.alpn_challenges.clone() else {
            return Err(refuse(&mut start.io, HandshakeFailure::NoChallenge).await);
        };
        // RFC 8737 §3: the handshake is the answer; no data follows.
        let mut stream = start.into_stream(config).await?;
        let _ = stream.shutdown().await;
        return Ok(None);
    }
    let Some(host) = name else {
        return Err(refuse(&mut start.io, HandshakeFailure::NoName).await);
    };
    let Some(site) = configuration.site(host.as_str()).cloned() else {
        return Err(refuse(&mut start.io, HandshakeFailure::UnknownName).await);
    };
    let stream = start.into_stream(site.server_config.clone()).await?;
    Ok(Some((stream, site)))
}

fn result_of(failure: &HandshakeFailure) -> Handshake {
    match failure {
        HandshakeFailure::Timeout => Handshake::TimedOut,
        HandshakeFailure::Tls(error) if refuses_certificate(error) => Handshake::Refused,
        _ => Handshake::Failed,
    }
}

/// Whether it was us who said no, to the certificate or to its absence.
fn refuses_certificate(error: &io::Error) -> bool {
    use rustls::Error;
    let error = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    matches!(error, Some(Error::InvalidCertificate(_) | Error::NoCertificatesPresented))
}

/// Says that we do not know the name, and nothing else: no certificate of another site is shown.
async fn refuse(stream: &mut TcpStream, failure: HandshakeFailure) -> HandshakeFailure {
    if stream.write_all(&UNRECOGNIZED_NAME).await.is_ok() {
        let _ = stream.shutdown().await;
    }
    failure
}
