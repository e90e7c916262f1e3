//! Who was seen lately, and where. Kept in memory, for an administrator who wants to try a policy; never logged
//! and never exported.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

use parking_lot::Mutex;

use crate::domain::{RouteId, Serial, Sighting};

/// Sightings that are kept, at most.
pub const MOST_SIGHTINGS: usize = 1_000;

/// The newest sighting of each certificate at each route, up to [`MOST_SIGHTINGS`] of them. All routes have an
/// equal share: what one is not asked for, others may use.
#[derive(Debug, Default)]
pub struct Sightings(Mutex<Recent>);

#[derive(Debug, Default)]
struct Recent {
    /// When each was seen, counted from the first.
    next: u64,
    /// Of all routes together.
    count: usize,
    routes: HashMap<RouteId, AtRoute>,
}

#[derive(Debug, Default)]
struct AtRoute {
    by_turn: BTreeMap<u64, Serial>,
    rows: HashMap<Serial, (u64, Sighting)>,
}

impl Sightings {
    /// Somebody was seen. If there is no room, the route forgets its own oldest once it has more than its share,
    /// else the one that has most forgets.
    pub fn note(&self, sighting: Sighting) {
        let mut recent = self.0.lock();
        let (turn, route, serial) = (recent.next, sighting.route, sighting.serial);
        recent.next += 1;
        let at = recent.routes.entry(route).or_default();
        at.by_turn.insert(turn, serial);
        match at.rows.insert(serial, (turn, sighting)) {
            Some((before, _)) => {
                at.by_turn.remove(&before);
            }
            None => recent.count += 1,
        }
        if recent.count > MOST_SIGHTINGS {
            recent.forget_for(route);
        }
    }

    /// Who was seen at this route, newest first.
    pub fn at(&self, route: RouteId) -> Vec<Sighting> {
        let recent = self.0.lock();
        let Some(at) = recent.routes.get(&route) else { return Vec::new() };
        let newest = at.by_turn.values().rev();
        newest.filter_map(|serial| at.rows.get(serial)).map(|(_, sighting)| sighting.clone()).collect()
    }
}

impl Recent {
    /// Forgets one for what was seen at `route`.
    fn forget_for(&mut self, route: RouteId) {
        let share = (MOST_SIGHTINGS / self.routes.len().max(1)).max(1);
        let has_more = self.routes.get(&route).is_some_and(|at| at.rows.len() > share);
        // Of those that have as many, the one that was longest without a visitor.
        let weight = |at: &AtRoute| (at.rows.len(), Reverse(at.by_turn.keys().next_back().copied()));
        let greatest = || self.routes.iter().max_by_key(|(_, at)| weight(at)).map(|(route, _)| *route);
        let from = if has_more { Some(route) } else { greatest() };
        let Some(from) = from else { return };
        let Some(at) = self.routes.get_mut(&from) else { return };
        if let Some((_, oldest)) = at.by_turn.pop_first() {
            at.rows.remove(&oldest);
            self.count -= 1;
        }
        if at.rows.is_empty() {
            self.routes.remove(&from);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;
    use crate::domain::UtcTime;

    fn sighting(number: u16, route: RouteId, at: i64) -> Sighting {
        let [high, low] = number.to_be_bytes();
        Sighting {
            serial: Serial::from_der_octets(&[1, high, low]).unwrap(),
            route,
            method: "GET".into(),
            path: "/".into(),
            source: IpAddr::V4(Ipv4Addr::LOCALHOST),
            admitted: true,
            at: UtcTime::from_unix(at),
        }
    }

    #[test]
    fn each_certificate_is_kept_once_a_route_and_the_oldest_gives_way() {
        let (sightings, route, other) = (Sightings::default(), RouteId::new(), RouteId::new());
        for number in 0..1_000 {
            sightings.note(sighting(number, route, 1));
        }
        sightings.note(sighting(0, route, 2));
        assert_eq!(sightings.at(route).len(), 1_000);
        sightings.note(sighting(0, other, 3));
        let kept = sightings.at(route);
        assert_eq!(kept.len(), 999);
        assert_eq!(kept.first(), Some(&sighting(0, route, 2)), "seen again");
        assert!(!kept.contains(&sighting(1, route, 1)), "the oldest");
        assert_eq!(sightings.at(other), [sighting(0, other, 3)]);
        assert!(sightings.at(RouteId::new()).is_empty());
    }

    #[test]
    fn a_busy_route_takes_no_others_share() {
        let (sightings, busy, quiet) = (Sightings::default(), RouteId::new(), RouteId::new());
        for number in 0..400 {
            sightings.note(sighting(number, quiet, 1));
        }
        for number in 0..3_000 {
            sightings.note(sighting(number, busy, 2));
        }
        assert_eq!((sightings.at(quiet).len(), sightings.at(busy).len()), (400, 600));
        for number in 400..1_000 {
            sightings.note(sighting(number, quiet, 3));
        }
        assert_eq!((sightings.at(quiet).len(), sightings.at(busy).len()), (500, 500));
        for _ in 0..1_200 {
            sightings.note(sighting(0, RouteId::new(), 4));
        }
        assert_eq!((sightings.at(quiet).len(), sightings.at(busy).len()), (0, 0));
        assert_eq!(sightings.0.lock().count, 1_000);
        assert_eq!(sightings.0.lock().routes.len(), 1_000);
    }
}
