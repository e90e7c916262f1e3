//! What an upstream that wants it is told of a visitor before anything else: a PROXY header (version 2) with their
//! address and, of somebody known, their certificate. The connection behind it is theirs alone.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use bytes::Bytes;

use super::connection::Visit;
use super::forwarded::Origin;
use super::permit::Permit;
use super::proxy_header::{Client, Tls, write_v2};
use super::upstream::Group;
use crate::pki::chain;

/// The header for one exchange.
pub(super) fn visitor(visit: &Visit, origin: &Origin, permit: &Permit, group: &Group) -> Option<Bytes> {
    group.upstream().options.proxy_protocol?;
    // Proxies in between do not say from which port.
    let source = match origin.visitor == visit.source() {
        true => visit.peer,
        false => SocketAddr::new(origin.visitor, 0),
    };
    // A certificate that does not pass is nobody's.
    let leaf = permit.identity().and(visit.leaf.as_ref());
    let common_name = leaf.and_then(|leaf| chain::common_name(leaf).ok()).unwrap_or_default();
    let client = leaf.map(|leaf| Client { common_name: &common_name, certificate: leaf });
    let tls = Tls { version: visit.tls_version, client };
    Some(write_v2(source, destination(source, visit.local), Some(tls)).into())
}

/// The header before what is passed through unread, of which no more is known than the address.
pub(super) fn address(group: &Group, peer: SocketAddr, local: Option<SocketAddr>) -> Option<Bytes> {
    group.upstream().options.proxy_protocol?;
    Some(write_v2(peer, destination(peer, local), None).into())
}

/// Which address of ours was called; nobody's, if the socket is gone already.
fn destination(source: SocketAddr, local: Option<SocketAddr>) -> SocketAddr {
    local.unwrap_or_else(|| match source.is_ipv4() {
        true => SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0),
        false => SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 0),
    })
}
