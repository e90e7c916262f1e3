//! One target as all threads of an edge see it: its load, its breaker, and what checks have found.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};

use parking_lot::Mutex;

use super::breaker::Breaker;
use super::load::Load;
use crate::domain::upstream::Health;
use crate::live::Target;

/// One target of one upstream.
#[derive(Debug)]
pub(in crate::edge) struct State {
    /// Never that of another.
    pub(super) id: u64,
    pub(super) target: Target,
    /// What tells it from others wherever it runs.
    pub(super) hash: u64,
    pub(super) breaker: Breaker,
    pub(super) load: Load,
    health: AtomicU8,
    /// Checks in a row that say otherwise than `health` does.
    doubts: AtomicU32,
    /// A check is under way.
    pub(super) is_checked: AtomicBool,
    pub(super) requests: AtomicU64,
    pub(super) failures: AtomicU64,
    pub(super) last_failure: Mutex<Option<&'static str>>,
}

impl State {
    /// A target of which nothing is known yet.
    pub(super) fn of(id: u64, target: &Target) -> Self {
        // The same in every process: `DefaultHasher::new` has fixed keys.
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(target);
        Self {
            id,
            target: target.clone(),
            hash,
            breaker: Breaker::default(),
            load: Load::default(),
            health: AtomicU8::new(0),
            doubts: AtomicU32::new(0),
            is_checked: AtomicBool::new(false),
            requests: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            last_failure: Mutex::default(),
        }
    }

    pub(super) fn health(&self) -> Health {
        match self.health.load(Ordering::Acquire) {
            0 => Health::Unknown,
            1 => Health::Healthy,
            _ => Health::Unhealthy,
        }
    }

    /// Nobody checks any more.
    pub(super) fn forget_checks(&self) {
        self.health.store(0, Ordering::Release);
        self.doubts.store(0, Ordering::Relaxed);
    }

    /// What a check has found. Returns whether the target's health is another now.
    pub(super) fn checked(&self, is_well: bool, healthy_after: u32, unhealthy_after: u32) -> bool {
        let (health, needed) = match is_well {
            true => (1, healthy_after),
            false => (2, unhealthy_after),
        };
        if self.health.load(Ordering::Acquire) == health {
            self.doubts.store(0, Ordering::Relaxed);
            return false;
        }
        let doubts = self.doubts.fetch_add(1, Ordering::Relaxed) + 1;
        let is_first = self.health.load(Ordering::Acquire) == 0;
        // The first good check is enough: nothing speaks against it.
        if doubts < needed && !(is_first && is_well) {
            return false;
        }
        self.doubts.store(0, Ordering::Relaxed);
        self.health.store(health, Ordering::Release);
        true
    }
}
