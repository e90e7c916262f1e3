//! What all threads of an edge know of targets, by upstream: the same for each of them, and for each version of the
//! configuration as far as the same targets are in it.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::group::{Common, Group};
use super::places::Places;
use super::target::State;
use crate::domain::Slug;
use crate::domain::upstream::TargetStatus;
use crate::live::{Target, Upstream};

/// Everything that the threads of an edge know of targets, by upstream.
#[derive(Debug)]
pub(in crate::edge) struct Upstreams {
    began: Instant,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    groups: HashMap<Slug, Weak<Group>>,
    commons: HashMap<Slug, Weak<Common>>,
    /// Options change without what was learnt of the targets being lost.
    states: HashMap<(Slug, Target), Weak<State>>,
    next: u64,
}

impl Default for Upstreams {
    fn default() -> Self {
        Self { began: Instant::now(), known: Mutex::default() }
    }
}

impl Upstreams {
    /// The group of this upstream, the same for every thread.
    pub(in crate::edge) fn group(&self, upstream: &Arc<Upstream>) -> Arc<Group> {
        let mut known = self.known.lock();
        let kept = known.groups.get(&upstream.name).and_then(Weak::upgrade);
        if let Some(kept) = kept.filter(|kept| kept.upstream == *upstream) {
            return kept;
        }
        known.forget();
        let common = known.common(&upstream.name);
        let targets =
            upstream.targets.iter().take(Places::MOST).map(|target| known.state(&upstream.name, target));
        let group = Arc::new(Group::of(upstream.clone(), targets.collect(), common, self.began));
        known.groups.insert(upstream.name.clone(), Arc::downgrade(&group));
        group
    }

    /// How every target in use is seen.
    pub(in crate::edge) fn status(&self) -> Vec<TargetStatus> {
        let groups: Vec<_> = self.known.lock().groups.values().filter_map(Weak::upgrade).collect();
        let mut all: Vec<_> = groups.iter().flat_map(|group| group.status()).collect();
        all.sort_by(|a, b| (&a.upstream, &a.target).cmp(&(&b.upstream, &b.target)));
        all
    }
}

impl Known {
    /// Leaves out what nobody uses any more.
    fn forget(&mut self) {
        self.groups.retain(|_, group| group.strong_count() > 0);
        self.commons.retain(|_, common| common.strong_count() > 0);
        self.states.retain(|_, state| state.strong_count() > 0);
    }

    fn common(&mut self, upstream: &Slug) -> Arc<Common> {
        let kept = self.commons.get(upstream).and_then(Weak::upgrade);
        kept.unwrap_or_else(|| {
            let common = Arc::default();
            self.commons.insert(upstream.clone(), Arc::downgrade(&common));
            common
        })
    }

    fn state(&mut self, upstream: &Slug, target: &Target) -> Arc<State> {
        let key = (upstream.clone(), target.clone());
        if let Some(kept) = self.states.get(&key).and_then(Weak::upgrade) {
            return kept;
        }
        self.next += 1;
        let state = Arc::new(State::of(self.next, target));
        self.states.insert(key, Arc::downgrade(&state));
        state
    }
}
