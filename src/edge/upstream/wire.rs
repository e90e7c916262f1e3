//! A connection to a target. It is driven by whoever uses it, so an exchange costs no wake-up of another task;
//! while idle it is not polled, and looked at before it is used again.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1::{self, Connection, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};

use super::group::Lease;
use crate::edge::limits::RequestBody;
use crate::live::Target;
use crate::telemetry::metrics::UpstreamFault;

/// What has to be moved on. Large, and a wire changes hands often.
type Driven = Connection<TokioIo<TcpStream>, RequestBody>;

/// A connection to one target, between or in exchanges.
pub(in crate::edge) struct Wire {
    sender: SendRequest<RequestBody>,
    /// Gone once it is of no more use.
    connection: Option<Box<Driven>>,
    /// The target's, never another's.
    pub(super) target: u64,
    /// The request that it carries.
    pub(in crate::edge) lease: Option<Lease>,
    done: bool,
    pub(super) reused: bool,
    /// Whether others may have it when this exchange is over: not after words about one visitor.
    pub(super) poolable: bool,
}

/// Why an exchange did not come to an answer.
pub(in crate::edge) enum Broken {
    /// Nothing of the request was sent; here it is again.
    Unsent(Box<Request<RequestBody>>),
    /// It was sent, at least in part.
    Sent(hyper::Error),
    /// No answer in time.
    Late,
}

impl Broken {
    /// What the target has done wrong.
    pub(in crate::edge) fn fault(&self) -> UpstreamFault {
        match self {
            Self::Unsent(_) | Self::Sent(_) => UpstreamFault::Protocol,
            Self::Late => UpstreamFault::Timeout,
        }
    }
}

impl Wire {
    /// * `preamble` — what is said before anything else, of the one visitor whom the connection is for.
    pub(super) async fn connect(target: &Target, id: u64, preamble: Option<&[u8]>) -> std::io::Result<Self> {
        let mut stream = match target.address {
            Some(address) => TcpStream::connect(address).await?,
            None => TcpStream::connect((target.host.as_str(), target.port)).await?,
        };
        stream.set_nodelay(true)?;
        if let Some(preamble) = preamble {
            stream.write_all(preamble).await?;
        }
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(64 * 1024)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(std::io::Error::other)?;
        Ok(Self {
            sender,
            connection: Some(Box::new(connection)),
            target: id,
            lease: None,
            done: false,
            reused: false,
            poolable: preamble.is_none(),
        })
    }

    /// The same, under way with a request.
    pub(super) fn carrying(mut self, lease: Lease) -> Self {
        self.lease = Some(lease);
        self
    }

    /// Whether the connection was used before.
    pub(in crate::edge) fn reused(&self) -> bool {
        self.reused
    }

    /// Moves the connection on.
    pub(in crate::edge) fn poll(&mut self, cx: &mut Context<'_>) {
        move_on(&mut self.connection, &mut self.done, cx);
    }

    /// Whether another request could go out now.
    pub(super) fn is_free(&self) -> bool {
        !self.done && self.sender.is_ready()
    }

    /// Sends `request` and waits for the head of the answer, until `due` says it is too late. `due`
    /// is asked again at that moment, because an upload that moves on buys time.
    pub(in crate::edge) async fn exchange(
        &mut self,
        request: Request<RequestBody>,
        due: impl Fn() -> Instant,
    ) -> Result<Response<Incoming>, Broken> {
        let Self { sender, connection, done, .. } = self;
        let mut answer = pin!(sender.try_send_request(request));
        let mut timer = pin!(sleep_until(due()));
        poll_fn(|cx| {
            move_on(connection, done, cx);
            let mut answered = answer.as_mut().poll(cx);
            if *done && answered.is_pending() {
                // It ended before it took the request, which is only given back with it.
                *connection = None;
                answered = answer.as_mut().poll(cx);
            }
            if let Poll::Ready(answer) = answered {
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
    pub(in crate::edge) async fn into_tunnel(mut self) -> Option<(TcpStream, Bytes, Option<Lease>)> {
        poll_fn(|cx| {
            self.poll(cx);
            if self.done { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        let parts = self.connection?.into_parts();
        Some((parts.io.into_inner(), parts.read_buf, self.lease))
    }
}

/// Moves a connection on, as far as there is one.
fn move_on(connection: &mut Option<Box<Driven>>, done: &mut bool, cx: &mut Context<'_>) {
    if !*done {
        *done = connection.as_mut().is_none_or(|connection| connection.poll_without_shutdown(cx).is_ready());
    }
}
