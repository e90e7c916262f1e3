//! The HTTP/2 streams of one connection, each a task. hyper does not ask a body for more while the
//! visitor gives no window for what it has, so the wait for the visitor has its deadline here.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use tokio_util::task::TaskTracker;

use super::io::Activity;
use super::limits::Stall;

/// Whether an answer's last piece is still on its way to the visitor.
#[derive(Debug, Default)]
pub(super) struct Delivery {
    pieces: Cell<u64>,
    holds: Cell<bool>,
    given_up: Cell<bool>,
    ended: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Delivery {
    /// The body is asked for its next piece: the one before has gone.
    pub(super) fn asked(&self) {
        self.holds.set(false);
    }

    /// A piece was handed over.
    pub(super) fn gave(&self) {
        self.pieces.set(self.pieces.get() + 1);
        self.holds.set(true);
    }

    /// Resets the stream, whatever it waits for.
    pub(super) fn end(&self) {
        self.ended.set(true);
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// Whether it was ended before its end, by us or because the visitor took too long over a piece.
    pub(super) fn is_given_up(&self) -> bool {
        self.given_up.get()
    }
}

/// Runs HTTP/2 streams on this thread, where a drain waits for them.
#[derive(Clone)]
pub(super) struct Local {
    pub(super) tasks: TaskTracker,
    pub(super) activity: Rc<Activity>,
    /// How long the visitor may take over one piece of an answer.
    pub(super) timeout: Duration,
}

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for Local {
    fn execute(&self, future: F) {
        self.tasks.spawn_local(bounded(self.activity.clone(), self.timeout, future));
    }
}

/// `stream` until it is done or stuck. Dropping it resets the stream; the others go on.
async fn bounded(activity: Rc<Activity>, timeout: Duration, stream: impl Future<Output = ()>) {
    let delivery = Rc::new(Delivery::default());
    let mut stream = pin!(stream);
    let mut stall = Stall::new(timeout);
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
            seen = delivery.pieces.get();
            stall.moved();
        }
        if delivery.holds.get() && stall.poll(cx) {
            delivery.given_up.set(true);
            return Poll::Ready(());
        }
        Poll::Pending
    })
    .await;
}
