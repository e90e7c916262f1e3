//! How the API spells what an upstream does with its targets.

use poem_openapi::{Enum, Object};

use super::upstream_discovery::Discovery;
use crate::admin::fields::Faults;
use crate::domain::upstream as domain;
use crate::live::configuration::option_faults;

/// Which target a request goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[oai(rename_all = "snake_case", remote = "domain::Balance")]
enum Balance {
    /// The less loaded of two, by latency and requests under way.
    LeastLoaded,
    /// One after the other.
    RoundRobin,
    /// The same for the same person, or address of somebody unknown.
    ConsistentHash,
}

/// What is spoken with targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[oai(remote = "domain::Protocol")]
enum Protocol {
    /// HTTP/1.1.
    #[oai(rename = "http1")]
    Http1,
    /// HTTP/2: agreed by ALPN over TLS, and else with prior knowledge (h2c).
    #[oai(rename = "http2")]
    Http2,
}

/// How `https` targets prove who they are, and whether the edge does.
#[derive(Debug, Object)]
#[oai(deny_unknown_fields, skip_serializing_if_is_none)]
struct TargetTls {
    /// Certificates of the authorities to trust, in PEM; those that the host trusts unless it is given.
    #[oai(validator(max_length = 65536))]
    ca: Option<String>,
    /// The name that is asked for and checked; the target's host unless it is given.
    #[oai(validator(max_length = 253))]
    server_name: Option<String>,
    /// Whether the edge presents its own certificate. While it has none in its dates, it does not connect.
    present_certificate: Option<bool>,
}

/// What is asked of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[oai(rename_all = "snake_case")]
enum CheckKind {
    /// That it takes a connection.
    Tcp,
    /// That it answers `GET` for a path with a status of 200 to 399.
    Http,
}

/// Active checks of every target.
#[derive(Debug, Object)]
#[oai(deny_unknown_fields, skip_serializing_if_is_none)]
struct HealthCheck {
    kind: CheckKind,
    /// For `http`; `/` unless it is given.
    #[oai(validator(max_length = 1024))]
    path: Option<String>,
    /// From one check to the next; 5,000 unless it is given.
    interval_ms: Option<u32>,
    /// For one check; 2,000 unless it is given.
    timeout_ms: Option<u32>,
    /// Good checks in a row after which a target is used again; 2 unless it is given.
    healthy_after: Option<u32>,
    /// Bad checks in a row after which a target is not used; 3 unless it is given.
    unhealthy_after: Option<u32>,
}

/// What targets are told of a visitor before anything else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[oai(remote = "domain::ProxyProtocol")]
enum ProxyProtocol {
    /// A PROXY header of version 2, with the visitor's address and, of somebody known, their certificate.
    #[oai(rename = "v2")]
    V2,
}

/// What was decided about a target, whatever is observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[oai(rename_all = "snake_case", remote = "domain::Forced")]
enum Forced {
    /// It is not used.
    Open,
    /// It is used.
    Closed,
}

/// A target whose breaker is held.
#[derive(Debug, Object)]
#[oai(deny_unknown_fields)]
struct ForcedTarget {
    /// One of the upstream's targets.
    #[oai(validator(max_length = 300))]
    target: String,
    breaker: Forced,
}

/// How requests are spread over targets, and what keeps a sick one out of the way. What is absent has its default.
#[derive(Debug, Object)]
#[oai(deny_unknown_fields, skip_serializing_if_is_none)]
pub(super) struct UpstreamOptions {
    /// `least_loaded` unless it is given.
    balance: Option<Balance>,
    /// `http1` unless it is given.
    protocol: Option<Protocol>,
    /// For `https` targets.
    tls: Option<TargetTls>,
    /// None unless it is given: targets are judged by their answers.
    health_check: Option<HealthCheck>,
    /// Failures in a row that open a target's breaker; 5 unless it is given.
    failures_to_open: Option<u32>,
    /// Share of good answers below which the breaker opens, of at least 20 in 10 s; 50 unless it is given, 0: never.
    success_percent: Option<u32>,
    /// Whether breakers may open for all targets; otherwise at least half stay in use.
    may_eject_all: Option<bool>,
    /// Requests under way for each target; any number unless it is given.
    max_in_flight: Option<u32>,
    /// Requests that wait for a place, at most; 100 unless it is given.
    max_queue: Option<u32>,
    /// How long they wait; 1,000 unless it is given.
    queue_timeout_ms: Option<u32>,
    /// Second tries of what can happen twice, as a share of all requests; 20 unless it is given, 0: none.
    retry_percent: Option<u32>,
    /// For one connection, TLS included; the edge's setting unless it is given.
    connect_timeout_ms: Option<u32>,
    /// Until the head of the answer; the edge's setting unless it is given.
    answer_timeout_ms: Option<u32>,
    /// For the whole exchange; the edge's setting unless it is given.
    total_timeout_ms: Option<u32>,
    /// What targets are told first, on a connection for each exchange; nothing unless it is given. They must expect it.
    proxy_protocol: Option<ProxyProtocol>,
    /// Targets whose breakers are held, whatever is observed.
    /// Targets whose breakers are held, whatever is observed; where they are found by a name, at all addresses.
    #[oai(validator(max_items = 32))]
    forced: Option<Vec<ForcedTarget>>,
    /// How hosts that are names become targets; unless it is given, a name is one target and looked up for each
    /// connection.
    discovery: Option<Discovery>,
}

impl UpstreamOptions {
    /// The options, or faults below `at`.
    pub(super) fn read(self, targets: &[String], at: &str, faults: &mut Faults) -> domain::UpstreamOptions {
        let default = domain::UpstreamOptions::default();
        let options = domain::UpstreamOptions {
            balance: self.balance.map_or(default.balance, Into::into),
            protocol: self.protocol.map_or(default.protocol, Into::into),
            tls: self.tls.map(TargetTls::read),
            health_check: self.health_check.map(HealthCheck::read),
            failures_to_open: self.failures_to_open.unwrap_or(default.failures_to_open),
            success_percent: self.success_percent.unwrap_or(default.success_percent),
            may_eject_all: self.may_eject_all.unwrap_or(default.may_eject_all),
            max_in_flight: self.max_in_flight,
            max_queue: self.max_queue.unwrap_or(default.max_queue),
            queue_timeout_ms: self.queue_timeout_ms.unwrap_or(default.queue_timeout_ms),
            retry_percent: self.retry_percent.unwrap_or(default.retry_percent),
            connect_timeout_ms: self.connect_timeout_ms,
            answer_timeout_ms: self.answer_timeout_ms,
            total_timeout_ms: self.total_timeout_ms,
            proxy_protocol: self.proxy_protocol.map(Into::into),
            forced: self
                .forced
                .unwrap_or_default()
                .into_iter()
                .map(|forced| (forced.target, forced.breaker.into()))
                .collect(),
            discovery: self.discovery.map(Discovery::read),
        };
        check_options(&options, targets, at, faults);
        options
    }
}

/// Adds what is wrong with options for these targets, below `at`.
pub(super) fn check_options(
    options: &domain::UpstreamOptions,
    targets: &[String],
    at: &str,
    faults: &mut Faults,
) {
    for (field, why) in option_faults(options, targets) {
        faults.add(&format!("{at}/options{field}"), "invalid", format!("This {why}."));
    }
}

impl TargetTls {
    fn read(self) -> domain::TlsOptions {
        domain::TlsOptions {
            ca: self.ca,
            server_name: self.server_name,
            present_certificate: self.present_certificate.unwrap_or_default(),
        }
    }
}

impl From<domain::TlsOptions> for TargetTls {
    fn from(tls: domain::TlsOptions) -> Self {
        Self { ca: tls.ca, server_name: tls.server_name, present_certificate: Some(tls.present_certificate) }
    }
}

impl HealthCheck {
    fn read(self) -> domain::HealthCheck {
        domain::HealthCheck {
            kind: match self.kind {
                CheckKind::Tcp => domain::CheckKind::Tcp,
                CheckKind::Http => {
                    domain::CheckKind::Http { path: self.path.unwrap_or_else(|| "/".to_owned()) }
                }
            },
            interval_ms: self.interval_ms.unwrap_or(5_000),
            timeout_ms: self.timeout_ms.unwrap_or(2_000),
            healthy_after: self.healthy_after.unwrap_or(2),
            unhealthy_after: self.unhealthy_after.unwrap_or(3),
        }
    }
}

impl From<domain::HealthCheck> for HealthCheck {
    fn from(check: domain::HealthCheck) -> Self {
        let (kind, path) = match check.kind {
            domain::CheckKind::Tcp => (CheckKind::Tcp, None),
            domain::CheckKind::Http { path } => (CheckKind::Http, Some(path)),
        };
        Self {
            kind,
            path,
            interval_ms: Some(check.interval_ms),
            timeout_ms: Some(check.timeout_ms),
            healthy_after: Some(check.healthy_after),
            unhealthy_after: Some(check.unhealthy_after),
        }
    }
}

impl From<domain::UpstreamOptions> for UpstreamOptions {
    fn from(options: domain::UpstreamOptions) -> Self {
        let forced: Vec<_> = options
            .forced
            .into_iter()
            .map(|(target, forced)| ForcedTarget { target, breaker: forced.into() })
            .collect();
        Self {
            balance: Some(options.balance.into()),
            protocol: Some(options.protocol.into()),
            tls: options.tls.map(Into::into),
            health_check: options.health_check.map(Into::into),
            failures_to_open: Some(options.failures_to_open),
            success_percent: Some(options.success_percent),
            may_eject_all: Some(options.may_eject_all),
            max_in_flight: options.max_in_flight,
            max_queue: Some(options.max_queue),
            queue_timeout_ms: Some(options.queue_timeout_ms),
            retry_percent: Some(options.retry_percent),
            connect_timeout_ms: options.connect_timeout_ms,
            answer_timeout_ms: options.answer_timeout_ms,
            total_timeout_ms: options.total_timeout_ms,
            proxy_protocol: options.proxy_protocol.map(Into::into),
            forced: (!forced.is_empty()).then_some(forced),
            discovery: options.discovery.map(Into::into),
        }
    }
}

/// What a target's breaker lets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[oai(rename_all = "snake_case", remote = "domain::BreakerState")]
enum BreakerState {
    /// Everything.
    Closed,
    /// Nothing for now.
    Open,
    /// One request, whose answer decides.
    Probation,
    /// Nothing, as was decided.
    ForcedOpen,
    /// Everything, as was decided.
    ForcedClosed,
}

/// What active checks have found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[oai(rename_all = "snake_case", remote = "domain::Health")]
enum TargetHealth {
    /// Nothing yet, or there are none.
    Unknown,
    /// It is well.
    Healthy,
    /// It is not.
    Unhealthy,
}

/// How the edge sees a target.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
pub(super) struct TargetState {
    target: String,
    /// Where it is, if it was found by its name.
    address: Option<String>,
    breaker: BreakerState,
    health: TargetHealth,
    /// Requests under way.
    in_flight: u32,
    /// Of its last answers.
    latency_ms: Option<f64>,
    /// Requests that were sent to it since the edge knows it.
    requests: u64,
    /// Those that failed.
    failures: u64,
    /// How the last of them did: `connect`, `timeout`, `protocol` or `status`
    last_failure: Option<String>,
}

impl From<&domain::TargetStatus> for TargetState {
    fn from(status: &domain::TargetStatus) -> Self {
        Self {
            target: status.target.clone(),
            address: status.address.map(|address| address.to_string()),
            breaker: status.breaker.into(),
            health: status.health.into(),
            in_flight: status.in_flight,
            latency_ms: status.latency.map(|latency| (latency.as_secs_f64() * 1e4).round() / 10.0),
            requests: status.requests,
            failures: status.failures,
            last_failure: status.last_failure.map(str::to_owned),
        }
    }
}
