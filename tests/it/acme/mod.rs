//! Orders against a real authority (Pebble), answered by a real edge.

mod fixture;
mod orders;
mod requests;
mod staples;
mod traces;
mod troubles;
