//! How the API spells what holds for a route beyond who may pass.

use poem_openapi::{Enum, Object};

use crate::admin::fields::Faults;
use crate::domain::route as domain;

/// Whose requests one rule counts together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[oai(rename_all = "snake_case", remote = "domain::RatePer")]
enum RatePer {
    /// Those of an IPv4 address, or of an IPv6 /64.
    Source,
    /// Those of a device; of a source, where nobody known asks.
    Device,
    /// Those of a person, with all devices; of a source, where nobody known asks.
    Person,
    /// All of them.
    Everyone,
}

/// How often a route may be asked.
#[derive(Debug, Object)]
#[oai(deny_unknown_fields, skip_serializing_if_is_none)]
struct RateRule {
    per: RatePer,
    /// So many requests: 1 to 100,000.
    requests: u32,
    /// In so many seconds: 1 to 86,400.
    seconds: u32,
    /// So many at once, after a pause: 1 to 100,000; as many as `requests` unless it is given.
    burst: Option<u32>,
}

/// What holds for a route beyond who may pass. What is absent has its default.
#[derive(Debug, Object)]
#[oai(deny_unknown_fields, skip_serializing_if_is_none)]
pub(super) struct RouteOptions {
    /// How often it may be asked; each rule has to allow a request, which is answered 429 otherwise. No rule unless
    /// it is given.
    #[oai(validator(max_items = 8))]
    rate: Option<Vec<RateRule>>,
    /// Largest body of a request, in MiB; the edge's setting unless it is given.
    max_body_mib: Option<u32>,
}

impl RouteOptions {
    /// The options, or faults below `at`.
    pub(super) fn read(self, at: &str, faults: &mut Faults) -> domain::RouteOptions {
        let rule = |rule: RateRule| domain::RateRule {
            per: rule.per.into(),
            requests: rule.requests,
            seconds: rule.seconds,
            burst: rule.burst,
        };
        let options = domain::RouteOptions {
            rate: self.rate.unwrap_or_default().into_iter().map(rule).collect(),
            max_body_mib: self.max_body_mib,
        };
        for (field, why) in options.faults() {
            faults.add(&format!("{at}/options{field}"), "invalid", format!("This {why}."));
        }
        options
    }
}

impl From<domain::RouteOptions> for RouteOptions {
    fn from(options: domain::RouteOptions) -> Self {
        let rule = |rule: domain::RateRule| RateRule {
            per: rule.per.into(),
            requests: rule.requests,
            seconds: rule.seconds,
            burst: rule.burst,
        };
        let rate: Vec<_> = options.rate.into_iter().map(rule).collect();
        Self { rate: (!rate.is_empty()).then_some(rate), max_body_mib: options.max_body_mib }
    }
}
