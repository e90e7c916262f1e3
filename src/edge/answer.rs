//! The body of an answer: a page of ours, or an upstream's bytes as they come, or compressed. It carries the access
//! log entry, so a request is logged when its answer has gone out or broken off.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep};

use super::access_log::Entry;
use super::finish::{Packed, Packer};
use super::headers::clean_trailers;
use super::limits::{BodyFault, Stall, Upload};
use super::pace::Pace;
use super::request::Exchange;
use super::turns::wake_after_others;
use super::upstream::Wire;
use super::worker::{Derived, Worker};
use crate::telemetry::metrics::UpstreamFault;

/// What goes out to the visitor.
pub(super) struct AnswerBody {
    source: Source,
    /// Boxed: large, and bodies change hands.
    tail: Option<Box<Tail>>,
}

enum Source {
    Page(Option<Bytes>),
    Upstream(Box<Download>),
    /// One of the others, compressed.
    Packed(Box<Packed<Source>>),
}

/// An upstream's body that has begun.
pub(super) struct Flow {
    /// What was waited for before anything went out.
    pub(super) first: Option<Bytes>,
    pub(super) incoming: Incoming,
    pub(super) wire: Wire,
    /// What the visitor may still be sending.
    pub(super) upload: Rc<Upload>,
}

/// An upstream's body, and the connection it comes over.
struct Download {
    first: Option<Bytes>,
    incoming: Incoming,
    wire: Option<Wire>,
    upload: Rc<Upload>,
    home: Rc<Worker>,
    /// By whose aliases trailers are cleaned.
    derived: Rc<Derived>,
    stall: Stall,
    end: Instant,
    /// Made once there is something to wait for.
    timer: Option<Pin<Box<Sleep>>>,
}

/// Ends with the body.
struct Tail {
    entry: Entry,
    exchange: Exchange,
}

impl AnswerBody {
    /// A page of ours.
    pub(super) fn page(page: Bytes) -> Self {
        Self { source: Source::Page(Some(page).filter(|page| !page.is_empty())), tail: None }
    }

    /// What flows from an upstream: piece by piece within the body timeout, whole before `end`.
    pub(super) async fn download(flow: Flow, home: &Rc<Worker>, derived: &Rc<Derived>, end: Instant) -> Self {
        let Flow { first, incoming, wire, upload } = flow;
        if incoming.is_end_stream() {
            home.pool.give_back(wire).await;
            return Self::page(first.unwrap_or_default());
        }
        Self {
            source: Source::Upstream(Box::new(Download {
                first,
                incoming,
                wire: Some(wire),
                upload,
                home: home.clone(),
                derived: derived.clone(),
                stall: Stall::new(Pace::new(home.shared.settings.body_timeout, None)),
                end,
                timer: None,
            })),
            tail: None,
        }
    }

    /// The same, compressed from here on.
    pub(super) fn packed(self, packer: Packer, place: OwnedSemaphorePermit) -> Self {
        let packed = Packed::new(self.source, packer, place);
        Self { source: Source::Packed(Box::new(packed)), tail: self.tail }
    }

    /// Logs `entry`, and ends the exchange, when the body is through.
    pub(super) fn with_tail(mut self, mut entry: Entry, exchange: Exchange) -> Self {
        entry.whole = self.is_end_stream();
        self.tail = Some(Box::new(Tail { entry, exchange }));
        self
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        if self.exchange.delivery().is_some_and(|delivery| delivery.is_given_up()) {
            self.entry.whole = false;
        }
        if self.entry.whole {
            self.exchange.went_through();
        }
        self.exchange.answered(self.entry.status, self.entry.started);
    }
}

impl Download {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        // A visitor who always takes the next piece just in time never lets us wait for one.
        if self.end <= Instant::now() {
            self.wire = None;
            return Poll::Ready(Some(Err(BodyFault::TimedOut)));
        }
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        // Asking the body first tells the connection that there is room; then it reads; then the
        // body has something, without a trip through the scheduler.
        let mut polled = Pin::new(&mut self.incoming).poll_frame(cx);
        if polled.is_pending()
            && let Some(wire) = self.wire.as_mut()
        {
            wire.poll(cx);
            polled = Pin::new(&mut self.incoming).poll_frame(cx);
        }
        match polled {
            Poll::Ready(Some(Ok(frame))) => {
                self.stall.moved(0);
                if self.incoming.is_end_stream() {
                    self.finish(cx);
                }
                Poll::Ready(Some(Ok(self.cleaned(frame))))
            }
            // The visitor has broken off, and so the exchange ends: the target has done nothing wrong.
            Poll::Ready(Some(Err(_))) if self.upload.fault().is_some() => {
                self.wire = None;
                Poll::Ready(Some(Err(BodyFault::Broken)))
            }
            Poll::Ready(Some(Err(_))) => {
                self.fail(UpstreamFault::Protocol);
                Poll::Ready(Some(Err(BodyFault::Broken)))
            }
            // hyper takes some resets for an end.
            Poll::Ready(None) if self.is_cut_off() => {
                self.fail(UpstreamFault::Protocol);
                Poll::Ready(Some(Err(BodyFault::Broken)))
            }
            Poll::Ready(None) => {
                self.finish(cx);
                Poll::Ready(None)
            }
            // Both are asked: each has to register.
            Poll::Pending if self.stall.poll(cx) | self.is_late(cx) => {
                self.fail(UpstreamFault::Timeout);
                Poll::Ready(Some(Err(BodyFault::TimedOut)))
            }
            Poll::Pending => Poll::Pending,
        }
    }

    /// Asked while waiting: whether the whole takes too long.
    fn is_late(&mut self, cx: &mut Context<'_>) -> bool {
        let end = self.end;
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(end)));
        timer.as_mut().poll(cx).is_ready()
    }

    /// Whether there is no more of it, though its end was not said.
    fn is_cut_off(&self) -> bool {
        self.wire.as_ref().is_some_and(Wire::says_ends) && !self.incoming.is_end_stream()
    }

    fn cleaned(&self, frame: Frame<Bytes>) -> Frame<Bytes> {
        match frame.into_trailers() {
            Ok(mut trailers) => {
                clean_trailers(&mut trailers, &self.derived.aliases);
                Frame::trailers(trailers)
            }
            Err(data) => data,
        }
    }

    /// The target has not sent the rest.
    fn fail(&mut self, kind: UpstreamFault) {
        if let Some(lease) = self.wire.take().and_then(|mut wire| wire.lease.take()) {
            let mut lease = lease;
            lease.failed(kind.word(), self.home.pool.chance());
        }
        self.home.shared.metrics.upstream_faults.count(kind);
    }

    fn finish(&mut self, cx: &mut Context<'_>) {
        if let Some(wire) = self.wire.take() {
            self.home.pool.give_back_now(wire, cx);
        }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = BodyFault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        let this = &mut *self;
        let delivery = this.tail.as_ref().and_then(|tail| tail.exchange.delivery());
        delivery.inspect(|delivery| delivery.asked());
        // A page goes out with its head: it may be the last word, and some who read of the end want no more.
        let is_ours = matches!(this.source, Source::Page(_));
        if !is_ours && this.tail.as_ref().is_some_and(|tail| tail.exchange.visit().activity.is_turn_over()) {
            wake_after_others(cx);
            return Poll::Pending;
        }
        let polled = Pin::new(&mut this.source).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            let octets = frame.data_ref().map_or(0, Bytes::len) as u64;
            delivery.inspect(|delivery| delivery.gave(octets));
        }
        let ended = this.is_end_stream();
        if let Some(tail) = this.tail.as_mut() {
            match &polled {
                Poll::Ready(Some(Ok(frame))) => {
                    tail.entry.bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
                    tail.entry.whole = ended;
                }
                Poll::Ready(None) => tail.entry.whole = true,
                Poll::Ready(Some(Err(_))) | Poll::Pending => {}
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.source.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.source.size_hint()
    }
}

impl Body for Source {
    type Data = Bytes;
    type Error = BodyFault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        match &mut *self {
            Self::Page(page) => Poll::Ready(page.take().map(|page| Ok(Frame::data(page)))),
            Self::Upstream(download) => download.poll_frame(cx),
            Self::Packed(packed) => Pin::new(&mut **packed).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Page(page) => page.is_none(),
            Self::Upstream(download) => download.first.is_none() && download.incoming.is_end_stream(),
            Self::Packed(packed) => packed.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Page(page) => SizeHint::with_exact(page.as_ref().map_or(0, |page| page.len() as u64)),
            Self::Packed(packed) => packed.size_hint(),
            Self::Upstream(download) => {
                let (rest, first) =
                    (download.incoming.size_hint(), download.first.as_ref().map_or(0, Bytes::len));
                rest.exact().map_or(rest, |rest| SizeHint::with_exact(rest + first as u64))
            }
        }
    }
}
