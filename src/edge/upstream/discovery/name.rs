//! The names of an upstream, and what is known of each.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Mutex, MutexGuard};

use super::found::{Answer, Found};
use crate::domain::Slug;
use crate::domain::upstream::{Discovery, DiscoveryKind, NameStatus};
use crate::live::Target;
use crate::telemetry::metrics::LookupFault;

/// The names of one upstream. They outlive an edit of its options.
#[derive(Debug, Default)]
pub(in crate::edge::upstream) struct Names(Mutex<HashMap<(Target, DiscoveryKind), Arc<Name>>>);

impl Names {
    /// The name of this target, the same as long as somebody uses it.
    pub(in crate::edge::upstream) fn of(&self, target: &Target, kind: DiscoveryKind) -> Arc<Name> {
        let mut names = self.0.lock();
        names.retain(|_, name| Arc::strong_count(name) > 1);
        let new = || Arc::new(Name::new(target.clone()));
        names.entry((target.clone(), kind)).or_insert_with(new).clone()
    }
}

/// The host of a target, and what is known of it.
#[derive(Debug)]
pub(in crate::edge::upstream) struct Name {
    pub(in crate::edge::upstream) target: Target,
    known: Mutex<Found>,
    is_asked: AtomicBool,
}

impl Name {
    pub(in crate::edge::upstream) fn new(target: Target) -> Self {
        Self { target, known: Mutex::default(), is_asked: AtomicBool::new(false) }
    }

    pub(in crate::edge::upstream) fn known(&self) -> MutexGuard<'_, Found> {
        self.known.lock()
    }

    /// Whoever is told `Ok` asks, and tells with [`Self::learn`].
    ///
    /// # Errors
    /// When it is due, if nobody asks already.
    pub(super) fn begin(&self, now: u64, discovery: &Discovery) -> Result<(), Option<u64>> {
        if self.is_asked.load(Ordering::Acquire) {
            return Err(None);
        }
        let due = self.known().due(discovery);
        if due > now {
            return Err(Some(due));
        }
        self.is_asked.store(true, Ordering::Release);
        Ok(())
    }

    /// What has come. Returns what was known before and what is known now.
    pub(in crate::edge::upstream) fn learn(
        &self,
        now: u64,
        answer: Result<Answer, LookupFault>,
        own: &[SocketAddr],
        chance: u64,
    ) -> (Found, Found) {
        let mut known = self.known();
        let after = known.next(now, answer, own, chance);
        let before = std::mem::replace(&mut *known, after.clone());
        self.is_asked.store(false, Ordering::Release);
        (before, after)
    }

    pub(in crate::edge::upstream) fn status(&self, upstream: &Slug, now: u64) -> NameStatus {
        let known = self.known();
        NameStatus {
            upstream: upstream.clone(),
            target: self.target.text.clone(),
            addresses: known.endpoints().len(),
            left_out: known.left_out(),
            stale: known.fault().map(LookupFault::word),
            age: known.age(now),
        }
    }
}
