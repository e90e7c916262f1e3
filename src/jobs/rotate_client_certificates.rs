//! Opens the renewal of client certificates when a third of their lifetime is left: the owner is asked,
//! once, to renew on the device that holds it. Machines that renew themselves do so before that.
//!
//! Nothing is issued here: a key is made where it stays. That a renewal is open follows from the rows
//! alone (`renewal_due` in the API); what is noted is only that its owner was told.

use async_trait::async_trait;

use super::expiry_alerts::threshold;
use super::{Job, JobContext, JobError, JobReport};
use crate::domain::{UtcTime, renewal};
use crate::mail::{Letter, Mailer, Recipient};
use crate::store::Store;
use crate::store::alerts::EndingClient;

/// Certificates handled in one transaction.
const BATCH: u64 = 100;

/// The job.
pub struct RotateClientCertificates {
    store: Store,
    mailer: Mailer,
}

impl RotateClientCertificates {
    /// Looks into this database and writes by this mailer.
    pub fn new(store: Store, mailer: Mailer) -> Self {
        Self { store, mailer }
    }

    /// Notes and mails in one transaction: a crash leaves both or neither. Returns how many were asked.
    async fn open(&self, certificates: &[EndingClient], now: UtcTime) -> Result<u64, JobError> {
        let transaction = self.store.begin().await?;
        let mut asked = 0;
        for certificate in certificates {
            let opened = renewal::OPENS_WITH_LEFT;
            let new = transaction.note_expiry("client", &certificate.serial, opened, now).await?;
            // Later ones are warned about by `expiry_alerts`: one letter, not two.
            let only_open = threshold(certificate.not_before, certificate.not_after, now) == Some(opened);
            if !new || !only_open {
                continue;
            }
            let person = self.store.person(certificate.person).await?;
            // Whoever is shut out has no use for a certificate.
            let Some(person) = person.filter(|person| !person.disabled) else { continue };
            let device = self.store.device(certificate.device).await?;
            let letter = Letter::RenewalDue {
                device: device.as_ref().map_or("your device", |device| &device.name),
                device_id: certificate.device,
                ends_at: certificate.not_after,
                left: certificate.not_after.since(now),
            };
            let to = Recipient { email: &person.email, name: &person.name };
            let letter = self.mailer.write(to, &letter);
            let letter = letter.map_err(|error| JobError::new("a letter failed", error))?;
            transaction.enqueue_mail(&letter, now).await?;
            asked += 1;
        }
        transaction.commit().await?;
        Ok(asked)
    }
}

#[async_trait]
impl Job for RotateClientCertificates {
    fn name(&self) -> &'static str {
        "rotate_client_certificates"
    }

    fn schedule(&self) -> &'static str {
        "0 11 * * * *"
    }

    fn description(&self) -> &'static str {
        "Opens the renewal of client certificates at 1/3 of their lifetime left and asks their owners to renew"
    }

    async fn run(&self, context: &JobContext) -> Result<JobReport, JobError> {
        if !self.mailer.is_configured() {
            // Not noted as asked: once there is a mail server, they are.
            return Ok(JobReport::new(0, "nobody can be asked: no mail server is configured"));
        }
        let now = context.clock.now();
        let mut asked = 0;
        loop {
            let open = self.store.ending_client_certificates(now, renewal::OPENS_WITH_LEFT, BATCH).await?;
            if open.is_empty() || context.stop.is_cancelled() {
                break;
            }
            asked += self.open(&open, now).await?;
        }
        if asked > 0 {
            self.mailer.wake();
        }
        Ok(JobReport::new(asked, format!("{asked} owners asked to renew")))
    }
}
