//! Publishes revocation lists before the current ones end, and at once after a revocation.

use std::time::Duration;

use async_trait::async_trait;

use super::{Job, JobContext, JobError, JobReport};
use crate::ca::Ca;

/// Revocations of one moment go on one list.
const GATHER: Duration = Duration::from_millis(200);

/// The job.
pub struct PublishCrls(Ca);

impl PublishCrls {
    /// Publishes the lists of this authority.
    pub fn new(ca: Ca) -> Self {
        Self(ca)
    }
}

#[async_trait]
impl Job for PublishCrls {
    fn name(&self) -> &'static str {
        "publish_crls"
    }

    fn schedule(&self) -> &'static str {
        "20 */5 * * * *"
    }

    fn description(&self) -> &'static str {
        "Publishes revocation lists before the current ones end, and after revocations"
    }

    async fn run(&self, context: &JobContext) -> Result<JobReport, JobError> {
        tokio::select! {
            () = tokio::time::sleep(GATHER) => {}
            () = context.stop.cancelled() => return Ok(JobReport::default()),
        }
        let published = self.0.publish_crls(context.clock.now()).await;
        let published = published.map_err(|error| JobError::new("a list could not be published", error))?;
        Ok(JobReport::new(published.into(), format!("{published} lists published")))
    }
}
