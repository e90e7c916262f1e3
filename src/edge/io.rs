//! A visitor's stream, with an eye on it: what moves, what is stuck or too slow, what is in flight. From this the
//! connection's one timer knows which deadline counts.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf, Take};
use tokio::time::Instant;
use tokio_rustls::server::TlsStream;

use super::carrier::Carrier;
use super::cork::Holds;
use super::frames::Open;
use super::guard::{Guard, LONG};
use super::pace::Pace;
use super::settings::EdgeSettings;
use super::stream::Delivery;
use super::turns::{SLICE, wake_after_others};

/// Octets that one connection reads before others have their turn; `guard` counts small frames as more than they
/// are.
const TURN: usize = 16 * 1024;
/// Octets of heads that are read at once (HTTP/2): some are many fields, and whoever reads them does not stop.
const HEADS: u64 = 2 * 1024;

/// What happens on one connection. Shared by its stream, its requests and its timer; one thread.
#[derive(Debug)]
pub(super) struct Activity {
    /// HTTP/1 only: bytes between two requests are the beginning of a head.
    reads_heads: Cell<bool>,
    head_since: Cell<Option<Instant>>,
    idle_since: Cell<Instant>,
    /// How what is written is taken.
    written: RefCell<Pace>,
    in_flight: Cell<u32>,
    /// Octets that may still be read before others have their turn, and when that began. None: there are no turns.
    turn: Cell<Option<(usize, Instant)>>,
    /// HTTP/2 only: how often the connection was moved on; none: what is written now goes out now.
    moves: Cell<Option<u64>>,
    /// HTTP/2 only: what comes beside requests.
    guard: RefCell<Option<Guard>>,
    /// HTTP/2 only: the stream that is being moved on right now.
    entered: RefCell<Option<Rc<Delivery>>>,
}

/// A deadline of the connection as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Overdue {
    /// The head of a request did not end in time, or what else HTTP/2 has begun.
    Head,
    /// A frame of a body did not end in time (HTTP/2).
    Body,
    /// No request came for too long.
    Idle,
    /// The visitor does not take what we write, or too slowly.
    Write,
}

impl Activity {
    pub(super) fn new(settings: &EdgeSettings) -> Rc<Self> {
        let now = Instant::now();
        Rc::new(Self {
            reads_heads: Cell::new(false),
            head_since: Cell::new(None),
            idle_since: Cell::new(now),
            written: RefCell::new(Pace::new(settings.body_timeout, settings.min_rate)),
            in_flight: Cell::new(0),
            turn: Cell::new(None),
            moves: Cell::new(Some(0)),
            guard: RefCell::new(None),
            entered: RefCell::new(None),
        })
    }

    /// From now on, bytes outside of requests belong to the head of one (HTTP/1).
    pub(super) fn watch_heads(&self) {
        self.reads_heads.set(true);
    }

    /// From now on, what comes is walked by frames (HTTP/2).
    pub(super) fn watch_frames(&self) {
        *self.guard.borrow_mut() = Some(Guard::new(Instant::now()));
    }

    /// The connection, or a stream of it, is moved on once more: so much may be moved, and then the others of its
    /// thread come first. A peer that sends without end would otherwise be read without end, and one that is sent
    /// something without end written to.
    pub(super) fn begin_turn(&self) {
        self.turn.set(Some((TURN, Instant::now())));
    }

    /// The connection as a whole is moved on, and with it what was held back.
    pub(super) fn begin_move(&self) {
        self.moves.set(self.moves.get().map(|moves| moves + 1));
    }

    /// The move of the connection, if what it writes may wait for the next one.
    pub(super) fn may_hold(&self) -> Option<u64> {
        self.moves.get()
    }

    /// From now on, what is written goes out at once: there may be no next move.
    pub(super) fn hold_nothing(&self) {
        self.moves.set(None);
    }

    /// From now on, whoever reads yields by itself.
    pub(super) fn end_turns(&self) {
        self.turn.set(None);
    }

    /// Whether others come first before more is moved, in either direction.
    pub(super) fn is_turn_over(&self) -> bool {
        self.turn.get().is_some_and(|(left, since)| left == 0 || since.elapsed() >= SLICE)
    }

    /// Octets that may be read at once.
    fn most_at_once(&self) -> u64 {
        match self.guard.borrow().as_ref().map(Guard::open) {
            None | Some(Some(Open::Data)) => u64::MAX,
            Some(_) => HEADS,
        }
    }

    /// A head is complete; the exchange lasts until the guard is dropped.
    pub(super) fn begin(self: &Rc<Self>) -> InFlight {
        self.head_since.set(None);
        self.in_flight.set(self.in_flight.get() + 1);
        InFlight { activity: self.clone(), delivery: self.stream(), since: Instant::now() }
    }

    /// Exchanges that begin from here on belong to this stream.
    pub(super) fn enter(&self, stream: Option<Rc<Delivery>>) {
        *self.entered.borrow_mut() = stream;
    }

    /// The stream that is being moved on right now (HTTP/2).
    pub(super) fn stream(&self) -> Option<Rc<Delivery>> {
        self.entered.borrow().clone()
    }

    /// A request was answered to its end.
    pub(super) fn answered(&self) {
        if let Some(guard) = self.guard.borrow_mut().as_mut() {
            guard.answered();
        }
    }

    /// Pieces of answers, or of tunnels, were taken, of so many octets together (HTTP/2).
    pub(super) fn taken(&self, pieces: u64, octets: u64) {
        if let Some(guard) = self.guard.borrow_mut().as_mut() {
            guard.taken(pieces, octets);
        }
    }

    /// A stream was given up, as its visitor took nothing (HTTP/2).
    pub(super) fn stalled(&self) {
        if let Some(guard) = self.guard.borrow_mut().as_mut() {
            guard.stalled(Instant::now());
        }
    }

    /// Whether what is written finds no room on the line at present.
    pub(super) fn is_blocked(&self) -> bool {
        self.written.borrow().due().is_some()
    }

    /// Whether more frames have come than may: nothing is read any more (HTTP/2).
    pub(super) fn is_spent(&self) -> bool {
        self.guard.borrow().as_ref().is_some_and(Guard::is_spent)
    }

    /// The next deadline and what it means; `None` while only exchanges have deadlines.
    pub(super) fn deadline(&self, settings: &EdgeSettings) -> Option<(Instant, Overdue)> {
        if let Some(due) = self.written.borrow().due() {
            return Some((due, Overdue::Write));
        }
        let own = match (self.in_flight.get(), self.head_since.get()) {
            (1.., _) => None,
            (0, Some(since)) => Some((since + settings.header_timeout, Overdue::Head)),
            (0, None) => Some((self.idle_since.get() + settings.idle_timeout, Overdue::Idle)),
        };
        // Whatever is in flight beside it.
        let frame = self.guard.borrow().as_ref().and_then(|guard| guard.deadline(settings));
        let frame = frame.map(|(due, open)| match open {
            Open::Head => (due, Overdue::Head),
            Open::Data => (due, Overdue::Body),
        });
        [own, frame].into_iter().flatten().min_by_key(|(due, _)| *due)
    }

    /// Whether the visitor takes what we write too slowly, at `now`.
    pub(super) fn is_too_slow(&self, now: Instant) -> bool {
        self.written.borrow_mut().is_too_slow(now)
    }

    fn has_read(&self, octets: &[u8]) {
        if self.reads_heads.get() && self.in_flight.get() == 0 && self.head_since.get().is_none() {
            self.head_since.set(Some(Instant::now()));
        }
        let work = match self.guard.borrow_mut().as_mut() {
            Some(guard) => guard.read(octets, Instant::now),
            None => octets.len(),
        };
        self.turn.set(self.turn.get().map(|(left, since)| (left.saturating_sub(work), since)));
    }

    fn has_written<T>(
        &self,
        outcome: Poll<io::Result<T>>,
        octets: impl Fn(&T) -> usize,
    ) -> Poll<io::Result<T>> {
        match &outcome {
            Poll::Pending => self.written.borrow_mut().waits(Instant::now),
            Poll::Ready(Ok(value)) => {
                let octets = octets(value) as u64;
                self.written.borrow_mut().moved(octets, Instant::now);
            }
            Poll::Ready(Err(_)) => {}
        }
        outcome
    }
}

/// An exchange in flight.
#[derive(Debug)]
pub(super) struct InFlight {
    activity: Rc<Activity>,
    delivery: Option<Rc<Delivery>>,
    since: Instant,
}

impl InFlight {
    /// Where the answer's stream notes how it goes; HTTP/1 has none, its writes are watched.
    pub(super) fn delivery(&self) -> Option<&Rc<Delivery>> {
        self.delivery.as_ref()
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let left = self.activity.in_flight.get().saturating_sub(1);
        self.activity.in_flight.set(left);
        let now = Instant::now();
        if left == 0 {
            self.activity.idle_since.set(now);
        }
        if now.saturating_duration_since(self.since) >= LONG
            && let Some(guard) = self.activity.guard.borrow_mut().as_mut()
        {
            guard.lasted();
        }
    }
}

/// A stream whose movements are noted.
#[derive(Debug)]
pub(super) struct Watched<S> {
    stream: Take<S>,
    activity: Rc<Activity>,
}

impl<S: AsyncRead> Watched<S> {
    pub(super) fn new(stream: S, activity: Rc<Activity>) -> Self {
        Self { stream: stream.take(u64::MAX), activity }
    }
}

impl Holds for Watched<Box<TlsStream<Carrier>>> {
    fn hold(&mut self, is_on: bool) {
        self.stream.get_mut().get_mut().0.hold(is_on);
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // Its owner, who has moved it on, sees that and ends it.
        if self.activity.is_spent() {
            return Poll::Pending;
        }
        if self.activity.is_turn_over() {
            wake_after_others(cx);
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        let most = self.activity.most_at_once();
        self.stream.set_limit(most);
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        let octets = &buffer.filled()[before..];
        if !octets.is_empty() {
            self.activity.has_read(octets);
        }
        if self.activity.is_spent() {
            // What was read last is for nobody.
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(self.stream.get_mut()).poll_write(cx, data);
        self.activity.has_written(outcome, |octets| *octets)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(self.stream.get_mut()).poll_write_vectored(cx, data);
        self.activity.has_written(outcome, |octets| *octets)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.get_ref().is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(self.stream.get_mut()).poll_flush(cx);
        self.activity.has_written(outcome, |()| 0)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(self.stream.get_mut()).poll_shutdown(cx);
        self.activity.has_written(outcome, |()| 0)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const RST_STREAM: [u8; 13] = [0, 0, 4, 3, 0, 0, 0, 0, 1, 0, 0, 0, 8];
    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn turns_are_over_when_they_are_used_up_and_where_there_are_none_never() {
        let a_slice = || {
            let since = Instant::now();
            while since.elapsed() < SLICE {
                std::hint::spin_loop();
            }
        };
        let activity = Activity::new(&EdgeSettings::default());
        activity.begin_turn();
        activity.has_read(&[0; TURN]);
        assert!(activity.is_turn_over());
        activity.begin_turn();
        a_slice();
        assert!(activity.is_turn_over());
        activity.end_turns();
        activity.has_read(&[0; TURN]);
        a_slice();
        assert!(!activity.is_turn_over(), "a tunnel");
    }

    #[test]
    fn a_client_that_gives_up_after_a_second_is_let_be_and_one_that_does_at_once_is_not() {
        for (lasts, is_spent) in [(SECOND, false), (SECOND / 2, true)] {
            let activity = Activity::new(&EdgeSettings::default());
            activity.watch_frames();
            // The preface.
            activity.has_read(&[0; 24]);
            for _ in 0..10 {
                let mut exchanges: Vec<_> = (0..128).map(|_| activity.begin()).collect();
                exchanges.iter_mut().for_each(|exchange| exchange.since -= lasts);
                activity.has_read(&RST_STREAM.repeat(128));
                drop(exchanges);
            }
            assert_eq!(activity.is_spent(), is_spent, "{lasts:?}");
        }
    }
}
