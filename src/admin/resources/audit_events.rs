//! Who did what: two events an act, newest first.

use poem_openapi::param::Query;
use poem_openapi::{Enum, Object, OpenApi};

use super::Tag;
use crate::admin::body::Shown;
use crate::admin::error::Outcome;
use crate::admin::page::Page;
use crate::admin::services::Services;
use crate::admin::values::When;
use crate::domain::{AuditEventId, UtcTime};
use crate::store::audit::AuditFilter;

/// Operations on the audit.
pub struct Api(pub Services);

/// Which of its two events it is.
#[derive(Clone, Copy, Debug, Enum)]
#[oai(rename_all = "snake_case")]
enum Phase {
    /// Committed before the act.
    Started,
    /// Committed with it, or when it failed.
    Finished,
}

/// One event of the append-only audit.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
struct AuditEvent {
    id: String,
    at: When,
    phase: Phase,
    /// What the two events of one act have in common.
    act: String,
    /// `person:<id>`, `token:<id>`, `host:<uid>` or `system:<name>`
    actor: String,
    action: String,
    object_kind: Option<String>,
    object_id: Option<String>,
    /// `succeeded`, `failed` or `unknown`
    outcome: Option<String>,
    detail: Option<String>,
    /// The request that asked for it: the trace id.
    request_id: Option<String>,
}

/// A page of events.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
struct AuditEventList {
    items: Vec<AuditEvent>,
    next_cursor: Option<String>,
}

#[OpenApi(prefix_path = "/api/v1/", tag = "Tag::AuditEvents")]
impl Api {
    /// Events, newest first
    #[oai(path = "/audit-events", method = "get", operation_id = "listAuditEvents")]
    async fn list(
        &self,
        /// Only this action, for example `certificate.issue`
        action: Query<Option<String>>,
        /// Only this actor, for example `person:<id>`
        actor: Query<Option<String>>,
        #[oai(validator(minimum(value = "1"), maximum(value = "200")))] limit: Query<Option<u32>>,
        cursor: Query<Option<String>>,
    ) -> Outcome<Shown<AuditEventList>> {
        let page = Page::<AuditEventId>::read(&limit, &cursor)?;
        let before = page.after.map(|id| id.to_string());
        let filter = AuditFilter { action: action.0, actor: actor.0, before };
        let fetched = self.0.store().audit_events(&filter, page.fetch()).await?;
        let (events, next_cursor) = page.cut(fetched, |event| event.id.clone());
        let items = events
            .into_iter()
            .map(|event| AuditEvent {
                id: event.id,
                at: UtcTime::from_unix(event.at).into(),
                phase: if event.phase == "started" { Phase::Started } else { Phase::Finished },
                act: event.act,
                actor: event.actor,
                action: event.action,
                object_kind: event.object_kind,
                object_id: event.object_id,
                outcome: event.outcome,
                detail: event.detail,
                request_id: event.request_id,
            })
            .collect();
        Ok(Shown::new(AuditEventList { items, next_cursor }))
    }
}
