//! Token buckets by key (GCRA), shared by all threads, in memory that is bounded.
//!
//! Strangers choose their keys: whoever owns an IPv6 network has as many sources as they like. So there is room for
//! so many keys and no more. A key whose bucket is full again is forgotten (`Buckets::forget`), which for rules of
//! seconds is within seconds. Past the bound, unknown keys share a bucket instead of having one each: under such a
//! flood newcomers are refused with it, who was there before is not, and memory stays what it is. Whoever is known
//! does not choose their keys, and has room that no stranger takes. The other ways would be to let unknown keys pass, which is no limit, or to forget known ones, which is none either.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::StateStore;
use governor::state::keyed::ShrinkableKeyedStateStore;
use governor::{Quota, RateLimiter};
use parking_lot::Mutex;

use super::source::Source;
use crate::domain::{DeviceId, PersonId};

/// Maps of one store, so that threads seldom wait for each other.
const SHARDS: usize = 16;
/// A map that has room for so many times what is in it gives it back.
const SPARSE: usize = 4;
/// Room that is not worth giving back.
const SMALL: usize = 64;

/// Whom a bucket belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Key {
    Source(Source),
    Device(DeviceId),
    Person(PersonId),
    Everyone,
}

/// How many keys there may be, in one store or in several together: of sources, and as many of those who are known.
#[derive(Debug)]
pub(super) struct Room {
    most: usize,
    sources: AtomicUsize,
    known: AtomicUsize,
}

impl Room {
    pub(super) fn of(most: usize) -> Arc<Self> {
        Arc::new(Self { most, sources: AtomicUsize::new(0), known: AtomicUsize::new(0) })
    }

    fn taken(&self, key: &Key) -> &AtomicUsize {
        match key {
            Key::Source(_) => &self.sources,
            Key::Device(_) | Key::Person(_) | Key::Everyone => &self.known,
        }
    }

    /// Whether there was a place for this one.
    fn take(&self, key: &Key) -> bool {
        let more = |taken| (taken < self.most).then_some(taken + 1);
        self.taken(key).fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    fn give_back(&self, key: &Key) {
        self.taken(key).fetch_sub(1, Ordering::Relaxed);
    }
}

/// When the bucket of each key will be full.
#[derive(Debug)]
struct Store {
    shards: [Mutex<Shard>; SHARDS],
    hasher: RandomState,
    room: Arc<Room>,
}

#[derive(Debug, Default)]
struct Shard {
    kept: HashMap<Key, Nanos>,
    /// The bucket of those for whom there was no room.
    others: Option<Nanos>,
}

impl Store {
    fn new(room: Arc<Room>) -> Self {
        Self { shards: Default::default(), hasher: RandomState::new(), room }
    }

    fn shard(&self, key: &Key) -> &Mutex<Shard> {
        let hash = usize::try_from(self.hasher.hash_one(key) % SHARDS as u64).unwrap_or(0);
        &self.shards[hash]
    }
}

impl StateStore for Store {
    type Key = Key;

    fn measure_and_replace<T, F, E>(&self, key: &Key, judge: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut shard = self.shard(key).lock();
        if let Some(full_at) = shard.kept.get_mut(key) {
            let (outcome, next) = judge(Some(*full_at))?;
            *full_at = next;
            return Ok(outcome);
        }
        if self.room.take(key) {
            // A fresh bucket refuses nobody; should it, then the place is free again.
            let (outcome, next) = judge(None).inspect_err(|_| self.room.give_back(key))?;
            shard.kept.insert(*key, next);
            return Ok(outcome);
        }
        let (outcome, next) = judge(shard.others)?;
        shard.others = Some(next);
        Ok(outcome)
    }
}

impl ShrinkableKeyedStateStore<Key> for Store {
    fn retain_recent(&self, drop_below: Nanos) {
        for shard in &self.shards {
            let mut shard = shard.lock();
            shard.kept.retain(|key, full_at| {
                let stays = *full_at > drop_below;
                if !stays {
                    self.room.give_back(key);
                }
                stays
            });
            shard.others = shard.others.filter(|full_at| *full_at > drop_below);
            let left = shard.kept.len();
            if shard.kept.capacity() > SMALL.max(left * SPARSE) {
                shard.kept.shrink_to(left * 2);
            }
        }
    }

    fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().kept.len()).sum()
    }

    fn is_empty(&self) -> bool {
        self.shards.iter().all(|shard| shard.lock().kept.is_empty())
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        for shard in &mut self.shards {
            shard.get_mut().kept.keys().for_each(|key| self.room.give_back(key));
        }
    }
}

/// One rule, and a bucket for each key that it has met lately.
pub(super) struct Buckets<C: Clock = DefaultClock> {
    limiter: RateLimiter<Key, Store, C, NoOpMiddleware<C::Instant>>,
}

impl Buckets {
    /// So many a second, [`super::BURST_SECONDS`] times as many at once, with room of their own.
    pub(super) fn per_second(count: NonZeroU32) -> Self {
        let burst = count.saturating_mul(super::BURST_SECONDS);
        let quota = Quota::per_second(count).allow_burst(burst);
        Self::of(quota, Room::of(super::MOST_KEYS), DefaultClock::default())
    }
}

impl<C: Clock> Buckets<C> {
    pub(super) fn of(quota: Quota, room: Arc<Room>, clock: C) -> Self {
        Self { limiter: RateLimiter::new(quota, Store::new(room), clock) }
    }

    /// Takes a token of this key.
    ///
    /// # Errors
    /// The time after which there is one.
    pub(super) fn draw(&self, key: Key) -> Result<(), Duration> {
        let now = || self.limiter.clock().now();
        self.limiter.check_key(&key).map_err(|until| until.wait_time_from(now()))
    }

    /// Forgets the keys whose buckets are full again: they are like new ones.
    pub(super) fn forget(&self) {
        self.limiter.retain_recent();
    }
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn key(number: u64) -> Key {
        Key::Source(Source::V6(number))
    }

    fn buckets(quota: Quota, room: usize) -> (Buckets<FakeRelativeClock>, FakeRelativeClock) {
        let clock = FakeRelativeClock::default();
        (Buckets::of(quota, Room::of(room), clock.clone()), clock)
    }

    fn two_a_second() -> Quota {
        let two = NonZeroU32::new(2).unwrap();
        Quota::per_second(two).allow_burst(two.saturating_mul(two))
    }

    #[test]
    fn a_burst_passes_then_as_many_as_the_rule_says() {
        let (buckets, clock) = buckets(two_a_second(), 10);
        for _ in 0..4 {
            assert_eq!(buckets.draw(key(1)), Ok(()));
        }
        assert_eq!(buckets.draw(key(1)), Err(SECOND / 2));
        assert_eq!(buckets.draw(key(2)), Ok(()), "a neighbour has a bucket of its own");
        clock.advance(SECOND / 2);
        assert_eq!((buckets.draw(key(1)), buckets.draw(key(1))), (Ok(()), Err(SECOND / 2)));
        clock.advance(SECOND * 60);
        let passed = (0..10).filter(|_| buckets.draw(key(1)).is_ok()).count();
        assert_eq!(passed, 4, "a pause gives no more than the burst");
    }

    #[test]
    fn a_refusal_costs_nothing() {
        let (buckets, clock) = buckets(two_a_second(), 10);
        let refused = (0..1_000).filter(|_| buckets.draw(key(1)).is_err()).count();
        assert_eq!(refused, 996);
        clock.advance(SECOND / 2);
        assert_eq!(buckets.draw(key(1)), Ok(()));
    }

    #[test]
    fn past_the_bound_newcomers_share_a_bucket_and_known_keys_keep_theirs() {
        let (buckets, clock) = buckets(two_a_second(), 100);
        for number in 0..100 {
            assert_eq!(buckets.draw(key(number)), Ok(()));
        }
        let passed = (1_000..11_000).filter(|number| buckets.draw(key(*number)).is_ok()).count();
        assert_eq!(passed, 4 * SHARDS, "one bucket for each shard");
        assert_eq!(buckets.limiter.len(), 100);
        for number in 0..100 {
            assert_eq!(buckets.draw(key(number)), Ok(()), "{number}");
        }
        clock.advance(SECOND * 10);
        buckets.forget();
        assert_eq!(buckets.limiter.len(), 0, "full again");
        assert_eq!(buckets.draw(key(1_000)), Ok(()));
        assert_eq!(buckets.limiter.len(), 1);
    }

    #[test]
    fn strangers_take_no_room_from_those_who_are_known() {
        let (room, clock) = (Room::of(10), FakeRelativeClock::default());
        let of = || Buckets::of(two_a_second(), room.clone(), clock.clone());
        let (public, protected) = (of(), of());
        for number in 0..10_000 {
            // Most of them share a bucket, and are refused with it.
            let _ = public.draw(key(number));
        }
        let known: Vec<_> =
            (0..5).flat_map(|_| [Key::Device(DeviceId::new()), Key::Person(PersonId::new())]).collect();
        for key in &known {
            let passed = (0..5).filter(|_| protected.draw(*key).is_ok()).count();
            assert_eq!(passed, 4, "a bucket of its own");
        }
        assert_eq!((public.limiter.len(), protected.limiter.len()), (10, 10));
        clock.advance(SECOND * 10);
        protected.forget();
        assert_eq!(room.known.load(Ordering::Relaxed), 0);
        assert_eq!(room.sources.load(Ordering::Relaxed), 10);
    }

    #[test]
    fn who_has_used_some_is_not_forgotten() {
        let (buckets, clock) = buckets(two_a_second(), 10);
        while buckets.draw(key(1)).is_ok() {}
        clock.advance(SECOND / 4);
        buckets.forget();
        assert!(buckets.draw(key(1)).is_err());
    }

    #[test]
    fn buckets_that_share_room_give_it_back_when_they_go() {
        let (room, clock) = (Room::of(10), FakeRelativeClock::default());
        let of = || Buckets::of(two_a_second(), room.clone(), clock.clone());
        let (one, other) = (of(), of());
        (0..8).for_each(|number| assert_eq!(one.draw(key(number)), Ok(())));
        // Some of them share a bucket, and may be refused with it.
        for number in 0..8 {
            let _ = other.draw(key(number));
        }
        assert_eq!((one.limiter.len(), other.limiter.len()), (8, 2));
        drop(one);
        assert_eq!(room.sources.load(Ordering::Relaxed), 2);
        (10..18).for_each(|number| assert_eq!(other.draw(key(number)), Ok(())));
        assert_eq!(other.limiter.len(), 10);
    }
}
