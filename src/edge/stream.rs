//! The HTTP/2 streams of one connection, each a task; what goes out of a tunnel is another, of the same stream.
//! hyper does not ask a body for more while the visitor gives no window for what it has, so the wait for the
//! visitor has its deadline here.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use tokio_util::task::TaskTracker;

use super::io::Activity;
use super::limits::Stall;
use super::pace::Pace;
use super::turns::{Account, Share, Turns};

/// How a stream goes: whether an answer's last piece is still on its way to the visitor, and what ends it.
#[derive(Debug, Default)]
pub(super) struct Delivery {
    /// Pieces that have not been counted.
    pieces: Cell<u64>,
    holds: Cell<bool>,
    /// Octets of the piece that was handed over last, and of those before it that have not been counted.
    held: Cell<u64>,
    gone: Cell<u64>,
    given_up: Cell<bool>,
    ended: Cell<bool>,
    waker: RefCell<Option<Waker>>,
    /// Of a tunnel: whether all has been said, whether the stream took no more before, and who waits for that.
    has_said_all: Cell<bool>,
    is_over: Cell<bool>,
    tunnel: RefCell<Option<Waker>>,
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

    /// Pieces, and octets that have gone, since it was asked last.
    fn news(&self) -> (u64, u64) {
        (self.pieces.take(), self.gone.take())
    }

    /// Resets the stream, whatever it waits for.
    pub(super) fn end(&self) {
        self.ended.set(true);
        wake(&self.waker);
        wake(&self.tunnel);
    }

    /// Whether it was ended before its end, by us or because the visitor took its pieces too slowly.
    pub(super) fn is_given_up(&self) -> bool {
        self.given_up.get()
    }

    /// Nothing more goes out: that the stream takes no more is no surprise.
    pub(super) fn say_all(&self) {
        self.has_said_all.set(true);
    }

    /// What went out of a tunnel is through, or the stream was reset, or its connection has ended.
    fn takes_no_more(&self) {
        self.is_over.set(!self.has_said_all.get());
        wake(&self.tunnel);
    }

    /// Whether its tunnel has to end.
    pub(super) fn is_over(&self) -> bool {
        self.ended.get() || self.is_over.get()
    }

    /// Completes when [`Self::is_over`]. One waiter only.
    pub(super) fn poll_over(&self, cx: &Context<'_>) -> Poll<()> {
        if self.is_over() {
            return Poll::Ready(());
        }
        remember(&self.tunnel, cx);
        Poll::Pending
    }
}

pub(super) fn wake(waker: &RefCell<Option<Waker>>) {
    // Not borrowed any more when it runs.
    let waker = waker.borrow_mut().take();
    waker.into_iter().for_each(Waker::wake);
}

pub(super) fn remember(waker: &RefCell<Option<Waker>>, cx: &Context<'_>) {
    waker.borrow_mut().get_or_insert_with(|| cx.waker().clone()).clone_from(cx.waker());
}

/// Runs HTTP/2 streams on this thread, where a drain waits for them.
#[derive(Clone)]
pub(super) struct Local {
    pub(super) tasks: TaskTracker,
    pub(super) activity: Rc<Activity>,
    pub(super) turns: Turns,
    /// Of the connection: what its streams do is on one account.
    pub(super) account: Rc<Account>,
    /// How slowly the visitor may take the pieces of an answer.
    pub(super) pace: Pace,
}

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for Local {
    fn execute(&self, future: F) {
        // What a stream begins is what goes out of a tunnel, and of the same stream.
        let tunnel = self.activity.stream();
        let share = self.turns.share(&self.account);
        self.tasks.spawn_local(bounded(self.activity.clone(), share, self.pace, tunnel, future));
    }
}

/// `stream` until it is done or stuck. Dropping it resets the stream; the others go on. How a tunnel is taken is
/// its own to judge.
async fn bounded(
    activity: Rc<Activity>,
    mut share: Share,
    pace: Pace,
    tunnel: Option<Rc<Delivery>>,
    stream: impl Future<Output = ()>,
) {
    let is_tunnel = tunnel.is_some();
    let delivery = tunnel.unwrap_or_default();
    let mut stream = pin!(stream);
    let mut stall = Stall::new(pace);
    share
        .until(|cx| {
            if delivery.ended.get() {
                // Not asked once more: what it says last would look like its end.
                delivery.given_up.set(true);
                return Poll::Ready(());
            }
            activity.begin_turn();
            activity.enter(Some(delivery.clone()));
            let polled = stream.as_mut().poll(cx);
            activity.enter(None);
            if polled.is_ready() {
                if !delivery.ended.get() {
                    // The last piece, for a small answer the only one, is followed by no question for another.
                    delivery.asked();
                    let (pieces, gone) = delivery.news();
                    activity.taken(pieces, gone);
                }
                return Poll::Ready(());
            }
            if delivery.ended.get() {
                delivery.given_up.set(true);
                return Poll::Ready(());
            }
            remember(&delivery.waker, cx);
            if !delivery.holds.get() || delivery.pieces.get() > 0 {
                let (pieces, gone) = delivery.news();
                activity.taken(pieces, gone);
                stall.moved(gone);
            }
            if !delivery.holds.get() || !stall.poll(cx) {
                return Poll::Pending;
            }
            if activity.is_blocked() {
                // It waits for its turn on a line that is full, not for a window; the line has a deadline of its own.
                stall.begin_anew();
                // Registers for the next time.
                stall.poll(cx);
                return Poll::Pending;
            }
            activity.stalled();
            delivery.given_up.set(true);
            Poll::Ready(())
        })
        .await;
    if is_tunnel {
        delivery.takes_no_more();
    }
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::task::LocalSet;
    use tokio::time::timeout;

    use super::*;
    use crate::edge::io::Watched;
    use crate::edge::settings::EdgeSettings;

    const MOMENT: Duration = Duration::from_millis(100);

    fn share() -> Share {
        Turns::default().share(&Rc::default())
    }

    /// What goes out of a tunnel of this stream.
    async fn going_out(own: &Rc<Delivery>, going: impl Future<Output = ()>) {
        let settings = EdgeSettings::default();
        let pace = Pace::new(settings.body_timeout, None);
        bounded(Activity::new(&settings), share(), pace, Some(own.clone()), going).await;
    }

    #[tokio::test]
    async fn a_tunnel_is_over_when_its_stream_takes_no_more_unless_all_was_said() {
        LocalSet::new().run_until(a_tunnel_is_over()).await;
    }

    async fn a_tunnel_is_over() {
        let own = Rc::new(Delivery::default());
        going_out(&own, async { own.say_all() }).await;
        assert!(!own.is_over() && !own.is_given_up(), "the other direction goes on");
        own.end();
        assert!(own.is_over());

        let own = Rc::new(Delivery::default());
        let over = poll_fn(|cx| own.poll_over(cx));
        tokio::join!(over, going_out(&own, async {}));
        assert!(own.is_over() && !own.is_given_up(), "the visitor has reset it");

        let own = Rc::new(Delivery::default());
        tokio::join!(going_out(&own, std::future::pending()), async { own.end() });
        assert!(own.is_over() && own.is_given_up(), "we have");
    }

    #[tokio::test]
    async fn no_stream_is_given_up_while_its_connection_cannot_write() {
        LocalSet::new().run_until(no_stream_is_given_up()).await;
    }

    async fn no_stream_is_given_up() {
        let activity = Activity::new(&EdgeSettings::default());
        let holding = {
            let activity = activity.clone();
            async move {
                activity.stream().unwrap().gave(1);
                std::future::pending::<()>().await;
            }
        };
        let mut stream = pin!(bounded(activity.clone(), share(), Pace::new(MOMENT, None), None, holding));
        let (ours, mut theirs) = tokio::io::duplex(1);
        let mut ours = Watched::new(ours, activity);
        assert!(ours.write_all(b"ab").now_or_never().is_none(), "there is room for one octet");
        assert!(timeout(5 * MOMENT, stream.as_mut()).await.is_err(), "it waits for the others");
        theirs.read_u8().await.unwrap();
        ours.write_all(b"b").await.unwrap();
        assert!(timeout(50 * MOMENT, stream).await.is_ok(), "it waits for its visitor");
    }
}
