//! What all threads of an edge know of targets, by upstream: the same for each of them, and for each version of the
//! configuration as far as the same targets are in it. Where names stand for targets, the groups get others as the
//! names do.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::discovery::Names;
use super::group::{Common, Group, Members, Source};
use super::target::State;
use crate::domain::Slug;
use crate::domain::upstream::{NameStatus, TargetStatus};
use crate::live::{Target, Upstream};

/// Everything that the threads of an edge know of targets, by upstream.
#[derive(Debug)]
pub(in crate::edge) struct Upstreams {
    began: Instant,
    known: Mutex<Known>,
    /// There may be a name that nobody has asked for.
    changed: Notify,
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
        Self { began: Instant::now(), known: Mutex::default(), changed: Notify::new() }
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
        let sources = sources(upstream, &common.names);
        let members = known.members(upstream, &sources);
        let group = Arc::new(Group::of(upstream.clone(), (sources, members), common, self.began));
        known.groups.insert(upstream.name.clone(), Arc::downgrade(&group));
        self.changes();
        group
    }

    /// Names of this upstream stand for other addresses.
    pub(super) fn renew(&self, upstream: &Slug) {
        let mut known = self.known.lock();
        if let Some(group) = known.groups.get(upstream).and_then(Weak::upgrade) {
            let members = known.members(&group.upstream, &group.sources);
            group.swap(members);
            known.forget();
        }
    }

    /// Milliseconds since the beginning.
    pub(super) fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// When it is so many milliseconds since the beginning.
    pub(super) fn at(&self, millis: u64) -> Instant {
        self.began + Duration::from_millis(millis)
    }

    /// Whoever asks for names has to look.
    pub(super) fn changes(&self) {
        self.changed.notify_one();
    }

    /// Waits until somebody has to look.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// How every target in use is seen.
    pub(in crate::edge) fn status(&self) -> Vec<TargetStatus> {
        let mut all: Vec<_> = self.groups().iter().flat_map(|group| group.status()).collect();
        all.sort_by(|a, b| (&a.upstream, &a.target, a.address).cmp(&(&b.upstream, &b.target, b.address)));
        all
    }

    /// What is known of every name in use.
    pub(in crate::edge) fn names(&self) -> Vec<NameStatus> {
        let now = self.now();
        let mut all = Vec::new();
        for group in self.groups() {
            all.extend(group.names().map(|name| name.status(&group.upstream.name, now)));
        }
        all.sort_by(|a: &NameStatus, b| (&a.upstream, &a.target).cmp(&(&b.upstream, &b.target)));
        all
    }

    fn groups(&self) -> Vec<Arc<Group>> {
        self.known.lock().groups.values().filter_map(Weak::upgrade).collect()
    }
}

/// Where the targets of an upstream come from.
fn sources(upstream: &Upstream, names: &Names) -> Vec<Source> {
    let discovery = upstream.options.discovery.as_ref();
    let source = |target: &Target| match discovery {
        Some(discovery) if target.is_named() => Source::Named(names.of(target, discovery.kind)),
        _ => Source::Itself(target.clone()),
    };
    upstream.targets.iter().map(source).collect()
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

    fn members(&mut self, upstream: &Upstream, sources: &[Source]) -> Members {
        Members::of(sources, &upstream.options.forced, |target| self.state(&upstream.name, target))
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
