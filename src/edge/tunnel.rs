//! A WebSocket after its 101: bytes both ways until one side ends, nothing moves for too long, or
//! whoever opened it may no longer.

use std::future::{Future, poll_fn};
use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::Instant;

use super::connection::Visit;
use super::facts::Wanted;
use super::index::{Ending, Signal};
use super::ongoing;
use super::upstream::Wire;
use crate::domain::Hostname;

/// How often an open tunnel asks the policy again; revocations do not wait for it.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// One copy buffer, each way.
const BUFFER: usize = 8 * 1024;

/// A tunnel about to open: the upstream's side, and what was permitted.
pub(super) struct Tunnel {
    pub(super) wire: Wire,
    pub(super) host: Hostname,
    pub(super) path: String,
    /// From where it was asked for.
    pub(super) source: IpAddr,
}

/// What ends a tunnel, from its opening on.
struct Watch<'a> {
    signal: &'a Signal,
    idle_timeout: Duration,
    /// Octets the visitor sent and took.
    moved: &'a dyn Fn() -> u64,
    may_go_on: &'a dyn Fn() -> bool,
}

/// Carries bytes until the tunnel ends. `early` is what the visitor sent behind its request.
pub(super) async fn run<S>(visit: &Rc<Visit>, tunnel: Tunnel, mut stream: S, early: Bytes)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let Tunnel { wire, host, path, source } = tunnel;
    let wanted = Wanted { method: &Method::GET, path: &path, source };
    let settings = &visit.worker.shared.settings;
    let watch = Watch {
        signal: visit.signal(),
        idle_timeout: settings.idle_timeout,
        moved: &|| visit.activity.moved(),
        // The identity, too: on a public route nobody asks for it, and its connection ends all the same.
        may_go_on: &|| !visit.has_lost_identity() && ongoing::ask(visit, &host, wanted).is_ok(),
    };
    let opening = async {
        let gone = || io::Error::from(io::ErrorKind::NotConnected);
        let (mut upstream, answered, lease) = wire.into_tunnel().await.ok_or_else(gone)?;
        pour(&mut stream, &answered, &mut upstream, &early).await?;
        Ok::<_, io::Error>((upstream, lease))
    };
    let opened = watch.over(tokio::time::timeout(settings.body_timeout, opening)).await;
    // Under way at its target until it ends.
    if let Some(Ok(Ok((mut upstream, _lease)))) = opened {
        let copy = tokio::io::copy_bidirectional_with_sizes(&mut stream, &mut upstream, BUFFER, BUFFER);
        watch.over(copy).await;
    }
    // Politely, but not for long: the visitor may be gone.
    let _ = tokio::time::timeout(ASK_AGAIN, stream.shutdown()).await;
}

/// What each side said before the tunnel stood, to the other side.
async fn pour<S, U>(stream: &mut S, answered: &[u8], upstream: &mut U, early: &[u8]) -> io::Result<()>
where
    S: AsyncWrite + Unpin,
    U: AsyncWrite + Unpin,
{
    stream.write_all(answered).await?;
    stream.flush().await?;
    upstream.write_all(early).await?;
    // TLS may keep it until then.
    upstream.flush().await
}

impl Watch<'_> {
    /// `work`, unless it has to end before it is done.
    async fn over<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let ask_again = ASK_AGAIN.min(self.idle_timeout);
        let mut work = pin!(work);
        let mut timer = pin!(tokio::time::sleep(ask_again));
        let mut woken = pin!(self.signal.woken());
        let (mut moved, mut moved_at) = ((self.moved)(), Instant::now());
        loop {
            // A signal from before we listened is not repeated.
            if self.signal.ending() > Ending::Leave || !(self.may_go_on)() {
                return None;
            }
            if (self.moved)() != moved {
                (moved, moved_at) = ((self.moved)(), Instant::now());
            } else if moved_at.elapsed() >= self.idle_timeout {
                return None;
            }
            let woke = poll_fn(|cx| {
                if let Poll::Ready(done) = work.as_mut().poll(cx) {
                    return Poll::Ready(Woke::Done(done));
                }
                if woken.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Woke::Signal);
                }
                timer.as_mut().poll(cx).map(|()| Woke::Timer)
            })
            .await;
            match woke {
                Woke::Done(done) => return Some(done),
                Woke::Signal => woken.set(self.signal.woken()),
                Woke::Timer => timer.as_mut().reset(Instant::now() + ask_again),
            }
        }
    }
}

enum Woke<T> {
    Done(T),
    Signal,
    Timer,
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(3);

    /// Opens towards a visitor who takes nothing, until `watch` ends it.
    async fn ends(watch: &Watch<'_>) -> bool {
        let (mut stream, _visitor) = tokio::io::duplex(1);
        let (mut upstream, _backend) = tokio::io::duplex(1);
        let opening = pour(&mut stream, b"stuck", &mut upstream, b"");
        tokio::time::timeout(PATIENCE, watch.over(opening)).await.is_ok_and(|opened| opened.is_none())
    }

    #[tokio::test]
    async fn an_opening_that_is_stuck_ends_with_the_permission_and_the_connection() {
        let signal = Signal::default();
        let (hour, permitted) = (Duration::from_secs(3600), Cell::new(true));
        let watch =
            Watch { signal: &signal, idle_timeout: hour, moved: &|| 0, may_go_on: &|| permitted.get() };
        let (ended, ()) = tokio::join!(ends(&watch), async {
            permitted.set(false);
            signal.wake();
        });
        assert!(ended, "revoked while it opened");
        assert!(ends(&watch).await, "revoked before");
        permitted.set(true);
        let (ended, ()) = tokio::join!(ends(&watch), async { signal.end(Ending::Cut) });
        assert!(ended, "cut");
    }

    #[tokio::test]
    async fn an_opening_that_is_stuck_ends_when_nothing_moves() {
        let signal = Signal::default();
        let idle_timeout = Duration::from_millis(100);
        assert!(ends(&Watch { signal: &signal, idle_timeout, moved: &|| 0, may_go_on: &|| true }).await);
    }
}
