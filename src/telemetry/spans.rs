//! Finished spans on their way to a collector. Whoever finishes one hands it over and never waits: what finds
//! the queue full is lost, and counted.

use std::borrow::Cow;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::metrics::SpanMetrics;
use super::trace::{SpanId, TraceContext, TraceId};

/// Spans that wait at the most; a few MiB.
const QUEUE: usize = 8192;

/// Where finished spans go. By default nowhere, which costs a look at an empty option.
#[derive(Clone, Debug, Default)]
pub struct Spans(Option<Arc<Inner>>);

#[derive(Debug)]
struct Inner {
    queue: mpsc::Sender<Span>,
    /// Traces whose random half is below are recorded.
    below: u64,
    metrics: Arc<SpanMetrics>,
}

/// Which side of a call a span is, numbered as OTLP does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanKind {
    /// The one that answers.
    Server = 2,
    /// The one that asks.
    Client = 3,
}

/// What an attribute says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A text. Free of mail addresses and tokens when it is sent.
    Text(Cow<'static, str>),
    /// A number.
    Number(u16),
}

/// A finished span.
#[derive(Clone, Debug)]
pub struct Span {
    /// Which one, of which trace.
    pub context: TraceContext,
    /// The span that it is part of.
    pub parent: Option<SpanId>,
    /// Which side of a call.
    pub kind: SpanKind,
    /// One of few: a method.
    pub name: String,
    /// Nanoseconds since 1970.
    pub began: u64,
    /// Nanoseconds since 1970.
    pub ended: u64,
    /// Named by OpenTelemetry's conventions.
    pub attributes: Vec<(&'static str, Value)>,
    /// Whether something went wrong by those conventions.
    pub failed: bool,
}

impl Spans {
    /// Spans of `ratio` (0 to 1) of the traces that begin here, and where they come out.
    pub(super) fn queue(ratio: f64, metrics: Arc<SpanMetrics>) -> (Self, mpsc::Receiver<Span>) {
        let (queue, spans) = mpsc::channel(QUEUE);
        // Saturates at both ends; a ratio of 1 misses one trace in 2^64.
        let below = (ratio * u64::MAX as f64) as u64;
        (Self(Some(Arc::new(Inner { queue, below, metrics }))), spans)
    }

    /// Whether spans of recorded traces are wanted.
    pub fn are_wanted(&self) -> bool {
        self.0.is_some()
    }

    /// Whether a trace that begins here is recorded.
    pub fn records(&self, trace: TraceId) -> bool {
        self.0.as_ref().is_some_and(|inner| trace.random_half() < inner.below)
    }

    /// Hands over a finished span.
    pub fn finish(&self, span: Span) {
        if let Some(inner) = &self.0
            && inner.queue.try_send(span).is_err()
        {
            inner.metrics.lost.count();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span() -> Span {
        Span {
            context: TraceContext::background(),
            parent: None,
            kind: SpanKind::Server,
            name: "GET".to_owned(),
            began: 1,
            ended: 2,
            attributes: Vec::new(),
            failed: false,
        }
    }

    #[test]
    fn a_ratio_is_kept_by_the_trace_alone() {
        let metrics = Arc::new(SpanMetrics::default());
        let of = |ratio| Spans::queue(ratio, metrics.clone()).0;
        let traces: Vec<_> = (0..4000).map(|_| TraceContext::background().trace_id).collect();
        let count = |spans: &Spans| traces.iter().filter(|trace| spans.records(**trace)).count();
        assert_eq!((count(&of(0.0)), count(&of(1.0)), count(&Spans::default())), (0, 4000, 0));
        // A UUID's variant is in the half that is looked at (its first two bits are 10): half of them are below.
        let other = of(0.625);
        assert!((1700..2300).contains(&count(&other)), "{}", count(&other));
        assert_eq!(count(&other), count(&of(0.625)), "the same ones");
    }

    #[test]
    fn what_finds_no_room_is_counted_and_nobody_waits() {
        let metrics = Arc::new(SpanMetrics::default());
        let (spans, _queue) = Spans::queue(1.0, metrics.clone());
        for _ in 0..QUEUE + 3 {
            spans.finish(span());
        }
        assert_eq!(metrics.lost.value(), 3);
        Spans::default().finish(span());
    }
}
