//! Publishes revocation lists before the current ones end, and at once after a revocation.

use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use parking_lot::Mutex;

use super::{Job, JobContext, JobError, JobReport};
use crate::ca::Ca;

/// Revocations of one moment go on one list. Long lists are the work of a while: before the next there is a
/// pause as long as the last one took, within these bounds, in which those who revoke have the machine to
/// themselves.
const GATHER: RangeInclusive<Duration> = Duration::from_millis(200)..=Duration::from_secs(5);

/// The job.
pub struct PublishCrls {
    ca: Ca,
    /// How long it took the last time.
    took: Mutex<Duration>,
}

impl PublishCrls {
    /// Publishes the lists of this authority.
    pub fn new(ca: Ca) -> Self {
        Self { ca, took: Mutex::default() }
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
        let pause = (*self.took.lock()).clamp(*GATHER.start(), *GATHER.end());
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = context.stop.cancelled() => return Ok(JobReport::default()),
        }
        let began = Instant::now();
        let published = self.ca.publish_crls(context.clock.now()).await;
        *self.took.lock() = began.elapsed();
        let published = published.map_err(|error| JobError::new("a list could not be published", error))?;
        Ok(JobReport::new(published.into(), format!("{published} lists published")))
    }
}
