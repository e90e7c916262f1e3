//! Keeps every site's server certificate fresh: public ones by ACME, local ones by the local server
//! authority. Administrators are told when a renewal keeps failing.

use std::sync::Arc;

use async_trait::async_trait;

use super::expiry_alerts::administrators;
use super::{Job, JobContext, JobError, JobReport};
use crate::acme::{Acme, Failure};
use crate::activate::{Activation, Enforce};
use crate::ca::Ca;
use crate::domain::{Hostname, UtcTime};
use crate::mail::{Letter, Mailer, Recipient};
use crate::store::Store;
use crate::store::alerts::{NewAlert, Severity};
use crate::store::configuration::CertificateSource;

/// Alert: a site's public certificate is over, and there is no new one.
pub const SERVING_LOCAL: &str = "serving_local_certificate";

/// The job.
pub struct RenewServerCertificates {
    store: Store,
    ca: Ca,
    acme: Option<Acme>,
    enforce: Arc<dyn Enforce>,
    mailer: Mailer,
    staples: Option<Activation>,
}

impl RenewServerCertificates {
    /// Renews by `acme`; without it only what the local server authority makes.
    pub fn new(store: Store, ca: Ca, acme: Option<Acme>, enforce: Arc<dyn Enforce>, mailer: Mailer) -> Self {
        Self { store, ca, acme, enforce, mailer, staples: None }
    }

    /// The same, which wakes `staples` when there are new certificates: they have no OCSP answers yet.
    pub fn waking(self, staples: Activation) -> Self {
        Self { staples: Some(staples), ..self }
    }

    /// A site whose public certificate is over serves a local one, loudly, until there is a new one.
    async fn fall_back(&self, now: UtcTime) -> Result<u32, JobError> {
        let mut count = 0;
        for site in self.store.sites().await? {
            let host = &site.host;
            let Some(current) = &site.server_certificate else { continue };
            if current.source == CertificateSource::Acme {
                self.store.close_alert(SERVING_LOCAL, host.as_str(), now).await?;
            }
            if current.source == CertificateSource::Local || current.not_after >= now {
                continue;
            }
            let local = self.ca.local_certificate(host, now).await;
            let local =
                local.map_err(|error| JobError::new("a local certificate could not be made", error))?;
            let message = format!(
                "The public certificate of {host} ended at {}; the site serves one of the local server authority.",
                current.not_after
            );
            let severity = Severity::Critical;
            let alert = NewAlert { kind: SERVING_LOCAL, object: host.as_str(), message: &message, severity };
            let transaction = self.store.begin().await?;
            transaction.insert_server_certificate(&local).await?;
            transaction.serve_certificate(host, &local.id).await?;
            transaction.raise_alert(alert, now).await?;
            transaction.commit().await?;
            count += 1;
        }
        if count > 0 {
            self.enforce.bring_up_to_date().await;
        }
        Ok(count)
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
        let fallen = self.fall_back(context.clock.now()).await?;
        if fallen > 0 {
            done += fallen;
            words.push(format!("{fallen} fell back to a local one"));
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
        // What was renewed just now is not a local one any more.
        self.fall_back(context.clock.now()).await?;
        if let Some(staples) = self.staples.as_ref().filter(|_| done > 0) {
            staples.wake();
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
