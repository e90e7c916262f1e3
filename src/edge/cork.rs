//! What is written to a visitor over HTTP/2, put together: hyper has each piece of each answer written and flushed by
//! itself, with a system call of its own. What one move of the connection writes, and what other streams have ready
//! before its next one, goes out at once. It waits as TLS records, where TLS keeps what a socket does not take, so
//! nothing is copied.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::io::Activity;

/// A stream that can keep for itself what is written, up to a bound of its own.
pub(super) trait Holds {
    /// While it is on, nothing goes out, and writes wait where there is no more room.
    fn hold(&mut self, is_on: bool);
}

/// A stream that holds back what is written until the next move of its connection.
#[derive(Debug)]
pub(super) struct Cork<S> {
    stream: S,
    activity: Rc<Activity>,
    /// Something was written and has not been flushed.
    holds: bool,
    /// The move in which it should have been.
    since: Option<u64>,
}

impl<S> Cork<S> {
    pub(super) fn new(stream: S, activity: Rc<Activity>) -> Self {
        Self { stream, activity, holds: false, since: None }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Cork<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Holds + Unpin> AsyncWrite for Cork<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(data)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.activity.may_hold().is_some() {
            self.stream.hold(true);
            let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, data);
            self.stream.hold(false);
            if polled.is_ready() {
                self.holds = true;
                return polled;
            }
        }
        // There is no more room: all of it goes out, as far as it is taken.
        Pin::new(&mut self.stream).poll_write_vectored(cx, data)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(now) = self.activity.may_hold().filter(|_| self.holds) {
            let since = *self.since.get_or_insert_with(|| {
                cx.waker().wake_by_ref();
                now
            });
            if since == now {
                return Poll::Ready(Ok(()));
            }
        }
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.holds = false;
        self.since = None;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Whatever is held goes before the end.
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::VecDeque;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Wake, Waker};

    use proptest::prelude::*;

    use super::*;
    use crate::edge::settings::EdgeSettings;

    /// Octets that a line keeps.
    const ROOM: usize = 100;

    /// Takes so many octets at a time, and none where that is 0; without end afterwards.
    #[derive(Debug, Default)]
    struct Peer {
        takes: VecDeque<usize>,
        writes: Vec<Vec<u8>>,
    }

    /// Keeps octets as TLS does: tries to be rid of them with each write.
    #[derive(Clone, Debug, Default)]
    struct Line {
        peer: Rc<RefCell<Peer>>,
        kept: Vec<u8>,
        is_held: bool,
    }

    impl Line {
        fn poll_drain(&mut self) -> Poll<()> {
            while !self.kept.is_empty() {
                let mut peer = self.peer.borrow_mut();
                match (self.is_held, if self.is_held { None } else { peer.takes.pop_front() }) {
                    (true, _) | (_, Some(0)) => return Poll::Pending,
                    (false, most) => {
                        let most = self.kept.len().min(most.unwrap_or(usize::MAX));
                        peer.writes.push(self.kept.drain(..most).collect());
                    }
                }
            }
            Poll::Ready(())
        }
    }

    impl Holds for Line {
        fn hold(&mut self, is_on: bool) {
            self.is_held = is_on;
        }
    }

    impl AsyncWrite for Line {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
            let mut taken = 0;
            loop {
                let more = (data.len() - taken).min(ROOM - self.kept.len());
                self.kept.extend_from_slice(&data[taken..taken + more]);
                taken += more;
                match (self.poll_drain(), taken) {
                    (Poll::Pending, 0) => return Poll::Pending,
                    (Poll::Ready(()), _) if taken < data.len() => {}
                    _ => return Poll::Ready(Ok(taken)),
                }
            }
        }

        fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.poll_drain().map(Ok)
        }

        fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.poll_flush(cx)
        }
    }

    fn corked() -> (Rc<RefCell<Peer>>, Rc<Activity>, Cork<Line>) {
        let (line, activity) = (Line::default(), Activity::new(&EdgeSettings::default()));
        (line.peer.clone(), activity.clone(), Cork::new(line, activity))
    }

    /// Counts how often it was used.
    #[derive(Default)]
    struct Counting(AtomicUsize);

    impl Wake for Counting {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn write(cork: &mut Cork<Line>, data: &[u8]) -> Option<usize> {
        match Pin::new(cork).poll_write(&mut Context::from_waker(Waker::noop()), data) {
            Poll::Ready(outcome) => Some(outcome.unwrap()),
            Poll::Pending => None,
        }
    }

    fn flush(cork: &mut Cork<Line>) -> bool {
        Pin::new(cork).poll_flush(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn the_pieces_of_one_move_go_out_at_once_with_the_next() {
        let (peer, activity, mut cork) = corked();
        activity.begin_move();
        for piece in [b"one", b"two"] {
            assert_eq!(write(&mut cork, piece), Some(3));
            assert!(flush(&mut cork));
        }
        assert!(peer.borrow().writes.is_empty());
        activity.begin_move();
        assert_eq!(write(&mut cork, b"three"), Some(5));
        assert!(flush(&mut cork));
        assert_eq!(peer.borrow().writes, [b"onetwothree"]);
    }

    #[test]
    fn what_is_held_wakes_its_owner_once() {
        let (peer, activity, mut cork) = corked();
        let woken = Arc::<Counting>::default();
        let waker = Waker::from(woken.clone());
        let cx = &mut Context::from_waker(&waker);
        activity.begin_move();
        for _ in 0..2 {
            assert_eq!(write(&mut cork, b"x"), Some(1));
            assert!(Pin::new(&mut cork).poll_flush(cx).is_ready());
        }
        assert_eq!((woken.0.load(Ordering::Relaxed), peer.borrow().writes.len()), (1, 0));
        activity.begin_move();
        assert!(Pin::new(&mut cork).poll_flush(cx).is_ready());
        assert_eq!((woken.0.load(Ordering::Relaxed), peer.borrow().writes.len()), (1, 1));
    }

    #[test]
    fn what_has_no_room_goes_out_and_a_last_word_waits_for_nothing() {
        let (peer, activity, mut cork) = corked();
        activity.begin_move();
        assert_eq!(write(&mut cork, &[7; ROOM]), Some(ROOM));
        peer.borrow_mut().takes = VecDeque::from([10, 0]);
        assert_eq!(write(&mut cork, b"x"), None, "ten have gone");
        assert_eq!(write(&mut cork, b"x"), Some(1));
        activity.hold_nothing();
        assert!(flush(&mut cork));
        assert_eq!(peer.borrow().writes.concat().len(), ROOM + 1);
        assert_eq!(write(&mut cork, b"y"), Some(1));
        assert_eq!(peer.borrow().writes.concat().len(), ROOM + 2);
    }

    #[test]
    fn what_is_held_goes_before_the_end() {
        let (peer, activity, mut cork) = corked();
        activity.begin_move();
        assert_eq!(write(&mut cork, b"last"), Some(4));
        assert!(flush(&mut cork));
        let shut = Pin::new(&mut cork).poll_shutdown(&mut Context::from_waker(Waker::noop()));
        assert!(shut.is_ready());
        assert_eq!(peer.borrow().writes, [b"last"]);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Move,
        Write(usize),
        Flush,
        Takes(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            Just(Step::Move),
            Just(Step::Flush),
            (1..3 * ROOM).prop_map(Step::Write),
            prop_oneof![Just(0), 1..ROOM].prop_map(Step::Takes),
        ]
    }

    proptest! {
        #[test]
        fn what_goes_out_is_what_was_written(steps in prop::collection::vec(step(), 1..40)) {
            let (peer, activity, mut cork) = corked();
            let (mut written, mut next) = (Vec::new(), 0_u8);
            for step in steps {
                match step {
                    Step::Move => activity.begin_move(),
                    Step::Flush => drop(flush(&mut cork)),
                    Step::Takes(most) => peer.borrow_mut().takes.push_back(most),
                    Step::Write(count) => {
                        let data: Vec<u8> = (0..count).map(|_| { next = next.wrapping_add(1); next }).collect();
                        written.extend_from_slice(&data[..write(&mut cork, &data).unwrap_or(0)]);
                    }
                }
                prop_assert!(written.starts_with(&peer.borrow().writes.concat()));
            }
            peer.borrow_mut().takes.clear();
            // Once to be held, if at all.
            for _ in 0..2 {
                activity.begin_move();
                prop_assert!(flush(&mut cork));
            }
            prop_assert_eq!(peer.borrow().writes.concat(), written);
        }
    }
}
