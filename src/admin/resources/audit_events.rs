//! Who did what: two events an act, newest first.

use std::collections::HashMap;

use poem_openapi::param::Query;
use poem_openapi::{Enum, Object, OpenApi};

use super::Tag;
use crate::admin::body::Shown;
use crate::admin::error::Outcome;
use crate::admin::page::Page;
use crate::admin::services::Services;
use crate::admin::values::When;
use crate::domain::{AuditEventId, audit_chain as domain};
use crate::store::audit::AuditFilter;
use crate::store::audit_chain::Look;

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
pub(super) struct AuditEvent {
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
    /// Its place in the chain, once it has one.
    number: Option<u64>,
    /// The hash of its link, in hexadecimal.
    link: Option<String>,
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
        /// `false`: only events that are not in the chain, oldest first, whatever action and actor
        chained: Query<Option<bool>>,
        #[oai(validator(minimum(value = "1"), maximum(value = "200")))] limit: Query<Option<u32>>,
        cursor: Query<Option<String>>,
    ) -> Outcome<Shown<AuditEventList>> {
        let page = Page::<AuditEventId>::read(&limit, &cursor)?;
        let edge = page.after.map(|id| id.to_string());
        let store = self.0.store();
        let fetched: Vec<domain::AuditEvent> = match chained.0 {
            Some(false) => {
                store.unchained_audit_events(Look::Everywhere, edge.as_deref(), page.fetch()).await?
            }
            _ => {
                let filter = AuditFilter { action: action.0, actor: actor.0, before: edge };
                let rows = store.audit_events(&filter, page.fetch()).await?;
                rows.into_iter().map(domain::AuditEvent::from).collect()
            }
        };
        let (events, next_cursor) = page.cut(fetched, |event| event.id.clone());
        let ids: Vec<&str> = events.iter().map(|event| event.id.as_str()).collect();
        let places = match chained.0 {
            // They had none when they were read, and that is what the answer says, though they may have one now.
            Some(false) => HashMap::default(),
            _ => store.audit_places(&ids).await?,
        };
        let show = |event: domain::AuditEvent| {
            let place = places.get(&event.id);
            let (number, link) = (place.map(|head| head.number), place.map(|head| head.hash.to_string()));
            AuditEvent { number, link, ..AuditEvent::from(event) }
        };
        Ok(Shown::new(AuditEventList { items: events.into_iter().map(show).collect(), next_cursor }))
    }
}

impl From<domain::AuditEvent> for AuditEvent {
    fn from(event: domain::AuditEvent) -> Self {
        Self {
            id: event.id,
            at: event.at.into(),
            phase: if event.phase == "started" { Phase::Started } else { Phase::Finished },
            act: event.act,
            actor: event.actor,
            action: event.action,
            object_kind: event.object_kind,
            object_id: event.object_id,
            outcome: event.outcome,
            detail: event.detail,
            request_id: event.request_id,
            number: None,
            link: None,
        }
    }
}
