//! Orders against a real authority (Pebble), answered by a real edge.

mod fixture;
mod orders;
mod requests;
pub(crate) mod staples;
mod traces;
mod troubles;
