//! The register: every client certificate that the gate recorded, with the people and authorities
//! behind them. Applied as deltas, read on every handshake, never reverted.
//!
//! A certificate that is not in here does not pass, whoever signed it. Revoked ones stay until they
//! expire, so that a refused visitor learns why.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use crate::domain::{
    AuthorityRecord, CertificateRecord, Change, Delta, DeviceId, Fingerprint, PersonId, PersonRecord,
    RevocationReason, Serial, Slug, UtcTime,
};
use hashbrown::HashTable;
use parking_lot::RwLock;

/// What the register knows of one certificate.
#[derive(Clone, Debug)]
pub struct Standing {
    /// Its serial.
    pub serial: Serial,
    /// Whose it is; `None` if the person is not on record (then it does not pass).
    pub person: Option<Arc<PersonRecord>>,
    /// On which device.
    pub device: DeviceId,
    /// Under which profile.
    pub profile: Slug,
    /// Who signed it; `None` if that authority is not on record (then it does not pass).
    pub authority: Option<Arc<AuthorityRecord>>,
    /// Start of validity, inclusive.
    pub not_before: UtcTime,
    /// End of validity, inclusive.
    pub not_after: UtcTime,
    /// When and why it was revoked, if it was.
    pub revoked: Option<(UtcTime, RevocationReason)>,
}

/// How long an expired certificate stays in a copy on disk.
const KEEP_AFTER_END: Duration = Duration::from_secs(30 * 86_400);

/// The register of one edge.
pub struct Register {
    epoch: AtomicU64,
    /// Until when the feed has said that nothing is missing, Unix seconds.
    as_of: AtomicI64,
    state: RwLock<State>,
}

#[derive(Default)]
struct State {
    /// Indices into `records`. Fingerprints are SHA-256, so their first eight octets are the hash.
    index: HashTable<u32>,
    records: Vec<Record>,
    people: HashMap<PersonId, Arc<PersonRecord>>,
    names: Names,
    authorities: HashMap<u16, Arc<AuthorityRecord>>,
}

/// One certificate in 100 octets; with its index entry the register stays under 120 (design, decision 4).
#[derive(Clone)]
struct Record {
    fingerprint: Fingerprint,
    serial: [u8; crate::domain::serial::OWN_OCTETS],
    person: PersonId,
    device: DeviceId,
    not_before: u32,
    not_after: u32,
    revoked_at: u32,
    authority: u16,
    profile: u16,
    /// CRLReason + 1; 0 = active.
    status: u8,
}

/// Slugs that many records share, stored once.
#[derive(Default)]
struct Names {
    by_number: Vec<Slug>,
    by_name: HashMap<Slug, u16>,
}

impl Names {
    fn number(&mut self, name: &Slug) -> u16 {
        if let Some(number) = self.by_name.get(name) {
            return *number;
        }
        // 65,536 authorities and profiles are out of any installation's reach; the last name is
        // then shared, and such a record refers to an authority that is not on record: it is refused.
        let number = u16::try_from(self.by_number.len()).unwrap_or(u16::MAX);
        self.by_number.push(name.clone());
        self.by_name.insert(name.clone(), number);
        number
    }
}

impl Default for Register {
    fn default() -> Self {
        Self { epoch: AtomicU64::new(0), as_of: AtomicI64::new(0), state: RwLock::new(State::default()) }
    }
}

impl Register {
    /// An empty register at epoch 0: nobody passes.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// The last epoch applied. Read it *before* classifying; if it moved since, classify again.
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Applies changes in order; those at or below the current epoch were applied before and are
    /// skipped. Returns those that were new.
    pub fn apply<'a>(&self, changes: &'a [Change]) -> Vec<&'a Change> {
        let mut state = self.state.write();
        let mut epoch = self.epoch.load(Ordering::Relaxed);
        let mut new = Vec::new();
        for change in changes {
            // Epoch 0 marks the rows of a dump, which have lost their places in the order.
            if change.epoch <= epoch && change.epoch != 0 {
                continue;
            }
            state.apply(&change.delta);
            epoch = epoch.max(change.epoch);
            new.push(change);
        }
        // Released before the lock is, so that whoever sees the new epoch also sees the new state.
        self.epoch.store(epoch, Ordering::Release);
        new
    }

    /// Records that nothing was missing at `now`. The newest word counts, even an earlier time: a clock
    /// that once ran ahead must not make a living feed look stale.
    pub fn confirm(&self, now: UtcTime) {
        self.as_of.store(now.as_unix(), Ordering::Release);
    }

    /// Until when the feed has confirmed this register.
    pub fn as_of(&self) -> UtcTime {
        UtcTime::from_unix(self.as_of.load(Ordering::Acquire))
    }

    /// Whether the register was confirmed within `max_stale` before `now`. A clock that stands
    /// *before* the last confirmation by more than that is as untrustworthy, and not fresh either.
    pub fn is_fresh(&self, now: UtcTime, max_stale: Duration) -> bool {
        let as_of = self.as_of();
        as_of != UtcTime::EPOCH && now.since(as_of) <= max_stale && as_of.since(now) <= max_stale
    }

    /// What is known of the certificate with these bytes.
    pub fn look_up(&self, fingerprint: &Fingerprint) -> Option<Standing> {
        let state = self.state.read();
        let at = *state
            .index
            .find(hash(fingerprint), |at| state.records[*at as usize].fingerprint == *fingerprint)?;
        let record = &state.records[at as usize];
        Some(Standing {
            serial: Serial::from_der_octets(&record.serial).ok()?,
            person: state.people.get(&record.person).cloned(),
            device: record.device,
            profile: state.names.by_number.get(usize::from(record.profile))?.clone(),
            authority: state.authorities.get(&record.authority).cloned(),
            not_before: UtcTime::from_unix(i64::from(record.not_before)),
            not_after: UtcTime::from_unix(i64::from(record.not_after)),
            revoked: reason_of(record.status)
                .map(|reason| (UtcTime::from_unix(i64::from(record.revoked_at)), reason)),
        })
    }

    /// Every authority on record, in no order.
    pub fn authorities(&self) -> Vec<Arc<AuthorityRecord>> {
        self.state.read().authorities.values().cloned().collect()
    }

    /// How many certificates are on record.
    pub fn len(&self) -> usize {
        self.state.read().records.len()
    }

    /// Whether no certificate is on record.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The whole register as deltas, for a compact copy on disk.
    pub fn dump(&self) -> (u64, Vec<Delta>) {
        let state = self.state.read();
        let name = |number: u16| state.names.by_number[usize::from(number)].clone();
        let authorities = state.authorities.values().map(|a| Delta::Authority((**a).clone()));
        let people = state.people.values().map(|p| Delta::Person((**p).clone()));
        // What ended long ago need not be carried on: its own dates still say why it does not pass.
        let oldest = seconds(self.as_of().minus(KEEP_AFTER_END));
        let kept = state.records.iter().filter(|record| record.not_after >= oldest);
        let certificates = kept.filter_map(|record| {
            Some(Delta::Certificate(CertificateRecord {
                fingerprint: record.fingerprint,
                serial: Serial::from_der_octets(&record.serial).ok()?,
                authority: name(record.authority),
                profile: name(record.profile),
                person: record.person,
                device: record.device,
                not_before: UtcTime::from_unix(i64::from(record.not_before)),
                not_after: UtcTime::from_unix(i64::from(record.not_after)),
                revoked: reason_of(record.status)
                    .map(|reason| (UtcTime::from_unix(i64::from(record.revoked_at)), reason)),
            }))
        });
        // Under the same lock as the rows, so epoch and rows belong together.
        (self.epoch(), authorities.chain(people).chain(certificates).collect())
    }
}

impl State {
    fn apply(&mut self, delta: &Delta) {
        match delta {
            Delta::Authority(record) => {
                let number = self.names.number(&record.name);
                put(&mut self.authorities, number, record);
            }
            Delta::Person(record) => put(&mut self.people, record.id, record),
            Delta::Certificate(record) => self.insert(record),
            Delta::Revoked { fingerprint, at, reason } => {
                let at = seconds(*at);
                self.with(fingerprint, |record| {
                    record.status = reason.code() + 1;
                    record.revoked_at = at;
                });
            }
            Delta::Released { fingerprint } => self.with(fingerprint, |record| {
                // Only a hold can be lifted (RFC 5280 §5.3.1); every other reason is final.
                if record.status == RevocationReason::CertificateHold.code() + 1 {
                    record.status = 0;
                }
            }),
        }
    }

    fn insert(&mut self, new: &CertificateRecord) {
        let mut serial = [0; crate::domain::serial::OWN_OCTETS];
        let octets = new.serial.as_octets();
        if octets.len() > serial.len() {
            return; // not a serial of ours; such a certificate never passes
        }
        let start = serial.len() - octets.len();
        serial[start..].copy_from_slice(octets);
        let record = Record {
            fingerprint: new.fingerprint,
            serial,
            person: new.person,
            device: new.device,
            not_before: seconds(new.not_before),
            not_after: seconds(new.not_after),
            revoked_at: new.revoked.map_or(0, |(at, _)| seconds(at)),
            authority: self.names.number(&new.authority),
            profile: self.names.number(&new.profile),
            status: new.revoked.map_or(0, |(_, reason)| reason.code() + 1),
        };
        let Self { index, records, .. } = self;
        let found =
            index.find(hash(&new.fingerprint), |at| records[*at as usize].fingerprint == new.fingerprint);
        if let Some(at) = found {
            let known = &mut records[*at as usize];
            // The same bytes again can add a revocation but never take one away.
            if known.status == 0 {
                *known = record;
            }
            return;
        }
        let at = u32::try_from(records.len()).unwrap_or(u32::MAX);
        if records.len() == records.capacity() {
            records.reserve_exact((records.len() / 8).max(1024)); // doubling would waste half
        }
        records.push(record);
        index.insert_unique(hash(&new.fingerprint), at, |at| hash(&records[*at as usize].fingerprint));
    }

    fn with(&mut self, fingerprint: &Fingerprint, change: impl FnOnce(&mut Record)) {
        let Self { index, records, .. } = self;
        let found = index.find(hash(fingerprint), |at| records[*at as usize].fingerprint == *fingerprint);
        if let Some(at) = found {
            change(&mut records[*at as usize]);
        }
    }
}

/// Puts a record in its place. One that says what the one before says leaves that one there: whoever holds
/// it sees that nothing has changed.
fn put<K: std::hash::Hash + Eq, R: PartialEq + Clone>(records: &mut HashMap<K, Arc<R>>, key: K, new: &R) {
    if records.get(&key).is_none_or(|known| **known != *new) {
        records.insert(key, Arc::new(new.clone()));
    }
}

fn hash(fingerprint: &Fingerprint) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = fingerprint.0;
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

/// Validity as 32-bit Unix seconds: enough until 2106, and later ends only make a leaf end sooner.
fn seconds(at: UtcTime) -> u32 {
    u32::try_from(at.as_unix()).unwrap_or(u32::MAX)
}

fn reason_of(status: u8) -> Option<RevocationReason> {
    let code = status.checked_sub(1)?;
    // A status we cannot read is still a revocation.
    Some(RevocationReason::from_code(code).unwrap_or(RevocationReason::Unspecified))
}

#[cfg(test)]
mod tests;
