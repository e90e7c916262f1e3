//! Gives edges the next client certificate for upstreams long before the current one ends.

use async_trait::async_trait;

use super::{Job, JobContext, JobError, JobReport};
use crate::ca::Ca;

/// The job.
pub struct RotateUpstreamIdentity(Ca);

impl RotateUpstreamIdentity {
    /// Renews by this authority.
    pub fn new(ca: Ca) -> Self {
        Self(ca)
    }
}

#[async_trait]
impl Job for RotateUpstreamIdentity {
    fn name(&self) -> &'static str {
        "rotate_upstream_identity"
    }

    fn schedule(&self) -> &'static str {
        "20 11 * * * *"
    }

    fn description(&self) -> &'static str {
        "Gives the edge a new client certificate for upstreams when half of the current one's life is over"
    }

    async fn run(&self, context: &JobContext) -> Result<JobReport, JobError> {
        let made = self.0.renew_upstream_identity(&context.lease, context.clock.now()).await;
        let made =
            made.map_err(|error| JobError::new("the edge's client certificate was not renewed", error))?;
        Ok(match made {
            Some(made) => {
                let (generation, ends) = (made.generation, made.certificate.not_after);
                JobReport::new(1, format!("generation {generation} was made, which ends at {ends}"))
            }
            None => JobReport::new(0, "nothing was due"),
        })
    }
}
