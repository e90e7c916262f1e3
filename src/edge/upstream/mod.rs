//! The way to the apps: what is known of targets (`registry`, `target` with its `load`, `breaker` and `health`),
//! where they are (`discovery`), which one a request goes to (`group`), whether it may be sent twice (`budget`), and the connections (`wire`),
//! which each thread keeps for itself (`pool`).

mod breaker;
mod budget;
pub(super) mod discovery;
mod group;
pub(super) mod health;
mod load;
mod places;
mod pool;
mod registry;
mod target;
mod wire;

pub(super) use group::{Group, Wish};
pub(super) use pool::{NoWire, Pool};
pub(super) use registry::Upstreams;
pub(super) use wire::{Broken, Wire};
