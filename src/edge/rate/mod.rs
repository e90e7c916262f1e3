//! How often somebody may come, and with how many connections at a time. Asked by `listener` before anything is read,
//! let alone signed, and by `request` before, and after, it is known who asks.
//!
//! What the process allows (`[edge.limits]`) is made once; the rules of routes follow the configuration (`routes`).
//! Whatever is asked here is answered from memory that is bounded (`buckets`). The edge's calls to itself are asked
//! for nowhere.

mod buckets;
mod routes;
mod source;

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

pub(super) use routes::{Rule, draw};
pub(super) use source::{Slot, Source};

use self::buckets::{Buckets, Key};
use self::routes::OfRoutes;
use self::source::Crowd;
use super::settings::Limits;
use crate::domain::Networks;
use crate::live::{Identity, Route};
use crate::telemetry::metrics::Limit;

/// After a pause, as much as in so many seconds may come at once.
pub(super) const BURST_SECONDS: NonZeroU32 = NonZeroU32::MIN.saturating_add(1);
/// Keys of one limit; about 60 octets each.
const MOST_KEYS: usize = 65_536;
/// Between two lines about closed connections.
const SAY_EVERY: Duration = Duration::from_secs(1);

/// Too often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limited {
    /// For whom.
    pub(super) limit: Limit,
    /// After this time it is not too often any more.
    pub(super) wait: Duration,
}

/// All limits of an edge. Shared by its threads.
pub(super) struct Rate {
    connections: Option<Arc<Crowd>>,
    handshakes: Option<Buckets>,
    handshakes_of_source: Option<Buckets>,
    requests_of_source: Option<Buckets>,
    requests_of_device: Option<Buckets>,
    requests_of_person: Option<Buckets>,
    exempt: Networks,
    routes: OfRoutes,
    closed: Mutex<Closed>,
}

impl Rate {
    pub(super) fn of(limits: &Limits) -> Self {
        Self {
            connections: limits.connections_per_source.map(Crowd::of),
            handshakes: limits.handshakes_per_second.map(Buckets::per_second),
            handshakes_of_source: limits.handshakes_per_second_per_source.map(Buckets::per_second),
            requests_of_source: limits.requests_per_second_per_source.map(Buckets::per_second),
            requests_of_device: limits.requests_per_second_per_device.map(Buckets::per_second),
            requests_of_person: limits.requests_per_second_per_person.map(Buckets::per_second),
            exempt: limits.exempt.clone(),
            routes: OfRoutes::default(),
            closed: Mutex::default(),
        }
    }

    /// What this address is counted as; nothing if it is of a network that is not counted.
    pub(super) fn counted(&self, address: IpAddr) -> Option<Source> {
        source::counted(address, &self.exempt)
    }

    /// A connection from there, counted until its slot is dropped.
    ///
    /// # Errors
    /// As many are open as may be.
    pub(super) fn connect(&self, source: Option<Source>) -> Result<Option<Slot>, Limit> {
        let Some((crowd, source)) = self.connections.as_ref().zip(source) else { return Ok(None) };
        crowd.enter(source).map(Some).ok_or(Limit::ConnectionsSource)
    }

    /// A handshake with somebody there.
    ///
    /// # Errors
    /// The limit that it is over. Who comes too often by themselves uses up nothing of what is everybody's.
    pub(super) fn shake(&self, source: Option<Source>) -> Result<(), Limit> {
        if let Some((buckets, source)) = self.handshakes_of_source.as_ref().zip(source) {
            buckets.draw(Key::Source(source)).map_err(|_| Limit::HandshakesSource)?;
        }
        if let Some(buckets) = &self.handshakes {
            buckets.draw(Key::Everyone).map_err(|_| Limit::Handshakes)?;
        }
        Ok(())
    }

    /// A request from there, whoever asks.
    ///
    /// # Errors
    /// There were too many.
    pub(super) fn request_from(&self, source: Source) -> Result<(), Limited> {
        draw_on(self.requests_of_source.as_ref(), Key::Source(source), Limit::Source)
    }

    /// A request by somebody known.
    ///
    /// # Errors
    /// There were too many, of the device or of the person.
    pub(super) fn request_by(&self, identity: &Identity) -> Result<(), Limited> {
        draw_on(self.requests_of_device.as_ref(), Key::Device(identity.device()), Limit::Device)?;
        draw_on(self.requests_of_person.as_ref(), Key::Person(identity.person().id), Limit::Person)
    }

    /// The rules of this route, with the buckets that they have had so far.
    pub(super) fn rules(&self, route: &Route) -> Vec<Rule> {
        self.routes.rules(route)
    }

    /// Notes that a connection was closed at once, and says so now and then.
    pub(super) fn closed(&self, limit: Limit, address: IpAddr) {
        let mut closed = self.closed.lock();
        closed.note(limit, address);
        let told = closed.told(Instant::now());
        drop(closed);
        told.inspect(Told::say);
    }

    /// Forgets what is not needed any more, and says what was not said. Called about once a second.
    pub(super) fn sweep(&self) {
        let of_process = [
            &self.handshakes,
            &self.handshakes_of_source,
            &self.requests_of_source,
            &self.requests_of_device,
            &self.requests_of_person,
        ];
        of_process.into_iter().flatten().for_each(|buckets| buckets.forget());
        self.routes.forget();
        let told = self.closed.lock().told(Instant::now());
        told.inspect(Told::say);
    }
}

fn draw_on(buckets: Option<&Buckets>, key: Key, limit: Limit) -> Result<(), Limited> {
    match buckets {
        Some(buckets) => buckets.draw(key).map_err(|wait| Limited { limit, wait }),
        None => Ok(()),
    }
}

/// Connections that were closed at once and not said to be yet.
#[derive(Debug, Default)]
struct Closed {
    said_at: Option<Instant>,
    unsaid: Option<Told>,
}

/// What is said of them.
#[derive(Debug)]
struct Told {
    connections_source: u64,
    handshakes_source: u64,
    handshakes: u64,
    /// From where the last of them came.
    last: IpAddr,
}

impl Closed {
    fn note(&mut self, limit: Limit, address: IpAddr) {
        let none = Told { connections_source: 0, handshakes_source: 0, handshakes: 0, last: address };
        let told = self.unsaid.get_or_insert(none);
        told.last = address;
        match limit {
            Limit::ConnectionsSource => told.connections_source += 1,
            Limit::HandshakesSource => told.handshakes_source += 1,
            _ => told.handshakes += 1,
        }
    }

    /// What there is to say, if it is not too soon.
    fn told(&mut self, now: Instant) -> Option<Told> {
        if self.unsaid.is_none() || self.said_at.is_some_and(|at| now < at + SAY_EVERY) {
            return None;
        }
        self.said_at = Some(now);
        self.unsaid.take()
    }
}

impl Told {
    fn say(&self) {
        tracing::warn!(
            connections_source = self.connections_source,
            handshakes_source = self.handshakes_source,
            handshakes = self.handshakes,
            last = %self.last,
            "connections were closed at once, because there were too many; see edge.limits"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(count: u32) -> Option<NonZeroU32> {
        NonZeroU32::new(count)
    }

    #[test]
    fn nothing_is_limited_unless_it_is_said() {
        let rate = Rate::of(&Limits::default());
        let source = rate.counted("192.0.2.1".parse().unwrap());
        for _ in 0..10_000 {
            assert!(rate.connect(source).unwrap().is_none());
            assert_eq!((rate.shake(source), rate.request_from(source.unwrap())), (Ok(()), Ok(())));
        }
    }

    #[test]
    fn who_shakes_hands_too_often_leaves_the_others_theirs() {
        let limits = Limits {
            handshakes_per_second: some(3),
            handshakes_per_second_per_source: some(1),
            ..Limits::default()
        };
        let rate = Rate::of(&limits);
        let shake = |address: &str| rate.shake(rate.counted(address.parse().unwrap()));
        let greedy: Vec<_> = (0..100).filter_map(|_| shake("192.0.2.1").err()).collect();
        assert_eq!(greedy, [Limit::HandshakesSource; 98]);
        for neighbour in ["192.0.2.2", "192.0.2.2", "192.0.2.3", "192.0.2.3"] {
            assert_eq!(shake(neighbour), Ok(()));
        }
        assert_eq!(shake("192.0.2.4"), Err(Limit::Handshakes), "six at once of everybody's");
    }

    #[test]
    fn closed_connections_are_told_once_a_second_with_how_many() {
        let (mut closed, now) = (Closed::default(), Instant::now());
        let address = "192.0.2.1".parse().unwrap();
        assert!(closed.told(now).is_none());
        closed.note(Limit::Handshakes, address);
        assert_eq!(closed.told(now).unwrap().handshakes, 1, "the first at once");
        for _ in 0..50 {
            closed.note(Limit::ConnectionsSource, address);
            assert!(closed.told(now + SAY_EVERY / 2).is_none());
        }
        let told = closed.told(now + SAY_EVERY).unwrap();
        assert_eq!((told.connections_source, told.handshakes), (50, 0));
        assert!(closed.told(now + SAY_EVERY * 3).is_none(), "nothing more has happened");
    }
}
