//! Orders against a real authority (Pebble), answered by a real edge.

mod fixture;
mod orders;
mod requests;
mod traces;
mod troubles;
