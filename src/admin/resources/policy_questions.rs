//! What an edge would answer to a request, and why: asked of the very functions that edges ask.

use std::net::IpAddr;

use poem::http::Method;
use poem_openapi::{Enum, Object, OpenApi};

use super::Tag;
use super::judge::{Judge, Visitor, Wanted};
use super::policies::{AccessPolicy, RuleEffect, show_policy};
use crate::admin::auth::caller::Call;
use crate::admin::body::{Body, Shown};
use crate::admin::error::Outcome;
use crate::admin::fields::Faults;
use crate::admin::services::Services;
use crate::domain::{DeviceId, Hostname, Serial};
use crate::live::access::{Deciding, Denied, Fit, Ruling, explain};
use crate::live::{Classified, route_table};
use crate::store::certificates::Certificate;
use crate::store::configuration as rows;

/// Questions to policies.
pub struct Api(pub Services);

/// A request that is explained instead of made.
#[derive(Debug, Object)]
#[oai(deny_unknown_fields)]
struct AccessQuestion {
    #[oai(validator(max_length = 253))]
    host: String,
    /// As a client sends it, without `?` and what follows.
    #[oai(validator(min_length = 1, max_length = 8192))]
    path: String,
    /// `GET` if absent.
    #[oai(validator(min_length = 1, max_length = 32))]
    method: Option<String>,
    /// The address that the visitor calls from.
    #[oai(validator(max_length = 45))]
    source: String,
    /// The certificate that the visitor presents. Without it, and without a device, none.
    #[oai(validator(max_length = 40))]
    serial: Option<String>,
    /// The device that presents its current certificate.
    #[oai(validator(max_length = 36))]
    device_id: Option<String>,
}

/// What decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[oai(rename_all = "snake_case")]
enum DecidedBy {
    /// The path is badly written, or can be read as another route's.
    Path,
    /// The method is none that an edge takes: `CONNECT` or `TRACE`.
    Method,
    /// No route leads there.
    NoRoute,
    /// The route is public.
    Public,
    /// There is no certificate, or it does not pass.
    Certificate,
    /// A rule: `rule` names it.
    Rule,
    /// One of the lists.
    List,
    /// Everyone known may pass.
    Everyone,
    /// No rule fits, and no list.
    Nobody,
    /// Path or method can be read in more than one way, with different ends.
    Unclear,
}

/// Whether a rule fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[oai(rename_all = "snake_case")]
enum RuleFit {
    /// It does.
    Yes,
    /// It does not.
    No,
    /// The certificate's names cannot be read: it fits if it denies.
    Unread,
    /// That depends on how path or method are read.
    Unclear,
}

/// What one rule says.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
struct RuleRuling {
    name: String,
    effect: RuleEffect,
    fits: RuleFit,
    /// The first condition because of which it does not fit, or not for certain.
    condition: Option<String>,
}

/// What an edge would say, and why.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
struct AccessExplanation {
    admits: bool,
    decided_by: DecidedBy,
    /// The name of the rule that decided.
    rule: Option<String>,
    /// What a refused visitor reads, for example `access_denied`.
    code: Option<String>,
    /// Why the certificate does not pass, for example `revoked`.
    cause: Option<String>,
    route_id: Option<String>,
    path_prefix: Option<String>,
    policy: Option<AccessPolicy>,
    /// What each rule says by itself, to somebody known.
    rules: Vec<RuleRuling>,
    serial: Option<String>,
    person_id: Option<String>,
    device_id: Option<String>,
}

#[OpenApi(prefix_path = "/api/v1/", tag = "Tag::Routes")]
impl Api {
    /// Says what an edge would answer to a request, and what decides
    ///
    /// What is stored is asked, as an edge that has it all would be. What one answers that refused the
    /// configuration, is sealed or stale, or whose limits are reached, is another matter.
    #[oai(path = "/routes/explanations", method = "post", operation_id = "explainAccess")]
    async fn explain(&self, call: Call, body: Body<AccessQuestion>) -> Outcome<Shown<AccessExplanation>> {
        let Body(asked) = body;
        let mut faults = Faults::default();
        let host = faults.take("/host", Hostname::normalize(&asked.host));
        let source = asked.source.parse::<IpAddr>().map_err(|_| "must be an address such as 192.0.2.1");
        let source = faults.take("/source", source);
        if !asked.path.starts_with('/') || asked.path.contains(['?', '#']) {
            faults.add("/path", "invalid", "Must start with / and end before ? and #.");
        }
        let method = asked.method.as_deref().unwrap_or("GET");
        let method = Method::from_bytes(method.as_bytes()).map_err(|_| "must be a method such as GET");
        let method = faults.take("/method", method);
        let serial = faults.take_if("/serial", asked.serial.as_deref().map(str::parse::<Serial>));
        let device = faults.take_if("/device_id", asked.device_id.as_deref().map(str::parse::<DeviceId>));
        if serial.is_some() && device.is_some() {
            faults.add("/device_id", "not_allowed", "Give serial or device_id, not both.");
        }
        let ((host, source), method) = faults.unless(host.zip(source).zip(method))?;
        self.check_site(&host).await?;
        let certificate = self.presented(serial, device).await?;
        let der = certificate.as_ref().map(|certificate| &*certificate.der);
        let visitor = Visitor::of(&self.0, der, call.now);
        // As an edge does, before it looks for a route.
        if [Method::CONNECT, Method::TRACE].contains(&method) {
            return Ok(Shown::new(visitor.outside("bad_request", DecidedBy::Method)));
        }
        let mut routes = self.0.store().routes().await?;
        routes.retain(|route| route.host == host);
        route_table::sort(&mut routes, |route| &route.path_prefix);
        let request = Wanted { method: method.as_str(), path: &asked.path, source };
        let explanation =
            match route_table::unanimous((&routes, None), |route| &route.path_prefix, request.path) {
                Ok(Some(route)) => visitor.explain(route, &request)?,
                Ok(None) => visitor.outside("not_found", DecidedBy::NoRoute),
                Err(_unclear) => visitor.outside("bad_request", DecidedBy::Path),
            };
        Ok(Shown::new(explanation))
    }
}

impl Api {
    async fn check_site(&self, host: &Hostname) -> Outcome<()> {
        let mut faults = Faults::default();
        match self.0.store().site(host).await? {
            None => faults.add("/host", "unknown", "There is no such site."),
            Some(site) if site.kind == rows::SiteKind::Door => {
                faults.add("/host", "not_allowed", "The door has no routes.");
            }
            Some(site) if !site.enabled => {
                faults.add("/host", "not_allowed", "The site is switched off, so no edge serves it.");
            }
            Some(_) => {}
        }
        faults.none()
    }

    /// The certificate that is meant; none if none is.
    async fn presented(
        &self,
        serial: Option<Serial>,
        device: Option<DeviceId>,
    ) -> Outcome<Option<Certificate>> {
        let mut faults = Faults::default();
        let found = match (serial, device) {
            (Some(serial), _) => {
                let found = self.0.store().certificate(serial).await?;
                if found.is_none() {
                    faults.add("/serial", "unknown", "There is no such certificate.");
                }
                found
            }
            (None, Some(device)) => {
                let current = self.0.store().current_certificate(device).await?;
                if current.is_none() {
                    faults.add("/device_id", "unknown", "There is no such device with a certificate.");
                }
                current
            }
            (None, None) => None,
        };
        faults.none()?;
        Ok(found)
    }
}

impl Visitor {
    fn explain(&self, route: &rows::Route, wanted: &Wanted<'_>) -> Outcome<AccessExplanation> {
        let judge = Judge::of(&route.policy, route)?;
        let verdict = judge.ask(self, wanted);
        let rulings = match &self.who {
            Classified::Known(identity) => {
                self.asking(wanted, |question| explain(&judge.rules, identity, question))
            }
            Classified::None | Classified::Refused(_) => Vec::new(),
        };
        let cause = match &verdict {
            Err(Denied::Refused(refusal)) => Some(refusal.cause.name().to_owned()),
            _ => None,
        };
        Ok(AccessExplanation {
            admits: verdict.is_ok(),
            rule: judge.rule(&verdict),
            code: verdict.as_ref().err().map(|denied| denied.code().to_owned()),
            cause,
            route_id: Some(route.id.to_string()),
            path_prefix: Some(route.path_prefix.clone()),
            policy: Some(show_policy(&route.policy).short()),
            rules: rulings.into_iter().map(RuleRuling::from).collect(),
            ..self.outside("", DecidedBy::from(&verdict))
        })
    }

    /// An answer for which no policy is asked.
    fn outside(&self, code: &str, decided_by: DecidedBy) -> AccessExplanation {
        let known = match &self.who {
            Classified::Known(identity) => Some(identity),
            Classified::None | Classified::Refused(_) => None,
        };
        let serial = match &self.who {
            Classified::Known(identity) => Some(identity.serial()),
            Classified::Refused(refusal) => refusal.serial,
            Classified::None => None,
        };
        AccessExplanation {
            admits: false,
            decided_by,
            rule: None,
            code: Some(code.to_owned()),
            cause: None,
            route_id: None,
            path_prefix: None,
            policy: None,
            rules: Vec::new(),
            serial: serial.map(|serial| serial.to_string()),
            person_id: known.map(|identity| identity.person().id.to_string()),
            device_id: known.map(|identity| identity.device().to_string()),
        }
    }
}

impl From<&Result<Deciding, Denied>> for DecidedBy {
    fn from(verdict: &Result<Deciding, Denied>) -> Self {
        match verdict {
            Err(Denied::CertificateRequired | Denied::Refused(_) | Denied::Stale) => Self::Certificate,
            Err(Denied::Unclear) => Self::Unclear,
            Ok(deciding) | Err(Denied::NotAllowed(deciding)) => match deciding {
                Deciding::Public => Self::Public,
                Deciding::Everyone => Self::Everyone,
                Deciding::Listed => Self::List,
                Deciding::Rule(_) => Self::Rule,
                Deciding::Nobody => Self::Nobody,
            },
        }
    }
}

impl From<Ruling> for RuleRuling {
    fn from(ruling: Ruling) -> Self {
        Self {
            name: ruling.name.to_string(),
            effect: ruling.effect.into(),
            fits: match ruling.fit {
                Fit::Yes => RuleFit::Yes,
                Fit::No => RuleFit::No,
                Fit::Unread => RuleFit::Unread,
                Fit::Unclear => RuleFit::Unclear,
            },
            condition: ruling.condition.map(str::to_owned),
        }
    }
}
