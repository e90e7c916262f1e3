//! Runs a job under its lease, with a row that is open while it runs. Survives its panics, renews its
//! lease, closes what an earlier process left open.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument;

use super::{Entry, Inner, JobContext, JobError, JobReport};
use crate::domain::UtcTime;
use crate::store::StoreError;
use crate::store::jobs::RunOutcome;
use crate::store::leases::{Acquired, Lease};
use crate::telemetry::TraceContext;

/// A dead replica is replaced after this long.
const LEASE: Duration = Duration::from_secs(30);
/// Shortest pause before another replica's lease is looked at again.
const MIN_WAIT: Duration = Duration::from_secs(1);

/// Why a run has no report.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// There is no such job.
    #[error("there is no job {0:?}")]
    Unknown(String),
    /// Another replica runs it now.
    #[error("another replica runs it, until {until} at least")]
    Elsewhere {
        /// When its lease ends unless it is renewed.
        until: UtcTime,
    },
    /// The lease or the row could not be had, so nothing was run.
    #[error("the run could not be recorded")]
    Store(#[from] StoreError),
    /// It failed.
    #[error("it failed")]
    Failed(#[from] JobError),
    /// It panicked.
    #[error("it panicked: {0}")]
    Panicked(String),
}

/// Runs the job each time it is woken, until the jobs stop.
pub(super) async fn obey(inner: Arc<Inner>, entry: Arc<Entry>) {
    let mut look_again: Option<Instant> = None;
    loop {
        let again = async {
            match look_again {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = inner.stop.cancelled() => return,
            () = entry.activation.woken() => {}
            () = again => {}
        }
        look_again = None;
        let name = entry.job.name();
        let turn = async {
            match run_once(&inner, &entry).await {
                Ok(report) if report.done > 0 => tracing::info!(job = name, "{name}: {}", report.detail),
                Ok(_) => {}
                // If that replica dies in it, we take over as soon as its lease ends.
                Err(RunError::Elsewhere { until }) => {
                    look_again = Some(Instant::now() + until.since(inner.clock.now()).max(MIN_WAIT));
                }
                Err(error) => {
                    tracing::error!(
                        job = name,
                        error = &error as &dyn std::error::Error,
                        "{name} did not succeed"
                    );
                }
            }
        };
        TraceContext::background().scope(turn).await;
    }
}

/// One run, if the lease can be had.
pub(super) async fn run_once(inner: &Arc<Inner>, entry: &Arc<Entry>) -> Result<JobReport, RunError> {
    let _turn = entry.turn.lock().await;
    let name = entry.job.name();
    let lease_name = format!("job:{name}");
    let lease = match inner.store.acquire_lease(&lease_name, &inner.replica, LEASE, inner.clock.now()).await?
    {
        Acquired::Ours(lease) => lease,
        Acquired::Theirs { until } => return Err(RunError::Elsewhere { until }),
    };
    let run = inner.store.begin_run(name, &inner.replica, &lease, inner.clock.now()).await?;
    let result = run_in_task(inner, entry, &lease, &run).await;
    let (outcome, detail) = match &result {
        Ok(report) => (RunOutcome::Succeeded, report.detail.clone()),
        Err(RunError::Panicked(message)) => (RunOutcome::Panicked, message.clone()),
        Err(error) => (RunOutcome::Failed, whole(error)),
    };
    inner.metrics.runs.count(name, outcome.name());
    if result.is_ok() {
        inner.metrics.last_success.set(name, inner.clock.now());
    }
    inner.store.finish_run(&run, outcome, &detail, inner.clock.now()).await?;
    inner.store.release_lease(&lease).await?;
    result
}

/// A task of its own, so that a panic ends the run and not the runner. Its lines name job and run, and
/// share one trace: that of whoever asked, or a new one.
async fn run_in_task(
    inner: &Arc<Inner>,
    entry: &Arc<Entry>,
    lease: &Lease,
    run: &str,
) -> Result<JobReport, RunError> {
    let context = JobContext { clock: inner.clock.clone(), lease: lease.clone(), stop: inner.stop.clone() };
    let job = entry.job.clone();
    let trace = TraceContext::current().unwrap_or_else(TraceContext::background);
    let run = run.to_owned();
    let work = async move {
        // Made in here: a span's parent is the one in which it is made.
        let span = tracing::info_span!("job", job = job.name(), job.run = run);
        job.run(&context).instrument(span).await
    };
    let mut task = AbortOnDropHandle::new(tokio::spawn(trace.scope(work)));
    loop {
        match tokio::time::timeout(LEASE / 3, &mut task).await {
            Ok(Ok(result)) => return Ok(result?),
            Ok(Err(error)) => return Err(RunError::Panicked(panic_text(error))),
            // Lost to another replica: our next fenced write would fail, so there is no use going on.
            Err(_) => inner.store.renew_lease(lease, LEASE, inner.clock.now()).await?,
        }
    }
}

fn panic_text(error: tokio::task::JoinError) -> String {
    let Ok(panic) = error.try_into_panic() else { return "it was cancelled".to_owned() };
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}

/// An error with all its causes, for the row.
fn whole(error: &RunError) -> String {
    let mut text = String::new();
    let mut next: Option<&dyn std::error::Error> = match error {
        RunError::Failed(error) => Some(error),
        other => Some(other),
    };
    while let Some(error) = next {
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&error.to_string());
        next = error.source();
    }
    text
}
