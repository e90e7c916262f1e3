//! A body on its way through a compressor. What the app has sent so far can always be read: whenever nothing more
//! comes, what the compressor holds goes out. A body that breaks off does not look whole: the compressor's end is
//! written after the app's, and never else.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;

use super::packer::{Failed, Packer};
use crate::edge::limits::BodyFault;

/// Octets that are compressed before others of the thread have their turn, and before something goes out.
const PORTION: usize = 32 * 1024;

/// A body that is compressed.
pub(in crate::edge) struct Packed<B> {
    body: B,
    packer: Packer,
    /// Given by the compressor, and not gone out.
    out: Vec<u8>,
    /// Taken from the body, and not given to the compressor.
    rest: Bytes,
    /// Whether the compressor has something that it has not given.
    holds: bool,
    trailers: Option<Frame<Bytes>>,
    stage: Stage,
    _place: OwnedSemaphorePermit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Open,
    Ended,
    Broken(BodyFault),
}

type Polled = Poll<Option<Result<Frame<Bytes>, BodyFault>>>;

impl<B: Body<Data = Bytes, Error = BodyFault> + Unpin> Packed<B> {
    /// * `place` — one of those that there are for compressed answers; given back with the body.
    pub(in crate::edge) fn new(body: B, packer: Packer, place: OwnedSemaphorePermit) -> Self {
        Self {
            body,
            packer,
            out: Vec::new(),
            rest: Bytes::new(),
            holds: false,
            trailers: None,
            stage: Stage::Open,
            _place: place,
        }
    }

    /// The next portion that goes out.
    fn poll_open(&mut self, cx: &mut Context<'_>) -> Result<Polled, BodyFault> {
        let mut taken = 0;
        loop {
            if self.rest.is_empty() {
                match Pin::new(&mut self.body).poll_frame(cx) {
                    Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                        Ok(data) => self.rest = data,
                        Err(trailers) => {
                            self.trailers = Some(trailers);
                            return self.end();
                        }
                    },
                    Poll::Ready(Some(Err(fault))) => return Err(fault),
                    Poll::Ready(None) => return self.end(),
                    Poll::Pending if self.holds => {
                        self.holds = false;
                        self.packer.flush(&mut self.out)?;
                        return Ok(self.give());
                    }
                    Poll::Pending => return Ok(self.give()),
                }
            }
            let portion = self.rest.split_to(self.rest.len().min(PORTION - taken));
            taken += portion.len();
            self.holds |= !portion.is_empty();
            self.packer.pack(&portion, &mut self.out)?;
            if self.rest.is_empty() && self.body.is_end_stream() {
                return self.end();
            }
            if taken == PORTION {
                if self.out.is_empty() {
                    // It shrinks so well that there is nothing to give yet.
                    cx.waker().wake_by_ref();
                }
                return Ok(self.give());
            }
        }
    }

    fn end(&mut self) -> Result<Polled, BodyFault> {
        self.packer.finish(&mut self.out)?;
        self.stage = Stage::Ended;
        Ok(self.give())
    }

    /// What the compressor has given, as one piece.
    fn give(&mut self) -> Polled {
        if self.out.is_empty() {
            return Poll::Pending;
        }
        // A copy has the size of what is in it, however long the visitor lets it lie.
        let piece = Bytes::copy_from_slice(&self.out);
        self.out.clear();
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }
}

impl From<Failed> for BodyFault {
    fn from(_: Failed) -> Self {
        Self::Broken
    }
}

impl<B: Body<Data = Bytes, Error = BodyFault> + Unpin> Body for Packed<B> {
    type Data = Bytes;
    type Error = BodyFault;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Polled {
        let this = &mut *self;
        match this.stage {
            Stage::Open => this.poll_open(cx).unwrap_or_else(|fault| {
                this.stage = Stage::Broken(fault);
                Poll::Ready(Some(Err(fault)))
            }),
            Stage::Ended => Poll::Ready(this.trailers.take().map(Ok)),
            Stage::Broken(fault) => Poll::Ready(Some(Err(fault))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.stage == Stage::Ended && self.trailers.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        if self.is_end_stream() { SizeHint::with_exact(0) } else { SizeHint::default() }
    }
}

#[cfg(test)]
mod tests;
