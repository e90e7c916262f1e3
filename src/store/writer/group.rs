//! What callers put into the queue: rows of one kind together, or statements of their own.

use std::any::Any;
use std::panic::AssertUnwindSafe;

use async_trait::async_trait;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use sea_orm::DbErr;
use tokio::sync::oneshot;

use crate::crash::Under;
use crate::store::{StoreError, Transaction};

/// Rows of one kind, which different callers write with the same statements.
pub(crate) trait Rows: Send + Sync + Sized + 'static {
    /// What each caller learns.
    type Answer: Send + 'static;
    /// Its place in a shared transaction, lowest first: whoever locks what others lock, too, does it in
    /// the order in which they do.
    const RANK: u8 = 2;

    /// Writes `all` and answers for each, in order. After an error nothing of it stands.
    fn write<'t>(
        all: &'t [Self],
        transaction: &'t Transaction,
    ) -> BoxFuture<'t, Result<Vec<Self::Answer>, StoreError>>;
}

/// What is written under one savepoint.
#[async_trait]
pub(super) trait Group: Any + Send {
    /// Writes, and keeps the answers. Returns whether it may stand.
    async fn write(&mut self, transaction: &Transaction) -> bool;

    /// Whether it can be written again when what it wrote was rolled back.
    fn is_repeatable(&self) -> bool;

    /// See [`Rows::RANK`]. A caller's own statements come between the register's and the others.
    fn rank(&self) -> u8;

    /// Under which plan it was asked for.
    fn plan(&self) -> &Under;

    /// How many callers wait for it.
    fn len(&self) -> usize;

    /// The same, each caller's alone.
    fn split(self: Box<Self>) -> Vec<Box<dyn Group>>;

    /// Tells every caller; `fault` if what was written was not committed.
    fn answer(self: Box<Self>, fault: Option<&StoreError>);
}

/// Rows of one kind and who waits for each.
pub(super) struct Alike<R: Rows> {
    rows: Vec<R>,
    replies: Vec<oneshot::Sender<Result<R::Answer, StoreError>>>,
    outcome: Result<Vec<R::Answer>, StoreError>,
    plan: Under,
}

impl<R: Rows> Alike<R> {
    /// None yet.
    pub(super) fn under(plan: Under) -> Self {
        Self { rows: Vec::new(), replies: Vec::new(), outcome: Ok(Vec::new()), plan }
    }

    /// Adds one.
    pub(super) fn push(&mut self, row: R, reply: oneshot::Sender<Result<R::Answer, StoreError>>) {
        self.rows.push(row);
        self.replies.push(reply);
    }
}

#[async_trait]
impl<R: Rows> Group for Alike<R> {
    async fn write(&mut self, transaction: &Transaction) -> bool {
        let written = AssertUnwindSafe(R::write(&self.rows, transaction)).catch_unwind().await;
        self.outcome = written.unwrap_or_else(|_| Err(panicked()));
        self.outcome.is_ok()
    }

    fn is_repeatable(&self) -> bool {
        true
    }

    fn rank(&self) -> u8 {
        R::RANK
    }

    fn plan(&self) -> &Under {
        &self.plan
    }

    fn len(&self) -> usize {
        self.rows.len()
    }

    fn split(self: Box<Self>) -> Vec<Box<dyn Group>> {
        let each = self.rows.into_iter().zip(self.replies);
        each.map(|(row, reply)| {
            let mut alone = Self::under(self.plan.clone());
            alone.push(row, reply);
            Box::new(alone) as Box<dyn Group>
        })
        .collect()
    }

    fn answer(self: Box<Self>, fault: Option<&StoreError>) {
        // A caller that has gone does not read its answer.
        match (self.outcome, fault) {
            (Ok(answers), None) => {
                for (reply, answer) in self.replies.into_iter().zip(answers) {
                    let _ = reply.send(Ok(answer));
                }
            }
            (Ok(_), Some(fault)) => {
                for reply in self.replies {
                    let _ = reply.send(Err(fault.retold()));
                }
            }
            // Never more than one: a group that failed was split.
            (Err(own), fault) => {
                let error = fault.map_or(own, StoreError::retold);
                for reply in self.replies {
                    let _ = reply.send(Err(error.retold()));
                }
            }
        }
    }
}

/// One caller's own statements.
pub(super) struct Own<F, T, E> {
    job: Option<F>,
    outcome: Option<Result<T, E>>,
    reply: oneshot::Sender<Result<T, E>>,
    plan: Under,
}

impl<F, T, E> Own<F, T, E> {
    pub(super) fn new(job: F, reply: oneshot::Sender<Result<T, E>>) -> Self {
        Self { job: Some(job), outcome: None, reply, plan: Under::this() }
    }
}

#[async_trait]
impl<T, E, F> Group for Own<F, T, E>
where
    T: Send + 'static,
    E: From<StoreError> + Send + 'static,
    F: for<'t> FnOnce(&'t Transaction) -> BoxFuture<'t, Result<T, E>> + Send + 'static,
{
    async fn write(&mut self, transaction: &Transaction) -> bool {
        let Some(job) = self.job.take() else { return false };
        // The job itself may panic before it has a future to be polled.
        let run = AssertUnwindSafe(async { job(transaction).await });
        let outcome = run.catch_unwind().await.unwrap_or_else(|_| Err(panicked().into()));
        let stands = outcome.is_ok();
        self.outcome = Some(outcome);
        stands
    }

    fn is_repeatable(&self) -> bool {
        false
    }

    fn rank(&self) -> u8 {
        1
    }

    fn plan(&self) -> &Under {
        &self.plan
    }

    fn len(&self) -> usize {
        1
    }

    fn split(self: Box<Self>) -> Vec<Box<dyn Group>> {
        vec![self]
    }

    fn answer(self: Box<Self>, fault: Option<&StoreError>) {
        let outcome = match (self.outcome, fault) {
            (Some(outcome), None) => outcome,
            (_, Some(fault)) => Err(fault.retold().into()),
            (None, None) => Err(gone().into()),
        };
        let _ = self.reply.send(outcome);
    }
}

fn panicked() -> StoreError {
    StoreError::Database(DbErr::Custom("a write panicked".to_owned()))
}

/// What somebody is told whom nobody has answered.
pub(super) fn gone() -> StoreError {
    StoreError::Unavailable(DbErr::Custom("the writer ended".to_owned()))
}
