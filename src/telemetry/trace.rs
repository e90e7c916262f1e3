//! W3C trace context (Trace Context, Level 1): one id for what a person would call one request, from the
//! edge through admin, CA and ACME to the upstream. The trace id is also the request id.

use std::fmt;
use std::future::Future;

use tracing::Span;

use crate::domain::Entropy;
use crate::domain::hex::Hex;

tokio::task_local! {
    static CURRENT: TraceContext;
}

/// Names one trace: 16 bytes, not all zero. Shown as 32 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId([u8; 16]);

/// Names one span of a trace: 8 bytes, not all zero. Shown as 16 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpanId([u8; 8]);

/// Where in which trace we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace.
    pub trace_id: TraceId,
    /// The span that works on it now; its children name it as their parent.
    pub span_id: SpanId,
    /// Whether someone upstream records it.
    pub sampled: bool,
}

impl TraceContext {
    /// A new trace.
    pub fn new(entropy: &dyn Entropy) -> Self {
        Self { trace_id: TraceId(random(entropy)), span_id: SpanId(random(entropy)), sampled: false }
    }

    /// A new trace for work that nobody asked for: a job's run, a look at the rows. Its ids are made as
    /// every other id of ours is; they are no secrets.
    pub fn background() -> Self {
        let (id, other) = (uuid::Uuid::new_v4(), uuid::Uuid::new_v4());
        let mut span = [0; 8];
        span.copy_from_slice(&other.as_bytes()[8..]);
        // Never zero: a random UUID carries its version in the first half and its variant in the second.
        Self { trace_id: TraceId(*id.as_bytes()), span_id: SpanId(span), sampled: false }
    }

    /// A span of the trace that the running task is in; outside of any, a new trace.
    pub fn continued(entropy: &dyn Entropy) -> Self {
        Self::current().map_or_else(Self::background, |current| current.child(entropy))
    }

    /// The trace that the running task is in, as the audit names requests.
    pub fn request_id() -> Option<String> {
        Self::current().map(|current| current.trace_id.to_string())
    }

    /// What a `traceparent` header says; none when it is malformed, in which case a new trace begins
    /// (§3.2.2.5 there: never repair).
    pub fn from_header(value: &str) -> Option<Self> {
        let mut parts = value.splitn(5, '-');
        let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let version: [u8; 1] = hex(version)?;
        // Version 0 has exactly four parts; later ones may have more, ff is never valid.
        if version == [0xff] || (version == [0] && parts.next().is_some()) {
            return None;
        }
        let (trace_id, span_id, flags) = (hex(trace)?, hex(span)?, hex::<1>(flags)?);
        if trace_id == [0; 16] || span_id == [0; 8] {
            return None;
        }
        Some(Self { trace_id: TraceId(trace_id), span_id: SpanId(span_id), sampled: flags[0] & 1 == 1 })
    }

    /// The trace that a caller's header names, or a new one.
    pub fn from_caller(header: Option<&str>, entropy: &dyn Entropy) -> Self {
        match header.and_then(Self::from_header) {
            Some(parent) => parent.child(entropy),
            None => Self::new(entropy),
        }
    }

    /// A span of ours within the same trace.
    #[must_use]
    pub fn child(&self, entropy: &dyn Entropy) -> Self {
        Self { span_id: SpanId(random(entropy)), ..*self }
    }

    /// The value of a `traceparent` header for whom we call.
    pub fn to_header(&self) -> String {
        let mut text = String::with_capacity(55);
        text.push_str("00-");
        Hex(&self.trace_id.0).push_to(&mut text);
        text.push('-');
        Hex(&self.span_id.0).push_to(&mut text);
        text.push_str(if self.sampled { "-01" } else { "-00" });
        text
    }

    /// A span for log lines, with the ids as fields.
    pub fn span(&self) -> Span {
        tracing::info_span!("request", trace_id = %self.trace_id, span_id = %self.span_id)
    }

    /// Runs `work` with this as its [`TraceContext::current`] and its log lines in [`TraceContext::span`].
    pub fn scope<F: Future>(self, work: F) -> impl Future<Output = F::Output> {
        use tracing::Instrument;
        CURRENT.scope(self, work.instrument(self.span()))
    }

    /// The context of the running task, if it is in one. A spawned task is not: bring it in with `scope`.
    pub fn current() -> Option<Self> {
        CURRENT.try_with(|context| *context).ok()
    }
}

impl TraceId {
    /// The half of it that is random wherever it was made (W3C Trace Context, Level 2).
    pub(super) fn random_half(self) -> u64 {
        let mut half = [0; 8];
        half.copy_from_slice(&self.0[8..]);
        u64::from_be_bytes(half)
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Hex(&self.0).fmt(f)
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TraceId({self})")
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Hex(&self.0).fmt(f)
    }
}

impl fmt::Debug for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SpanId({self})")
    }
}

fn random<const N: usize>(entropy: &dyn Entropy) -> [u8; N] {
    let mut bytes = [0; N];
    entropy.fill(&mut bytes);
    // All zeros means "none"; a seeded source may well give it.
    if bytes == [0; N] {
        bytes[N - 1] = 1;
    }
    bytes
}

/// Exactly N bytes in lower-case hex; upper case is not allowed in the header.
fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let text = text.as_bytes();
    if text.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = (digit(pair[0])? << 4) | digit(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU8, Ordering};

    use super::*;

    #[derive(Default)]
    struct Counting(AtomicU8);

    impl Entropy for Counting {
        fn fill(&self, buffer: &mut [u8]) {
            buffer.fill(self.0.fetch_add(1, Ordering::Relaxed));
        }
    }

    const EXAMPLE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn the_header_round_trips_and_a_child_keeps_the_trace() {
        let parent = TraceContext::from_header(EXAMPLE).unwrap();
        assert_eq!((parent.to_header().as_str(), parent.sampled), (EXAMPLE, true));
        let child = parent.child(&Counting::default());
        assert_eq!(child.trace_id, parent.trace_id);
        assert_ne!(child.span_id, parent.span_id);
    }

    #[test]
    fn malformed_headers_begin_a_new_trace() {
        for bad in [
            "",
            "00",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1",
            "00-ä",
        ] {
            assert_eq!(TraceContext::from_header(bad), None, "{bad}");
            let fresh = TraceContext::from_caller(Some(bad), &Counting::default());
            assert_ne!(fresh.to_header(), bad);
        }
        let later = "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more";
        assert!(TraceContext::from_header(later).is_some(), "later versions may add parts");
    }

    #[test]
    fn an_all_zero_draw_still_gives_a_valid_context() {
        let context = TraceContext::new(&Counting::default());
        assert_eq!(TraceContext::from_header(&context.to_header()), Some(context));
    }

    #[tokio::test]
    async fn a_task_knows_its_context_and_others_do_not() {
        let context = TraceContext::new(&Counting::default());
        assert_eq!(TraceContext::current(), None);
        context.scope(async { assert_eq!(TraceContext::current(), Some(context)) }).await;
        let spawned = context.scope(async { tokio::spawn(async { TraceContext::current() }).await.unwrap() });
        assert_eq!(spawned.await, None);
    }
}
