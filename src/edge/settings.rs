//! What an edge is told at boot. Numbers that an operator may set; the defaults are ours.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use crate::domain::Networks;
use crate::telemetry::Spans;

/// Listeners, deadlines and bounds of one edge.
#[derive(Clone, Debug)]
pub struct EdgeSettings {
    /// Where TLS is spoken. Port 0 takes a free one, the same for all threads.
    pub https: Vec<SocketAddr>,
    /// Where plain HTTP answers challenges, `/pki/` and redirects.
    pub http: Vec<SocketAddr>,
    /// From where connections, of both kinds, begin with a PROXY header.
    pub proxy_protocol_from: Networks,
    /// Proxies whose `Forwarded` or `X-Forwarded-For` says who visits.
    pub trusted_proxies: Networks,
    /// The port that visitors use for https, named in redirects unless it is 443. `None`: the port
    /// of the first https listener.
    pub https_public_port: Option<u16>,
    /// Threads, each with a runtime and sockets of its own; at least one.
    pub threads: usize,
    /// From the accepted socket to the finished handshake, ClientHello included.
    pub handshake_timeout: Duration,
    /// From the first byte of a request to the end of its head; over HTTP/2, of any frame but a body's to its
    /// end, a block of header fields being one with what continues it, and for the preface.
    pub header_timeout: Duration,
    /// Between two pieces of a body, in either direction, for one blocked write to the visitor, and for one
    /// frame of a body.
    pub body_timeout: Duration,
    /// Octets a second that a visitor has to give or take on average, over each `body_timeout` in which nothing
    /// could go on but for them; `None` is no bound. Measured are an upload, until its answer begins, while the
    /// upstream asks for more than has come; an HTTP/2 answer while the visitor gives no window for the piece
    /// that is there; and all writes of a connection while its socket has no room. Waits for an app, events
    /// that do not happen and tunnels are not.
    pub min_rate: Option<u64>,
    /// Between two requests, and between two pieces of a tunnel.
    pub idle_timeout: Duration,
    /// From the sent request (its last piece of body) to the head of the upstream's answer.
    pub answer_timeout: Duration,
    /// One whole exchange; tunnels are exempt.
    pub total_timeout: Duration,
    /// One TCP connection to an upstream.
    pub connect_timeout: Duration,
    /// Who is asked what names of upstreams stand for; empty: whom `/etc/resolv.conf` names.
    pub dns_servers: Vec<SocketAddr>,
    /// Listeners of this process: no answer of DNS makes them a target.
    pub own_listeners: Vec<SocketAddr>,
    /// How long a drain waits for exchanges in flight.
    pub drain_timeout: Duration,
    /// Age of the register's last confirmation past which protected routes answer `policy_stale`.
    pub max_stale: Duration,
    /// How often the edge asks itself whether strangers are refused; `None`: never.
    pub self_check_every: Option<Duration>,
    /// Open connections, all listeners together; more wait in the kernel.
    pub max_connections: usize,
    /// Octets of a request's head.
    pub max_header_bytes: usize,
    /// Header fields of a request.
    pub max_headers: usize,
    /// Octets of a request's body; `None` is no bound.
    pub max_body: Option<u64>,
    /// How often, and with how many connections, somebody may come.
    pub limits: Limits,
    /// Where spans of requests go.
    pub spans: Spans,
}

/// How often, and with how many connections, somebody may come. Rates are per second; after a pause, twice as many
/// come through at once. What is absent is not limited.
///
/// A source is an IPv4 address or an IPv6 /64. The edge's calls to itself are never limited.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// TLS handshakes, all sources together; judged before anything is read of one.
    pub handshakes_per_second: Option<NonZeroU32>,
    /// TLS handshakes of one source.
    pub handshakes_per_second_per_source: Option<NonZeroU32>,
    /// Open connections of one source, all listeners together.
    pub connections_per_source: Option<NonZeroU32>,
    /// Requests to sites from one source.
    pub requests_per_second_per_source: Option<NonZeroU32>,
    /// Requests to sites of one known device.
    pub requests_per_second_per_device: Option<NonZeroU32>,
    /// Requests to sites of one known person, all devices together.
    pub requests_per_second_per_person: Option<NonZeroU32>,
    /// Networks that are no sources: nothing that counts by source, rules of routes included, applies to them.
    pub exempt: Networks,
}

impl Default for EdgeSettings {
    fn default() -> Self {
        Self {
            https: Vec::new(),
            http: Vec::new(),
            proxy_protocol_from: Networks::default(),
            trusted_proxies: Networks::default(),
            https_public_port: None,
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            handshake_timeout: Duration::from_secs(10),
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(60),
            // Whoever finished a handshake of 5 KiB within its ten seconds was twice as fast.
            min_rate: Some(16),
            idle_timeout: Duration::from_secs(90),
            answer_timeout: Duration::from_secs(60),
            total_timeout: Duration::from_secs(3600),
            connect_timeout: Duration::from_secs(3),
            dns_servers: Vec::new(),
            own_listeners: Vec::new(),
            drain_timeout: Duration::from_secs(8),
            max_stale: Duration::from_secs(24 * 3600),
            self_check_every: None,
            max_connections: 10_000,
            max_header_bytes: 16 * 1024,
            max_headers: 100,
            max_body: None,
            limits: Limits::default(),
            spans: Spans::default(),
        }
    }
}
