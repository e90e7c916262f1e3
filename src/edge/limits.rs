//! Bodies with bounds: how long a piece may take, and how much may come in all.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::LazyLock;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

use super::headers::clean_trailers;
use super::pace::Pace;
use super::settings::EdgeSettings;
use super::upstream::Slot;
use super::worker::Derived;

/// Why a body ended before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BodyFault {
    /// No piece came for too long, or too little; or the whole took too long.
    #[error("the body stalled")]
    TimedOut,
    /// More came than is allowed.
    #[error("the body is too large")]
    TooLarge,
    /// Whoever sent it broke off.
    #[error("the body broke off")]
    Broken,
}

/// Why a target does not get the whole of an upload. Over HTTP/2, this is no fault of the edge (INTERNAL_ERROR), but
/// a request that nobody wants any more (CANCEL).
#[derive(Debug)]
pub(super) struct CutShort(BodyFault);

static CANCELLED: LazyLock<h2::Error> = LazyLock::new(|| h2::Reason::CANCEL.into());

impl std::fmt::Display for CutShort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(&self.0, f)
    }
}

impl std::error::Error for CutShort {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&*CANCELLED)
    }
}

/// How an upload stands, for whoever waits for its answer.
#[derive(Debug)]
pub(super) struct Upload {
    fault: Cell<Option<BodyFault>>,
    moved_at: Cell<Instant>,
    waits: Cell<bool>,
    answered: Cell<bool>,
}

impl Upload {
    fn new() -> Rc<Self> {
        Rc::new(Self {
            fault: Cell::new(None),
            moved_at: Cell::new(Instant::now()),
            waits: Cell::new(false),
            answered: Cell::new(false),
        })
    }

    /// Why the visitor's body ended early, if it did.
    pub(super) fn fault(&self) -> Option<BodyFault> {
        self.fault.get()
    }

    /// Whether everybody waits for the visitor's next piece.
    pub(super) fn waits_for_visitor(&self) -> bool {
        self.waits.get()
    }

    /// The answer has begun: from here on the two speak as they like, and nobody may wait for what comes.
    pub(super) fn set_answered(&self) {
        self.answered.set(true);
    }

    /// When the last piece went through.
    pub(super) fn moved_at(&self) -> Instant {
        self.moved_at.get()
    }
}

/// A visitor's body on its way to an upstream.
pub(super) struct RequestBody {
    incoming: Option<Incoming>,
    upload: Rc<Upload>,
    stall: Stall,
    left: Option<u64>,
    /// HTTP/2 says where a body ends; a stream that merely stops is not at its end.
    ends_are_said: bool,
    /// By whose aliases trailers are cleaned before they go on; without any, they end here.
    trailers: Option<Rc<Derived>>,
    /// The stream that it goes over.
    slot: Option<Rc<Slot>>,
}

impl RequestBody {
    /// No body.
    pub(super) fn empty() -> Self {
        Self {
            incoming: None,
            upload: Upload::new(),
            stall: Stall::new(Pace::new(Duration::MAX, None)),
            left: None,
            ends_are_said: false,
            trailers: None,
            slot: None,
        }
    }

    /// `incoming`, piece by piece within `body_timeout` and not slower than `min_rate`, at most `most` octets. With
    /// `trailers`, they go on.
    pub(super) fn new(
        incoming: Incoming,
        (most, trailers): (Option<u64>, Option<Rc<Derived>>),
        settings: &EdgeSettings,
        is_http_2: bool,
    ) -> Self {
        if incoming.is_end_stream() {
            return Self::empty();
        }
        Self {
            incoming: Some(incoming),
            upload: Upload::new(),
            stall: Stall::new(Pace::new(settings.body_timeout, settings.min_rate)),
            left: most,
            ends_are_said: is_http_2,
            trailers,
            slot: None,
        }
    }

    /// A view on how it goes.
    pub(super) fn upload(&self) -> Rc<Upload> {
        self.upload.clone()
    }

    /// Goes over this stream from now on, or over a connection of its own.
    pub(super) fn ride(&mut self, slot: Option<Rc<Slot>>) {
        self.slot = slot;
    }

    fn fail(&mut self, fault: BodyFault) -> Poll<Option<Result<Frame<Bytes>, CutShort>>> {
        self.upload.fault.set(Some(fault));
        self.incoming = None;
        Poll::Ready(Some(Err(CutShort(fault))))
    }
}

/// What is left of a last frame, if there are trailers in it.
fn cleaned(frame: Frame<Bytes>, derived: &Derived) -> Option<Frame<Bytes>> {
    let mut trailers = frame.into_trailers().ok()?;
    clean_trailers(&mut trailers, &derived.aliases);
    (!trailers.is_empty()).then(|| Frame::trailers(trailers))
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = CutShort;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CutShort>>> {
        let this = &mut *self;
        if this.slot.as_ref().is_some_and(|slot| slot.is_given_up(cx)) {
            // No fault of the visitor's.
            this.incoming = None;
            return Poll::Ready(Some(Err(CutShort(BodyFault::Broken))));
        }
        let Some(incoming) = this.incoming.as_mut() else { return Poll::Ready(None) };
        let polled = Pin::new(incoming).poll_frame(cx);
        this.upload.waits.set(polled.is_pending());
        match polled {
            Poll::Ready(Some(Ok(frame))) => {
                this.upload.moved_at.set(Instant::now());
                this.stall.moved(frame.data_ref().map_or(0, Bytes::len) as u64);
                match frame.into_data() {
                    Ok(data) => {
                        let octets = data.len() as u64;
                        if let Some(left) = this.left.as_mut() {
                            if octets > *left {
                                return this.fail(BodyFault::TooLarge);
                            }
                            *left -= octets;
                        }
                        Poll::Ready(Some(Ok(Frame::data(data))))
                    }
                    Err(last) => {
                        this.incoming = None;
                        let trailers = this.trailers.take();
                        Poll::Ready(trailers.and_then(|derived| cleaned(last, &derived)).map(Ok))
                    }
                }
            }
            Poll::Ready(Some(Err(_))) => this.fail(BodyFault::Broken),
            // hyper takes some resets for an end. What a visitor broke off is not whole, and must not look so.
            Poll::Ready(None) if this.ends_are_said && !incoming_ended(this.incoming.as_ref()) => {
                this.fail(BodyFault::Broken)
            }
            Poll::Ready(None) => {
                this.incoming = None;
                Poll::Ready(None)
            }
            Poll::Pending => {
                if this.upload.answered.get() {
                    this.stall.lift();
                }
                match this.stall.poll(cx) {
                    true => this.fail(BodyFault::TimedOut),
                    false => Poll::Pending,
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_none_or(Body::is_end_stream) && self.upload.fault().is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

fn incoming_ended(incoming: Option<&Incoming>) -> bool {
    incoming.is_none_or(Body::is_end_stream)
}

/// Notices that somebody is too slow. Costs nothing until something has to be waited for.
pub(super) struct Stall {
    pace: Pace,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Stall {
    pub(super) fn new(pace: Pace) -> Self {
        Self { pace, timer: None }
    }

    /// So many octets moved; the next wait counts from its own beginning.
    pub(super) fn moved(&mut self, octets: u64) {
        self.pace.moved(octets, Instant::now);
    }

    /// From here on, only a wait of the whole timeout is too long.
    pub(super) fn lift(&mut self) {
        self.pace.lift();
    }

    /// Whatever was waited so far was nobody's fault.
    pub(super) fn begin_anew(&mut self) {
        self.pace.begin_anew();
    }

    /// Called while waiting: whether it was too slow. Registers for the moment it will be.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> bool {
        self.pace.waits(Instant::now);
        while let Some(due) = self.pace.due() {
            let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(due)));
            if timer.deadline() != due {
                timer.as_mut().reset(due);
            }
            if timer.as_mut().poll(cx).is_pending() {
                return false;
            }
            if self.pace.is_too_slow(Instant::now()) {
                return true;
            }
        }
        false
    }
}
