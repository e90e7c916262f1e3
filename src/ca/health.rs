//! What is wrong with the house or soon will be, each finding with a line of advice: a table of checks
//! that others add to. Asked by `wicketgate ca health` and the API; changes nothing.

mod checks;

use std::sync::Arc;

use async_trait::async_trait;

use crate::domain::UtcTime;
use crate::store::StoreError;

pub use checks::{AuthoritiesEnding, ClockSetBack, IntentsOpen, ListsStale, of_authorities};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Something will go wrong unless someone acts.
    Warning,
    /// Something is wrong now.
    Critical,
}

/// Something that somebody should do something about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Which check found it.
    pub check: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What it is about: the slug of an authority, a path. No names of people, no addresses.
    pub object: String,
    /// What was found.
    pub detail: String,
    /// What to do.
    pub advice: &'static str,
}

/// Why a check could not look.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The rows could not be read.
    #[error("the database did not answer")]
    Store(#[from] StoreError),
    /// Something else could not be read.
    #[error("{0}")]
    Other(String),
}

/// One line of the table.
#[async_trait]
pub trait HealthCheck: Send + Sync + 'static {
    /// Its name in findings.
    fn name(&self) -> &'static str;

    /// Looks, at `now`.
    ///
    /// # Errors
    /// [`CheckError`], which becomes a finding: what cannot be looked at is not known to be well.
    async fn look(&self, now: UtcTime) -> Result<Vec<Finding>, CheckError>;
}

/// The table. Cheap to clone.
#[derive(Clone)]
pub struct Health(Arc<Vec<Box<dyn HealthCheck>>>);

impl Health {
    /// These checks, asked in this order.
    pub fn new(checks: Vec<Box<dyn HealthCheck>>) -> Self {
        Self(Arc::new(checks))
    }

    /// What every check finds at `now`, the worst first. Never fails.
    pub async fn findings(&self, now: UtcTime) -> Vec<Finding> {
        let mut findings = Vec::new();
        for check in self.0.iter() {
            match check.look(now).await {
                Ok(found) => findings.extend(found),
                Err(error) => findings.push(Finding {
                    check: check.name(),
                    severity: Severity::Critical,
                    object: "the check itself".to_owned(),
                    detail: format!("could not look: {}", whole(&error)),
                    advice: "Mend what keeps it from looking, and ask again.",
                }),
            }
        }
        findings.sort_by(|a, b| b.severity.cmp(&a.severity).then_with(|| a.check.cmp(b.check)));
        findings
    }
}

fn whole(error: &CheckError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
