//! The proofs of the edge.

mod causes;
mod crowd;
mod desync;
mod fail_closed;
mod readers;
mod resumption;
mod revocation;
mod routing;
mod spoofing;
mod wire;
