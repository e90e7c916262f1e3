//! The targets of a group at one time. Where they are found by a name they change while the group stays.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::domain::upstream::Forced;
use crate::edge::upstream::discovery::{Endpoint, Name};
use crate::edge::upstream::places::Places;
use crate::edge::upstream::target::State;
use crate::live::Target;

/// Where targets come from.
#[derive(Clone, Debug)]
pub(in crate::edge::upstream) enum Source {
    /// A target as it is written.
    Itself(Target),
    /// A name, and the addresses behind it.
    Named(Arc<Name>),
}

/// The targets of a group at one time.
#[derive(Debug)]
pub(in crate::edge::upstream) struct Members {
    pub(super) all: Vec<Member>,
    /// There are none, because a name was asked for and nothing has come yet.
    pub(super) is_awaited: bool,
    has_shares: bool,
    has_ranks: bool,
}

/// One of them.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) state: Arc<State>,
    pub(super) forced: Option<Forced>,
    /// 0 is used first.
    pub(super) rank: usize,
    /// Of the requests, where 1 is as much as the others of its name and rank have on average.
    pub(super) share: f64,
}

impl Members {
    /// Those that `sources` stand for now. Names take turns, so that none is crowded out by another.
    pub(in crate::edge::upstream) fn of(
        sources: &[Source],
        forced: &BTreeMap<String, Forced>,
        mut state: impl FnMut(&Target) -> Arc<State>,
    ) -> Self {
        let mut is_awaited = false;
        let mut lists: Vec<_> = sources
            .iter()
            .map(|source| match source {
                Source::Itself(target) => vec![(target.clone(), 0, 1.0)].into_iter(),
                Source::Named(name) => {
                    let known = name.known();
                    is_awaited |= known.is_unheard();
                    places(&name.target, known.endpoints()).into_iter()
                }
            })
            .collect();
        let mut all = Vec::new();
        while all.len() < Places::MOST {
            let round: Vec<_> = lists.iter_mut().filter_map(Iterator::next).collect();
            if round.is_empty() {
                break;
            }
            all.extend(round.into_iter().take(Places::MOST - all.len()).map(|(target, rank, share)| {
                Member { state: state(&target), forced: forced.get(&target.text).copied(), rank, share }
            }));
        }
        Self {
            is_awaited: is_awaited && all.is_empty(),
            has_shares: all.iter().any(|member| member.share != 1.0),
            has_ranks: all.iter().any(|member| member.rank != 0),
            all,
        }
    }

    /// Those of `among` that are used before the others.
    pub(super) fn foremost(&self, among: Places) -> Places {
        if !self.has_ranks {
            return among;
        }
        let mut foremost = Places::default();
        if let Some(first) = self.first_rank(among) {
            among.iter().filter(|place| self.all[*place].rank == first).for_each(|place| foremost.add(place));
        }
        foremost
    }

    /// The rank of those of `among` that are used first.
    pub(super) fn first_rank(&self, among: Places) -> Option<usize> {
        among.iter().map(|place| self.all[place].rank).min()
    }

    /// Whether shares differ.
    pub(super) fn has_shares(&self) -> bool {
        self.has_shares
    }

    /// The one of `among`, which are some, that `point` falls to: of all that `point` may be, each has its share.
    pub(super) fn at(&self, among: Places, point: u64) -> usize {
        let whole: f64 = among.iter().map(|place| self.all[place].share).sum();
        let mut left = whole * (point as f64 / u64::MAX as f64);
        let mut last = among.nth(0);
        for place in among.iter() {
            last = place;
            left -= self.all[place].share;
            if left < 0.0 {
                break;
            }
        }
        last
    }
}

/// The targets behind one name, with rank and share.
fn places(target: &Target, endpoints: &[Endpoint]) -> Vec<(Target, usize, f64)> {
    // They are sorted by priority.
    let mut priorities: Vec<_> = endpoints.iter().map(|endpoint| endpoint.priority).collect();
    priorities.dedup();
    let weights: Vec<_> = endpoints.iter().map(|endpoint| weight(endpoint, endpoints)).collect();
    let mut places = Vec::with_capacity(endpoints.len());
    for (rank, priority) in priorities.into_iter().enumerate() {
        let level =
            || endpoints.iter().zip(&weights).filter(move |(endpoint, _)| endpoint.priority == priority);
        let mean = level().map(|(_, weight)| weight).sum::<f64>() / level().count() as f64;
        // Exactly 1 where all are equal, so that nothing is weighed.
        let is_even = level().all(|(_, weight)| (weight - mean).abs() < mean * 1e-9);
        let share = |weight: &f64| if is_even { 1.0 } else { weight / mean };
        places.extend(level().map(|(endpoint, weight)| (target.at(endpoint.address), rank, share(weight))));
    }
    places
}

/// What DNS says of a server is said of all its addresses together.
fn weight(endpoint: &Endpoint, all: &[Endpoint]) -> f64 {
    let is_same = |other: &&Endpoint| {
        other.priority == endpoint.priority
            && other.host == endpoint.host
            && other.address.port() == endpoint.address.port()
    };
    let weight = if endpoint.weight == 0 { 0.1 } else { f64::from(endpoint.weight) };
    weight / all.iter().filter(is_same).count() as f64
}
