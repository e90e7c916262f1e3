//! The history of jobs: one row a run, open while it runs.

use entity::job_run;
use sea_orm::sea_query::Expr;
use sea_orm::{ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use super::leases::{Lease, ReplicaId};
use super::{Store, StoreError, at, named};
use crate::domain::UtcTime;

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunOutcome {
    /// It did what was due, perhaps nothing.
    Succeeded,
    /// It failed; the detail says how.
    Failed,
    /// It panicked; that is a fault of this program.
    Panicked,
    /// Its process ended before it did; the next run closed it.
    Lost,
}

impl RunOutcome {
    /// The name in rows and JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Panicked => "panicked",
            Self::Lost => "lost",
        }
    }

    /// The outcome of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Succeeded, Self::Failed, Self::Panicked, Self::Lost]
            .into_iter()
            .find(|outcome| outcome.name() == name)
    }
}

/// One run of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobRun {
    /// Its identity.
    pub id: String,
    /// Which job.
    pub job: String,
    /// Which process ran it.
    pub replica: String,
    /// When it began.
    pub started_at: UtcTime,
    /// When it ended; none while it runs.
    pub finished_at: Option<UtcTime>,
    /// How it ended; none while it runs.
    pub outcome: Option<RunOutcome>,
    /// What it did, in words.
    pub detail: Option<String>,
}

impl Store {
    /// Opens a run under the job's lease, and closes as lost those that an earlier holder left open.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when the lease is no longer ours.
    pub async fn begin_run(
        &self,
        job: &str,
        replica: &ReplicaId,
        lease: &Lease,
        now: UtcTime,
    ) -> Result<String, StoreError> {
        let transaction = self.begin().await?;
        transaction.check_lease(lease).await?;
        job_run::Entity::update_many()
            .col_expr(job_run::Column::FinishedAt, Expr::value(now.as_unix()))
            .col_expr(job_run::Column::Outcome, Expr::value(RunOutcome::Lost.name()))
            .col_expr(job_run::Column::Detail, Expr::value("the process ended before the run did"))
            .filter(job_run::Column::Job.eq(job))
            .filter(job_run::Column::FinishedAt.is_null())
            .exec(transaction.connection())
            .await?;
        let id = uuid::Uuid::now_v7().to_string();
        let row = job_run::ActiveModel {
            id: Set(id.clone()),
            job: Set(job.to_owned()),
            replica: Set(replica.as_str().to_owned()),
            fencing: Set(i64::try_from(lease.token).unwrap_or(i64::MAX)),
            started_at: Set(now.as_unix()),
            finished_at: Set(None),
            outcome: Set(None),
            detail: Set(None),
        };
        job_run::Entity::insert(row).exec_without_returning(transaction.connection()).await?;
        transaction.commit().await?;
        Ok(id)
    }

    /// Closes a run. One that was closed as lost meanwhile stays so.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn finish_run(
        &self,
        id: &str,
        outcome: RunOutcome,
        detail: &str,
        now: UtcTime,
    ) -> Result<(), StoreError> {
        job_run::Entity::update_many()
            .col_expr(job_run::Column::FinishedAt, Expr::value(now.as_unix()))
            .col_expr(job_run::Column::Outcome, Expr::value(outcome.name()))
            .col_expr(job_run::Column::Detail, Expr::value(detail))
            .filter(job_run::Column::Id.eq(id))
            .filter(job_run::Column::FinishedAt.is_null())
            .exec(self.writer())
            .await?;
        Ok(())
    }

    /// The runs of a job, newest first, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn job_runs(&self, job: &str, limit: u64) -> Result<Vec<JobRun>, StoreError> {
        let query = job_run::Entity::find()
            .filter(job_run::Column::Job.eq(job))
            .order_by_desc(job_run::Column::StartedAt)
            .order_by_desc(job_run::Column::Id)
            .limit(limit);
        query.all(self.reader()).await?.into_iter().map(read_run).collect()
    }

    /// Forgets runs that ended before `before`. Returns how many.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn sweep_job_runs(&self, before: UtcTime) -> Result<u64, StoreError> {
        let delete = job_run::Entity::delete_many().filter(job_run::Column::FinishedAt.lt(before.as_unix()));
        Ok(delete.exec(self.writer()).await?.rows_affected)
    }
}

fn read_run(row: job_run::Model) -> Result<JobRun, StoreError> {
    let outcome = match &row.outcome {
        Some(name) => Some(named("a run's outcome", name, RunOutcome::from_name(name))?),
        None => None,
    };
    Ok(JobRun {
        id: row.id,
        job: row.job,
        replica: row.replica,
        started_at: at(row.started_at),
        finished_at: row.finished_at.map(at),
        outcome,
        detail: row.detail,
    })
}
