//! The admin server's views of jobs and mail: it knows neither room's rows.

use async_trait::async_trait;

use crate::admin::{AlertRecord, Automation, InvitationMail, JobRun, JobStatus, Post, Renewal};
use crate::domain::{Hostname, UtcTime};
use crate::jobs::Jobs;
use crate::mail::{Letter, MailError, Mailer, Recipient};
use crate::store::alerts::Alert;
use crate::store::jobs::JobRun as RunRow;
use crate::store::{Store, StoreError};

/// The job that a renewal wakes.
const RENEW: &str = "renew_server_certificates";
/// Runs looked through for a page.
const RUNS_READ: u64 = 2_000;

/// Jobs, alerts and renewals as the API shows them.
pub(super) struct Machinery {
    pub(super) store: Store,
    pub(super) jobs: Jobs,
    pub(super) clock: crate::clock::SharedClock,
}

#[async_trait]
impl Automation for Machinery {
    async fn jobs(&self) -> Result<Vec<JobStatus>, StoreError> {
        let views = self.jobs.list().await?;
        Ok(views
            .into_iter()
            .map(|view| JobStatus {
                name: view.name.to_owned(),
                schedule: view.schedule.to_owned(),
                description: view.description.to_owned(),
                running: view.running,
                last_run: view.last_run.map(run),
                next_run_at: view.next_run_at,
            })
            .collect())
    }

    async fn wake(&self, job: &str) -> Result<bool, StoreError> {
        Ok(self.jobs.wake(job))
    }

    async fn runs(
        &self,
        job: &str,
        before: Option<String>,
        limit: u64,
    ) -> Result<Option<Vec<JobRun>>, StoreError> {
        let Some(runs) = self.jobs.runs(job, RUNS_READ).await? else { return Ok(None) };
        let older = |run: &RunRow| before.as_ref().is_none_or(|before| run.id < *before);
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        Ok(Some(runs.into_iter().filter(older).take(limit).map(run).collect()))
    }

    async fn alerts(&self, before: Option<String>, limit: u64) -> Result<Vec<AlertRecord>, StoreError> {
        let alerts = self.store.alerts(true, before.as_deref(), limit).await?;
        Ok(alerts.into_iter().map(alert).collect())
    }

    async fn acknowledge(&self, id: &str, now: UtcTime) -> Result<Option<AlertRecord>, StoreError> {
        self.store.acknowledge_alert(id, now).await?;
        Ok(self.store.alert(id).await?.map(alert))
    }

    async fn renewal(&self, host: &Hostname) -> Result<Option<Renewal>, StoreError> {
        let renewal = self.store.renewal(host).await?;
        let state = match (renewal.failures, renewal.requested_at, renewal.succeeded_at) {
            (0, None, None) => return Ok(None),
            (0, Some(_), _) => "requested",
            (0, None, Some(_)) => "succeeded",
            _ => "failing",
        };
        let next_attempt_at =
            renewal.blocked_until.or_else(|| renewal.window.and_then(|window| window.selected));
        Ok(Some(Renewal { state: state.to_owned(), next_attempt_at, last_error: renewal.last_error }))
    }

    async fn renew(&self, host: &Hostname) -> Result<(), StoreError> {
        self.store.request_renewal(host, self.clock.now()).await?;
        self.jobs.wake(RENEW);
        Ok(())
    }
}

/// Invitations into the outbox.
pub(super) struct Letters {
    pub(super) store: Store,
    pub(super) mailer: Mailer,
    pub(super) clock: crate::clock::SharedClock,
}

#[async_trait]
impl Post for Letters {
    fn is_configured(&self) -> bool {
        self.mailer.is_configured()
    }

    async fn invitation(&self, mail: InvitationMail) -> Result<(), StoreError> {
        let to = Recipient { email: &mail.person.email, name: &mail.person.name };
        let letter =
            Letter::Invitation { device: None, link: mail.link.expose(), expires_at: mail.expires_at };
        let sealed = self.mailer.write(to, &letter).map_err(|error| match error {
            MailError::NotConfigured => StoreError::Missing { what: "mail server" },
            other => StoreError::Corrupt { what: "the invitation", detail: other.to_string() },
        })?;
        let transaction = self.store.begin().await?;
        transaction.enqueue_mail(&sealed, self.clock.now()).await?;
        transaction.commit().await?;
        self.mailer.wake();
        Ok(())
    }
}

fn run(row: RunRow) -> JobRun {
    JobRun {
        id: row.id,
        started_at: row.started_at,
        finished_at: row.finished_at,
        outcome: row.outcome.map(|outcome| outcome.name().to_owned()),
        detail: row.detail,
    }
}

fn alert(row: Alert) -> AlertRecord {
    AlertRecord {
        id: row.id,
        kind: row.kind,
        object: row.object,
        message: row.message,
        severity: row.severity.name().to_owned(),
        raised_at: row.raised_at,
        acknowledged_at: row.acknowledged_at,
        closed_at: row.closed_at,
    }
}
