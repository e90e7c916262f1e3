//! Group commit: what concurrent callers write becomes one durable commit.
//!
//! Callers queue; a task takes everything that is waiting, writes it in one transaction and commits
//! once. Each write stands or falls alone, and nobody is answered before the commit: what was
//! acknowledged is durable, and a failed commit is everyone's error. Rows of one kind ([`Rows`]) are
//! written together. Where everything can be written anew, it is first tried
//! as a whole; if that fails, everything gets a savepoint of its own and rows are tried one by one, so
//! that the one at fault is the only one refused. A write that was begun is finished though its caller
//! has gone.

mod copier;
mod group;
mod lane;

use std::any::Any;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use sea_orm::{DatabaseConnection, DbErr, TransactionTrait};
use tokio::sync::oneshot;

use super::{StoreError, Transaction};
#[cfg(feature = "test-util")]
use crate::crash;
use crate::crash::Under;
use copier::Copier;
use group::{Alike, Group, Own, gone};
use lane::Lane;

pub(crate) use group::Rows;

/// Rows of a kind that are written together, and groups in one commit, at most.
const MOST: usize = 64;
/// How often others are let run before a commit, while more and more of them write.
const MOST_TURNS: usize = 32;
/// A commit that has taken this long is closed; what is left waits for the next.
const LONGEST: Duration = Duration::from_millis(100);

/// The queue before the database's writing end. Cheap to clone.
#[derive(Clone, Debug)]
pub(in crate::store) struct Writer(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    database: DatabaseConnection,
    /// How many commits may be under way at once.
    lanes: usize,
    queue: Mutex<Queue>,
    /// Where the database has a log that must be copied.
    copier: Option<Copier>,
    /// Where commits run; among everything else if there is none.
    lane: Option<Lane>,
}

#[derive(Default)]
struct Queue {
    groups: VecDeque<Box<dyn Group>>,
    /// How many tasks empty the queue.
    serving: usize,
    /// How many of them are about to take what waits.
    taking: usize,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue").field("groups", &self.groups.len()).finish_non_exhaustive()
    }
}

impl Shared {
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        match &self.lane {
            Some(lane) => lane.spawn(task),
            None => drop(tokio::spawn(task)),
        }
    }

    fn copy_if_due(self: &Arc<Self>) {
        if self.copier.as_ref().is_some_and(Copier::is_due) {
            let shared = self.clone();
            tokio::spawn(async move {
                if let Some(copier) = &shared.copier {
                    copier.copy().await;
                }
            });
        }
    }
}

impl Writer {
    /// A queue whose writes become commits, at most `lanes` of them at once.
    pub(in crate::store) fn new(database: DatabaseConnection, lanes: usize) -> Self {
        Self(Arc::new(Shared { database, lanes, queue: Mutex::default(), copier: None, lane: None }))
    }

    /// One for SQLite, which has one writer; `reader` has connections to the same file.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(in crate::store) fn on_sqlite(
        database: DatabaseConnection,
        reader: DatabaseConnection,
    ) -> io::Result<Self> {
        let (copier, lane) = (Some(Copier::new(reader)), Some(Lane::start()?));
        Ok(Self(Arc::new(Shared { database, lanes: 1, queue: Mutex::default(), copier, lane })))
    }

    /// Closes its connections.
    pub(in crate::store) async fn close(&self) {
        let _ = self.0.database.clone().close().await;
    }

    /// Writes one of a kind together with what others write at this moment.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(in crate::store) async fn add<R: Rows>(&self, row: R) -> Result<R::Answer, StoreError> {
        let (reply, answer) = oneshot::channel();
        let plan = Under::this();
        self.enter(|groups| {
            let alike = groups.iter_mut().find_map(|group| {
                let group: &mut dyn Any = &mut **group;
                group.downcast_mut::<Alike<R>>().filter(|alike| alike.len() < MOST && *alike.plan() == plan)
            });
            match alike {
                Some(alike) => alike.push(row, reply),
                None => {
                    let mut alike = Alike::under(plan);
                    alike.push(row, reply);
                    groups.push_back(Box::new(alike));
                }
            }
        });
        answer.await.unwrap_or_else(|_| Err(gone()))
    }

    /// Runs one caller's own statements. See [`super::Store::write`].
    pub(in crate::store) async fn run<T, E, F>(&self, job: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: for<'t> FnOnce(&'t Transaction) -> BoxFuture<'t, Result<T, E>> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let own = Own::new(job, reply);
        self.enter(|groups| groups.push_back(Box::new(own)));
        answer.await.unwrap_or_else(|_| Err(gone().into()))
    }

    /// Puts something into the queue, and sees to it that somebody empties it.
    fn enter(&self, push: impl FnOnce(&mut VecDeque<Box<dyn Group>>)) {
        let mut queue = self.0.queue.lock();
        push(&mut queue.groups);
        let is_served = queue.taking > 0 || queue.serving >= self.0.lanes;
        if is_served {
            return;
        }
        queue.serving += 1;
        queue.taking += 1;
        // A runtime that ends drops what it is given, which gives the right back.
        drop(queue);
        // Not the caller's own task: whoever stops waiting must not take others' writes along.
        self.0.spawn(Under::this().carry(Serving::new(self.0.clone()).serve()));
    }
}

/// The right to empty the queue. Dropped in the middle (a runtime that ends), it fails who waits
/// instead of leaving them waiting.
struct Serving {
    shared: Arc<Shared>,
    /// Whether it is about to take what waits.
    is_taking: bool,
    /// Whether the right was given back: from then on the queue may be somebody else's.
    is_over: bool,
}

impl Drop for Serving {
    fn drop(&mut self) {
        if !self.is_over {
            let mut queue = self.shared.queue.lock();
            queue.serving -= 1;
            queue.taking -= usize::from(self.is_taking);
            if queue.serving == 0 {
                queue.groups.clear();
            }
        }
    }
}

impl Serving {
    /// The right that [`Writer::enter`] has counted.
    fn new(shared: Arc<Shared>) -> Self {
        Self { shared, is_taking: true, is_over: false }
    }

    async fn serve(mut self) {
        while self.is_wanted() {
            #[cfg(feature = "test-util")]
            if self.has_passed_on() {
                return;
            }
            #[cfg(feature = "test-util")]
            if crash::is_database_away() {
                // For those who ask under this plan; others come as if this had never been.
                return refuse(self.leave(), &StoreError::lost());
            }
            if let Some(copier) = &self.shared.copier {
                copier.copy_rest(&self.shared.database).await;
            }
            // The connection first: whoever comes while we wait for it joins this commit.
            let begun = self.shared.database.begin().await;
            self.gather().await;
            let taken = self.take();
            match begun {
                Ok(transaction) => {
                    let transaction = Transaction(transaction);
                    let left = if taken.len() == 1 || taken.iter().all(|group| group.is_repeatable()) {
                        self.commit_at_once(transaction, taken).await
                    } else {
                        commit_together(transaction, taken).await
                    };
                    self.put_back(left);
                    self.shared.copy_if_due();
                }
                Err(error) => refuse(taken, &error.into()),
            }
        }
    }

    /// Writes and commits without savepoints, which cost more than most of what is between them. Returns
    /// what there was no time for.
    async fn commit_at_once(
        &self,
        transaction: Transaction,
        mut taken: VecDeque<Box<dyn Group>>,
    ) -> VecDeque<Box<dyn Group>> {
        let mut stand = true;
        for group in &mut taken {
            stand = stand && group.write(&transaction).await;
        }
        if stand {
            let committed = transaction.commit().await;
            taken.into_iter().for_each(|group| group.answer(committed.as_ref().err()));
            return VecDeque::new();
        }
        if let Err(error) = transaction.0.rollback().await {
            refuse(taken, &error.into());
            return VecDeque::new();
        }
        if taken.len() == 1 && taken.iter().all(|group| group.len() == 1) {
            taken.into_iter().for_each(|group| group.answer(None));
            return VecDeque::new();
        }
        match self.shared.database.begin().await {
            Ok(transaction) => commit_together(Transaction(transaction), taken).await,
            Err(error) => {
                refuse(taken, &error.into());
                VecDeque::new()
            }
        }
    }

    /// Whether anything waits that nobody else is about to take. If not, the right is given back, and
    /// the next caller starts a new task.
    fn is_wanted(&mut self) -> bool {
        let mut queue = self.shared.queue.lock();
        if self.is_taking {
            return true;
        }
        if queue.groups.is_empty() || queue.taking > 0 {
            queue.serving -= 1;
            self.is_over = true;
            return false;
        }
        queue.taking += 1;
        self.is_taking = true;
        true
    }

    /// Lets whoever is about to write join: a commit of few costs as much as one of many. Waits for no
    /// time, only for tasks of the same runtime that are ready to run, and no longer than they come; a
    /// [`Lane`] has no others, and those of other threads come while it works.
    async fn gather(&self) {
        let mut before = 0;
        for _ in 0..MOST_TURNS {
            let now = self.shared.queue.lock().groups.iter().map(|group| group.len()).sum();
            if now == before {
                return;
            }
            before = now;
            tokio::task::yield_now().await;
        }
    }

    /// Whether somebody asks first who has another plan: the right has gone to a task under that one.
    #[cfg(feature = "test-util")]
    fn has_passed_on(&mut self) -> bool {
        let queue = self.shared.queue.lock();
        let plan = queue.groups.front().map(|group| group.plan().clone());
        let Some(plan) = plan.filter(|plan| *plan != Under::this()) else { return false };
        self.is_over = true;
        self.shared.spawn(plan.carry(Serving::new(self.shared.clone()).serve()));
        true
    }

    /// Takes what waits under this plan. If anything else does, the right goes to a task without one.
    #[cfg(feature = "test-util")]
    fn leave(&mut self) -> VecDeque<Box<dyn Group>> {
        let mut queue = self.shared.queue.lock();
        let (mine, others) = queue.groups.drain(..).partition(|group| *group.plan() == Under::this());
        queue.groups = others;
        // Here and not when it is dropped: whoever is refused may be back before that.
        self.is_over = true;
        if queue.groups.is_empty() {
            queue.serving -= 1;
            queue.taking -= usize::from(self.is_taking);
        } else {
            self.shared.spawn(Serving::new(self.shared.clone()).serve());
        }
        mine
    }

    fn take(&mut self) -> VecDeque<Box<dyn Group>> {
        let mut queue = self.shared.queue.lock();
        queue.taking -= usize::from(std::mem::take(&mut self.is_taking));
        let plan = queue.groups.front().map(|group| group.plan().clone());
        let alike = queue.groups.iter().take(MOST).take_while(|group| Some(group.plan()) == plan.as_ref());
        let most = alike.count();
        let mut taken: VecDeque<_> = queue.groups.drain(..most).collect();
        taken.make_contiguous().sort_by_key(|group| group.rank());
        taken
    }

    fn put_back(&self, left: VecDeque<Box<dyn Group>>) {
        let mut queue = self.shared.queue.lock();
        for group in left.into_iter().rev() {
            queue.groups.push_front(group);
        }
    }
}

/// Writes and commits. Returns what there was no time for.
async fn commit_together(
    transaction: Transaction,
    mut waiting: VecDeque<Box<dyn Group>>,
) -> VecDeque<Box<dyn Group>> {
    let began = Instant::now();
    let mut standing = VecDeque::with_capacity(waiting.len());
    // Told after the commit like everybody: what refused them may have been written in this transaction.
    let mut refused = VecDeque::new();
    while let Some(mut group) = waiting.pop_front() {
        match under_savepoint(&transaction, &mut *group).await {
            Ok(true) => standing.push_back(group),
            // One of them is at fault; it is found by trying each alone.
            Ok(false) if group.len() > 1 => {
                group.split().into_iter().rev().for_each(|one| waiting.push_front(one))
            }
            Ok(false) => refused.push_back(group),
            Err(error) => {
                // The savepoint is gone, and with it the certainty of what this transaction holds.
                let error = StoreError::from(error);
                drop(transaction);
                for groups in [standing, refused, VecDeque::from([group]), waiting] {
                    refuse(groups, &error);
                }
                return VecDeque::new();
            }
        }
        if began.elapsed() > LONGEST && !standing.is_empty() {
            break;
        }
    }
    let committed = if standing.is_empty() { Ok(()) } else { transaction.commit().await };
    standing.into_iter().chain(refused).for_each(|group| group.answer(committed.as_ref().err()));
    waiting
}

/// Whether what the group wrote stands; if not, it is rolled back and nothing else is.
async fn under_savepoint(transaction: &Transaction, group: &mut dyn Group) -> Result<bool, DbErr> {
    let inner = Transaction(transaction.0.begin().await?);
    if group.write(&inner).await {
        inner.0.commit().await?;
        Ok(true)
    } else {
        inner.0.rollback().await?;
        Ok(false)
    }
}

fn refuse(groups: VecDeque<Box<dyn Group>>, fault: &StoreError) {
    groups.into_iter().for_each(|group| group.answer(Some(fault)));
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nothing;

    impl Rows for Nothing {
        type Answer = ();

        fn write<'t>(
            all: &'t [Self],
            _: &'t Transaction,
        ) -> BoxFuture<'t, Result<Vec<Self::Answer>, StoreError>> {
            Box::pin(async { Ok(all.iter().map(|_| ()).collect()) })
        }
    }

    fn writer() -> Writer {
        Writer::new(DatabaseConnection::default(), 2)
    }

    /// Somebody who waits, and the right that was counted for them if nobody is about to take.
    fn wait_in(writer: &Writer) -> (oneshot::Receiver<Result<(), StoreError>>, Option<Serving>) {
        let (reply, answer) = oneshot::channel();
        let mut alike = Alike::under(Under::this());
        alike.push(Nothing, reply);
        let mut queue = writer.0.queue.lock();
        queue.groups.push_back(Box::new(alike));
        let serves = queue.taking == 0 && queue.serving < writer.0.lanes;
        queue.serving += usize::from(serves);
        queue.taking += usize::from(serves);
        (answer, serves.then(|| Serving::new(writer.0.clone())))
    }

    fn waits(answer: &mut oneshot::Receiver<Result<(), StoreError>>) -> bool {
        matches!(answer.try_recv(), Err(oneshot::error::TryRecvError::Empty))
    }

    #[test]
    fn a_task_that_found_nothing_to_do_takes_nobody_along_who_came_meanwhile() {
        let writer = writer();
        let (_, first) = wait_in(&writer);
        let mut first = first.unwrap();
        assert!(first.is_wanted());
        drop(first.take());
        assert!(!first.is_wanted());
        let (mut answer, second) = wait_in(&writer);
        drop(first);
        assert!(waits(&mut answer));
        assert!(second.unwrap().is_wanted(), "somebody comes");
    }

    #[test]
    fn a_task_that_ends_in_the_middle_leaves_nobody_waiting() {
        let writer = writer();
        let (mut answer, only) = wait_in(&writer);
        let mut only = only.unwrap();
        assert!(only.is_wanted());
        drop(only);
        assert!(matches!(answer.try_recv(), Err(oneshot::error::TryRecvError::Closed)));
        let queue = writer.0.queue.lock();
        assert_eq!((queue.serving, queue.taking), (0, 0));
    }

    #[test]
    fn as_many_tasks_as_lanes_and_one_that_takes_is_enough() {
        let writer = writer();
        let (_, first) = wait_in(&writer);
        let mut first = first.unwrap();
        let (_, none) = wait_in(&writer);
        assert!(none.is_none(), "the first has not taken yet");
        assert_eq!(first.take().len(), 2);
        let (_, second) = wait_in(&writer);
        let mut second = second.unwrap();
        drop(second.take());
        let (mut answer, third) = wait_in(&writer);
        assert!(third.is_none(), "both lanes are busy");
        assert!(first.is_wanted(), "who is ready first takes what waits");
        assert!(!second.is_wanted());
        drop(second);
        assert!(waits(&mut answer), "the other lane is still there");
        drop(first);
        assert!(!waits(&mut answer));
    }
}
