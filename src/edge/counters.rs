//! What the edge counts, in plain atomics: a metric on the hot path must not cost a lookup.
//! Telemetry reads them as observable instruments.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only grows, or a gauge that is raised and lowered.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// One more.
    pub fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// One less.
    pub fn sub(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    /// The number now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Everything one edge counts.
#[derive(Debug, Default)]
pub struct Counters {
    /// Gauge: open connections of visitors.
    pub connections_open: Count,
    /// Accepted connections.
    pub connections_accepted: Count,
    /// Finished handshakes.
    pub handshakes: Count,
    /// Handshakes that failed, for whatever cause.
    pub handshakes_failed: Count,
    /// TLS-ALPN-01 challenges answered.
    pub challenges_answered: Count,
    /// Gauge: requests in flight.
    pub requests_in_flight: Count,
    /// Answered requests by class of status: 1xx, 2xx, 3xx, 4xx, 5xx.
    pub requests: [Count; 5],
    /// Refusals for the sake of a certificate or policy (403).
    pub refused: Count,
    /// Protected requests refused because the register was stale.
    pub stale: Count,
    /// Connections that ended because their certificate stopped passing.
    pub connections_ended: Count,
    /// Connections to upstreams that could not be made.
    pub upstream_connect_failures: Count,
    /// Exchanges that an upstream broke or did not answer in time.
    pub upstream_failures: Count,
    /// Requests sent over a kept-alive upstream connection.
    pub upstream_reused: Count,
    /// Gauge: open tunnels.
    pub tunnels_open: Count,
}

impl Counters {
    /// Counts an answer with this status.
    pub(super) fn answered(&self, status: http::StatusCode) {
        let class = usize::from(status.as_u16() / 100).clamp(1, 5);
        self.requests[class - 1].add();
    }
}
