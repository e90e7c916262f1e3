//! Where somebody comes from, as far as limits count it; and how many are there at a time.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::domain::Networks;

/// Who counts as one source: an IPv4 address, or the /64 that one IPv6 customer gets at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::edge) enum Source {
    V4(Ipv4Addr),
    /// The first half of the address.
    V6(u64),
}

impl From<IpAddr> for Source {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address),
            IpAddr::V6(address) => Self::V6((address.to_bits() >> 64) as u64),
        }
    }
}

/// The source of this address, unless it is of a network that is not counted.
pub(super) fn counted(address: IpAddr, exempt: &Networks) -> Option<Source> {
    (!exempt.contains(address)).then(|| address.into())
}

/// Open connections by source. No more entries than connections, which are bounded.
#[derive(Debug)]
pub(super) struct Crowd {
    most: NonZeroU32,
    open: Mutex<HashMap<Source, u32>>,
}

/// A connection that is counted, until this is dropped.
#[derive(Debug)]
pub(in crate::edge) struct Slot {
    crowd: Arc<Crowd>,
    source: Source,
}

impl Crowd {
    pub(super) fn of(most: NonZeroU32) -> Arc<Self> {
        Arc::new(Self { most, open: Mutex::default() })
    }

    /// One more from there, unless there are as many as there may be.
    pub(super) fn enter(self: &Arc<Self>, source: Source) -> Option<Slot> {
        let mut open = self.open.lock();
        let count = open.entry(source).or_default();
        // A new entry is not left at zero: at least one may be.
        if *count >= self.most.get() {
            return None;
        }
        *count += 1;
        Some(Slot { crowd: self.clone(), source })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut open = self.crowd.open.lock();
        if let Some(count) = open.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Network;

    fn source(text: &str) -> Source {
        text.parse::<IpAddr>().unwrap().into()
    }

    #[test]
    fn addresses_are_counted_apart_and_networks_of_ipv6_together() {
        assert_ne!(source("192.0.2.1"), source("192.0.2.2"));
        assert_eq!(source("192.0.2.1"), source("::ffff:192.0.2.1"));
        assert_eq!(source("2001:db8:1:2::1"), source("2001:db8:1:2:ffff::2"));
        assert_ne!(source("2001:db8:1:2::1"), source("2001:db8:1:3::1"));
    }

    #[test]
    fn as_many_as_may_be_and_one_more_for_each_that_leaves() {
        let crowd = Crowd::of(NonZeroU32::new(2).unwrap());
        let (here, there) = (source("192.0.2.1"), source("192.0.2.2"));
        let (one, other) = (crowd.enter(here), crowd.enter(here));
        assert!(one.is_some() && other.is_some() && crowd.enter(here).is_none());
        assert!(crowd.enter(there).is_some());
        drop(one);
        let one = crowd.enter(here);
        assert!(one.is_some() && crowd.enter(here).is_none());
        drop((one, other));
        assert!(crowd.open.lock().is_empty(), "who is not there needs no memory");
    }

    #[test]
    fn exempt_networks_are_not_counted_in_any_spelling() {
        let exempt: Networks =
            ["192.0.2.0/24", "2001:db8::/32"].iter().map(|text| text.parse::<Network>().unwrap()).collect();
        for (address, is_counted) in [
            ("192.0.2.7", false),
            ("::ffff:192.0.2.7", false),
            ("192.0.3.7", true),
            ("2001:db8:5::1", false),
            ("2001:db9::1", true),
        ] {
            assert_eq!(counted(address.parse().unwrap(), &exempt).is_some(), is_counted, "{address}");
        }
    }
}
