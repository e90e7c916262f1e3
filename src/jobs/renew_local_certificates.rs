//! Gives sites whose leaf comes from the local server authority a new one before it ends. What a site
//! with a public certificate falls back on is looked after, too, because it is such a leaf.

use async_trait::async_trait;

use super::{Job, JobContext, JobError, JobReport};
use crate::ca::Ca;

/// The job.
pub struct RenewLocalCertificates(Ca);

impl RenewLocalCertificates {
    /// Renews leaves of this authority.
    pub fn new(ca: Ca) -> Self {
        Self(ca)
    }
}

#[async_trait]
impl Job for RenewLocalCertificates {
    fn name(&self) -> &'static str {
        "renew_local_certificates"
    }

    fn schedule(&self) -> &'static str {
        "40 17 */6 * * *"
    }

    fn description(&self) -> &'static str {
        "Renews leaves of the local server authority that a site serves, at a third of their lifetime left"
    }

    async fn run(&self, context: &JobContext) -> Result<JobReport, JobError> {
        let renewed = self.0.renew_local_certificates(context.clock.now()).await;
        let renewed =
            renewed.map_err(|error| JobError::new("a local server certificate was not renewed", error))?;
        Ok(JobReport::new(u64::from(renewed), format!("{renewed} local server certificates")))
    }
}
