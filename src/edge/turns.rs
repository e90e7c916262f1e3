//! Whose turn it is on a thread. Its tasks run one after the other, in the order in which they were woken, and its
//! sockets are looked at in between. Who has a thousand tasks would be a thousand times in front of who has one. So
//! it is kept in mind who has used how much lately: who has used little goes on at once, the others for a slice of
//! time between two looks at the sockets, and whoever of them has used least comes first.

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use tokio::task::{spawn_local, yield_now};

/// Work of those who have used much, between two looks at the sockets. What has begun then is finished.
pub(super) const SLICE: Duration = Duration::from_micros(300);
/// Time that was used is remembered so many times as long: who uses less than this part of the thread, as it is on the
/// clock, is always one of those who have used little.
const WEIGHT: u32 = 4;
/// What is remembered of them at most: a quarter of a millisecond at once is little. Those who come all at once after
/// a while are so many times before everybody else.
const LITTLE: Duration = Duration::from_millis(1);
/// What is remembered of somebody new: there are many of those where somebody attacks.
const NEW: Duration = Duration::from_millis(50);
/// What is remembered of anybody at most.
const MEMORY: Duration = Duration::from_millis(200);
/// What one step counts at most. If it took longer, others have had the processor meanwhile.
const STEP: Duration = Duration::from_micros(300);

/// Wakes the task that is being polled after all others that are ready, and those whose sockets are.
pub(super) fn wake_after_others(cx: &mut Context<'_>) {
    // The runtime keeps the waker until it has looked at its sockets. It is for one poll, and this was that.
    let _ = pin!(yield_now()).poll(cx);
}

/// The turns of one thread.
#[derive(Clone, Debug, Default)]
pub(super) struct Turns(Rc<Thread>);

#[derive(Debug, Default)]
struct Thread {
    /// When the first has worked since the last look at the sockets; none: nobody has.
    since: Cell<Option<Instant>>,
    /// Those who wait, by what they had used when they came.
    queue: RefCell<BinaryHeap<Reverse<Queued>>>,
    arrivals: Cell<u64>,
    keeper: RefCell<Keeper>,
}

/// Who calls those who wait. A task, as only tasks are woken after a look.
#[derive(Debug, Default)]
enum Keeper {
    #[default]
    NotThere,
    Asleep(Waker),
    Awake,
}

/// What one visitor has used of the thread, whatever task it was in, and which of its tasks wait.
#[derive(Debug)]
pub(super) struct Account {
    /// Until when it is remembered.
    used: Cell<Instant>,
    waiting: RefCell<VecDeque<Rc<Waiter>>>,
    /// It has a place in the queue, or one of its tasks has just been called.
    is_queued: Cell<bool>,
}

#[derive(Debug)]
struct Waiter {
    waker: RefCell<Waker>,
    state: Cell<State>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waits,
    Called,
    Works,
}

/// An account in the queue: who has used least comes first, then who came first.
#[derive(Debug)]
struct Queued {
    used: Instant,
    arrival: u64,
    account: Rc<Account>,
}

impl Queued {
    fn place(&self) -> (Instant, u64) {
        (self.used, self.arrival)
    }
}

impl PartialEq for Queued {
    fn eq(&self, other: &Self) -> bool {
        self.place() == other.place()
    }
}

impl Eq for Queued {}

impl PartialOrd for Queued {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Queued {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.place().cmp(&other.place())
    }
}

impl Default for Account {
    fn default() -> Self {
        Self {
            used: Cell::new(Instant::now() + NEW),
            waiting: RefCell::default(),
            is_queued: Cell::default(),
        }
    }
}

impl Account {
    fn charge(&self, began: Instant, ended: Instant) {
        let counts = ended.saturating_duration_since(began).min(STEP) * WEIGHT;
        self.used.set((self.used.get().max(began) + counts).min(ended + MEMORY));
    }

    fn has_used_little(&self, now: Instant) -> bool {
        self.used.get() <= now + LITTLE
    }

    /// The next of its tasks that still is.
    fn next(&self) -> Option<Rc<Waiter>> {
        let mut waiting = self.waiting.borrow_mut();
        // A waiter that nobody else holds is of a task that was dropped.
        std::iter::from_fn(|| waiting.pop_front()).find(|waiter| Rc::strong_count(waiter) > 1)
    }
}

/// A task's part in the turns.
#[derive(Debug)]
pub(super) struct Share {
    thread: Rc<Thread>,
    account: Rc<Account>,
    waiter: Option<Rc<Waiter>>,
}

impl Turns {
    /// The part of a task that works for this account.
    pub(super) fn share(&self, account: &Rc<Account>) -> Share {
        Share { thread: self.0.clone(), account: account.clone(), waiter: None }
    }

    /// `work`, in turns with all others of the thread.
    pub(super) async fn take<T>(
        &self,
        account: &Rc<Account>,
        mut work: impl Future<Output = T> + Unpin,
    ) -> T {
        self.share(account).until(|cx| pin!(&mut work).poll(cx)).await
    }
}

impl Share {
    /// Does `step` each time it is this task's turn, until it is ready.
    pub(super) async fn until<T>(&mut self, mut step: impl FnMut(&mut Context<'_>) -> Poll<T>) -> T {
        poll_fn(|cx| self.poll(cx, &mut step)).await
    }

    /// Does `step`, if it is this task's turn; it is woken for it otherwise.
    fn poll<T>(&mut self, cx: &mut Context<'_>, step: impl FnOnce(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
        let began = Instant::now();
        if !self.is_its_turn(cx, began) {
            return Poll::Pending;
        }
        let outcome = step(cx);
        self.account.charge(began, Instant::now());
        outcome
    }

    fn is_its_turn(&mut self, cx: &Context<'_>, now: Instant) -> bool {
        if let Some(waiter) = &self.waiter {
            match waiter.state.get() {
                State::Works => {}
                State::Waits => {
                    waiter.waker.borrow_mut().clone_from(cx.waker());
                    return false;
                }
                State::Called => {
                    waiter.state.set(State::Works);
                    return true;
                }
            }
        }
        let is_free = self.thread.begin(now) && self.thread.queue.borrow().is_empty();
        if is_free || self.account.has_used_little(now) {
            return true;
        }
        self.wait(cx);
        false
    }

    fn wait(&mut self, cx: &Context<'_>) {
        let waiter = match &self.waiter {
            Some(waiter) => {
                waiter.waker.borrow_mut().clone_from(cx.waker());
                waiter.state.set(State::Waits);
                waiter
            }
            None => self.waiter.insert(Rc::new(Waiter {
                waker: RefCell::new(cx.waker().clone()),
                state: Cell::new(State::Waits),
            })),
        };
        self.account.waiting.borrow_mut().push_back(waiter.clone());
        if !self.account.is_queued.replace(true) {
            self.thread.enqueue(self.account.clone());
        }
    }
}

impl Thread {
    /// Somebody would work: whether there is time before the next look at the sockets.
    fn begin(self: &Rc<Self>, now: Instant) -> bool {
        if let Some(since) = self.since.get() {
            return now.saturating_duration_since(since) < SLICE;
        }
        self.since.set(Some(now));
        let keeper = std::mem::replace(&mut *self.keeper.borrow_mut(), Keeper::Awake);
        match keeper {
            Keeper::NotThere => drop(spawn_local(keep(Rc::downgrade(self)))),
            Keeper::Asleep(waker) => wake_after_others(&mut Context::from_waker(&waker)),
            Keeper::Awake => {}
        }
        true
    }

    fn enqueue(&self, account: Rc<Account>) {
        let arrival = self.arrivals.get();
        self.arrivals.set(arrival + 1);
        self.queue.borrow_mut().push(Reverse(Queued { used: account.used.get(), arrival, account }));
    }

    /// What was called for this account is done.
    fn after(&self, account: Rc<Account>) {
        let has_more = !account.waiting.borrow().is_empty();
        account.is_queued.set(has_more);
        if has_more {
            self.enqueue(account);
        }
    }

    /// Calls the first who waits; its account.
    fn call(&self) -> Option<Rc<Account>> {
        loop {
            let Reverse(Queued { account, .. }) = self.queue.borrow_mut().pop()?;
            if let Some(waiter) = account.next() {
                waiter.state.set(State::Called);
                waiter.waker.borrow().wake_by_ref();
                return Some(account);
            }
            account.is_queued.set(false);
        }
    }
}

/// Calls those who wait, as many in a slice as there is time for.
async fn keep(thread: Weak<Thread>) {
    yield_now().await;
    loop {
        match thread.upgrade() {
            None => return,
            Some(thread) => call_those_who_wait(&thread).await,
        }
        let has_worked = thread.upgrade().is_some_and(|thread| thread.since.get().is_some());
        match has_worked {
            true => yield_now().await,
            false => asleep(&thread).await,
        }
    }
}

/// The sockets have been looked at: a slice begins.
async fn call_those_who_wait(thread: &Thread) {
    thread.since.set(None);
    let mut is_free = true;
    while is_free && let Some(account) = thread.call() {
        let since = thread.since.get().unwrap_or_else(Instant::now);
        thread.since.set(Some(since));
        after_those_called().await;
        thread.after(account);
        is_free = since.elapsed() < SLICE;
    }
}

/// After the tasks that are ready by now. No socket is looked at.
async fn after_those_called() {
    let mut is_after = false;
    poll_fn(|cx| match std::mem::replace(&mut is_after, true) {
        true => Poll::Ready(()),
        false => {
            cx.waker().wake_by_ref();
            Poll::Pending
        }
    })
    .await;
}

/// Until somebody has worked and the sockets were looked at.
async fn asleep(thread: &Weak<Thread>) {
    let mut has_slept = false;
    poll_fn(|cx| {
        let Some(thread) = thread.upgrade() else { return Poll::Ready(()) };
        let mut keeper = thread.keeper.borrow_mut();
        if std::mem::replace(&mut has_slept, true) && matches!(*keeper, Keeper::Awake) {
            return Poll::Ready(());
        }
        *keeper = Keeper::Asleep(cx.waker().clone());
        Poll::Pending
    })
    .await;
}

#[cfg(test)]
mod tests;
