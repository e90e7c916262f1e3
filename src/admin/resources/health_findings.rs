//! What is wrong with the house, or soon will be, with advice.

use poem_openapi::param::Query;
use poem_openapi::{Enum, Object, OpenApi};

use super::Tag;
use crate::admin::auth::caller::Call;
use crate::admin::body::Shown;
use crate::admin::error::Outcome;
use crate::admin::page::Page;
use crate::admin::services::Services;
use crate::ca::health;

/// Operations on findings.
pub struct Api(pub Services);

/// How bad a finding is.
#[derive(Clone, Copy, Debug, Enum)]
#[oai(rename_all = "snake_case", remote = "health::Severity")]
enum FindingSeverity {
    /// Something will go wrong unless someone acts.
    Warning,
    /// Something is wrong now.
    Critical,
}

/// Something that somebody should do something about.
#[derive(Debug, Object)]
struct HealthFinding {
    /// Which check found it.
    check: String,
    severity: FindingSeverity,
    /// What it is about.
    object: String,
    /// What was found.
    detail: String,
    /// What to do.
    advice: String,
}

/// A page of findings, by check and object; none when all is well.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
struct HealthFindingList {
    items: Vec<HealthFinding>,
    next_cursor: Option<String>,
}

#[OpenApi(prefix_path = "/api/v1/", tag = "Tag::Installation")]
impl Api {
    /// What is wrong now, or soon will be
    #[oai(path = "/health-findings", method = "get", operation_id = "listHealthFindings")]
    async fn list(
        &self,
        call: Call,
        #[oai(validator(minimum(value = "1"), maximum(value = "200")))] limit: Query<Option<u32>>,
        cursor: Query<Option<String>>,
    ) -> Outcome<Shown<HealthFindingList>> {
        let page = Page::<String>::read(&limit, &cursor)?;
        let key = |finding: &health::Finding| format!("{} {}", finding.check, finding.object);
        let mut all = self.0.health().findings(call.now).await;
        all.sort_by_key(key);
        let (found, next_cursor) = page.cut(page.slice(all, key), key);
        let items = found.into_iter().map(HealthFinding::from).collect();
        Ok(Shown::new(HealthFindingList { items, next_cursor }))
    }
}

impl From<health::Finding> for HealthFinding {
    fn from(finding: health::Finding) -> Self {
        Self {
            check: finding.check.to_owned(),
            severity: finding.severity.into(),
            object: finding.object,
            detail: finding.detail,
            advice: finding.advice.to_owned(),
        }
    }
}
