//! Which of the targets of a group a request goes to.

use std::sync::atomic::Ordering;

use super::{Group, Member, Members, Wish};
use crate::domain::upstream::{Balance, Forced};
use crate::edge::upstream::breaker::Admits;
use crate::edge::upstream::places::Places;

/// 2^64 divided by the golden ratio: multiples of it are spread evenly, however many there are.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// What was chosen.
pub(super) enum Choice {
    /// The target at this place; whether the request decides about it.
    Target(usize, bool),
    /// All that could be used are busy.
    Busy,
    /// There is none.
    None,
}

impl Group {
    /// The targets that are left for a request, those of them that seem well, and one that waits for its probe.
    pub(super) fn look(&self, members: &Members, wish: &Wish, now: u64) -> (Places, Places, Option<usize>) {
        let (mut left, mut good, mut probe) = (Places::default(), Places::default(), None);
        for (place, member) in members.all.iter().enumerate() {
            let Member { state, forced, rank, .. } = member;
            if wish.tried.has(state.id) || *forced == Some(Forced::Open) {
                continue;
            }
            left.add(place);
            if *forced == Some(Forced::Closed) {
                good.add(place);
            } else if !self.is_unhealthy(state) {
                match state.breaker.admits(now) {
                    Admits::All => good.add(place),
                    Admits::One if probe.is_none_or(|other: usize| members.all[other].rank >= *rank) => {
                        probe = Some(place);
                    }
                    Admits::One | Admits::None => {}
                }
            }
        }
        (left, good, probe)
    }

    pub(super) fn choose(&self, members: &Members, wish: &Wish) -> Choice {
        let now = self.now();
        let (left, good, probe) = self.look(members, wish, now);
        // Whoever is back is noticed by a request that can be sent elsewhere if it is not.
        let has_room = |place: &usize| members.all[*place].state.load.in_flight() < self.most;
        let has_second_try = || self.upstream.options.retry_percent == 0 || self.common.budget.is_left(now);
        let may_probe = !wish.has_answer && (good.count() == 0 || (wish.repeatable && has_second_try()));
        // Nobody needs to know whether a stand-in is back.
        let is_wanted =
            |place: &usize| members.first_rank(good).is_none_or(|first| members.all[*place].rank <= first);
        if let Some(place) = probe.filter(|_| may_probe).filter(has_room).filter(is_wanted)
            && members.all[place].state.breaker.take_probe()
        {
            return Choice::Target(place, true);
        }
        // Where nobody is well, anybody is better than nobody.
        let among = match good.count() {
            0 if wish.has_answer => return Choice::None,
            0 => left,
            _ => good,
        };
        if among.count() == 0 {
            return Choice::None;
        }
        let mut free = Places::default();
        among.iter().filter(has_room).for_each(|place| free.add(place));
        match free.count() {
            0 => Choice::Busy,
            _ => Choice::Target(self.pick(members, members.foremost(free), wish, now), false),
        }
    }

    fn pick(&self, members: &Members, among: Places, wish: &Wish, now: u64) -> usize {
        let count = among.count();
        if count == 1 {
            return among.nth(0);
        }
        let member = |place: usize| &members.all[place];
        let is_weighed = members.has_shares();
        match self.upstream.options.balance {
            Balance::RoundRobin => {
                let turn = self.turn.fetch_add(1, Ordering::Relaxed);
                match is_weighed {
                    true => members.at(among, (turn as u64).wrapping_mul(GOLDEN)),
                    false => among.nth(turn % count),
                }
            }
            Balance::ConsistentHash => {
                let number = |place: &usize| mix(member(*place).state.hash ^ wish.key);
                if !is_weighed {
                    return among.iter().max_by_key(number).unwrap_or_default();
                }
                // Weighted rendezvous: a share that changes moves no more than it has to.
                let distance = |place: &usize| {
                    let even = (number(place) as f64 + 1.0) / (u64::MAX as f64 + 2.0);
                    -even.ln() / member(*place).share
                };
                among.iter().min_by(|a, b| distance(a).total_cmp(&distance(b))).unwrap_or_default()
            }
            Balance::LeastLoaded => {
                let (first, second) = match is_weighed {
                    // Each comes up as often as its share says, and has to be less busy for its share.
                    true => {
                        let point = mix(wish.chance);
                        (members.at(among, point), members.at(among, mix(point ^ GOLDEN)))
                    }
                    false => {
                        let first = (wish.chance % count as u64) as usize;
                        let step = 1 + (wish.chance / count as u64 % (count as u64 - 1)) as usize;
                        (among.nth(first), among.nth((first + step) % count))
                    }
                };
                let cost = |place: usize| member(place).state.load.cost(now, member(place).share);
                if cost(second) < cost(first) { second } else { first }
            }
        }
    }
}

/// SplitMix64's last step: near numbers come far apart.
pub(super) fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}
