//! Puts committed events of the audit into its chain, and has the chain signed every now and then.
//!
//! One replica at a time, under the job's lease, which every write checks. A run lasts an hour, so that
//! events need not wait for a tick; the next begins at once, here or on another replica. What has no
//! link is asked of the tables: often of the last seconds, seldom of the last minutes (transactions that
//! took long, clocks that differ), at the start of every run of everything. Acts wait for none of this.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use super::{Job, JobContext, JobError, JobReport};
use crate::ca::{Ca, CheckpointError};
use crate::domain::UtcTime;
use crate::domain::audit_chain::ChainHead;
use crate::store::alerts::{NewAlert, Severity};
use crate::store::audit_chain::Look;
use crate::store::leases::Lease;
use crate::store::{Store, StoreError};
use crate::telemetry::metrics::JobMetrics;

/// Alert: the chain does not follow from what was signed.
pub const BROKEN: &str = "audit_chain_broken";
/// The object of alerts about the chain.
pub(super) const OBJECT: &str = "audit";

/// Between two looks. An event is chained within this and the time of a look, well below a second.
const PACE: Duration = Duration::from_millis(300);
/// How far back a look goes as a rule: longer than transactions last.
const NEAR: Duration = Duration::from_secs(10);
/// How far back it goes every [`FAR_EVERY`].
pub(super) const FAR: Duration = Duration::from_secs(600);
const FAR_EVERY: Duration = Duration::from_secs(10);
/// How long a run lasts. Each begins with a look at everything.
const RUN: Duration = Duration::from_secs(3600);
/// Links written in one transaction.
const BATCH: u64 = 500;
/// A checkpoint is signed after this many links.
pub const CHECKPOINT_LINKS: u64 = 1000;
/// Or after this time, if there is a new link.
pub const CHECKPOINT_EVERY: Duration = Duration::from_secs(60);

/// The job.
pub struct ChainAudit {
    store: Store,
    ca: Ca,
    metrics: Arc<JobMetrics>,
}

impl ChainAudit {
    /// Chains the events of this database and has them signed by this authority.
    pub fn new(store: Store, ca: Ca, metrics: Arc<JobMetrics>) -> Self {
        Self { store, ca, metrics }
    }
}

#[async_trait]
impl Job for ChainAudit {
    fn name(&self) -> &'static str {
        "chain_audit"
    }

    fn schedule(&self) -> &'static str {
        // Only to begin again after a failure, and to take over from a replica that ended.
        "*/5 * * * * *"
    }

    fn description(&self) -> &'static str {
        "Chains the events of the audit as they come, and signs checkpoints; an hour a run, all the time"
    }

    async fn run(&self, context: &JobContext) -> Result<JobReport, JobError> {
        let mut sequencer = Sequencer::new(self.store.clone(), self.ca.clone(), context.lease.clone());
        let begun = Instant::now();
        let mut chained = sequencer.chain(Look::Everywhere).await?;
        let mut looked_far = begun;
        while !context.stop.is_cancelled() && begun.elapsed() < RUN {
            sequencer.sign_if_due(context.clock.now()).await?;
            self.metrics.audit_links.set(sequencer.links());
            tokio::select! {
                () = tokio::time::sleep(PACE) => {}
                () = context.stop.cancelled() => {}
            }
            let far = looked_far.elapsed() >= FAR_EVERY;
            if far {
                looked_far = Instant::now();
            }
            chained += sequencer.chain(Look::Back(if far { FAR } else { NEAR })).await?;
        }
        Ok(JobReport::new(chained, format!("{chained} events chained")))
    }
}

/// Chains under one lease.
pub struct Sequencer {
    store: Store,
    ca: Ca,
    lease: Lease,
    /// Where the chain ended when we last wrote to it.
    head: Option<ChainHead>,
    /// The last signed link and when it was signed, or when signing was last tried.
    signed: Option<(u64, UtcTime)>,
}

impl Sequencer {
    /// Chains under this lease, until it is lost.
    pub fn new(store: Store, ca: Ca, lease: Lease) -> Self {
        Self { store, ca, lease, head: None, signed: None }
    }

    /// Links as far as we know.
    fn links(&self) -> i64 {
        self.head.map_or(0, |head| i64::try_from(head.number).unwrap_or(i64::MAX))
    }

    /// Chains every event that has no link. Returns how many.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when the lease is lost, or somebody else wrote to the chain.
    pub async fn chain(&mut self, look: Look) -> Result<u64, StoreError> {
        let mut chained = 0;
        // Within one look only forward, so that it reads nothing twice.
        let mut after: Option<String> = None;
        loop {
            let events = self.store.unchained_audit_events(look, after.as_deref(), BATCH).await?;
            let Some(last) = events.last() else { break };
            after = Some(last.id.clone());
            self.head = Some(self.store.append_audit_links(&self.lease, &events, self.head).await?);
            let count = events.len() as u64;
            chained += count;
            if count < BATCH {
                break;
            }
        }
        if self.head.is_none() {
            self.head = Some(self.store.audit_head().await?);
        }
        Ok(chained)
    }

    /// Has the chain signed when enough links or time have passed. What cannot be signed raises an
    /// alert; events are chained nevertheless.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn sign_if_due(&mut self, now: UtcTime) -> Result<(), StoreError> {
        let Some(head) = self.head else { return Ok(()) };
        let (number, at) = match self.signed {
            Some(signed) => signed,
            None => match self.store.latest_audit_checkpoint().await? {
                Some(last) => (last.number, last.at),
                None => (0, UtcTime::EPOCH),
            },
        };
        self.signed = Some((number, at));
        let new = head.number.saturating_sub(number);
        if new == 0 || (new < CHECKPOINT_LINKS && now.since(at) < CHECKPOINT_EVERY) {
            return Ok(());
        }
        match self.ca.checkpoint(now).await {
            Ok(checkpoint) => {
                self.signed = Some((checkpoint.number, now));
                self.store.close_alert(BROKEN, OBJECT, now).await
            }
            Err(CheckpointError::NothingChained | CheckpointError::NotInitialised) => Ok(()),
            Err(CheckpointError::Store(error)) => Err(error),
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "The chain of the audit was not signed"
                );
                // Not again at once: the next try is due by time.
                self.signed = Some((head.number, now));
                let mut message = error.to_string();
                message.push('.');
                let alert = NewAlert {
                    kind: BROKEN,
                    object: OBJECT,
                    message: &message,
                    severity: Severity::Critical,
                };
                self.store.raise_alert(alert, now).await.map(drop)
            }
        }
    }
}
