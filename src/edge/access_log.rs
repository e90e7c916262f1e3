//! One line per request, written when its answer is finished, or its tunnel; one per failed handshake, and one per
//! connection that was passed through.
//! Never a query, a header, an e-mail address or a token.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http::{Method, StatusCode, Uri};
use tokio::time::Instant;
use tracing::{Level, info};

use super::caller::CallerFault;
use super::handshake::HandshakeFailure;
use super::passthrough::End;
use super::respond::Code;
use super::spans::ServerSpan;
use crate::clock::wall_ms;
use crate::domain::{Hostname, PersonId, RouteId, Serial};
use crate::live::{Passthrough, Refusal};
use crate::telemetry::line::Line;
use crate::telemetry::metrics::Breach;
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
    /// Why it was refused, where the code leaves that open.
    pub(super) cause: Option<&'static str>,
    pub(super) serial: Option<Serial>,
    pub(super) person: Option<PersonId>,
    pub(super) route: Option<RouteId>,
    /// The rule of the route's policy that decided.
    pub(super) rule: Option<Arc<str>>,
    /// From where it came, behind all proxies that are believed.
    pub(super) source: Option<IpAddr>,
    pub(super) trace: TraceId,
    pub(super) bytes: u64,
    /// Whether the answer ended as it should.
    pub(super) whole: bool,
    /// What a collector is told of it.
    pub(super) span: Option<ServerSpan>,
    /// Nobody has visited: the edge asks itself.
    is_own: bool,
}

impl Entry {
    pub(super) fn new(method: Method, uri: Uri, trace: TraceId, is_own: bool) -> Self {
        Self {
            started: Instant::now(),
            method,
            uri,
            host: None,
            status: StatusCode::OK,
            code: None,
            cause: None,
            serial: None,
            person: None,
            route: None,
            rule: None,
            source: None,
            trace,
            bytes: 0,
            whole: false,
            span: None,
            is_own,
        }
    }
}

/// How lines of requests are told from others.
const TARGET: &str = "access";

impl Entry {
    /// The same fields as below.
    fn put(&self, line: &mut Line) {
        line.foreign("method", self.method.as_str())
            .text("host", self.host.as_ref().map_or("", Hostname::as_str))
            .foreign("path", &shown(self.uri.path()))
            .bare("status", self.status.as_u16());
        if let Some(code) = self.code {
            line.text("code", code.name());
        }
        if let Some(cause) = self.cause {
            line.text("cause", cause);
        }
        line.bare("duration_us", self.started.elapsed().as_micros())
            .bare("bytes", self.bytes)
            .bare("whole", self.whole);
        if let Some(serial) = self.serial {
            line.value("serial", serial);
        }
        if let Some(person) = self.person {
            line.value("person", person);
        }
        if let Some(route) = self.route {
            line.value("route", route);
        }
        if let Some(rule) = &self.rule {
            line.foreign("rule", rule);
        }
        if let Some(source) = self.source {
            line.value("source", source);
        }
        line.value("trace_id", self.trace);
    }
}

/// A path as it is logged: an address in it is found and left out only where its `@` is one.
pub(super) fn shown(path: &str) -> Cow<'_, str> {
    match path.contains("%40") || path.contains("%2540") {
        true => path.replace("%2540", "@").replace("%40", "@").into(),
        false => path.into(),
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if self.is_own {
            return;
        }
        if let Some(span) = self.span.take() {
            span.end(self);
        }
        if !tracing::enabled!(target: TARGET, Level::INFO) {
            return;
        }
        if let Some(mut line) = Line::begin(TARGET, "request", wall_ms) {
            self.put(&mut line);
            return line.end();
        }
        // `info!` looks at nothing below unless someone listens.
        info!(
            target: TARGET,
            method = %self.method,
            host = self.host.as_ref().map_or("", Hostname::as_str),
            path = &*shown(self.uri.path()),
            status = self.status.as_u16(),
            code = self.code.map(Code::name),
            cause = self.cause,
            duration_us = u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX),
            bytes = self.bytes,
            whole = self.whole,
            serial = self.serial.map(tracing::field::display),
            person = self.person.map(tracing::field::display),
            route = self.route.map(tracing::field::display),
            rule = self.rule.as_deref(),
            source = self.source.map(tracing::field::display),
            trace_id = %self.trace,
            "request"
        );
    }
}

/// Writes down why a handshake failed. `name` is a normalised host name or nothing.
pub(super) fn handshake_failed(peer: SocketAddr, name: Option<&Hostname>, failure: &HandshakeFailure) {
    let refusal = failure.refusal();
    info!(
        target: "handshake",
        peer = %peer.ip(),
        host = name.map_or("", Hostname::as_str),
        cause = failure.cause(),
        detail = failure.detail().map(tracing::field::display),
        issuer = refusal.and_then(|refusal| refusal.issuer.as_ref()).map(tracing::field::display),
        serial = refusal.and_then(|refusal| refusal.serial).map(tracing::field::display),
        "handshake failed"
    );
}

/// Writes down that a load balancer did not say who visits.
pub(super) fn caller_unknown(peer: SocketAddr, fault: &CallerFault) {
    info!(
        target: "handshake",
        peer = %peer.ip(),
        cause = fault.label().word(),
        detail = %fault,
        "no PROXY header"
    );
}

/// Writes down a connection that was passed through unread, when it has ended. `octets` came and went.
pub(super) fn passed_through(
    peer: SocketAddr,
    site: &Passthrough,
    end: End,
    octets: [u64; 2],
    started: Instant,
) {
    info!(
        target: "access",
        host = site.host.as_str(),
        upstream = %site.upstream.name,
        source = %peer.ip(),
        end = end.word(),
        duration_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX),
        bytes_in = octets[0],
        bytes_out = octets[1],
        "connection passed through"
    );
}

/// Writes down that a certificate does not pass, once for a connection whose requests are told.
pub(super) fn certificate_refused(peer: SocketAddr, host: &Hostname, refusal: &Refusal) {
    info!(
        target: "handshake",
        peer = %peer.ip(),
        host = host.as_str(),
        cause = refusal.cause.name(),
        issuer = refusal.issuer.as_ref().map(tracing::field::display),
        serial = refusal.serial.map(tracing::field::display),
        "client certificate refused"
    );
}

/// Writes down that a connection was ended for what its visitor did, once for each.
pub(super) fn connection_ended(peer: SocketAddr, breach: Breach) {
    info!(target: "connection", peer = %peer.ip(), cause = breach.word(), "connection ended");
}

#[cfg(test)]
mod tests {
    use std::io;

    use parking_lot::Mutex;
    use serde_json::{Map, Value};

    use super::*;
    use crate::config::LogFormat;
    use crate::telemetry::TraceContext;
    use crate::telemetry::log::dispatch;

    /// Keeps what is written.
    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Memory {
        fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(octets);
            Ok(octets.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn bare() -> Entry {
        let uri = "/a%20b?secret=1".parse().unwrap();
        Entry::new(Method::GET, uri, TraceContext::background().trace_id, false)
    }

    fn full() -> Entry {
        let mut entry = bare();
        entry.host = Some("app.test".parse().unwrap());
        entry.status = StatusCode::FORBIDDEN;
        entry.code = Some(Code::AccessDenied);
        entry.cause = Some("revoked");
        entry.serial = Some("0a0b".parse().unwrap());
        entry.person = Some(PersonId::new());
        entry.route = Some(RouteId::new());
        entry.rule = Some("office hours".into());
        entry.source = Some("2001:db8::1".parse().unwrap());
        (entry.bytes, entry.whole) = (7, true);
        entry
    }

    /// What the request adds to a line, but for the time that it took.
    fn fields(line: &str) -> Map<String, Value> {
        const OF_EVERY_LINE: [&str; 10] =
            ["v", "name", "msg", "level", "hostname", "pid", "time", "target", "line", "file"];
        let mut fields: Map<String, Value> = serde_json::from_str(line).unwrap();
        fields.retain(|name, _| !OF_EVERY_LINE.contains(&name.as_str()));
        assert!(fields.remove("duration_us").is_some_and(|took| took.is_u64()), "{line}");
        fields
    }

    #[test]
    fn both_ways_to_a_line_write_the_same_fields() {
        for entry in [bare(), full()] {
            let quick = fields(&Line::written(|line| entry.put(line)));
            let memory = Memory::default();
            let writer = memory.clone();
            let dispatch = dispatch(LogFormat::Json, false, "info", move || writer.clone()).unwrap();
            tracing::dispatcher::with_default(&dispatch, || drop(entry));
            let usual = String::from_utf8(memory.0.lock().clone()).unwrap();
            assert_eq!(quick, fields(&usual));
            assert!(quick.contains_key("path") && !usual.contains("secret"), "{usual}");
        }
    }
}
