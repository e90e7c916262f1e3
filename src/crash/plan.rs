//! What a test has in mind for one task and those beside it: at the n-th visit of a point the process
//! is gone, or the database is.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

tokio::task_local! {
    static PLAN: Arc<Plan>;
}

/// What happens at the point.
pub enum Blow {
    /// The process is gone: every task under the plan unwinds here or at its next word to the database.
    /// What was committed stands, and nothing else does.
    Kill,
    /// The database does not answer any more, and open transactions are lost.
    DatabaseAway,
    /// The next commit happens, but its answer is lost; then the database is away.
    AnswerLost,
    /// Something of the test's own, for example cutting the connections of a real server.
    Call(Box<dyn Fn() + Send + Sync>),
}

/// What a task that was killed unwinds with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Killed;

/// What becomes of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtCommit {
    /// It happens and is answered.
    Answer,
    /// It does not happen.
    Refuse,
    /// It happens and is not answered.
    LoseAnswer,
}

/// One blow at one point, shared by the tasks of a process.
pub struct Plan {
    point: &'static str,
    visits_left: AtomicU32,
    blow: Blow,
    state: AtomicU8,
}

/// Nothing happened yet.
const CALM: u8 = 0;
/// The next commit is the last, and loses its answer.
const LOSING: u8 = 1;
/// The database is away.
const AWAY: u8 = 2;
/// The process is gone.
const GONE: u8 = 3;
/// The test's own blow was struck.
const CALLED: u8 = 4;

impl Plan {
    /// A plan that strikes at the `visit`-th visit of `point`, counted from 1.
    pub fn new(point: &'static str, visit: u32, blow: Blow) -> Arc<Self> {
        Arc::new(Self { point, visits_left: AtomicU32::new(visit.max(1)), blow, state: AtomicU8::new(CALM) })
    }

    /// Runs `future` under this plan.
    pub async fn run<F: Future>(self: &Arc<Self>, future: F) -> F::Output {
        PLAN.scope(self.clone(), future).await
    }

    /// Whether the blow was struck.
    pub fn has_struck(&self) -> bool {
        self.state.load(Ordering::SeqCst) != CALM
    }

    fn visit(&self, point: &'static str) {
        self.end_if_gone();
        if point != self.point || self.visits_left.fetch_sub(1, Ordering::SeqCst) != 1 {
            return;
        }
        let state = match &self.blow {
            Blow::Kill => GONE,
            Blow::DatabaseAway => AWAY,
            Blow::AnswerLost => LOSING,
            Blow::Call(call) => {
                call();
                CALLED
            }
        };
        self.state.store(state, Ordering::SeqCst);
        self.end_if_gone();
    }

    fn end_if_gone(&self) {
        if self.state.load(Ordering::SeqCst) == GONE {
            // Not a panic that anybody reports: the test that planned it catches it.
            std::panic::resume_unwind(Box::new(Killed));
        }
    }
}

pub(super) fn reach(point: &'static str) {
    let _ = PLAN.try_with(|plan| plan.visit(point));
}

/// Under which plan something was asked for, if any.
#[derive(Clone)]
pub struct Under(Option<Arc<Plan>>);

impl Under {
    /// The plan of this task.
    pub fn this() -> Self {
        Self(PLAN.try_with(Arc::clone).ok())
    }

    /// `future`, for a task of its own, under this plan.
    pub async fn carry<F: Future>(self, future: F) -> F::Output {
        match self.0 {
            Some(plan) => plan.run(future).await,
            None => future.await,
        }
    }
}

impl PartialEq for Under {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_ref().map(Arc::as_ptr) == other.0.as_ref().map(Arc::as_ptr)
    }
}

/// Whether this task's plan has taken the database away. Unwinds if it has ended the process.
pub fn is_database_away() -> bool {
    let away = PLAN.try_with(|plan| {
        plan.end_if_gone();
        plan.state.load(Ordering::SeqCst) == AWAY
    });
    away.unwrap_or(false)
}

/// What becomes of the commit that this task is about to make. Unwinds if the process has ended.
pub fn at_commit() -> AtCommit {
    let found = PLAN.try_with(|plan| {
        plan.end_if_gone();
        let after = plan.state.compare_exchange(LOSING, AWAY, Ordering::SeqCst, Ordering::SeqCst);
        match after {
            Ok(_) => AtCommit::LoseAnswer,
            Err(AWAY) => AtCommit::Refuse,
            Err(_) => AtCommit::Answer,
        }
    });
    found.unwrap_or(AtCommit::Answer)
}
