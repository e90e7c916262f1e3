//! The proofs of the edge.

mod crowd;
mod resumption;
mod revocation;
mod routing;
mod spoofing;
mod wire;
