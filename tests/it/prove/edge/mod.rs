//! The proofs of the edge.

mod attacks;
mod causes;
mod crowd;
mod desync;
mod dns_discovery;
mod fail_closed;
mod interop;
mod limits;
mod no_drop;
mod readers;
mod resilience;
mod resumption;
mod revocation;
mod routing;
mod spoofing;
mod upstream_rotation;
mod wire;
