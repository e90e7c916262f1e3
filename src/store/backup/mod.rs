//! Backups: every row of ours as text, in one consistent picture, taken while serving; and the way back.
//!
//! A backup is a directory: a manifest, its seal, and one file of rows a table. The same on both
//! databases, so that it also moves an installation from SQLite to PostgreSQL. Key-encryption keys are
//! never in it: what is sealed in the database is sealed in the backup.

mod catalogue;
mod part;
mod restore;
mod rows;
mod swap;
mod take;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use migration::{Migrator, MigratorTrait};
use serde::{Deserialize, Serialize};

use super::StoreError;
use crate::domain::UtcTime;

pub use restore::{Backup, RestoreError, Restored, restore};
pub use take::BackupError;

/// The format this program writes, and the only one it reads.
pub const FORMAT: &str = "wicketgate-backup-1";
/// What is in the backup.
const MANIFEST: &str = "manifest.json";
/// The manifest's SHA-256, sealed under the authority key.
const SEAL: &str = "manifest.seal";
/// What the seal is bound to.
const SEAL_PLACE: &[u8] = b"backup manifest";

/// Tables that are left out, because after a restore they would be wrong: whoever signed out since
/// would be signed in again, and leases would be held by the dead.
const LEFT_OUT: [&str; 4] = ["session", "setup_link", "idempotency_key", "lease"];

/// What a backup is, and what is in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: String,
    /// Version of the program that took it.
    pub program: String,
    /// The schema's steps, oldest first.
    pub steps: Vec<String>,
    /// Identity of the installation.
    pub installation: String,
    /// When it was taken, UTC Unix seconds.
    pub taken_at: i64,
    /// The register's epoch in it.
    pub epoch: u64,
    /// The configuration's version in it.
    pub configuration_version: u64,
    /// Its tables, each after those that it refers to.
    pub parts: Vec<Part>,
}

/// One table's rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// The table; its file is called after it.
    pub table: String,
    /// Its columns, in the order of each row's values.
    pub columns: Vec<Column>,
    /// How many rows.
    pub rows: u64,
    /// Length of the file in bytes.
    pub bytes: u64,
    /// SHA-256 of the file, hexadecimal.
    pub sha256: String,
}

/// A column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// What its values are.
    pub kind: Kind,
}

/// What a column's values are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Text.
    Text,
    /// A 64-bit number.
    Integer,
    /// True or false.
    Boolean,
    /// Bytes, in base64.
    Bytes,
}

impl Manifest {
    /// When it was taken.
    pub fn taken_at(&self) -> UtcTime {
        UtcTime::from_unix(self.taken_at)
    }

    /// How many rows are in it.
    pub fn rows(&self) -> u64 {
        self.parts.iter().map(|part| part.rows).sum()
    }
}

/// The schema's steps that this program knows, oldest first.
fn known_steps() -> Vec<String> {
    Migrator::migrations().iter().map(|step| step.name().to_owned()).collect()
}

/// The file of a table's rows.
fn part_file(directory: &Path, table: &str) -> PathBuf {
    directory.join(format!("{table}.jsonl"))
}

fn corrupt(detail: impl Into<String>) -> StoreError {
    StoreError::Corrupt { what: "the backup", detail: detail.into() }
}
