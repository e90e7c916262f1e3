//! What an administrator edits, as one document: read it, keep it under version control, apply it.

use poem_openapi::param::{Header, Query};
use poem_openapi::{Enum, Object, OpenApi};

use super::policies::{AccessPolicy, check_rules, known_names, read_policy, show_policy};
use super::route_options::RouteOptions;
use super::sites::{self, CertificateSource, SiteKind};
use super::upstream_options::UpstreamOptions;
use super::{Tag, check_version, installation, routes, settings, upstreams};
use crate::admin::auth::caller::Call;
use crate::admin::body::{Body, Shown};
use crate::admin::error::{Outcome, Problem};
use crate::admin::fields::{self, Faults};
use crate::admin::plan::{Current, Desired, Step, plan};
use crate::admin::services::Services;
use crate::admin::values::{ClientAuth, Enforced};
use crate::domain::audit::Outcome as ActOutcome;
use crate::domain::{Hostname, RouteId, Slug, UtcTime, route, upstream as domain};
use crate::store::Transaction;
use crate::store::configuration as rows;
use crate::store::settings::INSTALLATION_NAME;
use crate::store::upstreams::Upstream as UpstreamRow;

/// Operations on the configuration as a whole.
pub struct Api(pub Services);

/// Everything that an administrator edits. A section that is left out stays as it is.
#[derive(Debug, Object)]
#[oai(deny_unknown_fields, skip_serializing_if_is_none)]
struct Configuration {
    settings: Option<SettingsPart>,
    #[oai(validator(max_items = 10000))]
    upstreams: Option<Vec<UpstreamPart>>,
    /// Without the door, which is set in the configuration file.
    #[oai(validator(max_items = 10000))]
    sites: Option<Vec<SitePart>>,
    #[oai(validator(max_items = 10000))]
    routes: Option<Vec<RoutePart>>,
}

/// What is true of the installation as a whole.
#[derive(Debug, Object)]
#[oai(deny_unknown_fields, skip_serializing_if_is_none)]
struct SettingsPart {
    #[oai(validator(max_length = 64))]
    installation_name: Option<String>,
}

/// A named pool of backend targets.
#[derive(Debug, Object)]
#[oai(deny_unknown_fields, skip_serializing_if_is_none)]
struct UpstreamPart {
    #[oai(validator(max_length = 63))]
    name: String,
    /// `http://host:port` or `https://host:port`, nothing behind it; or `unix:/path` of a socket.
    #[oai(validator(min_items = 1, max_items = 32))]
    targets: Vec<String>,
    options: Option<UpstreamOptions>,
}

/// A public host name.
#[derive(Debug, Object)]
#[oai(deny_unknown_fields, skip_serializing_if_is_none)]
struct SitePart {
    #[oai(validator(max_length = 253))]
    host: String,
    /// `app` unless it is given.
    kind: Option<SiteKind>,
    /// Where connections are passed through to, for that kind of site only.
    #[oai(validator(max_length = 63))]
    upstream: Option<String>,
    client_auth: ClientAuth,
    #[oai(validator(minimum(value = "0"), maximum(value = "315360000")))]
    hsts_max_age_seconds: u64,
    certificate: CertificateSource,
    enabled: bool,
}

/// Where requests to a path go, and who may make them. Known by its host and prefix.
#[derive(Debug, Object)]
#[oai(deny_unknown_fields, skip_serializing_if_is_none)]
struct RoutePart {
    #[oai(validator(max_length = 253))]
    host: String,
    #[oai(validator(min_length = 1, max_length = 1024))]
    path_prefix: String,
    #[oai(validator(max_length = 63))]
    upstream: String,
    policy: AccessPolicy,
    #[oai(validator(max_length = 64))]
    plain_header: Option<String>,
    #[oai(validator(max_length = 255))]
    audience: Option<String>,
    options: Option<RouteOptions>,
}

/// What is done to something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[oai(rename_all = "snake_case")]
enum Action {
    /// It was not there.
    Create,
    /// It is there, and differs.
    Change,
    /// It was not asked for.
    Delete,
}

/// One change of a plan.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
struct Change {
    action: Action,
    /// `upstream`, `site`, `route` or `settings`
    kind: String,
    name: String,
    /// Which fields differ.
    fields: Option<Vec<String>>,
}

/// What applying a document does, or did.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
struct Plan {
    changes: Vec<Change>,
    /// Whether it was done; false in a dry run.
    applied: bool,
    enforced: Option<Enforced>,
}

#[OpenApi(prefix_path = "/api/v1/", tag = "Tag::Configuration")]
impl Api {
    /// The configuration as one document
    #[oai(path = "/configuration", method = "get", operation_id = "getConfiguration")]
    async fn show(&self) -> Outcome<Shown<Configuration>> {
        let (version, current) = self.read().await?;
        Ok(Shown::new(document(current)).version(version))
    }

    /// Makes the configuration what a document says
    ///
    /// All of it or nothing, in one transaction. What the document does not name stays, unless `prune` is
    /// set; then it goes from the sections that the document has.
    #[oai(path = "/configuration", method = "put", operation_id = "applyConfiguration")]
    async fn apply(
        &self,
        call: Call,
        #[oai(name = "If-Match")] if_match: Header<Option<String>>,
        dry_run: Query<Option<bool>>,
        prune: Query<Option<bool>>,
        body: Body<Configuration>,
    ) -> Outcome<Shown<Plan>> {
        let (version, current) = self.read().await?;
        check_version(&if_match, version, "the configuration")?;
        let mut faults = Faults::default();
        let desired = read(body.0, prune.0 == Some(true), call.now, &mut faults);
        // Values first: what cannot be read cannot be said to fit together.
        faults.none()?;
        let mut faults = Faults::default();
        let steps = plan(&current, &desired, &mut faults);
        faults.none()?;
        let changes = steps.iter().map(Change::of).collect();
        if dry_run.0 == Some(true) {
            call.note(format!("dry run, {} changes", steps.len()));
            return Ok(Shown::new(Plan { changes, applied: false, enforced: None }).version(version));
        }
        let enforced = self.take(&call, version, &current, &steps).await?;
        let (version, _) = self.read().await?;
        Ok(Shown::new(Plan { changes, applied: true, enforced: Some(enforced) }).version(version))
    }
}

impl Api {
    /// What there is, and its version. The version is read first: what is edited meanwhile is a conflict.
    async fn read(&self) -> Outcome<(u64, Current)> {
        let store = self.0.store();
        let (_, version) = store.heads().await?;
        let current = Current {
            name: installation::name(&self.0).await?,
            upstreams: store.upstreams().await?,
            sites: store.sites().await?,
            routes: store.routes().await?,
            names: known_names(store).await?,
        };
        Ok((version, current))
    }

    async fn take(&self, call: &Call, version: u64, current: &Current, steps: &[Step]) -> Outcome<Enforced> {
        let mut certificates = Vec::new();
        for step in steps {
            if let Step::AddSite(site) = step
                && site.kind == rows::SiteKind::App
            {
                certificates.push(self.0.ca().local_certificate(&site.host, call.now).await?);
            }
        }
        let transaction = self.0.store().begin().await?;
        transaction.hold_configuration(version).await?;
        for certificate in &certificates {
            transaction.insert_server_certificate(certificate).await?;
        }
        for step in steps {
            match step {
                Step::DeleteRoute(route) => transaction.delete_route(route.id, route.version).await?,
                Step::DeleteSite(site) => transaction.delete_site(&site.host, site.version).await?,
                Step::AddUpstream(one) => transaction.insert_upstream(one).await?,
                Step::EditUpstream(one, _) => transaction.update_upstream(one).await?,
                Step::AddSite(site) => {
                    let own = certificates.iter().find(|certificate| certificate.host == site.host).cloned();
                    transaction.insert_site(&rows::Site { server_certificate: own, ..site.clone() }).await?;
                }
                Step::EditSite(site, _) => transaction.update_site(site).await?,
                Step::AddRoute(route) => transaction.insert_route(route).await?,
                Step::EditRoute(route, _) => transaction.update_route(route).await?,
                Step::DeleteUpstream(one) => transaction.delete_upstream(&one.name, one.version).await?,
                Step::Rename(name) => self.rename(&transaction, name).await?,
            }
        }
        let note = format!("{} changes", steps.len());
        transaction.finish_act(call.act()?, ActOutcome::Succeeded, Some(&note), call.now).await?;
        transaction.commit().await?;
        call.closed();
        let enforced = self.0.enforce().bring_up_to_date().await;
        self.ask_for_renewals(current, steps, call.now).await?;
        Ok(enforced.into())
    }

    /// The name has a counter of its own, so that whoever edits the settings meanwhile is told.
    async fn rename(&self, transaction: &Transaction, name: &str) -> Outcome<()> {
        let before = self.0.store().setting(settings::VERSION).await?;
        let next = |text: &str| (text.parse().unwrap_or(1_u64) + 1).to_string();
        match before {
            None => transaction.begin_setting(settings::VERSION, &next("1"), "the settings").await?,
            Some(was) => {
                if !transaction.swap_setting(settings::VERSION, &was, &next(&was)).await? {
                    return Err(Problem::stale("the settings"));
                }
            }
        }
        Ok(transaction.set_setting(INSTALLATION_NAME, name).await?)
    }

    /// Sites that are to have public certificates from now on.
    async fn ask_for_renewals(&self, current: &Current, steps: &[Step], now: UtcTime) -> Outcome<()> {
        let had = |host: &Hostname| {
            let before = current.sites.iter().find(|site| site.host == *host);
            before.is_some_and(|site| site.source == rows::CertificateSource::Acme)
        };
        for step in steps {
            let (Step::AddSite(site) | Step::EditSite(site, _)) = step else { continue };
            if site.source == rows::CertificateSource::Acme && !had(&site.host) {
                self.0.store().request_renewal(&site.host, now).await?;
                self.0.jobs().wake("renew_server_certificates");
            }
        }
        Ok(())
    }
}

fn document(current: Current) -> Configuration {
    let own = current.sites.into_iter().filter(|site| site.kind != rows::SiteKind::Door);
    Configuration {
        settings: Some(SettingsPart { installation_name: Some(current.name) }),
        upstreams: Some(
            current
                .upstreams
                .into_iter()
                .map(|one| UpstreamPart {
                    name: one.name.to_string(),
                    targets: one.targets,
                    // As short as it can be said.
                    options: (one.options != domain::UpstreamOptions::default()).then(|| one.options.into()),
                })
                .collect(),
        ),
        sites: Some(
            own.map(|site| SitePart {
                host: site.host.to_string(),
                // As short as it can be said.
                kind: (site.kind != rows::SiteKind::App).then(|| site.kind.into()),
                upstream: site.upstream.map(|name| name.to_string()),
                client_auth: site.client_auth.into(),
                hsts_max_age_seconds: site.hsts_max_age_seconds,
                certificate: site.source.into(),
                enabled: site.enabled,
            })
            .collect(),
        ),
        routes: Some(
            current
                .routes
                .into_iter()
                .map(|row| RoutePart {
                    host: row.host.to_string(),
                    path_prefix: row.path_prefix,
                    upstream: row.upstream.to_string(),
                    policy: show_policy(&row.policy).short(),
                    plain_header: row.plain_header,
                    audience: row.audience,
                    options: (row.options != route::RouteOptions::default()).then(|| row.options.into()),
                })
                .collect(),
        ),
    }
}

/// Reads a document's values. What has a fault is left out: with one, nothing is planned.
fn read(document: Configuration, prune: bool, now: UtcTime, faults: &mut Faults) -> Desired {
    let name = document.settings.and_then(|settings| settings.installation_name);
    let name = faults.take_if("/settings/installation_name", name.as_deref().map(fields::name));
    let upstreams = document.upstreams.map(|all| read_upstreams(all, now, faults));
    let sites = document.sites.map(|all| read_sites(all, now, faults));
    let routes = document.routes.map(|all| read_routes(all, now, faults));
    Desired { name, upstreams, sites, routes, prune }
}

fn read_upstreams(all: Vec<UpstreamPart>, now: UtcTime, faults: &mut Faults) -> Vec<UpstreamRow> {
    let mut read = Vec::with_capacity(all.len());
    for (index, one) in all.into_iter().enumerate() {
        let at = format!("/upstreams/{index}");
        let name = faults.take(&format!("{at}/name"), one.name.parse::<Slug>());
        upstreams::check_targets(&one.targets, &at, faults);
        let options = one.options.map(|options| options.read(&one.targets, &at, faults));
        read.extend(name.map(|name| UpstreamRow {
            name,
            targets: one.targets,
            options: options.unwrap_or_default(),
            created_at: now,
            version: 1,
        }));
    }
    read
}

fn read_sites(all: Vec<SitePart>, now: UtcTime, faults: &mut Faults) -> Vec<rows::Site> {
    let mut read = Vec::with_capacity(all.len());
    for (index, one) in all.into_iter().enumerate() {
        let at = format!("/sites/{index}");
        let host = faults.take(&format!("{at}/host"), Hostname::normalize(&one.host));
        let upstream = one.upstream.as_deref().map(str::parse::<Slug>);
        let upstream = faults.take_if(&format!("{at}/upstream"), upstream);
        if one.kind == Some(SiteKind::Door) {
            faults.add(&format!("{at}/kind"), "not_allowed", sites::IS_DOOR);
        }
        let Some(host) = host else { continue };
        let site = rows::Site {
            host,
            kind: one.kind.map_or(rows::SiteKind::App, Into::into),
            upstream,
            client_auth: one.client_auth.into(),
            hsts_max_age_seconds: one.hsts_max_age_seconds,
            source: one.certificate.into(),
            enabled: one.enabled,
            server_certificate: None,
            created_at: now,
            version: 1,
        };
        sites::check_kind(&site, &at, faults);
        read.push(site);
    }
    read
}

fn read_routes(all: Vec<RoutePart>, now: UtcTime, faults: &mut Faults) -> Vec<rows::Route> {
    let mut read = Vec::with_capacity(all.len());
    for (index, one) in all.into_iter().enumerate() {
        let at = format!("/routes/{index}");
        let host = faults.take(&format!("{at}/host"), Hostname::normalize(&one.host));
        let upstream = faults.take(&format!("{at}/upstream"), one.upstream.parse::<Slug>());
        let before = faults.count();
        let policy = read_policy(&one.policy, &at, faults);
        // What could not be read would be told twice.
        if faults.count() == before {
            check_rules(&policy, &one.path_prefix, &at, faults);
        }
        let options = one.options.map(|options| options.read(&at, faults));
        let Some((host, upstream)) = host.zip(upstream) else { continue };
        let row = rows::Route {
            id: RouteId::new(),
            host,
            path_prefix: one.path_prefix,
            upstream,
            policy,
            plain_header: one.plain_header.filter(|header| !header.is_empty()),
            audience: one.audience.filter(|audience| !audience.is_empty()),
            options: options.unwrap_or_default(),
            created_at: now,
            version: 1,
        };
        routes::check_own(&row, &at, faults);
        read.push(row);
    }
    read
}

impl Change {
    fn of(step: &Step) -> Self {
        let route = |route: &rows::Route| format!("{}{}", route.host, route.path_prefix);
        let (action, kind, name, fields) = match step {
            Step::DeleteRoute(one) => (Action::Delete, "route", route(one), None),
            Step::DeleteSite(site) => (Action::Delete, "site", site.host.to_string(), None),
            Step::AddUpstream(one) => (Action::Create, "upstream", one.name.to_string(), None),
            Step::EditUpstream(one, fields) => {
                (Action::Change, "upstream", one.name.to_string(), Some(fields.clone()))
            }
            Step::AddSite(site) => (Action::Create, "site", site.host.to_string(), None),
            Step::EditSite(site, fields) => {
                (Action::Change, "site", site.host.to_string(), Some(fields.clone()))
            }
            Step::AddRoute(one) => (Action::Create, "route", route(one), None),
            Step::EditRoute(one, fields) => (Action::Change, "route", route(one), Some(fields.clone())),
            Step::DeleteUpstream(one) => (Action::Delete, "upstream", one.name.to_string(), None),
            Step::Rename(_) => {
                (Action::Change, "settings", "settings".to_owned(), Some(vec!["installation_name"]))
            }
        };
        let fields = fields.map(|fields| fields.into_iter().map(str::to_owned).collect());
        Self { action, kind: kind.to_owned(), name, fields }
    }
}
