//! Gives authorities new OCSP signers long before the current ones end.

use async_trait::async_trait;

use super::{Job, JobContext, JobError, JobReport};
use crate::ca::Ca;

/// The job.
pub struct RenewOcspSigners(Ca);

impl RenewOcspSigners {
    /// Renews the signers of this authority.
    pub fn new(ca: Ca) -> Self {
        Self(ca)
    }
}

#[async_trait]
impl Job for RenewOcspSigners {
    fn name(&self) -> &'static str {
        "renew_ocsp_signers"
    }

    fn schedule(&self) -> &'static str {
        "40 7 * * * *"
    }

    fn description(&self) -> &'static str {
        "Gives authorities new OCSP signers when the half of the current ones' life is over"
    }

    async fn run(&self, context: &JobContext) -> Result<JobReport, JobError> {
        let made = self.0.renew_ocsp_signers(context.clock.now()).await;
        let made = made.map_err(|error| JobError::new("an OCSP signer could not be made", error))?;
        Ok(JobReport::new(made.into(), format!("{made} OCSP signers made")))
    }
}
