//! Keeps every site's server certificate fresh: public ones by ACME, local ones by the local server
//! authority. Administrators are told when a renewal keeps failing.

use async_trait::async_trait;

use super::expiry_alerts::administrators;
use super::{Job, JobContext, JobError, JobReport};
use crate::acme::{Acme, Failure};
use crate::ca::Ca;
use crate::domain::{Hostname, UtcTime};
use crate::mail::{Letter, Mailer, Recipient};
use crate::store::Store;

/// The job.
pub struct RenewServerCertificates {
    store: Store,
    ca: Ca,
    acme: Option<Acme>,
    mailer: Mailer,
}

impl RenewServerCertificates {
    /// Renews by `acme`; without it only what the local server authority makes.
    pub fn new(store: Store, ca: Ca, acme: Option<Acme>, mailer: Mailer) -> Self {
        Self { store, ca, acme, mailer }
    }

    async fn tell(&self, host: &Hostname, failure: &Failure, now: UtcTime) -> Result<(), JobError> {
        if !self.mailer.is_configured() {
            return Ok(());
        }
        let error = failure.error.to_string();
        let letter = Letter::RenewalFailed {
            host: host.as_str(),
            error: &error,
            ends_at: failure.serves_until,
            next_attempt_at: failure.next_attempt_at,
        };
        let transaction = self.store.begin().await?;
        for person in administrators(&self.store).await? {
            let to = Recipient { email: &person.email, name: &person.name };
            let mail = self.mailer.write(to, &letter);
            let mail = mail.map_err(|error| JobError::new("a letter could not be written", error))?;
            transaction.enqueue_mail(&mail, now).await?;
        }
        transaction.commit().await?;
        self.mailer.wake();
        Ok(())
    }
}

#[async_trait]
impl Job for RenewServerCertificates {
    fn name(&self) -> &'static str {
        "renew_server_certificates"
    }

    fn schedule(&self) -> &'static str {
        "0 * * * * *"
    }

    fn description(&self) -> &'static str {
        "Orders and renews the server certificates of all sites that are due"
    }

    async fn run(&self, context: &JobContext) -> Result<JobReport, JobError> {
        let local = self.ca.renew_local_certificates(context.clock.now()).await;
        let mut done = *local.as_ref().unwrap_or(&0);
        let mut words = Vec::new();
        if done > 0 {
            words.push(format!("{done} local ones renewed"));
        }
        if let Some(acme) = &self.acme {
            for attempt in acme.renew_due(&context.stop).await? {
                done += 1;
                match attempt.result {
                    Ok(certificate) => {
                        words.push(format!("{} renewed until {}", attempt.host, certificate.not_after));
                    }
                    Err(failure) => {
                        words.push(format!("{} failed: {}", attempt.host, failure.error));
                        if failure.is_news {
                            self.tell(&attempt.host, &failure, context.clock.now()).await?;
                        }
                    }
                }
            }
        }
        match local {
            Ok(_) => Ok(JobReport::new(done.into(), words.join("; "))),
            Err(error) => {
                words.push("a local server certificate could not be made".to_owned());
                Err(JobError::new(words.join("; "), error))
            }
        }
    }
}
