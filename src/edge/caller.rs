//! Who is behind an accepted socket: whoever connected or, where that is a load balancer that says so in a PROXY
//! header, whom it names. From everybody else a header is not looked for: its octets are bad TLS, or bad HTTP.

use std::io;
use std::net::SocketAddr;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::access_log;
use super::proxy_header::{BadHeader, MOST, Parsed, Said, parse};
use super::worker::Shared;
use crate::telemetry::metrics::ProxyHeader;

/// Why nobody is behind a connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallerFault {
    /// The header did not come in time.
    #[error("it took too long")]
    Timeout,
    /// The edge stops.
    #[error("the edge stops")]
    Draining,
    /// The load balancer left.
    #[error("it broke off: {0}")]
    Closed(#[source] io::Error),
    /// What came is no header.
    #[error(transparent)]
    Refused(#[from] BadHeader),
}

impl CallerFault {
    /// How it is counted, and the word in the log.
    pub(super) const fn label(&self) -> ProxyHeader {
        match self {
            Self::Timeout => ProxyHeader::TimedOut,
            Self::Draining => ProxyHeader::Draining,
            Self::Closed(_) => ProxyHeader::Closed,
            Self::Refused(_) => ProxyHeader::Refused,
        }
    }
}

/// Whether whoever connects from there has to say, in a PROXY header, for whom.
pub(super) fn speaks_for_others(shared: &Shared, peer: SocketAddr) -> bool {
    shared.settings.proxy_protocol_from.contains(peer.ip())
}

/// Who visits, by the connection that `peer` has made; none when there is nobody to serve.
pub(super) async fn of(shared: &Shared, stream: &mut TcpStream, peer: SocketAddr) -> Option<SocketAddr> {
    if !speaks_for_others(shared, peer) {
        return Some(peer);
    }
    let said = tokio::select! {
        biased;
        () = shared.stop.cancelled() => Err(CallerFault::Draining),
        // Boxed: it is large, and few connections need it.
        said = timeout(shared.settings.handshake_timeout, Box::pin(read(stream))) => {
            said.unwrap_or(Err(CallerFault::Timeout))
        }
    };
    let (visitor, label) = match said {
        Ok(Said::Nothing) => (Some(peer), ProxyHeader::Local),
        Ok(Said::Visitor { source, .. }) => (Some(source), ProxyHeader::Visitor),
        Err(fault) => {
            access_log::caller_unknown(peer, &fault);
            (None, fault.label())
        }
    };
    shared.metrics.proxy_headers.count(label);
    visitor
}

/// Takes the header off the stream, and not one octet more.
async fn read(stream: &mut TcpStream) -> Result<Said, CallerFault> {
    let mut octets = [0; MOST];
    let mut taken = 0;
    loop {
        // Looked at before it is taken: what stands behind the header belongs to the visitor.
        let seen = stream.peek(&mut octets[taken..]).await.map_err(CallerFault::Closed)?;
        if seen == 0 {
            return Err(CallerFault::Closed(io::ErrorKind::UnexpectedEof.into()));
        }
        let parsed = parse(&octets[..taken + seen])?;
        let end = match parsed {
            Parsed::Partial => taken + seen,
            Parsed::Whole(_, end) => end,
        };
        stream.read_exact(&mut octets[taken..end]).await.map_err(CallerFault::Closed)?;
        taken = end;
        if let Parsed::Whole(said, _) = parsed {
            return Ok(said);
        }
    }
}
