//! How requests are spread over the targets of an upstream, what keeps a sick one out of the way, and how targets
//! are spoken to.

mod discovery;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Hostname, Slug};
pub use discovery::{Discovery, DiscoveryKind, NameStatus};

/// Which target a request goes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Balance {
    /// The less loaded of two, by latency and requests under way (peak-EWMA).
    #[default]
    LeastLoaded,
    /// One after the other.
    RoundRobin,
    /// The same for the same person, or source address of somebody unknown, as long as it is in use.
    ConsistentHash,
}

/// How a target is asked whether it is well.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckKind {
    /// It takes a connection, made as those of requests are.
    Tcp,
    /// It answers `GET` for this path with a status of 200 to 399.
    Http {
        /// Starts with `/`.
        path: String,
    },
}

/// Active checks of every target.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct HealthCheck {
    /// What is asked.
    pub kind: CheckKind,
    /// From one check to the next, in milliseconds: 100 to 3,600,000.
    pub interval_ms: u32,
    /// For one check, in milliseconds: 50 to 60,000.
    pub timeout_ms: u32,
    /// Good checks in a row after which an unhealthy target is used again: 1 to 100.
    pub healthy_after: u32,
    /// Bad checks in a row after which a target is not used: 1 to 100.
    pub unhealthy_after: u32,
}

/// What an administrator has decided about a target, whatever was observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Forced {
    /// The breaker stays open: the target is not used.
    Open,
    /// The breaker stays closed: the target is used.
    Closed,
}

/// What targets are told of a visitor before anything else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProxyProtocol {
    /// A PROXY header of version 2: the visitor's address and, of somebody known, their certificate. Every exchange
    /// has a connection of its own then.
    V2,
}

/// What is spoken with targets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2: agreed by ALPN over TLS, and else with prior knowledge (RFC 9113 §3.3).
    Http2,
}

/// How targets prove who they are, and whether the edge does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct TlsOptions {
    /// Authorities whose certificates are taken, in PEM; without them, those that the host trusts.
    pub ca: Option<String>,
    /// The name that is asked for and checked; without it, the target's host.
    pub server_name: Option<String>,
    /// Whether the edge presents its own certificate. While it has none in its dates, nothing is sent.
    pub present_certificate: bool,
}

/// Octets of [`TlsOptions::ca`], at most.
pub const LONGEST_CA: usize = 64 * 1024;

/// What is decided for all targets of an upstream.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct UpstreamOptions {
    /// Which target a request goes to.
    pub balance: Balance,
    /// What is spoken with targets.
    pub protocol: Protocol,
    /// Of `https` targets.
    pub tls: Option<TlsOptions>,
    /// Active checks; without them, targets are judged by their answers alone.
    pub health_check: Option<HealthCheck>,
    /// Failures in a row that open a target's breaker: 1 to 1,000.
    pub failures_to_open: u32,
    /// Share of answers, in percent, below which the breaker opens (of at least 20 in 10 s); 0: never.
    pub success_percent: u32,
    /// Whether the breakers may open for all targets; otherwise half of them, at least one, stay in use.
    pub may_eject_all: bool,
    /// Requests under way for each target and edge; without it, any number.
    pub max_in_flight: Option<u32>,
    /// Requests that wait for one of these places; further ones are refused.
    pub max_queue: u32,
    /// How long they wait, in milliseconds.
    pub queue_timeout_ms: u32,
    /// Second tries, in percent of all requests; 0: none.
    pub retry_percent: u32,
    /// For one connection, TLS included, in milliseconds; without it, the edge's setting.
    pub connect_timeout_ms: Option<u32>,
    /// From the sent request to the head of the answer, in milliseconds; without it, the edge's setting.
    pub answer_timeout_ms: Option<u32>,
    /// For the whole exchange, in milliseconds; without it, the edge's setting.
    pub total_timeout_ms: Option<u32>,
    /// What they are told first; without it, nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy_protocol: Option<ProxyProtocol>,
    /// Targets, as they are written, that are used or not used whatever was observed. Where a target is found by its
    /// name, that goes for all its addresses.
    pub forced: BTreeMap<String, Forced>,
    /// How hosts that are names become targets; without it, a name is one target, and looked up for each connection.
    /// Hosts that are addresses stay what they are.
    pub discovery: Option<Discovery>,
}

impl Default for UpstreamOptions {
    fn default() -> Self {
        Self {
            balance: Balance::default(),
            protocol: Protocol::default(),
            tls: None,
            health_check: None,
            failures_to_open: 5,
            success_percent: 50,
            may_eject_all: false,
            max_in_flight: None,
            max_queue: 100,
            queue_timeout_ms: 1_000,
            retry_percent: 20,
            connect_timeout_ms: None,
            answer_timeout_ms: None,
            total_timeout_ms: None,
            proxy_protocol: None,
            forced: BTreeMap::new(),
            discovery: None,
        }
    }
}

impl UpstreamOptions {
    /// What is wrong with them for an upstream with these targets: the field as a JSON pointer, and why.
    pub fn faults(&self, targets: &[String]) -> Vec<(String, String)> {
        let mut faults = Vec::new();
        let mut within = |field: &str, value: u32, least: u32, most: u32| {
            if !(least..=most).contains(&value) {
                faults.push((format!("/{field}"), format!("must be {least} to {most}")));
            }
        };
        within("failures_to_open", self.failures_to_open, 1, 1_000);
        within("success_percent", self.success_percent, 0, 100);
        within("retry_percent", self.retry_percent, 0, 100);
        within("max_queue", self.max_queue, 0, 100_000);
        within("queue_timeout_ms", self.queue_timeout_ms, 0, 60_000);
        for (field, value, most) in [
            ("max_in_flight", self.max_in_flight, 1_000_000),
            ("connect_timeout_ms", self.connect_timeout_ms, 60_000),
            ("answer_timeout_ms", self.answer_timeout_ms, 3_600_000),
            ("total_timeout_ms", self.total_timeout_ms, 86_400_000),
        ] {
            value.inspect(|value| within(field, *value, 1, most));
        }
        if let Some(check) = &self.health_check {
            within("health_check/interval_ms", check.interval_ms, 100, 3_600_000);
            within("health_check/timeout_ms", check.timeout_ms, 50, 60_000);
            within("health_check/healthy_after", check.healthy_after, 1, 100);
            within("health_check/unhealthy_after", check.unhealthy_after, 1, 100);
            if let CheckKind::Http { path } = &check.kind
                && (!path.starts_with('/') || path.bytes().any(|b| b <= b' ' || b > b'~'))
            {
                let why = "must start with / and hold no spaces or other characters that URLs escape";
                faults.push(("/health_check/path".to_owned(), why.to_owned()));
            }
        }
        faults.extend(self.discovery.iter().flat_map(Discovery::faults));
        for target in self.forced.keys().filter(|target| !targets.contains(target)) {
            faults.push(("/forced".to_owned(), format!("names {target:?}, which is not among the targets")));
        }
        if let Some(tls) = &self.tls {
            faults.extend(tls.faults(targets));
        }
        faults
    }
}

impl TlsOptions {
    fn faults(&self, targets: &[String]) -> Vec<(String, String)> {
        let mut faults = Vec::new();
        let mut add = |field: &str, why: &str| faults.push((format!("/tls{field}"), why.to_owned()));
        let is_https = |target: &String| target.get(..6).is_some_and(|s| s.eq_ignore_ascii_case("https:"));
        if !targets.iter().all(is_https) {
            add("", "is for https targets alone: write them all as https://host:port, or leave this out");
        }
        if self.ca.as_ref().is_some_and(|ca| ca.len() > LONGEST_CA) {
            add("/ca", "must not be longer than 65536 octets");
        }
        if let Some(name) = &self.server_name
            && Hostname::normalize(name).is_err()
            && name.parse::<IpAddr>().is_err()
        {
            add("/server_name", "must be a host name such as app.internal, or an IP address");
        }
        faults
    }
}

/// What a target's breaker lets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// Everything.
    Closed,
    /// Nothing for now.
    Open,
    /// One request, whose answer decides.
    Probation,
    /// Nothing, as an administrator has decided.
    ForcedOpen,
    /// Everything, as an administrator has decided.
    ForcedClosed,
}

impl BreakerState {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Closed, Self::Open, Self::Probation, Self::ForcedOpen, Self::ForcedClosed];

    /// The name in JSON and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::Probation => "probation",
            Self::ForcedOpen => "forced_open",
            Self::ForcedClosed => "forced_closed",
        }
    }
}

/// What active checks have found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// Nothing yet, or there are none.
    Unknown,
    /// It is well.
    Healthy,
    /// It is not.
    Unhealthy,
}

impl Health {
    /// The name in JSON and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// How an edge sees one target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetStatus {
    /// Of which upstream.
    pub upstream: Slug,
    /// As it is written.
    pub target: String,
    /// Where it is, if it was found by its name.
    pub address: Option<SocketAddr>,
    /// What its breaker lets through.
    pub breaker: BreakerState,
    /// What active checks have found.
    pub health: Health,
    /// Requests under way.
    pub in_flight: u32,
    /// Of its answers' heads, lately.
    pub latency: Option<Duration>,
    /// Requests that were sent to it.
    pub requests: u64,
    /// Those that failed.
    pub failures: u64,
    /// How the last of them did.
    pub last_failure: Option<&'static str>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_without_options_has_the_defaults() {
        assert_eq!(serde_json::from_str::<UpstreamOptions>("{}").unwrap(), UpstreamOptions::default());
        assert!(UpstreamOptions::default().faults(&[]).is_empty());
    }

    #[test]
    fn tls_is_for_https_targets_alone() {
        let tls = TlsOptions { server_name: Some("a b".into()), ..TlsOptions::default() };
        let options = UpstreamOptions { tls: Some(tls), ..UpstreamOptions::default() };
        let fields = |targets: &[&str]| -> Vec<String> {
            let targets: Vec<_> = targets.iter().map(|target| (*target).to_owned()).collect();
            options.faults(&targets).into_iter().map(|(field, _)| field).collect()
        };
        assert_eq!(fields(&["https://a", "HTTPS://b:1"]), ["/tls/server_name"]);
        for target in ["http://a", "unix:/run/a", "http", "htt\u{fc}s://a"] {
            assert_eq!(fields(&["https://a", target]), ["/tls", "/tls/server_name"], "{target}");
        }
        let text = r#"{"protocol":"http2","tls":{"present_certificate":true}}"#;
        let read: UpstreamOptions = serde_json::from_str(text).unwrap();
        assert_eq!(read.protocol, Protocol::Http2);
        assert!(read.tls.is_some_and(|tls| tls.present_certificate && tls.ca.is_none()));
    }

    #[test]
    fn each_fault_names_its_field() {
        let check = HealthCheck {
            kind: CheckKind::Http { path: "health".into() },
            interval_ms: 1,
            timeout_ms: 50,
            healthy_after: 0,
            unhealthy_after: 1,
        };
        let options = UpstreamOptions {
            health_check: Some(check),
            failures_to_open: 0,
            max_in_flight: Some(0),
            forced: BTreeMap::from([("http://b:1".into(), Forced::Open)]),
            discovery: Some(Discovery { refresh_seconds_min: 0, ..Discovery::of(DiscoveryKind::Srv) }),
            ..UpstreamOptions::default()
        };
        let fields: Vec<_> =
            options.faults(&["http://a:1".into()]).into_iter().map(|(field, _)| field).collect();
        assert_eq!(
            fields,
            [
                "/failures_to_open",
                "/max_in_flight",
                "/health_check/interval_ms",
                "/health_check/healthy_after",
                "/health_check/path",
                "/discovery/refresh_seconds_min",
                "/forced"
            ]
        );
    }
}
