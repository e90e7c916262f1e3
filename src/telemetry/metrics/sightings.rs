//! Who was seen lately, and where. Kept in memory, for an administrator who wants to try a policy; never logged
//! and never exported.

use std::collections::{BTreeMap, HashMap};

use parking_lot::Mutex;

use crate::domain::{RouteId, Serial, Sighting};

/// Sightings that are kept, at most.
pub const MOST_SIGHTINGS: usize = 1_000;

/// The newest sighting of each certificate at each route, up to [`MOST_SIGHTINGS`] of them.
#[derive(Debug, Default)]
pub struct Sightings(Mutex<Recent>);

type Key = (Serial, RouteId);

#[derive(Debug, Default)]
struct Recent {
    /// When each was seen, counted from the first.
    next: u64,
    by_turn: BTreeMap<u64, Key>,
    rows: HashMap<Key, (u64, Sighting)>,
}

impl Sightings {
    /// Somebody was seen. The oldest is forgotten if there is no room.
    pub fn note(&self, sighting: Sighting) {
        let mut recent = self.0.lock();
        let (turn, key) = (recent.next, (sighting.serial, sighting.route));
        recent.next += 1;
        if let Some((before, _)) = recent.rows.insert(key, (turn, sighting)) {
            recent.by_turn.remove(&before);
        }
        recent.by_turn.insert(turn, key);
        if recent.rows.len() > MOST_SIGHTINGS
            && let Some((_, oldest)) = recent.by_turn.pop_first()
        {
            recent.rows.remove(&oldest);
        }
    }

    /// Who was seen at this route, newest first.
    pub fn at(&self, route: RouteId) -> Vec<Sighting> {
        let recent = self.0.lock();
        let keys = recent.by_turn.values().rev().filter(|(_, at)| *at == route);
        keys.filter_map(|key| recent.rows.get(key)).map(|(_, sighting)| sighting.clone()).collect()
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
}
