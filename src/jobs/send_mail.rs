//! Sends what waits in the outbox.

use async_trait::async_trait;

use super::{Job, JobContext, JobError, JobReport};
use crate::mail::Mailer;

/// The job.
pub struct SendMail(Mailer);

impl SendMail {
    /// Sends by this mailer.
    pub fn new(mailer: Mailer) -> Self {
        Self(mailer)
    }
}

#[async_trait]
impl Job for SendMail {
    fn name(&self) -> &'static str {
        "send_mail"
    }

    fn schedule(&self) -> &'static str {
        "*/30 * * * * *"
    }

    fn description(&self) -> &'static str {
        "Sends the mails that wait in the outbox"
    }

    async fn run(&self, context: &JobContext) -> Result<JobReport, JobError> {
        let sent = self.0.send_due(context.clock.now(), || context.stop.is_cancelled()).await?;
        let detail = format!("{} sent, {} deferred, {} given up", sent.sent, sent.deferred, sent.given_up);
        Ok(JobReport::new(sent.sent + sent.deferred + sent.given_up, detail))
    }
}
