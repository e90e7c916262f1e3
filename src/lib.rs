//! Wicketgate: issues client certificates to a team's devices, asks for them at the door of its web
//! apps, and takes them back within a second. `ARCHITECTURE.md` has the map and the three walks.
//!
//! Layers, lowest first; a room may use those above it in this list as design table says, and
//! `tests/it/tidy.rs` holds it to that.
#![forbid(unsafe_code)]

pub mod domain;

pub mod activate;
pub mod clock;
pub mod crash;

pub mod config;
pub mod telemetry;

pub mod pki;

pub mod keys;
pub mod store;

pub mod live;

pub mod edge;

pub mod acme;
pub mod ca;
pub mod mail;

pub mod jobs;

pub mod admin;

pub mod boot;
pub mod cli;
