//! Looks for events of the audit that should be in its chain and are not: nobody chains, or someone took
//! a link away. Runs apart from `chain_audit`, so that it notices when that one does not run.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::chain_audit::{FAR, OBJECT};
use super::{Job, JobContext, JobError, JobReport};
use crate::domain::UtcTime;
use crate::store::alerts::{NewAlert, Severity};
use crate::store::audit_chain::Look;
use crate::store::{Store, StoreError};
use crate::telemetry::metrics::JobMetrics;

/// Alert: events stay without a link.
pub const UNCHAINED: &str = "audit_unchained";

/// An event that is older should have a link; a dead sequencer is replaced well before.
const CHAINED_WITHIN: Duration = Duration::from_secs(60);
/// An act may take long, and its last event is as old as its beginning: a second look tells.
const LOOK_TWICE: Duration = Duration::from_secs(2);
/// Events counted at most.
const MOST: u64 = 1000;

/// The job.
pub struct CheckAudit {
    store: Store,
    metrics: Arc<JobMetrics>,
}

impl CheckAudit {
    /// Looks into this database.
    pub fn new(store: Store, metrics: Arc<JobMetrics>) -> Self {
        Self { store, metrics }
    }

    async fn late(&self, now: UtcTime) -> Result<BTreeSet<String>, StoreError> {
        let late = now.minus(CHAINED_WITHIN);
        let events = self.store.unchained_audit_events(Look::Back(FAR), None, MOST).await?;
        Ok(events.into_iter().filter(|event| event.at < late).map(|event| event.id).collect())
    }
}

#[async_trait]
impl Job for CheckAudit {
    fn name(&self) -> &'static str {
        "check_audit"
    }

    fn schedule(&self) -> &'static str {
        "10 * * * * *"
    }

    fn description(&self) -> &'static str {
        "Says when events of the audit are not chained within a minute"
    }

    async fn run(&self, context: &JobContext) -> Result<JobReport, JobError> {
        let now = context.clock.now();
        let mut late = self.late(now).await?;
        if !late.is_empty() {
            tokio::time::sleep(LOOK_TWICE).await;
            let still = self.late(now).await?;
            late.retain(|id| still.contains(id));
        }
        let count = late.len() as u64;
        self.metrics.audit_unchained.set(i64::try_from(count).unwrap_or(i64::MAX));
        if count == 0 {
            self.store.close_alert(UNCHAINED, OBJECT, now).await?;
            return Ok(JobReport::new(0, "every event is chained"));
        }
        let message = format!(
            "{count} events of the audit or more are not in its chain after {} seconds. See whether the job \
             chain_audit runs, and what it says.",
            CHAINED_WITHIN.as_secs()
        );
        let severity = Severity::Critical;
        let alert = NewAlert { kind: UNCHAINED, object: OBJECT, message: &message, severity };
        self.store.raise_alert(alert, now).await?;
        Ok(JobReport::new(count, format!("{count} events are not chained")))
    }
}
