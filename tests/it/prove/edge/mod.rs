//! The proofs of the edge.

mod crowd;
mod revocation;
