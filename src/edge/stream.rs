//! The HTTP/2 streams of one connection, each a task. hyper does not ask a body for more while the
//! visitor gives no window for what it has, so the wait for the visitor has its deadline here.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};

use tokio_util::task::TaskTracker;

use super::io::Activity;
use super::limits::Stall;
use super::pace::Pace;

/// Whether an answer's last piece is still on its way to the visitor.
#[derive(Debug, Default)]
pub(super) struct Delivery {
    pieces: Cell<u64>,
    holds: Cell<bool>,
    /// Octets of the piece that was handed over last, and of those before it that have not been counted.
    held: Cell<u64>,
    gone: Cell<u64>,
    given_up: Cell<bool>,
    ended: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Delivery {
    /// The body is asked for its next piece: the one before has gone.
    pub(super) fn asked(&self) {
        self.holds.set(false);
        self.gone.set(self.gone.get() + self.held.take());
    }

    /// A piece of so many octets was handed over.
    pub(super) fn gave(&self, octets: u64) {
        self.pieces.set(self.pieces.get() + 1);
        self.holds.set(true);
        self.held.set(octets);
    }

    /// Resets the stream, whatever it waits for.
    pub(super) fn end(&self) {
        self.ended.set(true);
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// Whether it was ended before its end, by us or because the visitor took its pieces too slowly.
    pub(super) fn is_given_up(&self) -> bool {
        self.given_up.get()
    }
}

/// Runs HTTP/2 streams on this thread, where a drain waits for them.
#[derive(Clone)]
pub(super) struct Local {
    pub(super) tasks: TaskTracker,
    pub(super) activity: Rc<Activity>,
    /// How slowly the visitor may take the pieces of an answer.
    pub(super) pace: Pace,
}

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for Local {
    fn execute(&self, future: F) {
        self.tasks.spawn_local(bounded(self.activity.clone(), self.pace, future));
    }
}

/// `stream` until it is done or stuck. Dropping it resets the stream; the others go on.
async fn bounded(activity: Rc<Activity>, pace: Pace, stream: impl Future<Output = ()>) {
    let delivery = Rc::new(Delivery::default());
    let mut stream = pin!(stream);
    let mut stall = Stall::new(pace);
    let mut seen = 0;
    poll_fn(|cx| {
        activity.enter(Some(delivery.clone()));
        let polled = stream.as_mut().poll(cx);
        activity.enter(None);
        if polled.is_ready() {
            return Poll::Ready(());
        }
        if delivery.ended.get() {
            delivery.given_up.set(true);
            return Poll::Ready(());
        }
        delivery.waker.borrow_mut().get_or_insert_with(|| cx.waker().clone()).clone_from(cx.waker());
        if !delivery.holds.get() || delivery.pieces.get() != seen {
            let pieces = delivery.pieces.get() - std::mem::replace(&mut seen, delivery.pieces.get());
            let gone = delivery.gone.take();
            activity.taken(pieces, gone);
            stall.moved(gone);
        }
        if delivery.holds.get() && stall.poll(cx) {
            activity.stalled();
            delivery.given_up.set(true);
            return Poll::Ready(());
        }
        Poll::Pending
    })
    .await;
}

/// Lets hyper see whether the request has been taken back: it looks each time after it was told to wait for the
/// answer, and waits for none then. Whoever takes requests back in the same breath, or makes us do so, has nothing
/// done for them.
pub(super) async fn look_for_reset() {
    let mut has_looked = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut has_looked, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
