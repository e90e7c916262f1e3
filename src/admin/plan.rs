//! From what there is to what was asked for: the steps in between, or every reason why not. Pure; the
//! resource `configuration` reads the rows, and takes the steps in one transaction.

use std::collections::{BTreeMap, BTreeSet};

use super::fields::Faults;
use crate::domain::{AccessPolicy, ClientAuth, Hostname, Secret, Slug, rule};
use crate::live::configuration::{self as live, KeyData};
use crate::live::{ConfigurationData, RouteData, SiteData, UpstreamData};
use crate::store::configuration::{Route, Site, SiteKind};
use crate::store::upstreams::Upstream;

/// What there is.
#[derive(Clone, Debug, Default)]
pub(super) struct Current {
    pub(super) name: String,
    pub(super) upstreams: Vec<Upstream>,
    pub(super) sites: Vec<Site>,
    pub(super) routes: Vec<Route>,
    /// What rules may speak of.
    pub(super) names: rule::Known,
}

/// What is asked for. A section that is absent stays as it is; entries stand in the order in which they
/// were written, so that a fault can point to them. Ids, versions and times in them mean nothing.
#[derive(Clone, Debug, Default)]
pub(super) struct Desired {
    pub(super) name: Option<String>,
    pub(super) upstreams: Option<Vec<Upstream>>,
    pub(super) sites: Option<Vec<Site>>,
    pub(super) routes: Option<Vec<Route>>,
    /// Whether what is in a section and not asked for goes.
    pub(super) prune: bool,
}

/// One step, with everything that it writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    DeleteRoute(Route),
    DeleteSite(Site),
    AddUpstream(Upstream),
    EditUpstream(Upstream, Vec<&'static str>),
    AddSite(Site),
    EditSite(Site, Vec<&'static str>),
    AddRoute(Route),
    EditRoute(Route, Vec<&'static str>),
    DeleteUpstream(Upstream),
    Rename(String),
}

/// The steps in an order in which each can be taken. Faults are added to `faults`; with any, no step
/// may be taken.
pub(super) fn plan(current: &Current, desired: &Desired, faults: &mut Faults) -> Vec<Step> {
    let mut steps = Vec::new();
    let upstreams = upstreams(current, desired, faults, &mut steps);
    let sites = sites(current, desired, faults, &mut steps);
    let routes = routes(current, desired, faults, &mut steps);
    check_rules(&current.names, &routes, faults);
    check_together(&upstreams, &sites, &routes, faults);
    if let Some(name) = desired.name.as_ref().filter(|name| **name != current.name) {
        steps.push(Step::Rename(name.clone()));
    }
    // A site takes its routes with it.
    let gone: BTreeSet<_> = steps
        .iter()
        .filter_map(|step| if let Step::DeleteSite(site) = step { Some(site.host.clone()) } else { None })
        .collect();
    steps.retain(|step| !matches!(step, Step::DeleteRoute(route) if gone.contains(&route.host)));
    steps.sort_by_key(Step::order);
    steps
}

impl Step {
    fn order(&self) -> u8 {
        match self {
            Self::DeleteRoute(_) => 0,
            Self::DeleteSite(_) => 1,
            Self::AddUpstream(_) => 2,
            Self::EditUpstream(..) => 3,
            Self::AddSite(_) => 4,
            Self::EditSite(..) => 5,
            Self::AddRoute(_) => 6,
            Self::EditRoute(..) => 7,
            Self::DeleteUpstream(_) => 8,
            Self::Rename(_) => 9,
        }
    }
}

/// An entry of the outcome, with where it was asked for; nowhere if it merely stays.
type Placed<T> = (Option<String>, T);

fn upstreams(
    current: &Current,
    desired: &Desired,
    faults: &mut Faults,
    steps: &mut Vec<Step>,
) -> BTreeMap<Slug, Placed<Upstream>> {
    let mut outcome: BTreeMap<_, Placed<Upstream>> =
        current.upstreams.iter().map(|one| (one.name.clone(), (None, one.clone()))).collect();
    let Some(wanted) = &desired.upstreams else { return outcome };
    let mut seen = BTreeSet::new();
    for (index, one) in wanted.iter().enumerate() {
        let at = format!("/upstreams/{index}");
        if !seen.insert(one.name.clone()) {
            faults.add(&format!("{at}/name"), "doubled", "This upstream is there twice.");
            continue;
        }
        let before = outcome.insert(one.name.clone(), (Some(at), one.clone()));
        match before {
            None => steps.push(Step::AddUpstream(one.clone())),
            Some((_, before)) => {
                let differs =
                    [("targets", before.targets != one.targets), ("options", before.options != one.options)];
                let fields: Vec<_> =
                    differs.into_iter().filter(|(_, differs)| *differs).map(|(field, _)| field).collect();
                if !fields.is_empty() {
                    let (targets, options) = (one.targets.clone(), one.options.clone());
                    steps.push(Step::EditUpstream(Upstream { targets, options, ..before }, fields));
                }
            }
        }
    }
    if desired.prune {
        for gone in current.upstreams.iter().filter(|one| !seen.contains(&one.name)) {
            outcome.remove(&gone.name);
            steps.push(Step::DeleteUpstream(gone.clone()));
        }
    }
    outcome
}

fn sites(
    current: &Current,
    desired: &Desired,
    faults: &mut Faults,
    steps: &mut Vec<Step>,
) -> BTreeMap<Hostname, Placed<Site>> {
    let mut outcome: BTreeMap<_, Placed<Site>> =
        current.sites.iter().map(|one| (one.host.clone(), (None, one.clone()))).collect();
    let Some(wanted) = &desired.sites else { return outcome };
    let mut seen = BTreeSet::new();
    for (index, one) in wanted.iter().enumerate() {
        let at = format!("/sites/{index}");
        if !seen.insert(one.host.clone()) {
            faults.add(&format!("{at}/host"), "doubled", "This site is there twice.");
            continue;
        }
        let before = outcome.get(&one.host).map(|(_, before)| before.clone());
        if before.as_ref().is_some_and(|before| before.kind == SiteKind::Door) {
            faults.add(&format!("{at}/host"), "not_allowed", "The door is set in the configuration file.");
            continue;
        }
        match before {
            None => {
                steps.push(Step::AddSite(one.clone()));
                outcome.insert(one.host.clone(), (Some(at), one.clone()));
            }
            Some(before) if before.kind != one.kind => {
                let detail = "What a site is cannot be changed: remove it first, and add it anew.";
                faults.add(&format!("{at}/kind"), "not_allowed", detail);
            }
            Some(before) => {
                let after = Site {
                    upstream: one.upstream.clone(),
                    client_auth: one.client_auth,
                    hsts_max_age_seconds: one.hsts_max_age_seconds,
                    source: one.source,
                    enabled: one.enabled,
                    ..before.clone()
                };
                let changed = [
                    ("upstream", before.upstream != after.upstream),
                    ("client_auth", before.client_auth != after.client_auth),
                    ("hsts_max_age_seconds", before.hsts_max_age_seconds != after.hsts_max_age_seconds),
                    ("certificate", before.source != after.source),
                    ("enabled", before.enabled != after.enabled),
                ];
                if before != after {
                    steps.push(Step::EditSite(after.clone(), names(&changed)));
                }
                outcome.insert(one.host.clone(), (Some(at), after));
            }
        }
    }
    if desired.prune {
        let own = |one: &&Site| one.kind != SiteKind::Door && !seen.contains(&one.host);
        for gone in current.sites.iter().filter(own) {
            outcome.remove(&gone.host);
            steps.push(Step::DeleteSite(gone.clone()));
        }
    }
    outcome
}

fn routes(
    current: &Current,
    desired: &Desired,
    faults: &mut Faults,
    steps: &mut Vec<Step>,
) -> BTreeMap<(Hostname, String), Placed<Route>> {
    let key = |route: &Route| (route.host.clone(), route.path_prefix.clone());
    let gone: BTreeSet<_> = steps
        .iter()
        .filter_map(|step| if let Step::DeleteSite(site) = step { Some(&site.host) } else { None })
        .cloned()
        .collect();
    let kept = current.routes.iter().filter(|route| !gone.contains(&route.host));
    let mut outcome: BTreeMap<_, Placed<Route>> = kept.map(|one| (key(one), (None, one.clone()))).collect();
    let Some(wanted) = &desired.routes else { return outcome };
    let mut seen = BTreeSet::new();
    for (index, one) in wanted.iter().enumerate() {
        let at = format!("/routes/{index}");
        if !seen.insert(key(one)) {
            faults.add(&format!("{at}/path_prefix"), "doubled", "The site has this path twice.");
            continue;
        }
        let before = outcome.get(&key(one)).map(|(_, before)| before.clone());
        let after = match before {
            None => {
                steps.push(Step::AddRoute(one.clone()));
                one.clone()
            }
            Some(before) => {
                let after = Route {
                    upstream: one.upstream.clone(),
                    policy: one.policy.clone(),
                    plain_header: one.plain_header.clone(),
                    audience: one.audience.clone(),
                    options: one.options.clone(),
                    ..before.clone()
                };
                let changed = [
                    ("upstream", before.upstream != after.upstream),
                    ("policy", before.policy != after.policy),
                    ("plain_header", before.plain_header != after.plain_header),
                    ("audience", before.audience != after.audience),
                    ("options", before.options != after.options),
                ];
                if before != after {
                    steps.push(Step::EditRoute(after.clone(), names(&changed)));
                }
                after
            }
        };
        outcome.insert(key(one), (Some(at), after));
    }
    if desired.prune {
        for gone in current.routes.iter().filter(|one| !seen.contains(&key(one))) {
            outcome.remove(&key(gone));
            steps.push(Step::DeleteRoute(gone.clone()));
        }
    }
    outcome
}

fn names(changed: &[(&'static str, bool)]) -> Vec<&'static str> {
    changed.iter().filter(|(_, changed)| *changed).map(|(name, _)| *name).collect()
}

/// Whether rules speak of profiles and authorities that there are.
fn check_rules(
    names: &rule::Known,
    routes: &BTreeMap<(Hostname, String), Placed<Route>>,
    faults: &mut Faults,
) {
    for (at, route) in routes.values() {
        let AccessPolicy::Known(policy) = &route.policy else { continue };
        for (place, why) in rule::unknown(&policy.rules, names) {
            let at = at.as_ref().map_or_else(String::new, |at| format!("{at}/policy/rules{place}"));
            let detail = format!("Route {} of {}: {why}.", route.path_prefix, route.host);
            faults.add(&at, "unknown", detail);
        }
    }
}

/// Whether what will be there fits together.
fn check_together(
    upstreams: &BTreeMap<Slug, Placed<Upstream>>,
    sites: &BTreeMap<Hostname, Placed<Site>>,
    routes: &BTreeMap<(Hostname, String), Placed<Route>>,
    faults: &mut Faults,
) {
    for (at, route) in routes.values() {
        let label = format!("Route {} of {}", route.path_prefix, route.host);
        let point = |field: &str| at.as_ref().map_or_else(String::new, |at| format!("{at}/{field}"));
        if !upstreams.contains_key(&route.upstream) {
            let detail = format!("{label} leads to {}, which is or will be no upstream.", route.upstream);
            faults.add(&point("upstream"), "unknown", detail);
        }
        match sites.get(&route.host) {
            None => faults.add(&point("host"), "unknown", format!("{label}: there is no such site.")),
            Some((_, site)) if site.kind == SiteKind::Door => {
                faults.add(&point("host"), "not_allowed", "The door has no routes.");
            }
            Some((_, site)) if site.kind == SiteKind::Passthrough => {
                let detail = format!("{label}: a site that is passed through has no routes.");
                faults.add(&point("host"), "not_allowed", detail);
            }
            Some((_, site))
                if site.client_auth == ClientAuth::None && route.policy != AccessPolicy::Public =>
            {
                let detail = format!("{label} needs a certificate, and the site never asks for one.");
                faults.add(&point("policy"), "never_asked", detail);
            }
            Some(_) => {}
        }
    }
    for (at, site) in sites.values() {
        if let Some(upstream) = site.upstream.as_ref().filter(|name| !upstreams.contains_key(*name)) {
            let at = at.as_ref().map_or_else(String::new, |at| format!("{at}/upstream"));
            let detail = format!("{} leads to {upstream}, which is or will be no upstream.", site.host);
            faults.add(&at, "unknown", detail);
        }
    }
    if faults.is_empty()
        && let Err(fault) = live::check(&outcome(upstreams, sites, routes))
    {
        faults.add("", "configuration_refused", super::error::sentence(&fault.to_string()));
    }
}

/// What edges would be given, as far as the rules of [`live::check`] look at it.
fn outcome(
    upstreams: &BTreeMap<Slug, Placed<Upstream>>,
    sites: &BTreeMap<Hostname, Placed<Site>>,
    routes: &BTreeMap<(Hostname, String), Placed<Route>>,
) -> ConfigurationData {
    let kind = |kind| match kind {
        SiteKind::App => live::SiteKind::App,
        SiteKind::Door => live::SiteKind::Door,
        SiteKind::Passthrough => live::SiteKind::Passthrough,
    };
    ConfigurationData {
        version: 0,
        installation: String::new(),
        door_url: None,
        sites: sites
            .values()
            .map(|(_, site)| SiteData {
                host: site.host.clone(),
                kind: kind(site.kind),
                upstream: site.upstream.clone(),
                client_auth: site.client_auth,
                hsts_max_age_seconds: site.hsts_max_age_seconds,
                chain: Vec::new(),
                key: KeyData(Secret::new(Vec::new())),
                is_local: true,
                ocsp: None,
            })
            .collect(),
        upstreams: upstreams
            .values()
            .map(|(_, one)| UpstreamData {
                name: one.name.clone(),
                targets: one.targets.clone(),
                options: one.options.clone(),
            })
            .collect(),
        routes: routes
            .values()
            .map(|(_, row)| RouteData {
                id: row.id,
                host: row.host.clone(),
                path_prefix: row.path_prefix.clone(),
                upstream: row.upstream.clone(),
                policy: row.policy.clone(),
                plain_header: row.plain_header.clone(),
                audience: row.audience.clone(),
                options: row.options.clone(),
            })
            .collect(),
        challenges: Vec::new(),
        assertion: None,
        upstream_identity: None,
    }
}
