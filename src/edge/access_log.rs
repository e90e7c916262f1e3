//! One line per request, written when its answer is finished; one per failed handshake.
//! Never a query, a header, an e-mail address or a token.

use std::net::SocketAddr;

use http::{Method, StatusCode, Uri};
use tokio::time::Instant;
use tracing::info;

use super::respond::Code;
use crate::domain::{Hostname, PersonId, RouteId, Serial};
use crate::telemetry::trace::TraceId;

/// What is known of a request so far.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) started: Instant,
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) host: Option<Hostname>,
    pub(super) status: StatusCode,
    pub(super) code: Option<Code>,
    pub(super) serial: Option<Serial>,
    pub(super) person: Option<PersonId>,
    pub(super) route: Option<RouteId>,
    pub(super) trace: TraceId,
    pub(super) bytes: u64,
    /// Whether the answer ended as it should.
    pub(super) whole: bool,
}

impl Entry {
    pub(super) fn new(method: Method, uri: Uri, trace: TraceId) -> Self {
        Self {
            started: Instant::now(),
            method,
            uri,
            host: None,
            status: StatusCode::OK,
            code: None,
            serial: None,
            person: None,
            route: None,
            trace,
            bytes: 0,
            whole: false,
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        // `info!` looks at nothing below unless someone listens.
        info!(
            target: "access",
            method = %self.method,
            host = self.host.as_ref().map_or("", Hostname::as_str),
            path = self.uri.path(),
            status = self.status.as_u16(),
            code = self.code.map(Code::name),
            duration_us = u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX),
            bytes = self.bytes,
            whole = self.whole,
            serial = self.serial.map(tracing::field::display),
            person = self.person.map(tracing::field::display),
            route = self.route.map(tracing::field::display),
            trace_id = %self.trace,
            "request"
        );
    }
}

/// Writes down why a handshake failed. `name` is a normalised host name or nothing.
pub(super) fn handshake_failed(peer: SocketAddr, name: Option<&Hostname>, cause: &dyn std::fmt::Display) {
    info!(
        target: "handshake",
        peer = %peer.ip(),
        host = name.map_or("", Hostname::as_str),
        cause = %cause,
        "handshake failed"
    );
}
