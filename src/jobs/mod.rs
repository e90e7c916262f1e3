//! Work that nobody waits for: one file a job, a runner that owns *whether* each may run, and a clock
//! that only ever wakes them.
//!
//! A tick, boot, a signal (SIGUSR1) or a button wakes an [`Activation`]; the runner takes the job's
//! lease, opens a row, runs the job in a task of its own and closes the row. What is due is read from
//! the database by the job itself, so a lost or doubled wake-up changes nothing, and any replica can
//! run any job. A job never overlaps itself, here or elsewhere.

pub mod authority_alarms;
pub mod chain_audit;
pub mod check_audit;
pub mod clean_up;
pub mod close_orphans;
pub mod expiry_alerts;
pub mod publish_crls;
pub mod refresh_live;
pub mod refresh_ocsp_staples;
pub mod renew_ocsp_signers;
pub mod renew_server_certificates;
pub mod rotate_client_certificates;
pub mod rotate_upstream_identity;
pub mod send_mail;
pub mod supersede_certificates;

mod cron;
mod runner;
mod scheduler;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::activate::Activation;
use crate::clock::SharedClock;
use crate::domain::UtcTime;
use crate::store::jobs::JobRun;
use crate::store::leases::{Lease, ReplicaId};
use crate::store::{Store, StoreError};
use crate::telemetry::metrics::JobMetrics;

pub use runner::RunError;

/// What a job did, for people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobReport {
    /// How many things it did; 0 when nothing was due.
    pub done: u64,
    /// What they were, in words. No e-mail addresses.
    pub detail: String,
}

impl JobReport {
    /// A report of `done` things, in words.
    pub fn new(done: u64, detail: impl Into<String>) -> Self {
        Self { done, detail: detail.into() }
    }
}

/// Why a job failed. It will run again at its next tick.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct JobError {
    what: String,
    #[source]
    cause: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl JobError {
    /// A failure with its cause.
    pub fn new(what: impl Into<String>, cause: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self { what: what.into(), cause: Some(Box::new(cause)) }
    }

    /// A failure that has no other cause.
    pub fn plain(what: impl Into<String>) -> Self {
        Self { what: what.into(), cause: None }
    }
}

impl From<StoreError> for JobError {
    fn from(cause: StoreError) -> Self {
        Self::new("the database did not answer", cause)
    }
}

/// What a job may know of the run it is in.
#[derive(Clone)]
pub struct JobContext {
    /// The wall clock.
    pub clock: SharedClock,
    /// The lease it runs under, for transactions that must not come late.
    pub lease: Lease,
    /// Cancelled when the process wants to end: finish the step at hand, leave the rest to the next run.
    pub stop: CancellationToken,
}

/// Something that is done again and again. No input, and idempotent: it reads what is due.
#[async_trait]
pub trait Job: Send + Sync + 'static {
    /// Its name in rows, logs and the API.
    fn name(&self) -> &'static str;

    /// When it is woken: seconds, minutes, hours, days, months, weekdays; UTC.
    fn schedule(&self) -> &'static str;

    /// What it does, in a sentence.
    fn description(&self) -> &'static str;

    /// Does what is due.
    ///
    /// # Errors
    /// [`JobError`]; what was done stands.
    async fn run(&self, context: &JobContext) -> Result<JobReport, JobError>;
}

/// A job as listings show it.
#[derive(Clone, Debug)]
pub struct JobView {
    /// Its name.
    pub name: &'static str,
    /// When it is woken, as cron.
    pub schedule: &'static str,
    /// What it does.
    pub description: &'static str,
    /// Whether it runs now, on any replica.
    pub running: bool,
    /// Its newest run.
    pub last_run: Option<JobRun>,
    /// When it will be woken next.
    pub next_run_at: Option<UtcTime>,
}

/// Every job of the process. Cheap to clone.
#[derive(Clone)]
pub struct Jobs(Arc<Inner>);

struct Inner {
    store: Store,
    clock: SharedClock,
    replica: ReplicaId,
    metrics: Arc<JobMetrics>,
    jobs: Vec<Arc<Entry>>,
    stop: CancellationToken,
    tasks: Mutex<JoinSet<()>>,
}

struct Entry {
    job: Arc<dyn Job>,
    activation: Activation,
    /// Held while it runs here.
    turn: tokio::sync::Mutex<()>,
}

/// Why the jobs could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A schedule is not one; a fault of this program that a test would have found.
    #[error("{0} has a schedule that cannot be read")]
    Schedule(&'static str),
    /// The clock could not be started.
    #[error("the clock of the jobs does not start: {0}")]
    Clock(String),
    /// The database did not answer.
    #[error("the jobs could not be prepared")]
    Store(#[from] StoreError),
}

impl Jobs {
    /// Starts every job: one task each, woken once now and then by its schedule. The activation of a
    /// job is whoever's wants to wake it.
    ///
    /// # Errors
    /// As [`StartError`] says.
    pub async fn start(
        store: Store,
        clock: SharedClock,
        replica: ReplicaId,
        metrics: Arc<JobMetrics>,
        jobs: Vec<(Activation, Arc<dyn Job>)>,
    ) -> Result<Self, StartError> {
        let this = Self::idle(store, clock, replica, metrics, jobs);
        for entry in &this.0.jobs {
            cron::check(entry.job.schedule()).ok_or(StartError::Schedule(entry.job.name()))?;
        }
        this.0.store.end_leases_of_the_dead().await?;
        let mut tasks = JoinSet::new();
        for entry in &this.0.jobs {
            tasks.spawn(runner::obey(this.0.clone(), entry.clone()));
        }
        tasks.spawn(scheduler::keep_time(this.clone()).await.map_err(StartError::Clock)?);
        tasks.spawn(scheduler::obey_signals(this.clone()));
        *this.0.tasks.lock() = tasks;
        this.wake_all();
        Ok(this)
    }

    /// The same jobs without anything that wakes them: they run by [`Jobs::run_now`] only. For tests
    /// and the command line.
    pub fn idle(
        store: Store,
        clock: SharedClock,
        replica: ReplicaId,
        metrics: Arc<JobMetrics>,
        jobs: Vec<(Activation, Arc<dyn Job>)>,
    ) -> Self {
        let entry =
            |(activation, job)| Arc::new(Entry { job, activation, turn: tokio::sync::Mutex::default() });
        let jobs = jobs.into_iter().map(entry).collect();
        Self(Arc::new(Inner {
            store,
            clock,
            replica,
            metrics,
            jobs,
            stop: CancellationToken::new(),
            tasks: Mutex::default(),
        }))
    }

    /// Asks a job to run soon. Returns whether there is one of this name.
    pub fn wake(&self, name: &str) -> bool {
        let found = self.0.entry(name);
        found.inspect(|entry| entry.activation.wake()).is_some()
    }

    /// Asks every job to run soon.
    pub fn wake_all(&self) {
        self.0.jobs.iter().for_each(|entry| entry.activation.wake());
    }

    /// Runs a job now, after its run under way if there is one, and returns what it did.
    ///
    /// # Errors
    /// As [`RunError`] says.
    pub async fn run_now(&self, name: &str) -> Result<JobReport, RunError> {
        let entry = self.0.entry(name).ok_or_else(|| RunError::Unknown(name.to_owned()))?;
        runner::run_once(&self.0, entry).await
    }

    /// Every job, with its last run and its next wake-up.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn list(&self) -> Result<Vec<JobView>, StoreError> {
        let mut views = Vec::with_capacity(self.0.jobs.len());
        for entry in &self.0.jobs {
            let job = &entry.job;
            let last_run = self.0.store.job_runs(job.name(), 1).await?.into_iter().next();
            views.push(JobView {
                name: job.name(),
                schedule: job.schedule(),
                description: job.description(),
                running: last_run.as_ref().is_some_and(|run| run.finished_at.is_none()),
                last_run,
                next_run_at: cron::next(job.schedule(), self.0.clock.now()),
            });
        }
        Ok(views)
    }

    /// The runs of a job, newest first, at most `limit`; none when there is no such job.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn runs(&self, name: &str, limit: u64) -> Result<Option<Vec<JobRun>>, StoreError> {
        match self.0.entry(name) {
            Some(entry) => Ok(Some(self.0.store.job_runs(entry.job.name(), limit).await?)),
            None => Ok(None),
        }
    }

    /// Stops waking, gives what runs `grace` to finish its step, then ends it; every step can be resumed.
    pub async fn drain(&self, grace: Duration) {
        self.0.stop.cancel();
        let mut tasks = std::mem::take(&mut *self.0.tasks.lock());
        let finished = tokio::time::timeout(grace, async { while tasks.join_next().await.is_some() {} });
        if finished.await.is_err() {
            tracing::warn!("Jobs were ended before they had finished; the next start resumes them");
            tasks.shutdown().await;
        }
        if let Err(error) = self.0.store.release_leases_of(&self.0.replica).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "Leases will end by their time");
        }
    }
}

impl Inner {
    fn entry(&self, name: &str) -> Option<&Arc<Entry>> {
        self.jobs.iter().find(|entry| entry.job.name() == name)
    }
}
