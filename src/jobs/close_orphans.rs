//! Closes what a crash left open: audited acts without an outcome, intents without a certificate.

use std::time::Duration;

use async_trait::async_trait;

use super::{Job, JobContext, JobError, JobReport};
use crate::ca::Ca;
use crate::store::Store;

/// No act takes this long; one that is older belongs to a process that died.
const ORPHANED_AFTER: Duration = Duration::from_secs(15 * 60);

/// The job.
pub struct CloseOrphans {
    store: Store,
    ca: Ca,
}

impl CloseOrphans {
    /// Closes orphans of this database and this authority.
    pub fn new(store: Store, ca: Ca) -> Self {
        Self { store, ca }
    }
}

#[async_trait]
impl Job for CloseOrphans {
    fn name(&self) -> &'static str {
        "close_orphans"
    }

    fn schedule(&self) -> &'static str {
        "40 */5 * * * *"
    }

    fn description(&self) -> &'static str {
        "Closes acts and issuances that a crash left without an outcome"
    }

    async fn run(&self, context: &JobContext) -> Result<JobReport, JobError> {
        let now = context.clock.now();
        let mut intents = self.ca.resolve_intents(now).await?;
        // What the process before us left open a moment ago is closed as soon as it belongs to nobody,
        // and not at the next tick.
        if let Some(wait) = self.ca.open_intents_belong_to_nobody_in(now).await? {
            tokio::select! { () = tokio::time::sleep(wait) => {} () = context.stop.cancelled() => {} }
            intents += self.ca.resolve_intents(context.clock.now()).await?;
        }
        let acts = self.store.close_orphaned_acts(now.minus(ORPHANED_AFTER), now).await?;
        Ok(JobReport::new(intents + acts, format!("{acts} acts and {intents} issuances closed")))
    }
}
