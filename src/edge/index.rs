//! Open connections by who is behind them, so that a revocation finds the ones it ends.
//!
//! Written by the connections of all threads, asked by whoever applies register changes. The order
//! that closes the gap: a connection enters itself *before* it reads the epoch and classifies, and
//! looks at the epoch once more afterwards; a change raises the epoch *before* it asks the index.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::domain::{Fingerprint, PersonId, Slug, UtcTime};
use crate::live::{Change, Delta, Identity};

/// What the owner of a connection is asked to do. Set from any thread, acted on by its own.
#[derive(Debug, Default)]
pub(super) struct Signal {
    wake: Notify,
    doubt: AtomicBool,
    ending: AtomicU8,
}

/// How far a connection is asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Ending {
    /// It may go on.
    Not,
    /// Finish what is in flight and what is asked for next; somebody else serves what comes after.
    Leave,
    /// Finish what is in flight, take nothing new.
    Drain,
    /// At once.
    Cut,
}

impl Signal {
    /// Completes when something was asked. One waiter only; an early call is not lost.
    pub(super) async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Wakes the owner to look around.
    pub(super) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Whether the identity or the policy may have changed since this was last asked.
    pub(super) fn take_doubt(&self) -> bool {
        self.doubt.swap(false, Ordering::AcqRel)
    }

    pub(super) fn ending(&self) -> Ending {
        match self.ending.load(Ordering::Acquire) {
            0 => Ending::Not,
            1 => Ending::Leave,
            2 => Ending::Drain,
            _ => Ending::Cut,
        }
    }

    pub(super) fn end(&self, how: Ending) {
        self.ending.fetch_max(how as u8, Ordering::AcqRel);
        self.wake();
    }

    fn raise_doubt(&self) {
        self.doubt.store(true, Ordering::Release);
        self.wake();
    }
}

/// The connections of one edge.
#[derive(Debug, Default)]
pub(super) struct Index(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    next: u64,
    open: HashMap<u64, Row>,
    by_fingerprint: Groups<Fingerprint>,
    by_person: Groups<PersonId>,
    by_authority: Groups<Slug>,
    /// Known identities by the second after which they stop passing.
    ends: BTreeSet<(UtcTime, u64)>,
}

/// The connections that have something in common.
#[derive(Debug)]
struct Groups<K>(HashMap<K, HashSet<u64>>);

impl<K> Default for Groups<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Hash + Eq> Groups<K> {
    fn insert(&mut self, key: K, id: u64) {
        self.0.entry(key).or_default().insert(id);
    }

    fn remove(&mut self, key: &K, id: u64) {
        if let Some(ids) = self.0.get_mut(key) {
            ids.remove(&id);
            if ids.is_empty() {
                self.0.remove(key);
            }
        }
    }

    fn of(&self, key: &K) -> impl Iterator<Item = &u64> {
        self.0.get(key).into_iter().flatten()
    }
}

#[derive(Debug)]
struct Row {
    signal: Arc<Signal>,
    fingerprint: Option<Fingerprint>,
    known: Option<Known>,
    /// Whether somebody else serves it and ends it.
    is_handed_over: bool,
}

#[derive(Debug, PartialEq, Eq)]
struct Known {
    person: PersonId,
    authority: Slug,
    ends: UtcTime,
}

/// A connection's place in the index, left when dropped.
#[derive(Debug)]
pub(super) struct Place {
    index: Arc<Index>,
    id: u64,
    signal: Arc<Signal>,
}

impl Place {
    pub(super) fn signal(&self) -> &Arc<Signal> {
        &self.signal
    }

    /// Whether somebody else serves the connection: then it is only watched, and not asked to end.
    pub(super) fn set_handed_over(&self, is_handed_over: bool) {
        if let Some(row) = self.index.0.lock().open.get_mut(&self.id) {
            row.is_handed_over = is_handed_over;
        }
    }

    /// Notes who the connection turned out to be; `None` when its certificate does not pass.
    pub(super) fn set_identity(&self, identity: Option<&Identity>) {
        let known = identity.map(|identity| Known {
            person: identity.person().id,
            authority: identity.authority().name.clone(),
            ends: ends_at(identity),
        });
        self.index.0.lock().set_known(self.id, known);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.index.0.lock().remove(self.id);
    }
}

/// The last second at which this identity passes.
pub(super) fn ends_at(identity: &Identity) -> UtcTime {
    identity.not_after().min(identity.authority().not_after)
}

impl Index {
    /// Enters a connection under the certificate it presented, if any.
    pub(super) fn enter(self: &Arc<Self>, fingerprint: Option<Fingerprint>) -> Place {
        let signal = Arc::new(Signal::default());
        let mut table = self.0.lock();
        let id = table.next;
        table.next += 1;
        if let Some(fingerprint) = fingerprint {
            table.by_fingerprint.insert(fingerprint, id);
        }
        table
            .open
            .insert(id, Row { signal: signal.clone(), fingerprint, known: None, is_handed_over: false });
        Place { index: self.clone(), id, signal }
    }

    /// Raises doubt on every connection that one of these changes concerns.
    pub(super) fn changed(&self, changes: &[&Change]) {
        let mut doubted = Vec::new();
        {
            let table = self.0.lock();
            for change in changes {
                match &change.delta {
                    Delta::Revoked { fingerprint, .. } | Delta::Released { fingerprint } => {
                        table.signals(table.by_fingerprint.of(fingerprint), &mut doubted);
                    }
                    Delta::Certificate(record) => {
                        table.signals(table.by_fingerprint.of(&record.fingerprint), &mut doubted);
                    }
                    Delta::Person(record) => table.signals(table.by_person.of(&record.id), &mut doubted),
                    Delta::Authority(record) => {
                        table.signals(table.by_authority.of(&record.name), &mut doubted);
                    }
                }
            }
        }
        // Outside the lock: every new connection waits for it.
        doubted.iter().for_each(|signal| signal.raise_doubt());
    }

    /// Raises doubt on every connection: the policy has changed.
    pub(super) fn doubt_all(&self) {
        let all: Vec<_> = self.0.lock().open.values().map(|row| row.signal.clone()).collect();
        all.iter().for_each(|signal| signal.raise_doubt());
    }

    /// Raises doubt on every connection whose certificate has ended before `now`.
    pub(super) fn expire(&self, now: UtcTime) {
        let mut table = self.0.lock();
        while let Some((ends, id)) = table.ends.first().copied().filter(|(ends, _)| *ends < now) {
            table.ends.remove(&(ends, id));
            if let Some(row) = table.open.get(&id) {
                row.signal.raise_doubt();
            }
        }
    }

    /// Asks every connection that is served here to end. Returns how many there are.
    pub(super) fn end_all(&self, how: Ending) -> usize {
        let table = self.0.lock();
        let own = table.open.values().filter(|row| !row.is_handed_over);
        own.map(|row| row.signal.end(how)).count()
    }
}

impl Table {
    fn signals<'a>(&self, ids: impl Iterator<Item = &'a u64>, to: &mut Vec<Arc<Signal>>) {
        to.extend(ids.filter_map(|id| self.open.get(id)).map(|row| row.signal.clone()));
    }

    fn set_known(&mut self, id: u64, known: Option<Known>) {
        let Some(row) = self.open.get_mut(&id) else { return };
        if row.known == known {
            // It may have been taken out while the clock ran ahead.
            self.ends.extend(row.known.as_ref().map(|known| (known.ends, id)));
            return;
        }
        if let Some(old) = std::mem::replace(&mut row.known, known) {
            self.ends.remove(&(old.ends, id));
            self.by_person.remove(&old.person, id);
            self.by_authority.remove(&old.authority, id);
        }
        if let Some(new) = &row.known {
            self.ends.insert((new.ends, id));
            self.by_person.insert(new.person, id);
            self.by_authority.insert(new.authority.clone(), id);
        }
    }

    fn remove(&mut self, id: u64) {
        self.set_known(id, None);
        if let Some(fingerprint) = self.open.remove(&id).and_then(|row| row.fingerprint) {
            self.by_fingerprint.remove(&fingerprint, id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{PersonRecord, RevocationReason};

    fn revoked(n: u8) -> Change {
        Change {
            epoch: 1,
            delta: Delta::Revoked {
                fingerprint: Fingerprint([n; 32]),
                at: UtcTime::from_unix(1),
                reason: RevocationReason::KeyCompromise,
            },
        }
    }

    #[test]
    fn a_revocation_finds_its_connections_and_no_other() {
        let index = Arc::new(Index::default());
        let mine = [index.enter(Some(Fingerprint([1; 32]))), index.enter(Some(Fingerprint([1; 32])))];
        let other = index.enter(Some(Fingerprint([2; 32])));
        let nobody = index.enter(None);
        index.changed(&[&revoked(1)]);
        assert!(mine.iter().all(|place| place.signal().take_doubt()));
        assert!(!other.signal().take_doubt() && !nobody.signal().take_doubt());
    }

    fn known(person: PersonId, authority: &str) -> Option<Known> {
        Some(Known { person, authority: authority.parse().unwrap(), ends: UtcTime::from_unix(9) })
    }

    #[test]
    fn a_person_s_change_touches_their_connections_and_no_other() {
        let index = Arc::new(Index::default());
        let (anna, ben) = (PersonId::new(), PersonId::new());
        let places: Vec<_> = (0..5_000).map(|_| index.enter(None)).collect();
        for place in &places {
            let person = if place.id % 1_000 == 7 { anna } else { ben };
            index.0.lock().set_known(place.id, known(person, if place.id < 10 { "old" } else { "new" }));
        }
        let doubted = || places.iter().filter(|place| place.signal.take_doubt()).map(|place| place.id);
        let change = |delta| index.changed(&[&Change { epoch: 1, delta }]);
        let record = PersonRecord {
            id: anna,
            email: String::new(),
            name: String::new(),
            groups: Default::default(),
            disabled: true,
        };
        change(Delta::Person(record));
        assert_eq!(doubted().collect::<Vec<_>>(), [7, 1_007, 2_007, 3_007, 4_007]);
        assert_eq!(index.0.lock().by_authority.of(&"old".parse().unwrap()).count(), 10);
        drop(places);
        assert!(index.0.lock().is_empty());
    }

    #[test]
    fn nothing_is_left_of_a_closed_connection() {
        let index = Arc::new(Index::default());
        let place = index.enter(Some(Fingerprint([1; 32])));
        for who in
            [known(PersonId::new(), "a"), known(PersonId::new(), "b"), None, known(PersonId::new(), "a")]
        {
            index.0.lock().set_known(place.id, who);
        }
        drop(place);
        assert!(index.0.lock().is_empty());
    }

    #[test]
    fn an_end_that_passed_by_a_wrong_clock_is_looked_for_again() {
        let index = Arc::new(Index::default());
        let (place, anna) = (index.enter(None), PersonId::new());
        index.0.lock().set_known(place.id, known(anna, "a"));
        index.expire(UtcTime::from_unix(10));
        assert!(place.signal.take_doubt());
        // The clock was set back, and it passes again.
        index.0.lock().set_known(place.id, known(anna, "a"));
        index.expire(UtcTime::from_unix(10));
        assert!(place.signal.take_doubt());
    }

    impl Table {
        fn is_empty(&self) -> bool {
            self.open.is_empty()
                && self.ends.is_empty()
                && self.by_fingerprint.0.is_empty()
                && self.by_person.0.is_empty()
                && self.by_authority.0.is_empty()
        }
    }
}
