//! The audit's chain: nothing is left out of it, nothing gets out of it unnoticed, on both databases.

mod api;
mod cli;
mod crash;
mod fixture;
mod refused;
mod sequencer;
mod tamper;
