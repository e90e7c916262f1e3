//! Whose turn it is on a thread. Its tasks run one after the other, and sockets are looked at in between only once
//! none is left to run, or many have: whoever has a lot to do says so here, and everybody else comes first, those
//! whose octets nobody has seen yet included.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::task::{spawn_local, yield_now};

/// Wakes the task that is being polled after all others that are ready, and those whose sockets are.
pub(super) fn wake_after_others(cx: &mut Context<'_>) {
    // The runtime keeps the waker until it has looked at its sockets. It is for one poll, and this was that.
    let _ = pin!(yield_now()).poll(cx);
}

/// Turns of work that takes long, of which a thread does one between two looks at its sockets.
#[derive(Clone, Debug, Default)]
pub(super) struct Turns(Rc<Cell<bool>>);

impl Turns {
    /// `work`, moved on by one step in each of its turns.
    pub(super) async fn one_by_one<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        poll_fn(|cx| match self.take(cx) {
            true => work.as_mut().poll(cx),
            false => Poll::Pending,
        })
        .await
    }

    /// Whether it is the caller's turn, who is woken for the next one otherwise.
    fn take(&self, cx: &mut Context<'_>) -> bool {
        if self.0.replace(true) {
            wake_after_others(cx);
            return false;
        }
        let taken = self.0.clone();
        spawn_local(async move {
            yield_now().await;
            taken.set(false);
        });
        true
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::task::LocalSet;

    use super::*;

    /// Work of so many steps, each of which is noted.
    async fn steps(count: usize, seen: &RefCell<Vec<char>>) {
        for _ in 0..count {
            seen.borrow_mut().push('w');
            let mut was_here = false;
            poll_fn(|cx| {
                cx.waker().wake_by_ref();
                if std::mem::replace(&mut was_here, true) { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
        }
    }

    /// Steps of eight who work before a socket is heard that has something to say from the beginning.
    async fn steps_before_heard(are_in_turns: bool) -> usize {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut ours = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut theirs, _) = listener.accept().await.unwrap();
        let (seen, turns) = (Rc::new(RefCell::new(Vec::new())), Turns::default());
        let local = LocalSet::new();
        for _ in 0..8 {
            let (seen, turns) = (seen.clone(), turns.clone());
            local.spawn_local(async move {
                match are_in_turns {
                    true => turns.one_by_one(steps(50, &seen)).await,
                    false => steps(50, &seen).await,
                }
            });
        }
        let heard = seen.clone();
        local.spawn_local(async move {
            ours.write_all(b"x").await.unwrap();
            theirs.read_u8().await.unwrap();
            heard.borrow_mut().push('r');
        });
        local.await;
        let seen = seen.borrow();
        assert_eq!(seen.iter().filter(|what| **what == 'w').count(), 400);
        seen.iter().position(|what| *what == 'r').unwrap()
    }

    #[tokio::test]
    async fn a_socket_is_heard_between_two_steps_of_those_who_work() {
        let (in_turns, at_once) = (steps_before_heard(true).await, steps_before_heard(false).await);
        assert!(in_turns <= 2 && at_once >= 8, "{in_turns} steps, and {at_once} of those who take no turns");
    }
}
