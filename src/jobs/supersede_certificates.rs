//! Revokes certificates that a successor replaced, when their overlap is over.

use async_trait::async_trait;

use super::{Job, JobContext, JobError, JobReport};
use crate::ca::Ca;

/// The job.
pub struct SupersedeCertificates(Ca);

impl SupersedeCertificates {
    /// Takes back what this authority's certificates replaced.
    pub fn new(ca: Ca) -> Self {
        Self(ca)
    }
}

#[async_trait]
impl Job for SupersedeCertificates {
    fn name(&self) -> &'static str {
        "supersede_certificates"
    }

    fn schedule(&self) -> &'static str {
        "30 * * * * *"
    }

    fn description(&self) -> &'static str {
        "Revokes certificates that a renewal replaced, when their overlap is over"
    }

    async fn run(&self, context: &JobContext) -> Result<JobReport, JobError> {
        let revoked = self.0.revoke_superseded(context.clock.now()).await;
        let revoked =
            revoked.map_err(|error| JobError::new("a superseded certificate could not be revoked", error))?;
        Ok(JobReport::new(revoked, format!("{revoked} certificates revoked as superseded")))
    }
}
