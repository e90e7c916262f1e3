//! A WebSocket after its 101: bytes both ways until one side ends, nothing moves for too long, or
//! whoever opened it may no longer.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::Instant;

use super::connection::Visit;
use super::index::Ending;
use super::permit::{self, Freshness};
use super::route_table;
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
}

/// Carries bytes until the tunnel ends. `early` is what the visitor sent behind its request.
pub(super) async fn run<S>(visit: &Rc<Visit>, tunnel: Tunnel, mut stream: S, early: Bytes)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let Tunnel { wire, host, path } = tunnel;
    let (mut upstream, answered) = wire.into_tunnel().await;
    let opened = async {
        stream.write_all(&answered).await?;
        stream.flush().await?;
        upstream.write_all(&early).await
    };
    if opened.await.is_ok() {
        carry(visit, &host, &path, &mut stream, &mut upstream).await;
    }
    // Politely, but not for long: the visitor may be gone.
    let _ = tokio::time::timeout(ASK_AGAIN, stream.shutdown()).await;
}

async fn carry<S, U>(visit: &Rc<Visit>, host: &Hostname, path: &str, stream: &mut S, upstream: &mut U)
where
    S: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    let idle_timeout = visit.worker.shared.settings.idle_timeout;
    let signal = visit.signal().clone();
    let mut copy = pin!(tokio::io::copy_bidirectional_with_sizes(stream, upstream, BUFFER, BUFFER));
    let mut timer = pin!(tokio::time::sleep(ASK_AGAIN.min(idle_timeout)));
    let mut woken = pin!(signal.woken());
    let (mut moved, mut moved_at) = (visit.activity.moved(), Instant::now());
    loop {
        let woke = poll_fn(|cx| {
            if copy.as_mut().poll(cx).is_ready() {
                return Poll::Ready(None);
            }
            if woken.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Some(true));
            }
            timer.as_mut().poll(cx).map(|()| Some(false))
        })
        .await;
        match woke {
            None => return,
            Some(true) => woken.set(signal.woken()),
            Some(false) => timer.as_mut().reset(Instant::now() + ASK_AGAIN.min(idle_timeout)),
        }
        if signal.ending() != Ending::Not || !may_go_on(visit, host, path) {
            return;
        }
        if visit.activity.moved() != moved {
            (moved, moved_at) = (visit.activity.moved(), Instant::now());
        } else if moved_at.elapsed() >= idle_timeout {
            return;
        }
    }
}

/// Asks the same questions as a request would, of the configuration and register in force now.
fn may_go_on(visit: &Rc<Visit>, host: &Hostname, path: &str) -> bool {
    let shared = &visit.worker.shared;
    let Some(snapshot) = shared.holder.snapshot() else { return false };
    let Some(site) = snapshot.configuration.site(host.as_str()) else { return false };
    let Ok(Some(route)) = route_table::select(site, path) else { return false };
    let now = shared.clock.now();
    let freshness = match snapshot.register.is_fresh(now, shared.settings.max_stale) {
        true => Freshness::Fresh,
        false => Freshness::Stale,
    };
    let route = Arc::clone(route);
    site.handshake_class() == visit.class && permit::permit(&route, &visit.who(now), freshness).is_ok()
}
