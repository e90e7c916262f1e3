//! Numbered expand-contract steps. A step adds first; what it replaces is removed a release later.
//!
//! SQLite migrates itself at start (one file has one owner); PostgreSQL only by `wicketgate migrate`.

use sea_orm_migration::prelude::*;

mod m0001_core;
mod m0002_access;
mod m0003_automation;
mod m0004_gate;
mod m0007_est;
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
            Box::new(m0007_est::Migration),
        ]
    }
}

pub use sea_orm_migration::MigratorTrait;
