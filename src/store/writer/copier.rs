//! SQLite's write-ahead log, copied back into the database before a commit has to do it.
//!
//! What SQLite does by itself when the log has grown long enough, inside of some commit, holds up everybody
//! who waits for the next. Here a connection that reads copies beside the commits; what came in meanwhile,
//! which is little, is copied between two of them. The log is then begun anew.

use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

use sea_orm::{ConnectionTrait, DatabaseConnection};

/// Commits after which the log is copied, some thousand pages while many write at once.
const EVERY: u32 = 64;
/// Copies what nobody reads any more, waits for nobody.
const COPY: &str = "PRAGMA wal_checkpoint(PASSIVE)";

/// When to copy, and who does.
#[derive(Debug)]
pub(super) struct Copier {
    reader: DatabaseConnection,
    commits: AtomicU32,
    stage: AtomicU8,
}

const IDLE: u8 = 0;
const COPYING: u8 = 1;
const REST: u8 = 2;

impl Copier {
    /// One that copies by `reader`'s connections.
    pub(super) fn new(reader: DatabaseConnection) -> Self {
        Self { reader, commits: AtomicU32::new(0), stage: AtomicU8::new(IDLE) }
    }

    /// Counts a commit. Returns whether it is time for [`Self::copy`].
    pub(super) fn is_due(&self) -> bool {
        self.commits.fetch_add(1, Ordering::Relaxed) + 1 >= EVERY
            && self.stage.compare_exchange(IDLE, COPYING, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Copies beside the commits.
    pub(super) async fn copy(&self) {
        run(&self.reader).await;
        self.stage.store(REST, Ordering::Release);
    }

    /// Copies the rest, if the time has come. Between two commits of `writer`.
    pub(super) async fn copy_rest(&self, writer: &DatabaseConnection) {
        if self.stage.load(Ordering::Acquire) == REST {
            run(writer).await;
            self.commits.store(0, Ordering::Relaxed);
            self.stage.store(IDLE, Ordering::Release);
        }
    }
}

async fn run(connection: &DatabaseConnection) {
    // Nothing depends on it: a commit copies by itself when the log has become too long.
    if let Err(error) = connection.execute_unprepared(COPY).await {
        tracing::debug!(error = &error as &dyn std::error::Error, "The write-ahead log was not copied");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Older ones may lose what was committed while another connection copied (the WAL-reset bug,
    /// <https://sqlite.org/wal.html#walresetbug>).
    #[tokio::test]
    async fn sqlite_is_one_that_copies_beside_commits_without_loss() {
        let database = sea_orm::Database::connect("sqlite::memory:").await.unwrap();
        let row = database.query_one_raw(sea_orm::Statement::from_string(
            sea_orm::DbBackend::Sqlite,
            "SELECT sqlite_version() AS version",
        ));
        let version: String = row.await.unwrap().unwrap().try_get("", "version").unwrap();
        let numbers: Vec<u32> = version.split('.').map(|number| number.parse().unwrap()).collect();
        assert!(numbers >= vec![3, 51, 3], "{version}");
    }
}
