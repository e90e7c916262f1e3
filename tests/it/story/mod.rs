//! The whole program as a process, against real peers: what is promised, end to end.

mod acme;
pub(crate) mod agent;
mod apply;
pub(crate) mod backend;
mod backup;
pub(crate) mod ceremony;
mod demo;
pub(crate) mod device;
pub(crate) mod est;
mod handover;
pub(crate) mod house;
mod keeper;
mod numbers;
mod restart;
mod schema;
mod secrets;
mod whole;
pub(crate) mod wire;
