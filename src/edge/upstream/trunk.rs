//! An HTTP/2 connection, and the streams on it. Tasks of this thread move it on, so its exchanges need not; whoever
//! gives an exchange up resets its stream, and nobody else's.

use std::cell::{Cell, OnceCell, RefCell};
use std::error::Error;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use h2::Reason;
use http::header::HOST;
use http::uri::{Authority, Scheme};
use http::{Request, Response, Uri, Version};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http2::{self, Connection, SendRequest};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::task::{AbortHandle, spawn_local};
use tokio::time::{Instant, sleep_until};

use super::line::{Line, Refused};
use super::wire::{Broken, poll_late};
use crate::edge::limits::RequestBody;

/// Streams of one connection, whatever its target allows.
const MOST_STREAMS: usize = 100;
/// What hyper takes for the target's bound until the target has said it.
const UNTOLD: usize = 0;
/// What a target may send on one stream before its visitor has taken it: 1.3 MB/s at 50 ms, 64 MB/s at 1 ms. All
/// streams of a connection may hold it at once.
const STREAM_WINDOW: u32 = 64 * 1024;
/// The same of all streams together. Enough for each of them: visitors who take nothing keep up nobody else.
const CONNECTION_WINDOW: u32 = STREAM_WINDOW * MOST_STREAMS as u32;
/// As for HTTP/1.1.
const LONGEST_HEAD: u32 = 64 * 1024;
/// What is kept of one upload until the target takes it.
const SEND_BUFFER: usize = 64 * 1024;
/// Targets that look dead are asked, while they have requests.
const PING_EVERY: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

type Driven = Connection<TokioIo<Line>, RequestBody, Spawner>;

/// A connection that many exchanges share.
pub(super) struct Trunk {
    /// Higher than that of any before it on this thread.
    pub(super) number: u64,
    sender: SendRequest<RequestBody>,
    /// Gone once it is of no more use: requests that it has not taken come back with it.
    driven: Rc<RefCell<Option<Driven>>>,
    scheme: Scheme,
    burden: Rc<Burden>,
    was_used: Cell<bool>,
    is_leaving: Cell<bool>,
    /// Moves the octets.
    task: Rc<OnceCell<AbortHandle>>,
    asked: Asked,
}

/// The task that sends an upload, once it has one.
type Sending = Rc<OnceCell<AbortHandle>>;
/// The upload that was asked for a piece before it had a task: hyper asks each once, and then spawns what goes on.
type Asked = Rc<Cell<Option<Sending>>>;

/// What goes on on a connection.
struct Burden {
    streams: Cell<usize>,
    /// Since when, if nothing does.
    idle_since: Cell<Instant>,
}

/// One stream as it is counted: as long as either of its halves goes on.
pub(in crate::edge) struct Slot {
    burden: Rc<Burden>,
    is_given_up: Cell<bool>,
    upload: Cell<Option<Waker>>,
    sending: Sending,
    asked: Asked,
}

/// One stream as an exchange has it.
pub(super) struct Strand {
    trunk: Rc<Trunk>,
    slot: Rc<Slot>,
    /// Its connection goes on.
    was_refused: bool,
}

impl Trunk {
    /// A new connection, once its target has said how many streams it takes: whoever does not speak HTTP/2 is found
    /// out before anything is sent, and nobody is sent more than it takes.
    pub(super) async fn lay(line: Line, scheme: Scheme, number: u64) -> Result<Rc<Self>, Refused> {
        let spawner = Spawner::default();
        let mut builder = http2::Builder::new(spawner.clone());
        builder
            .timer(TokioTimer::new())
            .initial_max_send_streams(UNTOLD)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(LONGEST_HEAD)
            .max_send_buf_size(SEND_BUFFER)
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_TIMEOUT);
        let laid = builder.handshake(TokioIo::new(line)).await;
        let (sender, mut connection): (SendRequest<RequestBody>, Driven) =
            laid.map_err(|error| mute(Some(&error)))?;
        poll_fn(|cx| {
            spawner.news.set(Some(cx.waker().clone()));
            if connection.current_max_send_streams() > UNTOLD {
                return Poll::Ready(Ok(()));
            }
            Pin::new(&mut connection).poll(cx).map(|ended| Err(mute(ended.err().as_ref())))
        })
        .await?;
        spawner.news.set(None);
        let driven = Rc::new(RefCell::new(Some(connection)));
        spawn_local(drive(driven.clone()));
        let burden = Rc::new(Burden { streams: Cell::new(0), idle_since: Cell::new(Instant::now()) });
        Ok(Rc::new(Self {
            number,
            sender,
            driven,
            scheme,
            burden,
            was_used: Cell::new(false),
            is_leaving: Cell::new(false),
            task: spawner.first,
            asked: spawner.asked,
        }))
    }

    /// A stream, if there is room for one, and whether it is not the first.
    pub(super) fn board(self: &Rc<Self>) -> Option<(Strand, bool)> {
        let streams = self.burden.streams.get();
        if !self.is_open() || streams >= self.most_streams() {
            return None;
        }
        self.burden.streams.set(streams + 1);
        let slot = Slot {
            burden: self.burden.clone(),
            is_given_up: Cell::new(false),
            upload: Cell::new(None),
            sending: Rc::default(),
            asked: self.asked.clone(),
        };
        let strand = Strand { trunk: self.clone(), slot: Rc::new(slot), was_refused: false };
        Some((strand, self.was_used.replace(true)))
    }

    fn most_streams(&self) -> usize {
        let driven = self.driven.borrow();
        driven.as_ref().map_or(0, |driven| driven.current_max_send_streams().min(MOST_STREAMS))
    }

    /// Whether it may take another stream, if there is room.
    pub(super) fn is_open(&self) -> bool {
        !self.is_leaving.get() && !self.sender.is_closed()
    }

    /// Whether nothing has gone on for so long.
    pub(super) fn is_idle_for(&self, time: Duration) -> bool {
        self.burden.streams.get() == 0 && self.burden.idle_since.get().elapsed() > time
    }

    /// Scheme and authority in the head's place for them, and no Host beside them (RFC 9113 §8.3.1).
    fn address<B>(&self, request: &mut Request<B>) {
        let host = request.headers_mut().remove(HOST);
        let mut parts = std::mem::take(request.uri_mut()).into_parts();
        if let Some(host) = host {
            parts.authority = Authority::try_from(host.as_bytes()).ok();
        }
        // Without an authority, h2 refuses to send it.
        parts.scheme = parts.authority.as_ref().map(|_| self.scheme.clone());
        *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
        *request.version_mut() = Version::HTTP_2;
    }
}

impl Drop for Trunk {
    /// No exchange is left. Uploads that the target does not take, and nobody answers for, go with the connection.
    fn drop(&mut self) {
        if let Some(task) = self.task.get().filter(|_| self.burden.streams.get() > 0) {
            task.abort();
        }
    }
}

/// Why there is no HTTP/2 with a target.
fn mute(error: Option<&hyper::Error>) -> Refused {
    let why = error.map_or_else(|| "it closed the connection".to_owned(), ToString::to_string);
    Refused::theirs(format!(
        "the target does not speak HTTP/2: {why}; turn it on there, or set the upstream's protocol to http1"
    ))
}

async fn drive(driven: Rc<RefCell<Option<Driven>>>) {
    poll_fn(|cx| match driven.borrow_mut().as_mut() {
        Some(connection) => Pin::new(connection).poll(cx).map(drop),
        None => Poll::Ready(()),
    })
    .await;
    let ended = driven.borrow_mut().take();
    drop(ended);
}

impl Strand {
    /// Its connection takes no more streams, unless this one alone was refused; which one that is.
    pub(super) fn leave(&self) -> u64 {
        if !self.was_refused {
            self.trunk.is_leaving.set(true);
        }
        self.trunk.number
    }

    /// As [`Wire::exchange`](super::wire::Wire::exchange).
    pub(super) async fn exchange(
        &mut self,
        request: &mut Option<Request<RequestBody>>,
        spare: Option<&Request<()>>,
        due: impl Fn() -> Instant,
    ) -> Result<Response<Incoming>, Broken> {
        let mut sent = request.take().ok_or(Broken::Unsent)?;
        self.trunk.address(&mut sent);
        sent.body_mut().ride(Some(self.slot.clone()));
        let mut sender = self.trunk.sender.clone();
        let mut answer = pin!(sender.try_send_request(sent));
        let mut timer = pin!(sleep_until(due()));
        let was_refused = &mut self.was_refused;
        poll_fn(|cx| match answer.as_mut().poll(cx) {
            Poll::Ready(answer) => Poll::Ready(answer.map_err(|error| {
                *was_refused = error.message().is_none() && is_refused_alone(error.error());
                broken(error, spare, request)
            })),
            Poll::Pending => poll_late(timer.as_mut(), &due, cx).map(Err),
        })
        .await
    }
}

impl Drop for Strand {
    /// Without its answer, nobody needs the upload. While the target takes nothing of it, hyper does not look at it
    /// again, and waits for as long as the connection lasts: its task ends here. Then h2 resets the stream (CANCEL) and
    /// gives back what it kept of the connection's window.
    fn drop(&mut self) {
        self.slot.is_given_up.set(true);
        if let Some(waker) = self.slot.upload.take() {
            waker.wake();
        }
        if let Some(sending) = self.slot.sending.get() {
            sending.abort();
        }
    }
}

impl Slot {
    /// Asked by the upload: whether nobody waits for its answer any more. Wakes when that becomes so.
    pub(in crate::edge) fn is_given_up(&self, cx: &Context<'_>) -> bool {
        if !self.is_given_up.get() {
            self.upload.set(Some(cx.waker().clone()));
        }
        if self.sending.get().is_none() {
            self.asked.set(Some(self.sending.clone()));
        }
        self.is_given_up.get()
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let streams = &self.burden.streams;
        streams.set(streams.get().saturating_sub(1));
        self.burden.idle_since.set(Instant::now());
    }
}

/// A request that the target has not begun with may be sent again, if it is still all there.
fn broken(
    mut error: TrySendError<Request<RequestBody>>,
    spare: Option<&Request<()>>,
    request: &mut Option<Request<RequestBody>>,
) -> Broken {
    *request = error.take_message();
    if request.is_some() {
        return Broken::Unsent;
    }
    let error = error.into_error();
    match spare.filter(|_| is_refused(&error)) {
        Some(spare) => {
            *request = Some(spare.clone().map(|()| RequestBody::empty()));
            Broken::Unsent
        }
        None => Broken::Sent(error),
    }
}

/// RFC 9113 §8.7: the stream was refused, or is beyond the last one that a target that goes away looks at.
fn is_refused(error: &hyper::Error) -> bool {
    let is_beyond = |error: &h2::Error| error.is_remote() && error.is_go_away();
    is_refused_alone(error) || of_protocol(error).is_some_and(is_beyond)
}

/// What this stream was refused for, for want of room most often, others are not.
fn is_refused_alone(error: &hyper::Error) -> bool {
    of_protocol(error).is_some_and(|error| {
        error.is_remote() && error.is_reset() && error.reason() == Some(Reason::REFUSED_STREAM)
    })
}

/// Whether it is this stream's end, and no other's.
pub(super) fn is_reset(error: &hyper::Error) -> bool {
    of_protocol(error).is_some_and(h2::Error::is_reset)
}

fn of_protocol(error: &hyper::Error) -> Option<&h2::Error> {
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(found) = cause.downcast_ref() {
            return Some(found);
        }
        source = cause.source();
    }
    None
}

/// Runs what hyper makes of a connection, on this thread.
#[derive(Clone, Default)]
struct Spawner {
    /// The task that moves the octets: hyper begins with it.
    first: Rc<OnceCell<AbortHandle>>,
    /// Whoever waits for a first word of the target.
    news: Rc<Cell<Option<Waker>>>,
    asked: Asked,
}

impl<F: Future + 'static> hyper::rt::Executor<F> for Spawner {
    fn execute(&self, future: F) {
        let news = self.news.clone();
        let task = spawn_local(async move {
            let mut future = pin!(future);
            poll_fn(|cx| {
                let polled = future.as_mut().poll(cx).map(drop);
                if let Some(waker) = news.take() {
                    waker.wake();
                }
                polled
            })
            .await;
        });
        let _ = self.first.set(task.abort_handle());
        // Without a piece to wait for, it is the one that waits for the answer, and ends no later.
        if let Some(sending) = self.asked.take() {
            let _ = sending.set(task.abort_handle());
        }
    }
}
