//! HTTP on a finished handshake: hyper's two servers, one timer, and the signals that end them.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::{HttpService, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;
use tokio_rustls::server::TlsStream;

use super::answer::AnswerBody;
use super::carrier::Carrier;
use super::connection::Visit;
use super::cork::Cork;
use super::index::Ending;
use super::io::{Overdue, Watched};
use super::ongoing;
use super::pace::Pace;
use super::request;
use super::settings::EdgeSettings;
use super::stream::{Local, look_for_reset};
use super::tunnel;
use crate::telemetry::metrics::Breach;
use crate::telemetry::metrics::RefusalCode;

/// After a lost identity: time for the refusal of a request that is already on its way.
const REFUSE_FOR: Duration = Duration::from_millis(600);
/// After a lost identity: everything ends (design, decision 5: within one second).
pub(super) const CUT_AFTER: Duration = Duration::from_millis(900);
/// After a last word, and for an idle peer that was told to go.
const LEAVE_WITHIN: Duration = Duration::from_secs(5);
/// Streams of one HTTP/2 connection.
const MAX_STREAMS: u32 = 128;
/// What a visitor may send on one HTTP/2 stream before an app has taken it: 5 MB/s at 50 ms.
const STREAM_WINDOW: u32 = 256 * 1024;
/// The same of all streams of a connection, and so what one may make us keep.
const CONNECTION_WINDOW: u32 = 512 * 1024;
/// Streams that we reset for an HTTP/2 peer's errors before the connection ends.
const MOST_ERRORS: usize = 128;
/// HTTP/2 peers that look dead are asked.
const PING_EVERY: Duration = Duration::from_secs(30);
/// hyper's read buffer; heads and pieces of bodies pass through it.
const READ_BUFFER: usize = 64 * 1024;
/// RFC 9110 §15.5.9, written by hand because hyper just closes.
const REQUEST_TIMEOUT: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\n\
    cache-control: no-store\r\ncontent-type: application/problem+json\r\ncontent-length: 123\r\n\r\n\
    {\"type\":\"urn:wicketgate:problem:request_timeout\",\"title\":\"The request took too long\",\
    \"status\":408,\"code\":\"request_timeout\"}";

type Stream = TokioIo<Watched<Box<TlsStream<Carrier>>>>;
type Corked = TokioIo<Cork<Watched<Box<TlsStream<Carrier>>>>>;

/// A connection of either protocol, as far as its owner cares.
trait Served: Future<Output = hyper::Result<()>> + Unpin {
    /// Finish what is in flight, take nothing new.
    fn leave(&mut self);

    /// Whether the peer hears of it before the connection closes, so that nothing it asks for meanwhile is lost.
    fn says_goodbye(&self) -> bool;
}

impl<S, E> Served for http1::Connection<Stream, S>
where
    S: HttpService<Incoming, ResBody = AnswerBody, Error = E>,
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
    Self: Future<Output = hyper::Result<()>> + Unpin,
{
    fn leave(&mut self) {
        Pin::new(self).graceful_shutdown();
    }

    fn says_goodbye(&self) -> bool {
        false
    }
}

impl<S, E> Served for http2::Connection<Corked, S, Local>
where
    S: HttpService<Incoming, ResBody = AnswerBody, Error = E>,
    S::Future: 'static,
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
    Self: Future<Output = hyper::Result<()>> + Unpin,
{
    fn leave(&mut self) {
        Pin::new(self).graceful_shutdown();
    }

    fn says_goodbye(&self) -> bool {
        true // RFC 9113 §6.8
    }
}

/// How a connection came to its end.
enum End {
    /// By itself.
    Closed,
    /// By its timer.
    Overdue(Overdue),
    /// By more frames than may come.
    Spent,
    /// By force.
    Cut,
}

impl End {
    /// What the visitor did, if that was the reason.
    fn breach(&self) -> Option<Breach> {
        match self {
            Self::Overdue(Overdue::Head) => Some(Breach::SlowHead),
            Self::Overdue(Overdue::Body) => Some(Breach::SlowBody),
            Self::Overdue(Overdue::Write) => Some(Breach::SlowReader),
            Self::Spent => Some(Breach::TooManyFrames),
            Self::Overdue(Overdue::Idle) | Self::Closed | Self::Cut => None,
        }
    }
}

/// Serves HTTP/1.1, and the tunnel that may follow.
pub(super) async fn serve_h1(visit: Rc<Visit>, stream: Box<TlsStream<Carrier>>) {
    let settings = &visit.worker.shared.settings;
    visit.activity.watch_heads();
    let io = TokioIo::new(Watched::new(stream, visit.activity.clone()));
    let service = service_fn(|request: Request<Incoming>| {
        let visit = visit.clone();
        // Boxed: large, and nobody keeps room for it while nothing is asked.
        Box::pin(async move { Ok::<_, Infallible>(request::serve(visit, request).await) })
    });
    let mut connection = h1(settings).serve_connection(io, service);
    let end = drive(&visit, &mut connection).await;
    end.breach().inspect(|breach| visit.breaks_off(*breach));
    let tunnel = visit.take_tunnel();
    match end {
        End::Closed => {
            visit.activity.end_turns();
            if let Some(tunnel) = tunnel {
                let parts = connection.into_parts();
                // Boxed: large, and others need no room for it.
                let through =
                    Box::pin(tunnel::over_connection(tunnel, parts.io.into_inner(), &parts.read_buf));
                visit.worker.turns.take(&visit.account, through).await;
            }
        }
        End::Overdue(Overdue::Head) => {
            let mut stream = connection.into_parts().io.into_inner();
            let goodbye = async {
                stream.write_all(REQUEST_TIMEOUT).await?;
                stream.shutdown().await
            };
            let _ = tokio::time::timeout(Duration::from_secs(1), goodbye).await;
        }
        End::Overdue(Overdue::Body | Overdue::Idle | Overdue::Write) | End::Spent | End::Cut => {}
    }
}

/// The one way to set up HTTP/1, for TLS and plain listeners.
pub(super) fn h1(settings: &EdgeSettings) -> http1::Builder {
    let mut builder = http1::Builder::new();
    // Deadlines are ours: hyper's header timeout also runs while a connection is merely idle.
    builder
        .header_read_timeout(None)
        .max_headers(settings.max_headers)
        .max_header_size(settings.max_header_bytes)
        .max_buf_size(READ_BUFFER.max(settings.max_header_bytes));
    builder
}

/// Serves HTTP/2, and the tunnels that its streams become.
pub(super) async fn serve_h2(visit: Rc<Visit>, stream: Box<TlsStream<Carrier>>) {
    let settings = &visit.worker.shared.settings;
    visit.activity.watch_frames();
    let watched = Watched::new(stream, visit.activity.clone());
    let io = TokioIo::new(Cork::new(watched, visit.activity.clone()));
    let service = service_fn(|request: Request<Incoming>| {
        let visit = visit.clone();
        // Boxed: large, and hyper and tokio move it several times on its way to a task.
        Box::pin(async move {
            look_for_reset().await;
            Ok::<_, Infallible>(request::serve(visit, request).await)
        })
    });
    let mut builder = http2::Builder::new(Local {
        tasks: visit.worker.shared.tasks.clone(),
        activity: visit.activity.clone(),
        turns: visit.worker.turns.clone(),
        account: visit.account.clone(),
        pace: Pace::new(settings.body_timeout, settings.min_rate),
    });
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(u32::try_from(settings.max_header_bytes).unwrap_or(u32::MAX))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(READ_BUFFER)
        // RFC 8441: WebSockets.
        .enable_connect_protocol()
        .max_local_error_reset_streams(Some(MOST_ERRORS))
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(settings.idle_timeout);
    let mut connection = builder.serve_connection(io, service);
    let end = drive(&visit, &mut connection).await;
    if let Some(breach) = end.breach() {
        visit.breaks_off(breach);
        // hyper lets us give no reason. One more move, so that the GOAWAY goes out if there is room for it.
        visit.activity.hold_nothing();
        connection.leave();
        poll_fn(|cx| {
            let _ = Pin::new(&mut connection).poll(cx);
            Poll::Ready(())
        })
        .await;
    }
}

/// Moves a connection on until it ends, one way or another.
async fn drive<C: Served>(visit: &Rc<Visit>, connection: &mut C) -> End {
    let settings = &visit.worker.shared.settings;
    let signal = visit.signal().clone();
    let mut woken = pin!(signal.woken());
    let mut timer = pin!(tokio::time::sleep(settings.idle_timeout));
    let mut course = Course::default();
    let mut share = visit.worker.turns.share(&visit.account);
    loop {
        let event = share
            .until(|cx| {
                visit.activity.begin_turn();
                visit.activity.begin_move();
                if let Poll::Ready(outcome) = Pin::new(&mut *connection).poll(cx) {
                    // hyper has answered that by itself: 431, and nothing else.
                    if outcome.is_err_and(|error| error.is_parse_too_large()) {
                        visit.worker.shared.metrics.refused.count(RefusalCode::HeadersTooLarge);
                    }
                    return Poll::Ready(Event::Closed);
                }
                if visit.activity.is_spent() {
                    return Poll::Ready(Event::Spent);
                }
                // Checked after every move, so that a deadline that has come nearer is never missed.
                if let Some(due) = course.due(visit).filter(|due| *due < timer.deadline()) {
                    timer.as_mut().reset(due);
                }
                if woken.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Event::Woken);
                }
                timer.as_mut().poll(cx).map(|()| Event::Timer)
            })
            .await;
        match event {
            Event::Closed => return End::Closed,
            Event::Spent => return End::Spent,
            Event::Woken => {
                woken.set(signal.woken());
                if course.woken(visit, connection) {
                    return End::Cut;
                }
            }
            Event::Timer => {
                if let Some(end) = course.timer(visit, connection) {
                    return end;
                }
                let next = course.due(visit).unwrap_or_else(|| Instant::now() + settings.idle_timeout);
                timer.as_mut().reset(next);
            }
        }
    }
}

enum Event {
    Closed,
    Spent,
    Woken,
    Timer,
}

/// What has been decided about the connection's end.
#[derive(Default)]
struct Course {
    leaving: bool,
    /// Asked to go, and may ask for something until then.
    grace_until: Option<Instant>,
    leave_at: Option<Instant>,
    cut_at: Option<Instant>,
}

impl Course {
    fn due(&self, visit: &Visit) -> Option<Instant> {
        let own = visit.activity.deadline(&visit.worker.shared.settings);
        // Who is leaving is not asked to go for being idle.
        let own = own.filter(|(_, what)| !(self.leaving && *what == Overdue::Idle)).map(|(at, _)| at);
        [own, self.grace_until, self.leave_at, self.cut_at].into_iter().flatten().min()
    }

    /// Answers a signal; whether the connection ends at once.
    fn woken(&mut self, visit: &Visit, connection: &mut impl Served) -> bool {
        let now = Instant::now();
        match visit.signal().ending() {
            Ending::Cut => return true,
            Ending::Drain => {
                self.leave(connection);
                ongoing::end_tunnels(visit);
            }
            Ending::Leave if connection.says_goodbye() => self.leave(connection),
            // The next answer says that it is the last one.
            Ending::Leave if !self.leaving => {
                self.grace_until = self.grace_until.or(Some(now + visit.worker.shared.grace()));
            }
            Ending::Leave | Ending::Not => {}
        }
        let is_in_doubt = visit.signal().take_doubt();
        if is_in_doubt && self.leave_at.is_none() && visit.has_lost_identity() {
            self.leave_at = Some(now + REFUSE_FOR);
            self.cut_by(now + CUT_AFTER);
        }
        if is_in_doubt {
            ongoing::ask_again(visit);
        }
        if visit.has_said_last_word() && !self.leaving {
            self.leave(connection);
            self.cut_by(now + LEAVE_WITHIN);
        }
        false
    }

    /// Answers the timer.
    fn timer(&mut self, visit: &Visit, connection: &mut impl Served) -> Option<End> {
        let now = Instant::now();
        if self.cut_at.is_some_and(|at| at <= now) {
            return Some(End::Cut);
        }
        if self.leave_at.is_some_and(|at| at <= now) {
            self.leave_at = None;
            self.leave(connection);
        }
        if self.grace_until.is_some_and(|at| at <= now) {
            self.grace_until = None;
            self.leave(connection);
        }
        let (due, what) = visit.activity.deadline(&visit.worker.shared.settings)?;
        if due > now {
            return None;
        }
        match what {
            // Not slow enough: from here on, it is measured anew.
            Overdue::Write if !visit.activity.is_too_slow(now) => None,
            Overdue::Head | Overdue::Body | Overdue::Write => Some(End::Overdue(what)),
            Overdue::Idle if self.leaving => None,
            Overdue::Idle => {
                self.leave(connection);
                self.cut_by(now + LEAVE_WITHIN);
                None
            }
        }
    }

    fn leave(&mut self, connection: &mut impl Served) {
        if !self.leaving {
            self.leaving = true;
            connection.leave();
        }
    }

    fn cut_by(&mut self, at: Instant) {
        self.cut_at = Some(self.cut_at.map_or(at, |known| known.min(at)));
    }
}
