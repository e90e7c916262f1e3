//! Named pools of backend targets.

use std::collections::BTreeSet;

use poem_openapi::param::{Header, Path, Query};
use poem_openapi::{Object, OpenApi};

use super::upstream_discovery::NameState;
use super::upstream_options::{TargetState, UpstreamOptions, check_options};
use super::{Tag, check_version, check_version_if_given};
use crate::admin::auth::caller::Call;
use crate::admin::body::{Body, Created, NoContent, Shown};
use crate::admin::error::{Outcome, Problem};
use crate::admin::fields::Faults;
use crate::admin::page::Page;
use crate::admin::services::Services;
use crate::admin::values::Enforced;
use crate::domain::Slug;
use crate::domain::audit::Outcome as ActOutcome;
use crate::live::configuration::parse_target;
use crate::store::upstreams as rows;

/// Operations on upstreams.
pub struct Api(pub Services);

/// A named pool of backend targets.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
struct Upstream {
    name: String,
    /// `http://host:port`, `https://host:port` or `unix:/path`
    targets: Vec<String>,
    options: UpstreamOptions,
    /// How the edge sees each target, once a route leads there.
    state: Option<Vec<TargetState>>,
    /// What the edge knows of the names that targets are found by.
    names: Option<Vec<NameState>>,
    /// Counts edits: the ETag.
    version: u64,
    enforced: Option<Enforced>,
}

/// A page of upstreams.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
struct UpstreamList {
    items: Vec<Upstream>,
    next_cursor: Option<String>,
}

/// A new upstream.
#[derive(Debug, Object)]
#[oai(deny_unknown_fields)]
struct NewUpstream {
    #[oai(validator(max_length = 63))]
    name: String,
    /// `http://host:port` or `https://host:port`, nothing behind it; or `unix:/path` of a socket.
    #[oai(validator(min_items = 1, max_items = 32))]
    targets: Vec<String>,
    options: Option<UpstreamOptions>,
}

/// What changes about an upstream.
#[derive(Debug, Object)]
#[oai(deny_unknown_fields)]
struct UpstreamEdit {
    /// `http://host:port` or `https://host:port`, nothing behind it; or `unix:/path` of a socket.
    #[oai(validator(min_items = 1, max_items = 32))]
    targets: Option<Vec<String>>,
    /// All of them: what is absent goes back to its default.
    options: Option<UpstreamOptions>,
}

#[OpenApi(prefix_path = "/api/v1/", tag = "Tag::Upstreams")]
impl Api {
    /// Every upstream
    #[oai(path = "/upstreams", method = "get", operation_id = "listUpstreams")]
    async fn list(
        &self,
        #[oai(validator(minimum(value = "1"), maximum(value = "200")))] limit: Query<Option<u32>>,
        cursor: Query<Option<String>>,
    ) -> Outcome<Shown<UpstreamList>> {
        let page = Page::<Slug>::read(&limit, &cursor)?;
        let fetched = page.slice(self.0.store().upstreams().await?, |upstream| upstream.name.clone());
        let (upstreams, next_cursor) = page.cut(fetched, |upstream| upstream.name.to_string());
        let items = upstreams.into_iter().map(|row| self.look(row, None)).collect();
        Ok(Shown::new(UpstreamList { items, next_cursor }))
    }

    /// Adds an upstream
    #[oai(path = "/upstreams", method = "post", operation_id = "addUpstream")]
    async fn add(&self, call: Call, body: Body<NewUpstream>) -> Outcome<Created<Upstream>> {
        let Body(body) = body;
        let mut faults = Faults::default();
        let name = faults.take("/name", body.name.parse::<Slug>());
        check_targets(&body.targets, "", &mut faults);
        let options = body.options.map(|options| options.read(&body.targets, "", &mut faults));
        let name = faults.unless(name)?;
        let row = rows::Upstream {
            name,
            targets: body.targets,
            options: options.unwrap_or_default(),
            created_at: call.now,
            version: 1,
        };
        let transaction = self.0.store().begin().await?;
        transaction.insert_upstream(&row).await?;
        let note = row.name.to_string();
        transaction.finish_act(call.act()?, ActOutcome::Succeeded, Some(&note), call.now).await?;
        transaction.commit().await?;
        call.closed();
        let enforced = self.0.enforce().bring_up_to_date().await;
        let location = format!("/api/v1/upstreams/{}", row.name);
        Ok(Created::at(location, self.look(row, Some(enforced.into()))).version(1))
    }

    /// One upstream
    #[oai(path = "/upstreams/:name", method = "get", operation_id = "getUpstream")]
    async fn show(&self, name: Path<String>) -> Outcome<Shown<Upstream>> {
        let row = self.find(&name).await?;
        let version = row.version;
        Ok(Shown::new(self.look(row, None)).version(version))
    }

    /// Changes an upstream
    #[oai(path = "/upstreams/:name", method = "patch", operation_id = "editUpstream")]
    async fn edit(
        &self,
        call: Call,
        name: Path<String>,
        #[oai(name = "If-Match")] if_match: Header<Option<String>>,
        body: Body<UpstreamEdit>,
    ) -> Outcome<Shown<Upstream>> {
        let row = self.find(&name).await?;
        check_version(&if_match, row.version, "the upstream")?;
        let targets = body.0.targets.unwrap_or_else(|| row.targets.clone());
        let mut faults = Faults::default();
        check_targets(&targets, "", &mut faults);
        let options = match body.0.options {
            Some(options) => options.read(&targets, "", &mut faults),
            None => {
                let mut kept = row.options.clone();
                // What was decided about a target goes with it.
                kept.forced.retain(|target, _| targets.contains(target));
                check_options(&kept, &targets, "", &mut faults);
                kept
            }
        };
        faults.none()?;
        let edited = rows::Upstream { targets, options, ..row };
        let transaction = self.0.store().begin().await?;
        transaction.update_upstream(&edited).await?;
        transaction.finish_act(call.act()?, ActOutcome::Succeeded, None, call.now).await?;
        transaction.commit().await?;
        call.closed();
        let enforced = self.0.enforce().bring_up_to_date().await;
        let stored = rows::Upstream { version: edited.version + 1, ..edited };
        let version = stored.version;
        Ok(Shown::new(self.look(stored, Some(enforced.into()))).version(version))
    }

    /// Removes an upstream that no route leads to
    #[oai(path = "/upstreams/:name", method = "delete", operation_id = "deleteUpstream")]
    async fn delete(
        &self,
        call: Call,
        name: Path<String>,
        #[oai(name = "If-Match")] if_match: Header<Option<String>>,
    ) -> Outcome<NoContent> {
        let row = self.find(&name).await?;
        check_version_if_given(&if_match, row.version, "the upstream")?;
        if self.0.store().routes().await?.iter().any(|route| route.upstream == row.name) {
            return Err(Problem::conflict("upstream_in_use", "A route leads to this upstream."));
        }
        let transaction = self.0.store().begin().await?;
        transaction.delete_upstream(&row.name, row.version).await?;
        transaction.finish_act(call.act()?, ActOutcome::Succeeded, None, call.now).await?;
        transaction.commit().await?;
        call.closed();
        self.0.enforce().bring_up_to_date().await;
        Ok(NoContent::new())
    }
}

impl Api {
    async fn find(&self, name: &Path<String>) -> Outcome<rows::Upstream> {
        let missing = || Problem::not_found("upstream");
        let name: Slug = name.0.parse().map_err(|_| missing())?;
        self.0.store().upstream(&name).await?.ok_or_else(missing)
    }

    fn look(&self, row: rows::Upstream, enforced: Option<Enforced>) -> Upstream {
        let seen = self.0.edge().targets.seen();
        let state: Vec<_> =
            seen.iter().filter(|seen| seen.upstream == row.name).map(TargetState::from).collect();
        let known = self.0.edge().names.known();
        let names: Vec<_> =
            known.iter().filter(|known| known.upstream == row.name).map(NameState::from).collect();
        Upstream {
            name: row.name.to_string(),
            targets: row.targets,
            options: row.options.into(),
            state: (!state.is_empty()).then_some(state),
            names: (!names.is_empty()).then_some(names),
            version: row.version,
            enforced,
        }
    }
}

pub(super) fn check_targets(targets: &[String], at: &str, faults: &mut Faults) {
    let mut seen = BTreeSet::new();
    for (index, target) in targets.iter().enumerate() {
        let pointer = format!("{at}/targets/{index}");
        if let Some(target) = faults.take(&pointer, parse_target(target))
            && !seen.insert(target.place)
        {
            faults.add(&pointer, "doubled", "This target is there twice.");
        }
    }
}
