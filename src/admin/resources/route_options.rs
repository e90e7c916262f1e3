//! How the API spells what holds for a route beyond who may pass.

use poem_openapi::{Enum, Object};

use super::route_answers::{RouteCookies, RouteHeaders};
use crate::admin::fields::{Faults, parsed};
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

/// Known people who pass a closed route, if its policy lets them in.
#[derive(Debug, Object)]
#[oai(deny_unknown_fields, skip_serializing_if_is_none)]
struct MaintenanceAllow {
    /// Ids of people.
    #[oai(validator(max_items = 256))]
    people: Option<Vec<String>>,
    /// Names of groups.
    #[oai(validator(max_items = 256))]
    groups: Option<Vec<String>>,
}

/// A route that is closed for a while: everybody else who may pass is answered 503 `maintenance`.
#[derive(Debug, Object)]
#[oai(deny_unknown_fields, skip_serializing_if_is_none)]
struct RouteMaintenance {
    /// Whether it is closed now. What goes on meanwhile, a download or a WebSocket, goes on.
    enabled: bool,
    /// What visitors read: 1 to 500 characters of text.
    message: Option<String>,
    /// `Retry-After`, in seconds: 1 to 604,800.
    retry_after_seconds: Option<u32>,
    /// Who passes all the same; nobody unless it is given.
    allow: Option<MaintenanceAllow>,
}

impl RouteMaintenance {
    fn read(self, at: &str, faults: &mut Faults) -> domain::Maintenance {
        let at = format!("{at}/options/maintenance/allow");
        let allow = self.allow.map(|allow| domain::Allowed {
            people: parsed(&allow.people.unwrap_or_default(), &format!("{at}/people"), faults),
            groups: parsed(&allow.groups.unwrap_or_default(), &format!("{at}/groups"), faults),
        });
        domain::Maintenance {
            enabled: self.enabled,
            message: self.message,
            retry_after_seconds: self.retry_after_seconds,
            allow: allow.unwrap_or_default(),
        }
    }
}

impl From<domain::Maintenance> for RouteMaintenance {
    fn from(maintenance: domain::Maintenance) -> Self {
        let allow = maintenance.allow;
        let is_given = !allow.is_nobody();
        let people: Vec<_> = allow.people.iter().map(ToString::to_string).collect();
        let groups: Vec<_> = allow.groups.iter().map(ToString::to_string).collect();
        Self {
            enabled: maintenance.enabled,
            message: maintenance.message,
            retry_after_seconds: maintenance.retry_after_seconds,
            allow: is_given.then(|| MaintenanceAllow {
                people: Some(people).filter(|people| !people.is_empty()),
                groups: Some(groups).filter(|groups| !groups.is_empty()),
            }),
        }
    }
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
    headers: Option<RouteHeaders>,
    cookies: Option<RouteCookies>,
    /// Whether answers of text are compressed (gzip, zstd) for visitors who take it. Off unless it is given: where a
    /// page repeats something of the visitor's request beside a secret, its length tells who listens of the secret
    /// (BREACH). Switch it on for protected routes only if no page does.
    compression: Option<bool>,
    maintenance: Option<RouteMaintenance>,
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
            headers: self.headers.map(Into::into),
            cookies: self.cookies.map(Into::into),
            compression: self.compression.unwrap_or_default(),
            maintenance: self.maintenance.map(|maintenance| maintenance.read(at, faults)),
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
        Self {
            rate: (!rate.is_empty()).then_some(rate),
            max_body_mib: options.max_body_mib,
            headers: options.headers.map(Into::into),
            cookies: options.cookies.map(Into::into),
            compression: options.compression.then_some(true),
            maintenance: options.maintenance.map(Into::into),
        }
    }
}
