//! Keeps OCSP answers beside server certificates whose issuers name a responder.

use async_trait::async_trait;

use super::{Job, JobContext, JobError, JobReport};
use crate::acme::staples::{Outcome, Refreshed, Staples};

/// The job.
pub struct RefreshOcspStaples(Staples);

impl RefreshOcspStaples {
    /// Refreshes these.
    pub fn new(staples: Staples) -> Self {
        Self(staples)
    }
}

#[async_trait]
impl Job for RefreshOcspStaples {
    fn name(&self) -> &'static str {
        "refresh_ocsp_staples"
    }

    fn schedule(&self) -> &'static str {
        "25 */15 * * * *"
    }

    fn description(&self) -> &'static str {
        "Fetches the OCSP answers that are stapled to server certificates, when half of their time is over"
    }

    async fn run(&self, context: &JobContext) -> Result<JobReport, JobError> {
        let all = self.0.refresh(&context.lease, &context.clock, &context.stop).await?;
        let done = all.iter().filter(|one| !matches!(one.outcome, Outcome::Failed(_))).count();
        let words: Vec<String> = all.iter().map(words).collect();
        Ok(JobReport::new(done as u64, words.join("; ")))
    }
}

fn words(one: &Refreshed) -> String {
    let host = &one.host;
    match &one.outcome {
        Outcome::Stapled { until } => format!("{host} stapled until {until}"),
        Outcome::Revoked { at, .. } => format!("{host} was taken back by its issuer at {at}"),
        Outcome::Failed(fault) => format!("{host} not stapled: {fault}"),
    }
}
