//! The idle connections of one thread: no lock, no task.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::io::Errno;
use tokio::time::{Instant, timeout};

use super::group::{ABSENT, Group, Lease, NoTarget, Wish};
use super::wire::Wire;
use crate::telemetry::metrics::{EdgeMetrics, UpstreamFault};

/// Idle connections kept per target and thread.
const IDLE_PER_TARGET: usize = 512;
/// An idle connection is not used again after this; common servers close after 5 to 75 s.
const IDLE_FOR: Duration = Duration::from_secs(4);

/// The connections of one thread that wait for a request.
pub(in crate::edge) struct Pool {
    idle: RefCell<HashMap<u64, Vec<(Instant, Wire)>>>,
    chance: Cell<u64>,
    metrics: Arc<EdgeMetrics>,
    connect_timeout: Duration,
    is_closed: bool,
    was_asked: Cell<bool>,
}

/// Whether it was for want of something of this host's, and so says nothing of the target.
pub(super) fn is_ours(error: &std::io::Error) -> bool {
    let is_lacking = [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::NOBUFS];
    error.kind() == std::io::ErrorKind::AddrNotAvailable
        || error.raw_os_error().is_some_and(|code| is_lacking.iter().any(|lack| lack.raw_os_error() == code))
}

/// Why there is no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::edge) enum NoWire {
    /// No target takes one.
    Unavailable,
    /// All are busy.
    Busy,
}

impl Pool {
    pub(in crate::edge) fn new(metrics: Arc<EdgeMetrics>, connect_timeout: Duration) -> Self {
        Self {
            idle: RefCell::default(),
            chance: Cell::new(1),
            metrics,
            connect_timeout,
            is_closed: false,
            was_asked: Cell::new(false),
        }
    }

    /// A pool that gives no connection, and remembers whether one was wanted.
    pub(in crate::edge) fn closed(metrics: Arc<EdgeMetrics>) -> Self {
        Self { is_closed: true, ..Self::new(metrics, Duration::ZERO) }
    }

    /// Whether a closed pool was asked for a connection.
    pub(in crate::edge) fn was_asked(&self) -> bool {
        self.was_asked.get()
    }

    /// Any number, another one each time. Good enough to choose targets with, and for nothing else.
    pub(in crate::edge) fn chance(&self) -> u64 {
        let mut number = self.chance.get();
        number ^= number << 13;
        number ^= number >> 7;
        number ^= number << 17;
        self.chance.set(number);
        number >> 8
    }

    /// A connection to one of the targets, for one request. Targets that do not take one are passed over.
    /// `wish.tried` says afterwards which were asked.
    ///
    /// * `preamble` — what is said first, of the one visitor whom the connection is for: a fresh one, and nobody
    ///   else's afterwards.
    ///
    /// # Errors
    /// As [`NoWire`] says.
    pub(in crate::edge) async fn take(
        &self,
        group: &Arc<Group>,
        wish: &mut Wish,
        preamble: Option<&[u8]>,
    ) -> Result<Wire, NoWire> {
        if self.is_closed {
            self.was_asked.set(true);
            return Err(NoWire::Unavailable);
        }
        loop {
            wish.chance = self.chance();
            let lease = group.lease(wish).await.map_err(|none| match none {
                NoTarget::Left => NoWire::Unavailable,
                NoTarget::Busy => NoWire::Busy,
            })?;
            wish.tried.add(lease.state.id);
            if preamble.is_none()
                && let Some(wire) = self.take_idle(lease.state.id).await
            {
                return Ok(wire.carrying(lease));
            }
            // Boxed: seldom needed, and large.
            match Box::pin(self.connect(group, lease, preamble)).await {
                Some(wire) => return Ok(wire),
                // Nothing has been sent.
                None if group.has_another(wish) => {}
                None => return Err(NoWire::Unavailable),
            }
        }
    }

    /// A fresh connection to the very target that a kept one led to.
    pub(in crate::edge) async fn replace(&self, group: &Arc<Group>, mut wire: Wire) -> Option<Wire> {
        let lease = wire.lease.take()?;
        // Only what is poolable was kept.
        Box::pin(self.connect(group, lease, None)).await
    }

    async fn connect(&self, group: &Group, mut lease: Lease, preamble: Option<&[u8]>) -> Option<Wire> {
        let patience = group.upstream().options.connect_timeout_ms;
        let patience = patience.map_or(self.connect_timeout, |ms| Duration::from_millis(ms.into()));
        let state = lease.state.clone();
        let cause = match timeout(patience, Wire::connect(&state.target, state.id, preamble)).await {
            Ok(Ok(wire)) => return Some(wire.carrying(lease)),
            Ok(Err(error)) => {
                if !is_ours(&error) {
                    lease.failed(ABSENT, self.chance());
                }
                error.to_string()
            }
            Err(_) => {
                lease.failed(ABSENT, self.chance());
                "timeout".to_owned()
            }
        };
        self.metrics.upstream_faults.count(UpstreamFault::Connect);
        let name = &group.upstream().name;
        tracing::warn!(upstream = %name, target = %state.target, cause, "upstream refused");
        None
    }

    /// Takes a connection back, if it can be used again.
    pub(in crate::edge) async fn give_back(&self, mut wire: Wire) {
        poll_fn(|cx| {
            wire.poll(cx);
            Poll::Ready(())
        })
        .await;
        self.keep(wire);
    }

    /// As [`Self::give_back`], from within a poll.
    pub(in crate::edge) fn give_back_now(&self, mut wire: Wire, cx: &mut Context<'_>) {
        wire.poll(cx);
        self.keep(wire);
    }

    fn keep(&self, mut wire: Wire) {
        wire.lease = None;
        if !wire.poolable || !wire.is_free() {
            return;
        }
        let mut all = self.idle.borrow_mut();
        let idle = all.entry(wire.target).or_default();
        if idle.len() < IDLE_PER_TARGET {
            idle.push((Instant::now(), wire));
        }
    }

    async fn take_idle(&self, target: u64) -> Option<Wire> {
        loop {
            let (since, mut wire) = self.idle.borrow_mut().get_mut(&target)?.pop()?;
            if since.elapsed() > IDLE_FOR {
                // The youngest is too old, so all are.
                self.idle.borrow_mut().remove(&target);
                return None;
            }
            poll_fn(|cx| {
                wire.poll(cx);
                Poll::Ready(())
            })
            .await;
            if wire.is_free() {
                wire.reused = true;
                return Some(wire);
            }
        }
    }

    /// Closes what has been idle for too long. Called now and then.
    pub(in crate::edge) fn sweep(&self) {
        let mut all = self.idle.borrow_mut();
        all.values_mut().for_each(|idle| idle.retain(|(since, _)| since.elapsed() <= IDLE_FOR));
        all.retain(|_, idle| !idle.is_empty());
    }
}
