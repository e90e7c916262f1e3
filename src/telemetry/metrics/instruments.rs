//! Numbers that the hot path may count: plain atomics, no allocation, no lock, no lookup by text.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::domain::UtcTime;

/// One of a fixed list of words, the value of a label.
pub trait Label: Copy + 'static {
    /// The label's name in the export.
    const NAME: &'static str;
    /// Every word, in the order of their numbers.
    const WORDS: &'static [&'static str];

    /// The number of this word.
    fn number(self) -> usize;
}

/// Declares an enum that is a [`Label`].
macro_rules! label {
    ($(#[$meta:meta])* $name:ident as $label:literal { $($(#[$of:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$of])* $variant,)+ }

        impl $name {
            /// Every word.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The word that it is counted under.
            pub const fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }

        impl $crate::telemetry::metrics::instruments::Label for $name {
            const NAME: &'static str = $label;
            const WORDS: &'static [&'static str] = &[$($word,)+];

            fn number(self) -> usize {
                self as usize
            }
        }
    };
}
pub(super) use label;

/// A count that only grows, split by a label.
#[derive(Debug)]
pub struct Counters<L> {
    counts: Box<[AtomicU64]>,
    label: PhantomData<L>,
}

impl<L: Label> Default for Counters<L> {
    fn default() -> Self {
        Self { counts: L::WORDS.iter().map(|_| AtomicU64::new(0)).collect(), label: PhantomData }
    }
}

impl<L: Label> Counters<L> {
    /// Counts one.
    pub fn count(&self, label: L) {
        self.counts[label.number()].fetch_add(1, Ordering::Relaxed);
    }

    /// How many so far.
    pub fn value(&self, label: L) -> u64 {
        self.counts[label.number()].load(Ordering::Relaxed)
    }

    pub(super) fn values(&self) -> impl Iterator<Item = (&'static str, u64)> {
        L::WORDS.iter().copied().zip(self.counts.iter().map(|count| count.load(Ordering::Relaxed)))
    }
}

/// A count that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Counts `many`.
    pub fn add(&self, many: u64) {
        self.0.fetch_add(many, Ordering::Relaxed);
    }

    /// Counts one.
    pub fn count(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// How many so far.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// Sets it.
    pub fn set(&self, value: i64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// One more.
    pub fn rise(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// One less.
    pub fn fall(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    /// What it is now.
    pub fn value(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// When something last happened; not exported before it did.
#[derive(Debug, Default)]
pub struct Timestamp(AtomicI64);

impl Timestamp {
    /// It happened at `at`.
    pub fn set(&self, at: UtcTime) {
        self.0.store(at.as_unix(), Ordering::Relaxed);
    }

    pub(super) fn value(&self) -> Option<i64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|seconds| *seconds != 0)
    }
}

/// Times by a label whose words are known only at run time, for example authorities. Not for the hot path.
#[derive(Debug, Default)]
pub struct Timestamps(Mutex<BTreeMap<String, i64>>);

impl Timestamps {
    /// Sets the time of one word.
    pub fn set(&self, word: &str, at: UtcTime) {
        self.0.lock().insert(word.to_owned(), at.as_unix());
    }

    /// Sets all of them, and forgets words that are not among them.
    pub fn replace<'a>(&self, all: impl IntoIterator<Item = (&'a str, UtcTime)>) {
        let all = all.into_iter().map(|(word, at)| (word.to_owned(), at.as_unix())).collect();
        *self.0.lock() = all;
    }

    pub(super) fn values(&self) -> Vec<(String, i64)> {
        self.0.lock().iter().map(|(word, seconds)| (word.clone(), *seconds)).collect()
    }
}

/// Counts by two words known only at run time, for example job and outcome. Not for the hot path.
#[derive(Debug, Default)]
pub struct PairCounters(Mutex<BTreeMap<(String, String), u64>>);

impl PairCounters {
    /// Counts one.
    pub fn count(&self, first: &str, second: &str) {
        *self.0.lock().entry((first.to_owned(), second.to_owned())).or_default() += 1;
    }

    pub(super) fn values(&self) -> Vec<((String, String), u64)> {
        self.0.lock().iter().map(|(words, count)| (words.clone(), *count)).collect()
    }
}

/// Upper bounds in microseconds: those that OpenTelemetry advises for `http.server.request.duration`.
const BOUNDS_US: [u64; 14] = [
    5_000, 10_000, 25_000, 50_000, 75_000, 100_000, 250_000, 500_000, 750_000, 1_000_000, 2_500_000,
    5_000_000, 7_500_000, 10_000_000,
];

/// How long things took.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; BOUNDS_US.len() + 1],
    sum_us: AtomicU64,
}

impl Histogram {
    /// Records one duration: two atomic additions.
    pub fn observe(&self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_US.partition_point(|bound| *bound < us);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(us, Ordering::Relaxed);
    }

    /// How many so far.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).sum()
    }

    /// Bounds in seconds with the count up to each, without the last; then count and sum in seconds.
    pub(super) fn cumulative(&self) -> (Vec<(f64, u64)>, u64, f64) {
        let mut total = 0;
        let mut bounds = Vec::with_capacity(BOUNDS_US.len());
        for (bound, bucket) in BOUNDS_US.iter().zip(&self.buckets) {
            total += bucket.load(Ordering::Relaxed);
            bounds.push((seconds(*bound), total));
        }
        total += self.buckets[BOUNDS_US.len()].load(Ordering::Relaxed);
        (bounds, total, seconds(self.sum_us.load(Ordering::Relaxed)))
    }
}

fn seconds(us: u64) -> f64 {
    Duration::from_micros(us).as_secs_f64()
}
