//! The connections of one thread: no lock, and no task for a request. What was made under another certificate of the
//! edge, or by other rules, is not used again.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::uri::Scheme;
use tokio::time::{Instant, timeout, timeout_at};

use super::group::{ABSENT, Group, Lease, NoTarget, Wish};
use super::line::{Refused, dial};
use super::target::State;
use super::trunk::Trunk;
use super::trunks::Trunks;
use super::wire::{Key, Wire};
use crate::domain::upstream::Protocol;
use crate::edge::worker::Shared;
use crate::live::UpstreamIdentity;
use crate::telemetry::metrics::UpstreamFault;

/// Idle connections kept per target and thread.
const IDLE_PER_TARGET: usize = 512;
/// An idle connection is not used again after this; common servers close after 5 to 75 s.
const IDLE_FOR: Duration = Duration::from_secs(4);

/// The connections of one thread: those that wait for a request, and those that are shared.
pub(in crate::edge) struct Pool {
    shared: Arc<Shared>,
    idle: RefCell<HashMap<Key, Vec<(Instant, Wire)>>>,
    trunks: Rc<Trunks>,
    chance: Cell<u64>,
    is_closed: bool,
    was_asked: Cell<bool>,
}

/// Why there is no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::edge) enum NoWire {
    /// No target takes one.
    Unavailable,
    /// All are busy.
    Busy,
    /// Not in time.
    Late,
}

impl From<NoTarget> for NoWire {
    fn from(none: NoTarget) -> Self {
        match none {
            NoTarget::Left => Self::Unavailable,
            NoTarget::Busy => Self::Busy,
        }
    }
}

impl Pool {
    pub(in crate::edge) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            idle: RefCell::default(),
            trunks: Rc::default(),
            chance: Cell::new(1),
            is_closed: false,
            was_asked: Cell::new(false),
        }
    }

    /// A pool that gives no connection, and remembers whether one was wanted.
    pub(in crate::edge) fn closed(shared: Arc<Shared>) -> Self {
        Self { is_closed: true, ..Self::new(shared) }
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
    /// * `preamble` — what is said first, of the one visitor whom a connection of their own is for.
    /// * `end` — nobody waits any longer.
    ///
    /// # Errors
    /// As [`NoWire`] says.
    pub(in crate::edge) async fn take(
        &self,
        group: &Arc<Group>,
        wish: &mut Wish,
        (preamble, end): (Option<&[u8]>, Instant),
    ) -> Result<Wire, NoWire> {
        if self.is_closed {
            self.was_asked.set(true);
            return Err(NoWire::Unavailable);
        }
        loop {
            wish.chance = self.chance();
            let lease = match group.try_lease(wish)? {
                Some(lease) => lease,
                // Boxed as below: seldom needed, and large.
                None => {
                    Box::pin(timeout_at(end, group.lease(wish))).await.map_err(|_late| NoWire::Late)??
                }
            };
            wish.tried.add(lease.state.id);
            if preamble.is_none()
                && let Some(wire) = poll_fn(|cx| Poll::Ready(self.kept(group, &lease.state, cx))).await
            {
                return Ok(wire.carrying(lease));
            }
            match Box::pin(timeout_at(end, self.connect(group, lease, (0, preamble)))).await {
                Ok(Some(wire)) => return Ok(wire),
                // Nothing has been sent.
                Ok(None) if group.has_another(wish) => {}
                Ok(None) => return Err(NoWire::Unavailable),
                Err(_late) => return Err(NoWire::Late),
            }
        }
    }

    /// Another connection to the very target that a kept one led to.
    pub(in crate::edge) async fn replace(&self, group: &Arc<Group>, mut wire: Wire) -> Option<Wire> {
        let lease = wire.lease.take()?;
        let after = wire.leave();
        drop(wire);
        // Nothing was said on it of one visitor: such a connection is not kept.
        Box::pin(self.connect(group, lease, (after, None))).await
    }

    /// A connection that is there already.
    fn kept(&self, group: &Group, state: &State, cx: &mut Context<'_>) -> Option<Wire> {
        // Whoever connects says why there is none.
        let identity = self.identity(group).ok()?;
        let key = group.key(state, identity.as_deref());
        match group.upstream().options.protocol {
            Protocol::Http1 => self.take_idle(key, cx),
            Protocol::Http2 => Some(Wire::over(self.trunks.board(key, 0)?, key)),
        }
    }

    async fn connect(
        &self,
        group: &Arc<Group>,
        mut lease: Lease,
        (after, preamble): (u64, Option<&[u8]>),
    ) -> Option<Wire> {
        let state = lease.state.clone();
        let made = match (group.upstream().options.protocol, preamble) {
            (Protocol::Http2, None) => self.shared_with_others(group, &state, after).await,
            _ => self.alone(group, &state, preamble).await,
        };
        let refused = match made {
            Ok(wire) => return Some(wire.carrying(lease)),
            Err(refused) => refused,
        };
        if !refused.is_ours {
            lease.failed(ABSENT, self.chance());
        }
        self.shared.metrics.upstream_faults.count(UpstreamFault::Connect);
        let (name, cause) = (&group.upstream().name, refused.cause);
        tracing::warn!(upstream = %name, target = %state.target, cause, "upstream refused");
        None
    }

    /// A new connection for nobody else.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) async fn alone(
        &self,
        group: &Arc<Group>,
        state: &Arc<State>,
        preamble: Option<&[u8]>,
    ) -> Result<Wire, Refused> {
        let identity = self.identity(group)?;
        let key = group.key(state, identity.as_deref());
        let patience = self.patience(group);
        match group.upstream().options.protocol {
            Protocol::Http1 => {
                let about = (key, &*self.shared.settings.own_listeners, preamble);
                let wire = Wire::connect(group.upstream(), &state.target, identity.as_deref(), about);
                within(patience, wire).await
            }
            Protocol::Http2 => {
                let number = self.trunks.next_number();
                let trunk =
                    within(patience, lay(&self.shared, (group, state), identity, (number, preamble))).await?;
                let strand = trunk.board().ok_or_else(|| Refused::theirs("it went away at once"))?;
                Ok(Wire::over(strand, key))
            }
        }
    }

    /// A stream of a shared connection with a number above `after`: of a new one, if none has room.
    async fn shared_with_others(
        &self,
        group: &Arc<Group>,
        state: &Arc<State>,
        after: u64,
    ) -> Result<Wire, Refused> {
        let (began, patience) = (Instant::now(), self.patience(group));
        // Others may be faster to take what a new connection has room for.
        while began.elapsed() < patience {
            // Every time anew: it may be another by now.
            let identity = self.identity(group)?;
            let key = group.key(state, identity.as_deref());
            if let Some(strand) = self.trunks.board(key, after) {
                return Ok(Wire::over(strand, key));
            }
            let (group, state, shared) = (group.clone(), state.clone(), self.shared.clone());
            let number = self.trunks.next_number();
            let lay = async move { lay(&shared, (&group, &state), identity, (number, None)).await };
            self.trunks.coming(key, within(patience, lay)).stands().await?;
        }
        Err(Refused::theirs("all streams of new connections are taken at once"))
    }

    /// How long one connection may take.
    fn patience(&self, group: &Group) -> Duration {
        let own = group.upstream().options.connect_timeout_ms;
        own.map_or(self.shared.settings.connect_timeout, |ms| Duration::from_millis(ms.into()))
    }

    /// Who the edge is to this upstream, if it has to be anybody.
    ///
    /// # Errors
    /// It has to be, and is not.
    fn identity(&self, group: &Group) -> Result<Option<Arc<UpstreamIdentity>>, Refused> {
        match group.upstream().presents_certificate() {
            true => self.current().map(Some),
            false => Ok(None),
        }
    }

    /// The edge's own certificate of the newest generation, in its dates.
    fn current(&self) -> Result<Arc<UpstreamIdentity>, Refused> {
        let snapshot = self.shared.holder.snapshot();
        let identity = snapshot.and_then(|snapshot| snapshot.configuration.upstream_identity.clone());
        let missing = "the edge has no certificate of its own for upstreams yet";
        let identity = identity.ok_or_else(|| Refused::ours(missing))?;
        if self.shared.clock.now() > identity.not_after {
            return Err(Refused::ours(format!("the edge's own certificate ended {}", identity.not_after)));
        }
        Ok(identity)
    }

    /// Says which connections were not made under a certificate that is another now, or none any more.
    fn are_current(&self) -> impl Fn(&Key) -> bool {
        let current = self.current().ok().map(|identity| identity.generation);
        move |key| key.generation == 0 || Some(key.generation) == current
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
        let is_current = wire.key.generation == 0 || self.are_current()(&wire.key);
        if !wire.poolable || !wire.is_free() || !is_current {
            return;
        }
        let mut all = self.idle.borrow_mut();
        let idle = all.entry(wire.key).or_default();
        if idle.len() < IDLE_PER_TARGET {
            idle.push((Instant::now(), wire));
        }
    }

    fn take_idle(&self, key: Key, cx: &mut Context<'_>) -> Option<Wire> {
        loop {
            let (since, mut wire) = self.idle.borrow_mut().get_mut(&key)?.pop()?;
            if since.elapsed() > IDLE_FOR {
                // The youngest is too old, so all are.
                self.idle.borrow_mut().remove(&key);
                return None;
            }
            wire.poll(cx);
            if wire.is_free() {
                wire.reused = true;
                return Some(wire);
            }
        }
    }

    /// Closes what has been idle for too long, or may not be used any more. Called now and then.
    pub(in crate::edge) fn sweep(&self) {
        let is_current = self.are_current();
        self.idle.borrow_mut().retain(|key, idle| {
            idle.retain(|(since, _)| is_current(key) && since.elapsed() <= IDLE_FOR);
            !idle.is_empty()
        });
        self.trunks.sweep(is_current);
    }
}

/// A new shared connection.
async fn lay(
    shared: &Shared,
    (group, state): (&Group, &State),
    identity: Option<Arc<UpstreamIdentity>>,
    (number, preamble): (u64, Option<&[u8]>),
) -> Result<Rc<Trunk>, Refused> {
    let about = (&*shared.settings.own_listeners, preamble);
    let line = dial(group.upstream(), &state.target, identity.as_deref(), about).await?;
    let scheme = if state.target.tls_name.is_some() { Scheme::HTTPS } else { Scheme::HTTP };
    Trunk::lay(line, scheme, number).await
}

async fn within<T>(
    patience: Duration,
    making: impl Future<Output = Result<T, Refused>>,
) -> Result<T, Refused> {
    timeout(patience, making).await.unwrap_or_else(|_| Err(Refused::theirs("timeout")))
}
