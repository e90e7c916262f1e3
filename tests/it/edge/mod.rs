//! The data plane against real TLS clients and a real backend, all on loopback.

mod access;
mod balance;
mod challenges;
pub mod client;
mod deadlines;
mod discovery;
mod drain;
pub mod fixture;
mod forwarded;
mod frames;
mod framing;
mod hosts;
mod identity;
mod limits;
pub mod line;
mod ocsp;
mod ongoing;
pub mod passthrough;
mod plain;
pub mod proxy_header;
mod revocation;
mod rules;
mod trial;
pub mod upstream;
mod upstreams;
mod websocket;
