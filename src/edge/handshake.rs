//! From an accepted socket to a finished handshake. The ClientHello picks the site; nothing is served
//! under a name that was not asked for. One reading of it decides for all: what is passed through unread is
//! chosen here, too, by the same name in the same spelling.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use rustls::server::Acceptor;
use rustls_acme::is_tls_alpn_challenge;
use tokio::io::AsyncWriteExt;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use super::access_log;
use super::carrier::Carrier;
use super::passthrough::Passage;
use super::worker::Worker;
use crate::domain::Hostname;
use crate::live::tls::with_refusal;
use crate::live::{Cause, Refusal, Site};
use crate::telemetry::metrics::{ClientAuthResult, Handshake};

/// RFC 8446 §6: a fatal alert in the clear, `unrecognized_name` (RFC 6066 §3).
const UNRECOGNIZED_NAME: [u8; 7] = [0x15, 0x03, 0x03, 0x00, 0x02, 0x02, 0x70];

/// Why there is no connection.
#[derive(Debug)]
pub(super) enum HandshakeFailure {
    /// It took too long, ClientHello included.
    Timeout,
    /// The edge stops, and it took too long for that.
    Draining,
    /// The edge has no configuration yet.
    NoConfiguration,
    /// The ClientHello names no host.
    NoName,
    /// The ClientHello names a host that is not a site.
    UnknownName,
    /// TLS-ALPN-01 without an open challenge.
    NoChallenge,
    /// The site lets nobody in without a certificate, and none was presented.
    NoCertificate,
    /// The site lets nobody in whose certificate does not pass.
    Refused(Refusal),
    /// The peer could not show that the certificate's key is theirs.
    BadProof,
    /// The peer does not speak TLS as we do.
    Protocol(rustls::Error),
    /// The peer left.
    Closed(io::Error),
}

impl From<io::Error> for HandshakeFailure {
    fn from(error: io::Error) -> Self {
        use rustls::{CertificateError, Error};
        match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
            None => Self::Closed(error),
            Some(Error::NoCertificatesPresented) => Self::NoCertificate,
            Some(Error::InvalidCertificate(CertificateError::BadSignature)) => Self::BadProof,
            Some(Error::InvalidCertificate(_)) => {
                Self::Refused(Refusal { cause: Cause::Unreadable, serial: None, issuer: None })
            }
            Some(other) => Self::Protocol(other.clone()),
        }
    }
}

impl HandshakeFailure {
    /// How it is counted.
    fn label(&self) -> Handshake {
        match self {
            Self::Timeout => Handshake::TimedOut,
            Self::Draining => Handshake::Draining,
            Self::NoConfiguration => Handshake::NoConfiguration,
            Self::NoName => Handshake::NoServerName,
            Self::UnknownName => Handshake::UnknownServerName,
            Self::NoChallenge => Handshake::NoOpenChallenge,
            Self::NoCertificate => Handshake::NoCertificate,
            Self::Refused(_) => Handshake::Refused,
            Self::BadProof => Handshake::BadProof,
            Self::Protocol(_) => Handshake::Protocol,
            Self::Closed(_) => Handshake::Closed,
        }
    }

    /// The word in the log: the certificate's fault, or the one that is counted.
    pub(super) fn cause(&self) -> &'static str {
        match self {
            Self::Refused(refusal) => refusal.cause.name(),
            other => other.label().word(),
        }
    }

    /// What else can be said of it.
    pub(super) fn detail(&self) -> Option<&dyn std::fmt::Display> {
        match self {
            Self::Protocol(error) => Some(error),
            Self::Closed(error) => Some(error),
            _ => None,
        }
    }

    pub(super) const fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            _ => None,
        }
    }
}

/// What is left to be served.
pub(super) enum Shaken {
    /// The handshake is finished. Boxed: large, and it changes hands often.
    Terminated(Box<TlsStream<Carrier>>, Arc<Site>),
    /// It is not ours to finish.
    PassedThrough(Passage),
}

/// Shakes hands. `None` when there is nothing left to serve: it failed, or it was a challenge.
pub(super) async fn shake(worker: &Rc<Worker>, stream: Carrier, peer: SocketAddr) -> Option<Shaken> {
    let shared = &worker.shared;
    let mut name = None;
    let drained = async {
        shared.stop.cancelled().await;
        tokio::time::sleep(shared.grace()).await;
    };
    let outcome = tokio::select! {
        biased;
        () = drained => Err(HandshakeFailure::Draining),
        outcome = tokio::time::timeout(
            shared.settings.handshake_timeout,
            negotiate(worker, stream, &mut name),
        ) => outcome.unwrap_or(Err(HandshakeFailure::Timeout)),
    };
    match outcome {
        Ok(Some(shaken)) => {
            shared.metrics.handshakes.count(match &shaken {
                Shaken::Terminated(..) => Handshake::Completed,
                Shaken::PassedThrough(_) => Handshake::PassedThrough,
            });
            Some(shaken)
        }
        Ok(None) => {
            shared.metrics.handshakes.count(Handshake::Challenge);
            None
        }
        Err(_) if shared.is_own_call(peer) => None,
        Err(failure) => {
            shared.metrics.handshakes.count(failure.label());
            match &failure {
                HandshakeFailure::NoCertificate => shared.metrics.client_auth.count(ClientAuthResult::None),
                HandshakeFailure::Refused(refusal) => shared.metrics.client_auth.count(refusal.cause.into()),
                _ => {}
            }
            access_log::handshake_failed(peer, name.as_ref(), &failure);
            None
        }
    }
}

async fn negotiate(
    worker: &Rc<Worker>,
    mut stream: Carrier,
    name: &mut Option<Hostname>,
) -> Result<Option<Shaken>, HandshakeFailure> {
    if worker.shared.holder.snapshot().is_some_and(|snapshot| !snapshot.configuration.passthroughs.is_empty())
    {
        stream.start_tape();
    }
    // rustls bounds a handshake message, and with it the ClientHello, at 64 KiB.
    let mut start = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
    let hello = start.client_hello();
    *name = hello.server_name().and_then(|name| Hostname::normalize(name).ok());
    let is_challenge = is_tls_alpn_challenge(&hello);
    let Some(configuration) = worker.shared.holder.snapshot().map(|snapshot| snapshot.configuration) else {
        return Err(refuse(&mut start.io, HandshakeFailure::NoConfiguration).await);
    };
    // Whatever protocol is asked for: challenges for this name are for whoever has its certificate.
    if let Some(site) = name.as_ref().and_then(|name| configuration.passthrough(name.as_str())) {
        return match start.io.into_taped() {
            Ok((stream, said)) => {
                Ok(Some(Shaken::PassedThrough(Passage { site: site.clone(), stream, said })))
            }
            // It has become one while the ClientHello was under way.
            Err(mut io) => Err(refuse(&mut io, HandshakeFailure::UnknownName).await),
        };
    }
    start.io.stop_tape();
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
    let (shaken, refusal) = with_refusal(start.into_stream(site.server_config.clone())).await;
    match (shaken, refusal) {
        (Ok(stream), _) => Ok(Some(Shaken::Terminated(Box::new(stream), site))),
        (Err(_), Some(refusal)) => Err(HandshakeFailure::Refused(refusal)),
        (Err(error), None) => Err(error.into()),
    }
}

/// Says that we do not know the name, and nothing else: no certificate of another site is shown.
async fn refuse(stream: &mut Carrier, failure: HandshakeFailure) -> HandshakeFailure {
    if stream.write_all(&UNRECOGNIZED_NAME).await.is_ok() {
        let _ = stream.shutdown().await;
    }
    failure
}
