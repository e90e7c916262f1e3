//! W3C trace context on the request path: a visitor's trace goes on, anyone else starts one.

use std::sync::atomic::{AtomicU64, Ordering};

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::domain::Entropy;
use crate::telemetry::trace::SpanId;
use crate::telemetry::{Spans, TraceContext};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Identifiers for one thread: random enough to be unique, not secret, and no system call each. Seeded
/// from the real source.
pub(super) struct Ids(AtomicU64);

impl Ids {
    pub(super) fn seeded(entropy: &dyn Entropy) -> Self {
        let mut seed = [0; 8];
        entropy.fill(&mut seed);
        Self(AtomicU64::new(u64::from_le_bytes(seed)))
    }

    /// SplitMix64 (Steele, Lea, Flood 2014).
    fn next(&self) -> u64 {
        let step = 0x9e37_79b9_7f4a_7c15;
        let mut z = self.0.fetch_add(step, Ordering::Relaxed).wrapping_add(step);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// For identifiers only; keys come from elsewhere.
impl Entropy for Ids {
    fn fill(&self, buffer: &mut [u8]) {
        for part in buffer.chunks_mut(8) {
            part.copy_from_slice(&self.next().to_le_bytes()[..part.len()]);
        }
    }
}

/// Goes on with the visitor's trace and says from which span, or starts one. Two parents are as good as none.
///
/// * `is_believed` — the visitor says whether the trace is recorded. Otherwise `spans` does, by an identifier of
///   ours: theirs could be chosen, and everything of them recorded. Where nothing is, what they say is the upstream's
///   to judge.
pub(super) fn of(
    headers: &HeaderMap,
    ids: &Ids,
    spans: &Spans,
    is_believed: bool,
) -> (TraceContext, Option<SpanId>) {
    let parent = parent(headers);
    if let Some(parent) = parent.filter(|_| is_believed || !spans.are_wanted()) {
        return (parent.child(ids), Some(parent.span_id));
    }
    let new = TraceContext::new(ids);
    let sampled = spans.records(new.trace_id);
    match parent {
        Some(parent) => (TraceContext { sampled, ..parent.child(ids) }, Some(parent.span_id)),
        None => (TraceContext { sampled, ..new }, None),
    }
}

/// Puts our span into the request for the upstream. State without a parent is dropped.
pub(super) fn inject(context: &TraceContext, headers: &mut HeaderMap) {
    if parent(headers).is_none_or(|parent| parent.trace_id != context.trace_id) {
        headers.remove(TRACESTATE);
    }
    if let Ok(value) = HeaderValue::try_from(context.to_header()) {
        headers.insert(TRACEPARENT, value);
    }
}

fn parent(headers: &HeaderMap) -> Option<TraceContext> {
    let mut lines = headers.get_all(TRACEPARENT).iter();
    let first = lines.next()?;
    TraceContext::from_header(first.to_str().ok()?).filter(|_| lines.next().is_none())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::telemetry::otlp::exporter;

    const THEIRS: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    struct Fixed;
    impl Entropy for Fixed {
        fn fill(&self, buffer: &mut [u8]) {
            buffer.fill(7);
        }
    }

    fn passed_on(parents: &[&'static str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for parent in parents {
            headers.append(TRACEPARENT, HeaderValue::from_static(parent));
        }
        headers.insert(TRACESTATE, HeaderValue::from_static("a=1"));
        let (ours, _) = of(&headers, &Ids::seeded(&Fixed), &Spans::default(), true);
        inject(&ours, &mut headers);
        headers
    }

    #[test]
    fn a_visitors_trace_goes_on_under_a_span_of_ours() {
        let headers = passed_on(&[THEIRS]);
        let ours = headers[TRACEPARENT].to_str().unwrap();
        assert!(ours.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-") && ours.ends_with("-01"));
        assert_ne!(ours, THEIRS);
        assert!(headers.contains_key(TRACESTATE));
    }

    #[test]
    fn a_visitors_span_is_our_parent() {
        let mut headers = HeaderMap::new();
        headers.insert(TRACEPARENT, HeaderValue::from_static(THEIRS));
        let endpoint = "http://127.0.0.1:4318".parse().unwrap();
        let (drawn, _exporter) = exporter(&endpoint, 0.0, Arc::default());
        for (spans, is_believed, is_sampled) in
            [(&drawn, true, true), (&drawn, false, false), (&Spans::default(), false, true)]
        {
            let (ours, parent) = of(&headers, &Ids::seeded(&Fixed), spans, is_believed);
            assert_eq!(ours.sampled, is_sampled, "a stranger has nothing recorded");
            assert_eq!(ours.trace_id.to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
            assert_eq!(parent.unwrap().to_string(), "00f067aa0ba902b7");
        }
    }

    #[test]
    fn a_broken_or_doubled_parent_starts_a_new_trace_without_state() {
        for parents in [&["garbage"][..], &[THEIRS, THEIRS], &[]] {
            let headers = passed_on(parents);
            assert!(!headers[TRACEPARENT].to_str().unwrap().contains("4bf92f3577b34da6"), "{parents:?}");
            assert_eq!(headers.get_all(TRACEPARENT).iter().count(), 1);
            assert!(!headers.contains_key(TRACESTATE));
        }
    }
}
