//! Numbered expand-contract steps. A step adds first; what it replaces is removed a release later.
//!
//! SQLite migrates itself at start (one file has one owner); PostgreSQL only by `wicketgate migrate`.

use sea_orm_migration::prelude::*;

mod m0001_core;
mod m0002_access;
mod m0003_automation;
mod m0004_gate;
mod m0005_audit_chain;
mod m0006_revocation;
mod m0007_est;
mod m0008_rollover;
mod m0010_inventory;
mod m0011_prove;
mod m0012_speed;
mod m0013_edge;
mod m0014_route_options;
mod m0016_passthrough;
mod m0017_staples;
mod table;

/// Every step, oldest first.
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m0001_core::Migration),
            Box::new(m0002_access::Migration),
            Box::new(m0003_automation::Migration),
            Box::new(m0004_gate::Migration),
            Box::new(m0005_audit_chain::Migration),
            Box::new(m0006_revocation::Migration),
            Box::new(m0007_est::Migration),
            Box::new(m0008_rollover::Migration),
            Box::new(m0010_inventory::Migration),
            Box::new(m0011_prove::Migration),
            Box::new(m0012_speed::Migration),
            Box::new(m0013_edge::Migration),
            Box::new(m0014_route_options::Migration),
            Box::new(m0016_passthrough::Migration),
            Box::new(m0017_staples::Migration),
        ]
    }
}

pub use sea_orm_migration::MigratorTrait;
