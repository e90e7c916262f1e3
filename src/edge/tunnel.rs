//! A WebSocket once its app has agreed: bytes both ways until both sides have ended, nothing moves for too long, or
//! whoever opened it may no longer. HTTP/1.1 gives it the visitor's connection, HTTP/2 one stream of that, and ends
//! with it nothing else.

mod side;

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::Instant;

use self::side::Side;
use super::access_log::Entry;
use super::index::{Ending, Signal};
use super::request::Exchange;
use super::stream::Delivery;
use super::upstream::Wire;

/// How often an open tunnel asks the policy again; revocations do not wait for it.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// One copy buffer, each way.
const BUFFER: usize = 8 * 1024;

/// A tunnel about to open: the upstream's side, and what becomes the visitor's.
pub(super) struct Tunnel {
    wire: Wire,
    /// A stream of HTTP/2, else the connection.
    upgrade: Option<OnUpgrade>,
}

/// A tunnel whose answer goes out, and the request that it was.
pub(super) struct Opened {
    wire: Wire,
    entry: Entry,
    exchange: Exchange,
}

impl Tunnel {
    pub(super) fn new(wire: Wire, upgrade: Option<OnUpgrade>) -> Self {
        Self { wire, upgrade }
    }

    /// Begins when the answer has gone out. The request is counted now, and logged when the tunnel ends.
    pub(super) fn open(self, entry: Entry, exchange: Exchange) {
        exchange.answered(entry.status, entry.started);
        exchange.set_tunnel();
        let visit = exchange.visit().clone();
        let opened = Opened { wire: self.wire, entry, exchange };
        match self.upgrade {
            Some(upgrade) => {
                visit.worker.shared.tasks.clone().spawn_local(async move {
                    // Boxed: `take` moves it.
                    visit.worker.turns.take(&visit.account, Box::pin(over_stream(opened, upgrade))).await;
                });
            }
            None => visit.open_tunnel(opened),
        }
    }
}

/// Runs a tunnel over what was an HTTP/1.1 connection. `early` is what the visitor sent behind its request.
pub(super) async fn over_connection<S>(tunnel: Opened, stream: S, early: &[u8])
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let visit = tunnel.exchange.visit().clone();
    let mut stream = Side::new(stream, &visit.activity, None);
    tunnel.carry(Owner::Connection(visit.signal()), &mut stream, early).await;
    // Politely, but not for long: the visitor may be gone.
    let _ = tokio::time::timeout(ASK_AGAIN, stream.shutdown()).await;
}

/// Runs a tunnel over a stream of HTTP/2. What the two sides have not ended by themselves is reset.
async fn over_stream(tunnel: Opened, upgrade: OnUpgrade) {
    let visit = tunnel.exchange.visit().clone();
    let Some(own) = tunnel.exchange.delivery().cloned() else { return };
    // Fails if the stream has ended before its answer went out.
    let Ok(stream) = upgrade.await else { return };
    let mut stream = Side::new(TokioIo::new(stream), &visit.activity, Some(own.clone()));
    let owner = Owner::Stream { connection: visit.signal(), own: &own };
    if !tunnel.carry(owner, &mut stream, &[]).await {
        own.end();
    }
}

impl Opened {
    /// Carries bytes until the tunnel ends: whether both sides have said all that they had to.
    async fn carry<S>(self, owner: Owner<'_>, stream: &mut Side<S>, early: &[u8]) -> bool
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let Self { wire, mut entry, exchange } = self;
        let visit = exchange.visit();
        let settings = &visit.worker.shared.settings;
        let octets = stream.octets();
        let watch = Watch {
            owner,
            idle_timeout: settings.idle_timeout,
            moved: &|| octets.moved(),
            // The identity, too: on a public route nobody asks for it, and its connection ends all the same.
            may_go_on: &|| !visit.has_lost_identity() && exchange.is_permitted(),
        };
        let opening = async {
            let gone = || io::Error::from(io::ErrorKind::NotConnected);
            let (mut upstream, answered, lease) = wire.into_tunnel().await.ok_or_else(gone)?;
            pour(&mut *stream, &answered, &mut upstream, early).await?;
            Ok::<_, io::Error>((upstream, lease))
        };
        let opened = watch.over(tokio::time::timeout(settings.body_timeout, opening)).await;
        // Under way at its target until it ends.
        let is_whole = match opened {
            Some(Ok(Ok((mut upstream, _lease)))) => {
                let copy = tokio::io::copy_bidirectional_with_sizes(stream, &mut upstream, BUFFER, BUFFER);
                matches!(watch.over(copy).await, Some(Ok(_)))
            }
            _ => false,
        };
        entry.bytes = octets.to_visitor();
        entry.whole = is_whole;
        if is_whole {
            exchange.went_through();
        }
        is_whole
    }
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

/// Who may end a tunnel from outside, and wakes it then.
enum Owner<'a> {
    /// All that there is of the connection.
    Connection(&'a Signal),
    /// A stream, while others wait for the signal of its connection.
    Stream { connection: &'a Signal, own: &'a Delivery },
}

impl Owner<'_> {
    fn has_ended_it(&self) -> bool {
        match self {
            Self::Connection(signal) => signal.ending() > Ending::Leave,
            Self::Stream { connection, own } => own.is_over() || connection.ending() > Ending::Leave,
        }
    }

    async fn woken(&self) {
        match self {
            Self::Connection(signal) => signal.woken().await,
            Self::Stream { own, .. } => poll_fn(|cx| own.poll_over(cx)).await,
        }
    }
}

/// What ends a tunnel, from its opening on.
struct Watch<'a> {
    owner: Owner<'a>,
    idle_timeout: Duration,
    /// Octets the visitor sent and took.
    moved: &'a dyn Fn() -> u64,
    may_go_on: &'a dyn Fn() -> bool,
}

impl Watch<'_> {
    /// `work`, unless it has to end before it is done.
    async fn over<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let ask_again = ASK_AGAIN.min(self.idle_timeout);
        let mut work = pin!(work);
        let mut timer = pin!(tokio::time::sleep(ask_again));
        let mut woken = pin!(self.owner.woken());
        let (mut moved, mut moved_at) = ((self.moved)(), Instant::now());
        loop {
            // A signal from before we listened is not repeated.
            if self.owner.has_ended_it() || !(self.may_go_on)() {
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
                Woke::Signal => woken.set(self.owner.woken()),
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
        let owner = Owner::Connection(&signal);
        let watch = Watch { owner, idle_timeout: hour, moved: &|| 0, may_go_on: &|| permitted.get() };
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
        let owner = Owner::Connection(&signal);
        assert!(ends(&Watch { owner, idle_timeout, moved: &|| 0, may_go_on: &|| true }).await);
    }

    #[tokio::test]
    async fn a_stream_ends_alone_or_with_its_connection() {
        let hour = Duration::from_secs(3600);
        let (connection, own) = (Signal::default(), Delivery::default());
        let owner = Owner::Stream { connection: &connection, own: &own };
        let watch = Watch { owner, idle_timeout: hour, moved: &|| 0, may_go_on: &|| true };
        let (ended, ()) = tokio::join!(ends(&watch), async { own.end() });
        assert!(ended, "while it opened");
        assert!(ends(&watch).await, "before");
        let own = Delivery::default();
        connection.end(Ending::Drain);
        let owner = Owner::Stream { connection: &connection, own: &own };
        let watch = Watch { owner, idle_timeout: hour, moved: &|| 0, may_go_on: &|| true };
        assert!(ends(&watch).await, "with its connection");
    }
}
