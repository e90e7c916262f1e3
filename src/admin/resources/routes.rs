//! Routes: site and path prefix to upstream, with an access policy.

use poem_openapi::param::{Header, Path, Query};
use poem_openapi::{Object, OpenApi};

use super::policies::{AccessPolicy, check_names, check_rules, known_names, read_policy, show_policy};
use super::route_options::RouteOptions;
use super::{Tag, check_version, check_version_if_given};
use crate::admin::auth::caller::Call;
use crate::admin::body::{Body, Created, NoContent, Shown};
use crate::admin::error::{Outcome, Problem, sentence};
use crate::admin::fields::Faults;
use crate::admin::page::Page;
use crate::admin::services::Services;
use crate::admin::values::Enforced;
use crate::domain::audit::Outcome as ActOutcome;
use crate::domain::rule::prefix_fault;
use crate::domain::{self, ClientAuth, Hostname, RouteId, Slug};
use crate::live::configuration::plain_header;
use crate::store::configuration as rows;

/// Operations on routes.
pub struct Api(pub Services);

/// Where requests to a path go, and who may make them.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
struct Route {
    id: String,
    host: String,
    /// `/` or `/segment…`, without a slash at its end; fits whole segments.
    path_prefix: String,
    upstream: String,
    policy: AccessPolicy,
    /// A header that carries the person's address to the backend.
    plain_header: Option<String>,
    /// The `aud` of the assertion; the site's origin if absent.
    audience: Option<String>,
    options: RouteOptions,
    /// Counts edits: the ETag.
    version: u64,
    enforced: Option<Enforced>,
}

/// A page of routes.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
struct RouteList {
    items: Vec<Route>,
    next_cursor: Option<String>,
}

/// A new route.
#[derive(Debug, Object)]
#[oai(deny_unknown_fields)]
struct NewRoute {
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

/// What changes about a route. An empty `plain_header` or `audience` removes it.
#[derive(Debug, Object)]
#[oai(deny_unknown_fields)]
struct RouteEdit {
    #[oai(validator(max_length = 253))]
    host: Option<String>,
    #[oai(validator(min_length = 1, max_length = 1024))]
    path_prefix: Option<String>,
    #[oai(validator(max_length = 63))]
    upstream: Option<String>,
    policy: Option<AccessPolicy>,
    #[oai(validator(max_length = 64))]
    plain_header: Option<String>,
    #[oai(validator(max_length = 255))]
    audience: Option<String>,
    /// All of them: what is absent goes back to its default.
    options: Option<RouteOptions>,
    /// Closes the route for maintenance, or opens it, and leaves everything else that its options say.
    maintenance_enabled: Option<bool>,
}

#[OpenApi(prefix_path = "/api/v1/", tag = "Tag::Routes")]
impl Api {
    /// Every route
    #[oai(path = "/routes", method = "get", operation_id = "listRoutes")]
    async fn list(
        &self,
        #[oai(validator(minimum(value = "1"), maximum(value = "200")))] limit: Query<Option<u32>>,
        cursor: Query<Option<String>>,
    ) -> Outcome<Shown<RouteList>> {
        let page = Page::<RouteId>::read(&limit, &cursor)?;
        let mut all = self.0.store().routes().await?;
        all.sort_by_key(|route| route.id);
        let fetched = page.slice(all, |route| route.id);
        let (routes, next_cursor) = page.cut(fetched, |route| route.id.to_string());
        let items = routes.into_iter().map(|row| look(row, None)).collect();
        Ok(Shown::new(RouteList { items, next_cursor }))
    }

    /// Adds a route
    #[oai(path = "/routes", method = "post", operation_id = "addRoute")]
    async fn add(&self, call: Call, body: Body<NewRoute>) -> Outcome<Created<Route>> {
        let Body(body) = body;
        let mut faults = Faults::default();
        let host = faults.take("/host", Hostname::normalize(&body.host));
        let upstream = faults.take("/upstream", body.upstream.parse::<Slug>());
        let policy = read_policy(&body.policy, "", &mut faults);
        let options = body.options.map(|options| options.read("", &mut faults));
        let (host, upstream) = faults.unless(host.zip(upstream))?;
        let row = rows::Route {
            id: RouteId::new(),
            host,
            path_prefix: body.path_prefix,
            upstream,
            policy,
            plain_header: body.plain_header.filter(|header| !header.is_empty()),
            audience: body.audience.filter(|audience| !audience.is_empty()),
            options: options.unwrap_or_default(),
            created_at: call.now,
            version: 1,
        };
        self.check(&row).await?;
        let transaction = self.0.store().begin().await?;
        transaction.insert_route(&row).await?;
        let note = format!("route {}", row.id);
        transaction.finish_act(call.act()?, ActOutcome::Succeeded, Some(&note), call.now).await?;
        transaction.commit().await?;
        call.closed();
        let enforced = self.0.enforce().bring_up_to_date().await;
        Ok(Created::at(format!("/api/v1/routes/{}", row.id), look(row, Some(enforced.into()))).version(1))
    }

    /// One route
    #[oai(path = "/routes/:id", method = "get", operation_id = "getRoute")]
    async fn show(&self, id: Path<String>) -> Outcome<Shown<Route>> {
        let row = self.find(&id).await?;
        let version = row.version;
        Ok(Shown::new(look(row, None)).version(version))
    }

    /// Changes a route
    #[oai(path = "/routes/:id", method = "patch", operation_id = "editRoute")]
    async fn edit(
        &self,
        call: Call,
        id: Path<String>,
        #[oai(name = "If-Match")] if_match: Header<Option<String>>,
        body: Body<RouteEdit>,
    ) -> Outcome<Shown<Route>> {
        let row = self.find(&id).await?;
        check_version(&if_match, row.version, "the route")?;
        let Body(body) = body;
        let mut faults = Faults::default();
        let host = faults.take_if("/host", body.host.as_deref().map(Hostname::normalize));
        let upstream = faults.take_if("/upstream", body.upstream.as_deref().map(str::parse::<Slug>));
        let policy = body.policy.as_ref().map(|policy| read_policy(policy, "", &mut faults));
        let options = body.options.map(|options| options.read("", &mut faults));
        if host.as_ref().is_some_and(|host| *host != row.host) {
            faults.add("/host", "not_allowed", "A route stays with its site. Make a new one there.");
        }
        faults.none()?;
        let or_kept = |given: Option<String>, kept: Option<String>| match given {
            None => kept,
            Some(text) => Some(text).filter(|text| !text.is_empty()),
        };
        let mut options = options.unwrap_or(row.options);
        if let Some(enabled) = body.maintenance_enabled {
            options.set_maintenance(enabled);
        }
        let edited = rows::Route {
            path_prefix: body.path_prefix.unwrap_or(row.path_prefix),
            upstream: upstream.unwrap_or(row.upstream),
            policy: policy.unwrap_or(row.policy),
            plain_header: or_kept(body.plain_header, row.plain_header),
            audience: or_kept(body.audience, row.audience),
            options,
            ..row
        };
        self.check(&edited).await?;
        let transaction = self.0.store().begin().await?;
        transaction.update_route(&edited).await?;
        transaction.finish_act(call.act()?, ActOutcome::Succeeded, None, call.now).await?;
        transaction.commit().await?;
        call.closed();
        let enforced = self.0.enforce().bring_up_to_date().await;
        let stored = rows::Route { version: edited.version + 1, ..edited };
        let version = stored.version;
        Ok(Shown::new(look(stored, Some(enforced.into()))).version(version))
    }

    /// Removes a route
    #[oai(path = "/routes/:id", method = "delete", operation_id = "deleteRoute")]
    async fn delete(
        &self,
        call: Call,
        id: Path<String>,
        #[oai(name = "If-Match")] if_match: Header<Option<String>>,
    ) -> Outcome<NoContent> {
        let row = self.find(&id).await?;
        check_version_if_given(&if_match, row.version, "the route")?;
        let transaction = self.0.store().begin().await?;
        transaction.delete_route(row.id, row.version).await?;
        transaction.finish_act(call.act()?, ActOutcome::Succeeded, None, call.now).await?;
        transaction.commit().await?;
        call.closed();
        self.0.enforce().bring_up_to_date().await;
        Ok(NoContent::new())
    }
}

impl Api {
    async fn find(&self, id: &Path<String>) -> Outcome<rows::Route> {
        let missing = || Problem::not_found("route");
        let id: RouteId = id.0.parse().map_err(|_| missing())?;
        self.0.store().route(id).await?.ok_or_else(missing)
    }

    /// What an edge would refuse to build is refused here, with the field that is wrong.
    async fn check(&self, row: &rows::Route) -> Outcome<()> {
        let mut faults = Faults::default();
        check_own(row, "", &mut faults);
        check_rules(&row.policy, &row.path_prefix, "", &mut faults);
        let store = self.0.store();
        check_names(&row.policy, &known_names(store).await?, "", &mut faults);
        match store.site(&row.host).await? {
            None => faults.add("/host", "unknown", "There is no such site."),
            Some(site) if site.kind == rows::SiteKind::Door => {
                faults.add("/host", "not_allowed", "The door has no routes.");
            }
            Some(site) if site.kind == rows::SiteKind::Passthrough => {
                faults.add("/host", "not_allowed", "A site that is passed through has no routes.");
            }
            Some(site)
                if site.client_auth == ClientAuth::None && row.policy != domain::AccessPolicy::Public =>
            {
                let detail = "The site never asks for a certificate, so nobody could pass.";
                faults.add("/policy", "never_asked", detail);
            }
            Some(_) => {}
        }
        if store.upstream(&row.upstream).await?.is_none() {
            faults.add("/upstream", "unknown", "There is no such upstream.");
        }
        faults.none()
    }
}

/// What can be said of a route without looking at anything else, but for its rules; `at` points to it.
pub(super) fn check_own(row: &rows::Route, at: &str, faults: &mut Faults) {
    if let Some(why) = prefix_fault(&row.path_prefix) {
        faults.add(&format!("{at}/path_prefix"), "invalid", sentence(why));
    }
    if let Some(header) = &row.plain_header {
        faults.take(&format!("{at}/plain_header"), plain_header(header));
    }
    if row.audience.as_deref().is_some_and(|audience| !audience.bytes().all(|b| b.is_ascii_graphic())) {
        faults.add(&format!("{at}/audience"), "invalid", "Must be visible ASCII characters without spaces.");
    }
}

fn look(row: rows::Route, enforced: Option<Enforced>) -> Route {
    Route {
        id: row.id.to_string(),
        host: row.host.to_string(),
        path_prefix: row.path_prefix,
        upstream: row.upstream.to_string(),
        policy: show_policy(&row.policy),
        plain_header: row.plain_header,
        audience: row.audience,
        options: row.options.into(),
        version: row.version,
        enforced,
    }
}
