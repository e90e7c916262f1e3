//! The way to the apps: which target a request goes to (`group`, by `load`, `breaker` and `health`), whether it may
//! be sent twice (`budget`), and the connections (`wire`), which each thread keeps for itself (`pool`).

mod breaker;
mod budget;
mod group;
pub(super) mod health;
mod load;
mod pool;
mod wire;

pub(super) use group::{Group, Upstreams, Wish};
pub(super) use pool::{NoWire, Pool};
pub(super) use wire::{Broken, Wire};
