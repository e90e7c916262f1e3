//! Connections to upstreams: one pool per thread, no lock, no task of its own. A [`Wire`] is driven
//! by whoever uses it, so an exchange costs no wake-up of another task; while idle it is not polled,
//! and looked at before it is used again.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, Connection, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::warn;

use super::limits::RequestBody;
use crate::domain::Slug;
use crate::live::{Target, Upstream};
use crate::telemetry::metrics::{EdgeMetrics, UpstreamFault};

/// Idle connections kept per target and thread.
const IDLE_PER_TARGET: usize = 64;
/// An idle connection is not used again after this; common servers close after 5 to 75 s.
const IDLE_FOR: Duration = Duration::from_secs(4);
/// A target that refused a connection is passed over for this long, doubled with every further
/// refusal up to [`BACK_OFF_MAX`], as long as another target is left.
const BACK_OFF: Duration = Duration::from_millis(500);
/// The longest a target is passed over.
const BACK_OFF_MAX: Duration = Duration::from_secs(10);

/// A connection to one target, between or in exchanges.
pub(super) struct Wire {
    sender: SendRequest<RequestBody>,
    connection: Connection<TokioIo<TcpStream>, RequestBody>,
    target: Target,
    done: bool,
    reused: bool,
}

/// Why an exchange did not come to an answer.
pub(super) enum Broken {
    /// Nothing of the request was sent; here it is again.
    Unsent(Box<Request<RequestBody>>),
    /// It was sent, at least in part.
    Sent(hyper::Error),
    /// No answer in time.
    Late,
}

impl Wire {
    async fn connect(target: &Target) -> std::io::Result<Self> {
        let stream = TcpStream::connect((target.host.as_str(), target.port)).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(64 * 1024)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(std::io::Error::other)?;
        Ok(Self { sender, connection, target: target.clone(), done: false, reused: false })
    }

    /// Whether the connection was used before.
    pub(super) fn reused(&self) -> bool {
        self.reused
    }

    /// Moves the connection on.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) {
        if !self.done && self.connection.poll_without_shutdown(cx).is_ready() {
            self.done = true;
        }
    }

    /// Whether another request could go out now.
    fn is_free(&self) -> bool {
        !self.done && self.sender.is_ready()
    }

    /// Sends `request` and waits for the head of the answer, until `due` says it is too late. `due`
    /// is asked again at that moment, because an upload that moves on buys time.
    pub(super) async fn exchange(
        &mut self,
        request: Request<RequestBody>,
        due: impl Fn() -> Instant,
    ) -> Result<Response<Incoming>, Broken> {
        let Self { sender, connection, done, .. } = self;
        let mut answer = pin!(sender.try_send_request(request));
        let mut timer = pin!(sleep_until(due()));
        poll_fn(|cx| {
            if !*done && connection.poll_without_shutdown(cx).is_ready() {
                *done = true;
            }
            if let Poll::Ready(answer) = answer.as_mut().poll(cx) {
                return Poll::Ready(answer.map_err(|mut broken| match broken.take_message() {
                    Some(request) => Broken::Unsent(Box::new(request)),
                    None => Broken::Sent(broken.into_error()),
                }));
            }
            while timer.as_mut().poll(cx).is_ready() {
                let due = due();
                if due <= Instant::now() {
                    return Poll::Ready(Err(Broken::Late));
                }
                timer.as_mut().reset(due);
            }
            Poll::Pending
        })
        .await
    }

    /// After a 101: the naked stream, and what was read of it already.
    pub(super) async fn into_tunnel(mut self) -> (TcpStream, Bytes) {
        poll_fn(|cx| {
            self.poll(cx);
            if self.done { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        let parts = self.connection.into_parts();
        (parts.io.into_inner(), parts.read_buf)
    }
}

/// The idle connections of one thread, and what it knows of the targets' health.
pub(super) struct Pool {
    targets: RefCell<HashMap<Target, State>>,
    turns: RefCell<HashMap<Slug, Cell<usize>>>,
    metrics: Arc<EdgeMetrics>,
    connect_timeout: Duration,
    is_closed: bool,
    was_asked: Cell<bool>,
}

#[derive(Default)]
struct State {
    idle: Vec<(Instant, Wire)>,
    refusals: u32,
    away_until: Option<Instant>,
}

impl Pool {
    pub(super) fn new(metrics: Arc<EdgeMetrics>, connect_timeout: Duration) -> Self {
        Self {
            targets: RefCell::default(),
            turns: RefCell::default(),
            metrics,
            connect_timeout,
            is_closed: false,
            was_asked: Cell::new(false),
        }
    }

    /// A pool that gives no connection, and remembers whether one was wanted.
    pub(super) fn closed(metrics: Arc<EdgeMetrics>) -> Self {
        Self { is_closed: true, ..Self::new(metrics, Duration::ZERO) }
    }

    /// Whether a closed pool was asked for a connection.
    pub(super) fn was_asked(&self) -> bool {
        self.was_asked.get()
    }

    /// A connection to one of the upstream's targets in turn, those in back-off last; a fresh one
    /// if `fresh`. `None` when no target takes one.
    pub(super) async fn take(&self, upstream: &Upstream, fresh: bool) -> Option<Wire> {
        if self.is_closed {
            self.was_asked.set(true);
            return None;
        }
        for target in self.order(upstream) {
            if !fresh && let Some(wire) = self.take_idle(target).await {
                return Some(wire);
            }
            match timeout(self.connect_timeout, Wire::connect(target)).await {
                Ok(Ok(wire)) => {
                    self.note(target, true);
                    return Some(wire);
                }
                Ok(Err(error)) => self.refused(upstream, target, &error.to_string()),
                Err(_) => self.refused(upstream, target, "timeout"),
            }
        }
        None
    }

    /// Takes a connection back, if it can be used again.
    pub(super) async fn give_back(&self, mut wire: Wire) {
        poll_fn(|cx| {
            wire.poll(cx);
            Poll::Ready(())
        })
        .await;
        self.keep(wire);
    }

    /// As [`Self::give_back`], from within a poll.
    pub(super) fn give_back_now(&self, mut wire: Wire, cx: &mut Context<'_>) {
        wire.poll(cx);
        self.keep(wire);
    }

    fn keep(&self, wire: Wire) {
        if !wire.is_free() {
            return;
        }
        let mut targets = self.targets.borrow_mut();
        let Some(state) = targets.get_mut(&wire.target) else { return };
        if state.idle.len() < IDLE_PER_TARGET {
            state.idle.push((Instant::now(), wire));
        }
    }

    async fn take_idle(&self, target: &Target) -> Option<Wire> {
        loop {
            let (since, mut wire) = self.targets.borrow_mut().get_mut(target)?.idle.pop()?;
            if since.elapsed() > IDLE_FOR {
                // The youngest is too old, so all are.
                if let Some(state) = self.targets.borrow_mut().get_mut(target) {
                    state.idle.clear();
                }
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
    pub(super) fn sweep(&self) {
        for state in self.targets.borrow_mut().values_mut() {
            state.idle.retain(|(since, _)| since.elapsed() <= IDLE_FOR);
        }
    }

    /// The targets in the order in which they are tried.
    fn order<'a>(&self, upstream: &'a Upstream) -> impl Iterator<Item = &'a Target> + use<'a> {
        let count = upstream.targets.len();
        let start = if count == 1 { 0 } else { self.turn(&upstream.name) % count };
        let in_turn = (0..count).map(move |at| &upstream.targets[(start + at) % count]);
        let targets = self.targets.borrow();
        let now = Instant::now();
        let is_away =
            |target: &&Target| targets.get(*target).and_then(|s| s.away_until).is_some_and(|at| at > now);
        let (away, present): (Vec<_>, Vec<_>) = in_turn.partition(is_away);
        present.into_iter().chain(away)
    }

    fn turn(&self, name: &Slug) -> usize {
        let mut turns = self.turns.borrow_mut();
        let turn = turns.entry(name.clone()).or_default();
        turn.replace(turn.get().wrapping_add(1))
    }

    fn note(&self, target: &Target, connected: bool) {
        let mut targets = self.targets.borrow_mut();
        let state = targets.entry(target.clone()).or_default();
        if connected {
            state.refusals = 0;
            state.away_until = None;
        } else {
            let pause = BACK_OFF.saturating_mul(1 << state.refusals.min(5)).min(BACK_OFF_MAX);
            state.refusals += 1;
            state.away_until = Some(Instant::now() + pause);
        }
    }

    fn refused(&self, upstream: &Upstream, target: &Target, cause: &str) {
        self.note(target, false);
        self.metrics.upstream_faults.count(UpstreamFault::Connect);
        warn!(upstream = %upstream.name, host = target.host, port = target.port, cause, "upstream refused");
    }
}
