//! What carries a request to a target: a connection of its own over HTTP/1.1, a stream of a shared one over HTTP/2.
//!
//! An HTTP/1.1 connection is driven by whoever uses it, so an exchange costs no wake-up of another task; while idle
//! it is not polled, and looked at before it is used again.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{AUTHORIZATION, HeaderMap, HeaderName, WWW_AUTHENTICATE};
use http::{Request, Response};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1::{self, Connection, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, Sleep, sleep_until};

use super::group::Lease;
use super::line::{Line, Refused, dial};
use super::trunk::{self, Strand};
use crate::edge::limits::RequestBody;
use crate::live::{Target, Upstream, UpstreamIdentity};
use crate::telemetry::metrics::UpstreamFault;

/// What has to be moved on. Large, and a wire changes hands often.
type Driven = Connection<TokioIo<Line>, RequestBody>;

/// Which connections are alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    /// The target's, never another's.
    pub(super) target: u64,
    /// What is spoken, and whom the edge takes for the target.
    pub(super) manner: u64,
    /// That of the edge's own certificate; 0 where none is shown.
    pub(super) generation: u64,
}

/// The way to one target, between or in exchanges.
pub(in crate::edge) struct Wire {
    kind: Kind,
    pub(super) key: Key,
    /// The request that it carries.
    pub(in crate::edge) lease: Option<Lease>,
    /// The connection was used before.
    pub(super) reused: bool,
    /// Whether others may have it when this exchange is over: not after words about one visitor, nor where one is
    /// logged in by it.
    pub(super) poolable: bool,
}

enum Kind {
    Sole(Sole),
    Strand(Strand),
}

/// An HTTP/1.1 connection.
struct Sole {
    sender: SendRequest<RequestBody>,
    /// Gone once it is of no more use.
    connection: Option<Box<Driven>>,
    done: bool,
    /// Of the exchange under way. Goes off at the end of one that was before it, at times, and is set anew then: that
    /// costs less than to set it for each.
    timer: Option<Pin<Box<Sleep>>>,
}

/// Why an exchange did not come to an answer.
pub(in crate::edge) enum Broken {
    /// Nothing of the request was taken; it is where it was.
    Unsent,
    /// It was sent, at least in part.
    Sent(hyper::Error),
    /// No answer in time.
    Late,
}

impl Broken {
    /// What the target has done wrong.
    pub(in crate::edge) fn fault(&self) -> UpstreamFault {
        match self {
            Self::Unsent | Self::Sent(_) => UpstreamFault::Protocol,
            Self::Late => UpstreamFault::Timeout,
        }
    }
}

impl Wire {
    /// A new HTTP/1.1 connection.
    ///
    /// * `own` — listeners of this process, which no name leads to.
    /// * `preamble` — what is said before anything else, of the one visitor whom the connection is for.
    pub(super) async fn connect(
        upstream: &Upstream,
        target: &Target,
        identity: Option<&UpstreamIdentity>,
        (key, own, preamble): (Key, &[SocketAddr], Option<&[u8]>),
    ) -> Result<Self, Refused> {
        let line = dial(upstream, target, identity, (own, preamble)).await?;
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(64 * 1024)
            .handshake(TokioIo::new(line))
            .await
            .map_err(|error| Refused::theirs(error.to_string()))?;
        let sole = Sole { sender, connection: Some(Box::new(connection)), done: false, timer: None };
        Ok(Self { kind: Kind::Sole(sole), key, lease: None, reused: false, poolable: preamble.is_none() })
    }

    /// A stream of a shared connection; whether that was used before.
    pub(super) fn over((strand, reused): (Strand, bool), key: Key) -> Self {
        Self { kind: Kind::Strand(strand), key, lease: None, reused, poolable: false }
    }

    /// The same, under way with a request.
    pub(super) fn carrying(mut self, lease: Lease) -> Self {
        self.lease = Some(lease);
        self
    }

    /// Whether that is what happens to connections that were kept for too long, and not what a target does.
    pub(in crate::edge) fn was_stale(&self, broken: &Broken) -> bool {
        let may_be = match (&self.kind, broken) {
            (_, Broken::Late) => false,
            // Of this stream alone.
            (Kind::Strand(_), Broken::Sent(error)) => !trunk::is_reset(error),
            _ => true,
        };
        self.reused && may_be
    }

    /// Its connection takes nothing new, unless it is a shared one that has refused this stream and no other; the
    /// number of a shared one.
    pub(super) fn leave(&self) -> u64 {
        match &self.kind {
            Kind::Sole(_) => 0,
            Kind::Strand(strand) => strand.leave(),
        }
    }

    /// Whether a body has an end that is said, and not merely no more of it.
    pub(in crate::edge) fn says_ends(&self) -> bool {
        matches!(self.kind, Kind::Strand(_))
    }

    /// Moves the connection on. A shared one moves by itself.
    pub(in crate::edge) fn poll(&mut self, cx: &mut Context<'_>) {
        if let Kind::Sole(sole) = &mut self.kind {
            move_on(&mut sole.connection, &mut sole.done, cx);
        }
    }

    /// Whether another request could go out now, over a connection of its own.
    pub(super) fn is_free(&self) -> bool {
        matches!(&self.kind, Kind::Sole(sole) if !sole.done && sole.sender.is_ready())
    }

    /// Sends what is in `request`, and puts it back if nothing of it was sent. Waits for the head of the answer, until `due` says it is too late. `due`
    /// is asked again at that moment, because an upload that moves on buys time. `spare` is the same
    /// request, if it has no body.
    pub(in crate::edge) async fn exchange(
        &mut self,
        request: &mut Option<Request<RequestBody>>,
        spare: Option<&Request<()>>,
        due: impl Fn() -> Instant,
    ) -> Result<Response<Incoming>, Broken> {
        match &mut self.kind {
            Kind::Sole(sole) => {
                if let Some(request) = request {
                    request.body_mut().ride(None);
                    self.poolable &= !is_logged_in(request.headers(), AUTHORIZATION);
                }
                let answer = sole.exchange(request, due).await;
                self.poolable &=
                    !answer.as_ref().is_ok_and(|answer| is_logged_in(answer.headers(), WWW_AUTHENTICATE));
                answer
            }
            Kind::Strand(strand) => strand.exchange(request, spare, due).await,
        }
    }

    /// Waits for the first piece of an answer's body, until `due`. `None`: there is none.
    pub(in crate::edge) async fn first_piece(
        &mut self,
        incoming: &mut Incoming,
        due: Instant,
    ) -> Result<Option<Bytes>, Broken> {
        let mut timer = pin!(sleep_until(due));
        poll_fn(|cx| {
            let mut polled = Pin::new(&mut *incoming).poll_frame(cx);
            if polled.is_pending() {
                self.poll(cx);
                polled = Pin::new(&mut *incoming).poll_frame(cx);
            }
            match polled {
                Poll::Ready(Some(Ok(frame))) => Poll::Ready(Ok(frame.into_data().ok())),
                Poll::Ready(Some(Err(error))) => Poll::Ready(Err(Broken::Sent(error))),
                Poll::Ready(None) => Poll::Ready(Ok(None)),
                Poll::Pending => timer.as_mut().poll(cx).map(|()| Err(Broken::Late)),
            }
        })
        .await
    }

    /// After a 101: the naked stream, and what was read of it already.
    pub(in crate::edge) async fn into_tunnel(self) -> Option<(Line, Bytes, Option<Lease>)> {
        let Kind::Sole(mut sole) = self.kind else { return None };
        poll_fn(|cx| {
            move_on(&mut sole.connection, &mut sole.done, cx);
            if sole.done { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        let parts = sole.connection?.into_parts();
        Some((parts.io.into_inner(), parts.read_buf, self.lease))
    }
}

impl Sole {
    async fn exchange(
        &mut self,
        request: &mut Option<Request<RequestBody>>,
        due: impl Fn() -> Instant,
    ) -> Result<Response<Incoming>, Broken> {
        let Self { sender, connection, done, timer } = self;
        let sent = request.take().ok_or(Broken::Unsent)?;
        let mut answer = pin!(sender.try_send_request(sent));
        let first = due();
        let timer = timer.get_or_insert_with(|| Box::pin(sleep_until(first)));
        if timer.deadline() > first {
            timer.as_mut().reset(first);
        }
        poll_fn(|cx| {
            move_on(connection, done, cx);
            let mut answered = answer.as_mut().poll(cx);
            if *done && answered.is_pending() {
                // It ended before it took the request, which is only given back with it.
                *connection = None;
                answered = answer.as_mut().poll(cx);
            }
            if let Poll::Ready(answer) = answered {
                return Poll::Ready(answer.map_err(|mut broken| {
                    *request = broken.take_message();
                    if request.is_some() { Broken::Unsent } else { Broken::Sent(broken.into_error()) }
                }));
            }
            poll_late(timer.as_mut(), &due, cx).map(Err)
        })
        .await
    }
}

/// Whether it is by these schemes that somebody logs in: they vouch for whatever comes over the same connection
/// (RFC 4559 §6).
fn is_logged_in(headers: &HeaderMap, name: HeaderName) -> bool {
    let schemes = headers.get_all(name);
    schemes.iter().flat_map(|value| value.as_bytes().split(|octet| *octet == b',')).any(|challenge| {
        let scheme = challenge.trim_ascii().split(u8::is_ascii_whitespace).next().unwrap_or_default();
        scheme.eq_ignore_ascii_case(b"NTLM") || scheme.eq_ignore_ascii_case(b"Negotiate")
    })
}

/// Ready once it is too late, which `due` may have put off meanwhile.
pub(super) fn poll_late(
    mut timer: Pin<&mut Sleep>,
    due: &impl Fn() -> Instant,
    cx: &mut Context<'_>,
) -> Poll<Broken> {
    while timer.as_mut().poll(cx).is_ready() {
        let due = due();
        if due <= Instant::now() {
            return Poll::Ready(Broken::Late);
        }
        timer.as_mut().reset(due);
    }
    Poll::Pending
}

/// Moves a connection on, as far as there is one.
fn move_on(connection: &mut Option<Box<Driven>>, done: &mut bool, cx: &mut Context<'_>) {
    if !*done {
        *done = connection.as_mut().is_none_or(|connection| connection.poll_without_shutdown(cx).is_ready());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_that_log_somebody_in_are_known() {
        for (value, is_so) in [
            ("NTLM TlRMTVNTUAAB", true),
            ("negotiate", true),
            ("Basic realm=\"a, b\",\tnEGOTIATE YII=", true),
            ("Bearer NTLM", false),
            ("NTLMX a", false),
            ("Basic Ti==", false),
            ("", false),
        ] {
            let headers = HeaderMap::from_iter([(WWW_AUTHENTICATE, http::HeaderValue::from_static(value))]);
            assert_eq!(is_logged_in(&headers, WWW_AUTHENTICATE), is_so, "{value}");
            assert!(!is_logged_in(&headers, AUTHORIZATION));
        }
    }
}
