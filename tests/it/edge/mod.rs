//! The data plane against real TLS clients and a real backend, all on loopback.

mod access;
mod balance;
mod challenges;
pub mod client;
mod deadlines;
mod discovery;
mod drain;
pub mod fixture;
mod frames;
mod framing;
mod hosts;
mod identity;
mod limits;
pub mod line;
mod ocsp;
mod ongoing;
mod plain;
mod revocation;
mod rules;
mod trial;
pub mod upstream;
mod upstreams;
mod websocket;
