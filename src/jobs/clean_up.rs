//! Forgets what nobody needs any more: each kind of it is a [`Sweep`].

use std::time::Duration;

use async_trait::async_trait;

use super::{Job, JobContext, JobError, JobReport};
use crate::domain::UtcTime;
use crate::store::Store;
use crate::store::profiles::REQUESTS_KEPT;

/// How long the history of jobs is kept.
const RUNS_KEPT: Duration = Duration::from_secs(7 * 24 * 3600);
/// How long the rows of mails that were given up are kept.
const MAILS_KEPT: Duration = Duration::from_secs(30 * 24 * 3600);

/// Forgets one kind of thing.
#[async_trait]
pub trait Sweep: Send + Sync + 'static {
    /// What it forgets, for example `sessions`.
    fn what(&self) -> &'static str;

    /// Forgets what is over at `now`. Returns how many.
    ///
    /// # Errors
    /// [`JobError`]; the other sweeps go on.
    async fn sweep(&self, now: UtcTime) -> Result<u64, JobError>;
}

/// The job.
pub struct CleanUp(Vec<Box<dyn Sweep>>);

impl CleanUp {
    /// Sweeps the history of jobs, the outbox and what was asked of profiles, and whatever `others` sweep.
    pub fn new(store: Store, others: Vec<Box<dyn Sweep>>) -> Self {
        let mut all: Vec<Box<dyn Sweep>> =
            vec![Box::new(Runs(store.clone())), Box::new(Mails(store.clone())), Box::new(Requests(store))];
        all.extend(others);
        Self(all)
    }
}

#[async_trait]
impl Job for CleanUp {
    fn name(&self) -> &'static str {
        "clean_up"
    }

    fn schedule(&self) -> &'static str {
        "50 41 * * * *"
    }

    fn description(&self) -> &'static str {
        "Forgets expired sessions and keys, old job runs and mails that were given up"
    }

    async fn run(&self, context: &JobContext) -> Result<JobReport, JobError> {
        let now = context.clock.now();
        let mut report = JobReport::default();
        let mut failure = None;
        for sweep in &self.0 {
            match sweep.sweep(now).await {
                Ok(0) => {}
                Ok(count) => {
                    report.done += count;
                    let comma = if report.detail.is_empty() { "" } else { ", " };
                    report.detail += &format!("{comma}{count} {}", sweep.what());
                }
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        failure.map_or(Ok(report), Err)
    }
}

struct Runs(Store);

#[async_trait]
impl Sweep for Runs {
    fn what(&self) -> &'static str {
        "job runs"
    }

    async fn sweep(&self, now: UtcTime) -> Result<u64, JobError> {
        Ok(self.0.sweep_job_runs(now.minus(RUNS_KEPT)).await?)
    }
}

struct Mails(Store);

#[async_trait]
impl Sweep for Mails {
    fn what(&self) -> &'static str {
        "mails"
    }

    async fn sweep(&self, now: UtcTime) -> Result<u64, JobError> {
        Ok(self.0.sweep_outbox(now.minus(MAILS_KEPT)).await?)
    }
}

struct Requests(Store);

#[async_trait]
impl Sweep for Requests {
    fn what(&self) -> &'static str {
        "requests of certificates"
    }

    async fn sweep(&self, now: UtcTime) -> Result<u64, JobError> {
        Ok(self.0.sweep_issuance_requests(now.minus(REQUESTS_KEPT)).await?)
    }
}
