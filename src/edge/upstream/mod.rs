//! The way to the apps: what is known of targets (`registry`, `target` with its `load`, `breaker` and `health`),
//! where they are (`discovery`), which one a request goes to (`group`), whether it may be sent twice (`budget`), and
//! the connections: how octets
//! get there (`line`), what carries a request over them (`wire`, and `trunk` where many share one), and what each
//! thread keeps for itself (`pool`, `trunks`); bare ones for what is passed through unread (`dial`).

mod breaker;
mod budget;
mod dial;
pub(super) mod discovery;
mod group;
pub(super) mod health;
mod line;
mod load;
mod places;
mod pool;
mod registry;
mod target;
mod trunk;
mod trunks;
mod wire;

pub(super) use dial::dial;
pub(super) use group::{Group, Lease, Wish};
pub(super) use line::Line;
pub(super) use pool::{NoWire, Pool};
pub(super) use registry::Upstreams;
pub(super) use trunk::Slot;
pub(super) use wire::{Broken, Wire};
