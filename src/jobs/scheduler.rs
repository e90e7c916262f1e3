//! The clock: wakes jobs by their cron expressions and by SIGUSR1. It knows nothing of runs; it would
//! overlap them, and it does not drain (tokio-cron-scheduler is used for its ticks alone).

use std::future::Future;

use tokio::signal::unix::{SignalKind, signal};
use tokio_cron_scheduler::{Job, JobScheduler};

use super::Jobs;

/// Starts the clock; the returned future stops it when the jobs stop.
pub(super) async fn keep_time(jobs: Jobs) -> Result<impl Future<Output = ()> + Send, String> {
    let mut scheduler = JobScheduler::new().await.map_err(|error| error.to_string())?;
    for entry in &jobs.0.jobs {
        let activation = entry.activation.clone();
        let tick = Job::new(entry.job.schedule(), move |_, _| activation.wake());
        let tick = tick.map_err(|error| error.to_string())?;
        scheduler.add(tick).await.map_err(|error| error.to_string())?;
    }
    scheduler.start().await.map_err(|error| error.to_string())?;
    Ok(async move {
        jobs.0.stop.cancelled().await;
        let _ = scheduler.shutdown().await;
    })
}

/// SIGUSR1: look again, now.
pub(super) async fn obey_signals(jobs: Jobs) {
    let Ok(mut signals) = signal(SignalKind::user_defined1()) else {
        tracing::warn!("SIGUSR1 cannot be listened to; jobs run by their schedules");
        return;
    };
    loop {
        tokio::select! {
            () = jobs.0.stop.cancelled() => return,
            Some(()) = signals.recv() => jobs.wake_all(),
        }
    }
}
