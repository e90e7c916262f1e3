//! W3C trace context: a visitor's trace goes on, anyone else starts one. Identifiers are random, not
//! secret, so a small generator seeded once per thread is enough.

use std::cell::Cell;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::domain::Entropy;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// A source of identifiers for one thread.
pub(super) struct Ids(Cell<u64>);

impl Ids {
    pub(super) fn seeded(entropy: &dyn Entropy) -> Self {
        let mut seed = [0; 8];
        entropy.fill(&mut seed);
        Self(Cell::new(u64::from_le_bytes(seed)))
    }

    /// SplitMix64 (Steele, Lea, Flood 2014); never zero.
    fn next(&self) -> u64 {
        let state = self.0.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.0.set(state);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)).max(1)
    }
}

/// The trace that a request belongs to, and our span in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Trace {
    pub(super) id: u128,
    span: u64,
    flags: u8,
}

impl Trace {
    /// Goes on with the visitor's trace, or starts one.
    pub(super) fn of(headers: &HeaderMap, ids: &Ids) -> Self {
        let mut lines = headers.get_all(TRACEPARENT).iter();
        let parent = match (lines.next(), lines.next()) {
            (Some(one), None) => one.to_str().ok().and_then(parse),
            _ => None,
        };
        let (id, flags) =
            parent.unwrap_or_else(|| (u128::from(ids.next()) << 64 | u128::from(ids.next()), 0));
        Self { id, span: ids.next(), flags }
    }

    /// Puts our span into the request for the upstream. State without a parent is dropped.
    pub(super) fn inject(&self, headers: &mut HeaderMap) {
        let parent = headers.get(TRACEPARENT).and_then(|value| value.to_str().ok()).and_then(parse);
        if parent.is_none_or(|(id, _)| id != self.id) {
            headers.remove(TRACESTATE);
        }
        let text = format!("00-{:032x}-{:016x}-{:02x}", self.id, self.span, self.flags);
        if let Ok(value) = HeaderValue::try_from(text) {
            headers.insert(TRACEPARENT, value);
        }
    }
}

/// W3C Trace Context §3.2.2: version 00, lower-case hexadecimal, no zero identifiers.
fn parse(text: &str) -> Option<(u128, u8)> {
    let tidy = text.len() == 55 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f' | b'-'));
    let mut parts = text.split('-');
    let (version, id, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let lengths = (version.len(), id.len(), span.len(), flags.len()) == (2, 32, 16, 2);
    if !tidy || !lengths || version != "00" || parts.next().is_some() {
        return None;
    }
    let id = u128::from_str_radix(id, 16).ok().filter(|id| *id != 0)?;
    u64::from_str_radix(span, 16).ok().filter(|span| *span != 0)?;
    Some((id, u8::from_str_radix(flags, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed;
    impl Entropy for Fixed {
        fn fill(&self, buffer: &mut [u8]) {
            buffer.fill(7);
        }
    }

    #[test]
    fn a_visitors_trace_goes_on_under_a_span_of_ours() {
        let ids = Ids::seeded(&Fixed);
        let mut headers = HeaderMap::new();
        let theirs = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        headers.insert(TRACEPARENT, HeaderValue::from_static(theirs));
        headers.insert(TRACESTATE, HeaderValue::from_static("a=1"));
        Trace::of(&headers, &ids).inject(&mut headers);
        let ours = headers[TRACEPARENT].to_str().unwrap();
        assert!(ours.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-") && ours.ends_with("-01"));
        assert_ne!(ours, theirs);
        assert!(headers.contains_key(TRACESTATE));
    }

    #[test]
    fn a_broken_or_doubled_parent_starts_a_new_trace() {
        let ids = Ids::seeded(&Fixed);
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        for lines in [
            &["00-00000000000000000000000000000000-00f067aa0ba902b7-01"][..],
            &["00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01"],
            &["00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"],
            &["01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"],
            &["garbage"],
            &[good, good],
        ] {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(TRACEPARENT, HeaderValue::from_str(line).unwrap());
            }
            assert_ne!(Trace::of(&headers, &ids).id, 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736, "{lines:?}");
        }
    }
}
