//! What an administrator should know.

use poem_openapi::param::{Path, Query};
use poem_openapi::{Object, OpenApi};

use super::Tag;
use crate::admin::auth::caller::Call;
use crate::admin::body::Shown;
use crate::admin::error::{Outcome, Problem};
use crate::admin::page::Page;
use crate::admin::services::Services;
use crate::admin::values::When;
use crate::store::alerts as rows;

/// Operations on alerts.
pub struct Api(pub Services);

/// Something an administrator should know.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
struct Alert {
    id: String,
    kind: String,
    /// What it is about.
    object: String,
    message: String,
    severity: String,
    raised_at: When,
    acknowledged_at: Option<When>,
    closed_at: Option<When>,
}

/// A page of alerts, newest first.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
struct AlertList {
    items: Vec<Alert>,
    next_cursor: Option<String>,
}

#[OpenApi(prefix_path = "/api/v1/", tag = "Tag::Alerts")]
impl Api {
    /// Alerts, newest first
    #[oai(path = "/alerts", method = "get", operation_id = "listAlerts")]
    async fn list(
        &self,
        #[oai(validator(minimum(value = "1"), maximum(value = "200")))] limit: Query<Option<u32>>,
        cursor: Query<Option<String>>,
    ) -> Outcome<Shown<AlertList>> {
        let page = Page::<String>::read(&limit, &cursor)?;
        let fetched = self.0.store().alerts(true, page.after.as_deref(), page.fetch()).await?;
        let (alerts, next_cursor) = page.cut(fetched, |alert| alert.id.clone());
        Ok(Shown::new(AlertList { items: alerts.into_iter().map(Alert::from).collect(), next_cursor }))
    }

    /// Says that someone knows
    #[oai(path = "/alerts/:id/acknowledgement", method = "post", operation_id = "acknowledgeAlert")]
    async fn acknowledge(&self, call: Call, id: Path<String>) -> Outcome<Shown<Alert>> {
        let store = self.0.store();
        store.acknowledge_alert(&id.0, call.now).await?;
        let alert = store.alert(&id.0).await?.ok_or_else(|| Problem::not_found("alert"))?;
        Ok(Shown::new(Alert::from(alert)))
    }
}

impl From<rows::Alert> for Alert {
    fn from(alert: rows::Alert) -> Self {
        Self {
            id: alert.id,
            kind: alert.kind,
            object: alert.object,
            message: alert.message,
            severity: alert.severity.name().to_owned(),
            raised_at: alert.raised_at.into(),
            acknowledged_at: alert.acknowledged_at.map(When),
            closed_at: alert.closed_at.map(When),
        }
    }
}
