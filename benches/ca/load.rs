//! Sixteen at once, and what was measured of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::CLIENTS;

/// What one target did in one round.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Sample {
    pub(crate) done: u64,
    pub(crate) errors: u64,
    pub(crate) seconds: f64,
    pub(crate) cpu_seconds: f64,
    /// How long each took, in milliseconds, sorted.
    pub(crate) took_ms: Vec<f64>,
}

impl Sample {
    pub(crate) fn per_second(&self) -> f64 {
        self.done as f64 / self.seconds
    }

    pub(crate) fn cpu_per_1000(&self) -> f64 {
        self.cpu_seconds * 1000.0 / self.done as f64
    }

    /// The nearest-rank percentile in milliseconds.
    pub(crate) fn percentile(&self, percent: f64) -> f64 {
        let rank = (self.took_ms.len() as f64 * percent / 100.0).ceil() as usize;
        self.took_ms.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
    }
}

/// How many exchanges failed; the first says why.
static FAILED: AtomicUsize = AtomicUsize::new(0);

/// Lets every worker take the next index below `count` until none is left.
pub(crate) async fn run<W, Fut>(count: usize, workers: Vec<W>) -> Sample
where
    W: FnMut(usize) -> Fut + Send + 'static,
    Fut: Future<Output = Result<()>> + Send,
{
    let next = Arc::new(AtomicUsize::new(0));
    let began = Instant::now();
    let tasks: Vec<_> = workers
        .into_iter()
        .map(|mut worker| {
            let next = next.clone();
            tokio::spawn(async move {
                let (mut took, mut errors) = (Vec::new(), 0);
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= count {
                        return (took, errors);
                    }
                    let began = Instant::now();
                    match worker(index).await {
                        Ok(()) => took.push(milliseconds(began.elapsed())),
                        Err(error) => {
                            if FAILED.fetch_add(1, Ordering::Relaxed) == 0 {
                                eprintln!("an exchange failed: {error:#}");
                            }
                            errors += 1;
                        }
                    }
                }
            })
        })
        .collect();
    let mut sample = Sample::default();
    for task in tasks {
        match task.await {
            Ok((took, errors)) => {
                sample.took_ms.extend(took);
                sample.errors += errors;
            }
            Err(_) => sample.errors += 1,
        }
    }
    sample.seconds = began.elapsed().as_secs_f64();
    sample.done = sample.took_ms.len() as u64;
    sample.took_ms.sort_by(f64::total_cmp);
    sample
}

/// One worker for each client.
pub(crate) fn clients<W>(make: impl FnMut(usize) -> W) -> Vec<W> {
    (0..CLIENTS).map(make).collect()
}

pub(crate) fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// User and system time so far, all threads, of a process and its children that live.
pub(crate) fn cpu_seconds(pid: u32) -> Result<f64> {
    let mut sum = stat(pid)?.1;
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let child = entry.file_name().to_string_lossy().parse::<u32>();
        let Ok(child) = child else { continue };
        if let Ok((parent, seconds)) = stat(child)
            && parent == pid
        {
            sum += seconds;
        }
    }
    Ok(sum)
}

/// The process that started it.
pub(crate) fn parent(pid: u32) -> Result<u32> {
    Ok(stat(pid)?.0)
}

/// Parent and CPU seconds.
fn stat(pid: u32) -> Result<(u32, f64)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The program's name stands in parentheses and may hold anything; fields count from behind it.
    let fields: Vec<&str> = text.rsplit(')').next().context("fields")?.split_whitespace().collect();
    let ticks = |at: usize| -> Result<f64> { Ok(fields.get(at).context("a field")?.parse::<u64>()? as f64) };
    // proc(5): fields 14 and 15 of the whole line, in ticks of 1/100 s on Linux.
    Ok((fields.get(1).context("a parent")?.parse()?, (ticks(11)? + ticks(12)?) / 100.0))
}
