//! The data plane against real TLS clients and a real backend, all on loopback.

mod access;
mod challenges;
mod client;
mod deadlines;
mod drain;
mod fixture;
mod framing;
mod hosts;
mod identity;
mod ocsp;
mod plain;
mod revocation;
mod upstream;
mod upstreams;
mod websocket;
