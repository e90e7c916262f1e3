//! What is known of a name, and what follows from the next answer. Pure, but that this host is asked which addresses
//! are its own: times are milliseconds since some beginning.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use crate::domain::upstream::Discovery;
use crate::edge::upstream::places::Places;
use crate::telemetry::metrics::LookupFault;

/// Addresses of one name that are used, those of the lowest priorities and then the lowest ones.
pub(super) const MOST: usize = Places::MOST;
/// The first pause after a failure, in milliseconds; each further one is twice as long, up to [`LONGEST_MS`].
const FIRST_MS: u64 = 1_000;
/// The longest pause after a failure, in milliseconds.
const LONGEST_MS: u64 = 60_000;

/// Where one target is. Sorted by priority first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::edge::upstream) struct Endpoint {
    pub(in crate::edge::upstream) priority: u16,
    pub(in crate::edge::upstream) address: SocketAddr,
    pub(in crate::edge::upstream) weight: u16,
    /// The server that the address belongs to.
    pub(in crate::edge::upstream) host: Arc<str>,
}

/// What DNS says of one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::edge::upstream) struct Server {
    pub(in crate::edge::upstream) host: Arc<str>,
    pub(in crate::edge::upstream) port: u16,
    pub(in crate::edge::upstream) priority: u16,
    pub(in crate::edge::upstream) weight: u16,
}

impl Server {
    fn at(&self, ip: IpAddr) -> Endpoint {
        let Self { host, port, priority, weight } = self;
        let address = SocketAddr::new(ip, *port);
        Endpoint { priority: *priority, address, weight: *weight, host: host.clone() }
    }
}

/// What one question for the addresses of a server has brought.
#[derive(Clone, Debug)]
pub(in crate::edge::upstream) struct Part {
    pub(in crate::edge::upstream) server: Server,
    /// AAAA records were asked for, not A records.
    pub(in crate::edge::upstream) is_v6: bool,
    pub(in crate::edge::upstream) came: Result<Vec<IpAddr>, LookupFault>,
}

/// All that was said about a name.
#[derive(Clone, Debug)]
pub(in crate::edge::upstream) struct Answer {
    pub(in crate::edge::upstream) parts: Vec<Part>,
    /// The least of all TTLs, in seconds.
    pub(in crate::edge::upstream) ttl: u32,
}

/// What is known of a name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::edge::upstream) struct Found {
    endpoints: Vec<Endpoint>,
    left_out: usize,
    refused: usize,
    /// When the last good answer came.
    learned: Option<u64>,
    ttl: u32,
    /// What was wrong with the last answer, and when it came.
    fault: Option<(LookupFault, u64)>,
    /// Bad answers in a row.
    failures: u32,
    chance: u64,
}

/// The good of an answer.
struct Taken {
    endpoints: Vec<Endpoint>,
    left_out: usize,
    refused: usize,
}

impl Found {
    /// What is known after `answer`. A bad one changes nothing of the addresses.
    ///
    /// * `own` — listeners of this process, which no answer leads to.
    /// * `chance` — any number.
    pub(super) fn next(
        &self,
        now: u64,
        answer: Result<Answer, LookupFault>,
        own: &[SocketAddr],
        chance: u64,
    ) -> Self {
        let taken = answer.and_then(|answer| Ok((answer.ttl, take(answer, &self.endpoints, own)?)));
        match taken {
            Ok((ttl, Taken { endpoints, left_out, refused })) => Self {
                endpoints,
                left_out,
                refused,
                learned: Some(now),
                ttl,
                fault: None,
                failures: 0,
                chance,
            },
            Err(fault) => Self {
                fault: Some((fault, now)),
                failures: self.failures.saturating_add(1),
                chance,
                ..self.clone()
            },
        }
    }

    /// When it has to be asked for.
    pub(super) fn due(&self, discovery: &Discovery) -> u64 {
        let bound = |seconds: u32| u64::from(seconds) * 1_000;
        match (self.fault, self.learned) {
            (Some((_, at)), _) => {
                let doublings = self.failures.saturating_sub(1).min(16);
                at + self.shortened((FIRST_MS << doublings).min(LONGEST_MS), FIRST_MS)
            }
            (None, Some(at)) => {
                let least = bound(discovery.refresh_seconds_min);
                let pause = bound(self.ttl).min(bound(discovery.refresh_seconds_max)).max(least);
                at + self.shortened(pause, least)
            }
            (None, None) => 0,
        }
    }

    /// Up to a tenth less, so that not all is asked for at one moment.
    fn shortened(&self, pause: u64, least: u64) -> u64 {
        (pause - self.chance % (pause / 10 + 1)).max(least)
    }

    pub(in crate::edge::upstream) fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// Whether neither a good nor a bad answer has come.
    pub(in crate::edge::upstream) fn is_unheard(&self) -> bool {
        self.learned.is_none() && self.fault.is_none()
    }

    /// What was wrong with the last answer.
    pub(super) fn fault(&self) -> Option<LookupFault> {
        self.fault.map(|(fault, _)| fault)
    }

    /// Addresses beyond the most.
    pub(super) fn left_out(&self) -> usize {
        self.left_out
    }

    /// Addresses that are not used, whoever names them.
    pub(super) fn refused(&self) -> usize {
        self.refused
    }

    /// Of the last good answer.
    pub(super) fn age(&self, now: u64) -> Option<Duration> {
        self.learned.map(|at| Duration::from_millis(now.saturating_sub(at)))
    }
}

/// What is used of an answer. Where a part of it failed to come, that part stays as it was.
///
/// # Errors
/// Why there is nothing new in it that can be used.
fn take(answer: Answer, previous: &[Endpoint], own: &[SocketAddr]) -> Result<Taken, LookupFault> {
    let mut endpoints = Vec::new();
    let (mut fresh, mut refused, mut fault) = (0, 0, None);
    for Part { server, is_v6, came } in answer.parts {
        match came {
            Ok(addresses) => {
                for endpoint in addresses.into_iter().map(|ip| server.at(ip.to_canonical())) {
                    if is_allowed(endpoint.address, own) {
                        fresh += 1;
                        endpoints.push(endpoint);
                    } else {
                        refused += 1;
                    }
                }
            }
            Err(cause) => {
                if fault.is_none_or(is_denial) {
                    fault = Some(cause);
                }
                let is_of_it = |old: &&Endpoint| {
                    old.host == server.host
                        && old.address.port() == server.port
                        && old.address.is_ipv6() == is_v6
                };
                if !is_denial(cause) {
                    endpoints.extend(previous.iter().filter(is_of_it).map(|old| server.at(old.address.ip())));
                }
            }
        }
    }
    if fresh == 0 {
        let nothing = if refused > 0 { LookupFault::Forbidden } else { LookupFault::Empty };
        return Err(fault.filter(|_| refused == 0).unwrap_or(nothing));
    }
    endpoints.sort_unstable();
    let mut seen = HashSet::new();
    endpoints.retain(|endpoint| seen.insert(endpoint.address));
    let left_out = endpoints.len().saturating_sub(MOST);
    endpoints.truncate(MOST);
    Ok(Taken { endpoints, left_out, refused })
}

/// Whether it was said that there is nothing.
fn is_denial(fault: LookupFault) -> bool {
    matches!(fault, LookupFault::NoSuchName | LookupFault::Empty)
}

/// Where apps are: anywhere but at addresses that no app can have, at those under which clouds tell their secrets, and
/// at listeners of our own. Loopback and private addresses are where apps live. Whoever can change what a name says
/// must not reach by it what is meant for this host alone.
pub(in crate::edge::upstream) fn is_allowed(address: SocketAddr, own: &[SocketAddr]) -> bool {
    let ip = address.ip();
    let is_ours = |listener: &SocketAddr| {
        let is_there = || listener.ip() == ip || (listener.ip().is_unspecified() && is_here(ip));
        listener.port() == address.port() && is_there()
    };
    let is_anywhere = match ip {
        IpAddr::V4(ip) => is_place(ip),
        IpAddr::V6(ip) => {
            !(ip.is_unspecified() || ip.is_multicast() || ip.is_unicast_link_local() || ip == CLOUD_V6)
                && through_nat64(ip).is_none_or(is_place)
        }
    };
    is_anywhere && address.port() != 0 && !own.iter().any(is_ours)
}

/// Whether it is an address of this host. Nothing is sent.
fn is_here(ip: IpAddr) -> bool {
    let can_have = |ip: IpAddr| UdpSocket::bind((ip, 0)).is_ok();
    // RFC 5737, RFC 3849: nobody's. A host that may have them may have any (`ip_nonlocal_bind`), which says nothing.
    let nobodys: IpAddr = match ip {
        IpAddr::V4(_) => Ipv4Addr::new(192, 0, 2, 1).into(),
        IpAddr::V6(_) => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
    };
    ip.is_loopback() || (can_have(ip) && !can_have(nobodys))
}

fn is_place(ip: Ipv4Addr) -> bool {
    // RFC 1122 §3.2.1.3: 0.0.0.0/8 is this host.
    !(ip.octets()[0] == 0 || ip.is_link_local() || ip.is_multicast() || ip.is_broadcast())
}

/// RFC 6052 §2.1: the IPv4 address behind one of the well-known prefix.
fn through_nat64(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let [0x64, 0xff9b, 0, 0, 0, 0, high, low] = ip.segments() else { return None };
    Some(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)))
}

/// What 169.254.169.254 is to IPv6 at one of the clouds; it looks like a private address.
const CLOUD_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

#[cfg(test)]
mod tests;
