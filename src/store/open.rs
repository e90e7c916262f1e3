//! Opening a database: connections for those who read, for those who write, and for shared commits.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "test-util")]
use sea_orm::DatabaseConnection;
use sea_orm::{ConnectOptions, Database};

use super::writer::Writer;
use super::{Store, StoreError};

/// How long a writer waits for another process's lock on a SQLite file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// How much of a SQLite file its writer keeps in memory, in KiB (negative, as the pragma takes it), so that
/// a transaction need not write pages before it commits, or read what it has just written.
const WRITER_CACHE: &str = "-65536";
/// The same for each connection that reads.
const READER_CACHE: &str = "-16384";
/// The pages of a write-ahead log (64 MiB) after which a commit itself copies them into the database, where
/// the writer has not had it done before.
const CHECKPOINT_PAGES: &str = "16384";
/// Shared commits that may be under way at once on PostgreSQL, where one waits for the network and the disk
/// while another works.
const COMMITS_AT_ONCE: u32 = 2;
/// Connections that are left for everything else before shared commits get their own.
const OTHERS: u32 = 3;
/// Statements that a connection keeps prepared: those of a shared commit come in many lengths. On SQLite
/// one of them may hold hundreds.
const PREPARED: usize = 512;
/// The same on SQLite.
const PREPARED_ON_SQLITE: usize = 64;
/// A connection that was idle for this long is tried before it is used.
const TRY_AFTER: Duration = Duration::from_secs(5);
/// How long a query waits for a connection before it fails as unavailable.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);

impl Store {
    /// Opens the database at `url`: `sqlite:<path>` or `postgres://…`. Nothing is migrated. A SQLite file
    /// that is not there is a fault: an empty one in its place would look like a new installation.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn open(url: &str, max_connections: u32) -> Result<Self, StoreError> {
        Self::connect(url, max_connections, "rw").await
    }

    /// As [`Store::open`], but makes a SQLite file that is not there.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn create(url: &str, max_connections: u32) -> Result<Self, StoreError> {
        Self::connect(url, max_connections, "rwc").await
    }

    async fn connect(url: &str, max_connections: u32, sqlite_mode: &str) -> Result<Self, StoreError> {
        if let Some(path) = url.strip_prefix("sqlite:") {
            if sqlite_mode == "rwc" {
                // Before SQLite does it with the umask's mode; its side files take after this one.
                private_file(Path::new(path)).map_err(StoreError::File)?;
            }
            let url = format!("sqlite:{path}?mode={sqlite_mode}");
            let write =
                Database::connect(sqlite(&url, 1, WRITER_CACHE)).await.map_err(StoreError::Unavailable)?;
            let read = Database::connect(sqlite(&url, max_connections, READER_CACHE))
                .await
                .map_err(StoreError::Unavailable)?;
            return Ok(Self {
                #[cfg(feature = "test-util")]
                severed: severed(sqlite(&url, 1, READER_CACHE)).await?,
                writer: Writer::on_sqlite(write.clone(), read.clone()).map_err(StoreError::File)?,
                standing: Arc::default(),
                bearer: Arc::default(),
                read,
                write,
            });
        }
        // Commits keep to connections of their own, where their statements stay prepared.
        let lanes = COMMITS_AT_ONCE.min(max_connections.saturating_sub(OTHERS));
        let shared = postgres(url, max_connections.saturating_sub(lanes));
        #[cfg(feature = "test-util")]
        let severed = severed(shared.clone()).await?;
        let shared = Database::connect(shared).await.map_err(StoreError::Unavailable)?;
        let commits = match lanes {
            0 => shared.clone(),
            lanes => Database::connect(postgres(url, lanes)).await.map_err(StoreError::Unavailable)?,
        };
        Ok(Self {
            read: shared.clone(),
            writer: Writer::new(commits, lanes.max(1) as usize),
            standing: Arc::default(),
            bearer: Arc::default(),
            write: shared,
            #[cfg(feature = "test-util")]
            severed,
        })
    }
}

#[cfg(feature = "test-util")]
async fn severed(mut options: ConnectOptions) -> Result<DatabaseConnection, StoreError> {
    options.connect_lazy(true);
    let connection = Database::connect(options).await.map_err(StoreError::Unavailable)?;
    connection.clone().close().await?;
    Ok(connection)
}

/// Makes an empty file that only its owner may read, if none is there.
pub(super) fn private_file(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    match std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

fn sqlite(url: &str, connections: u32, cache: &'static str) -> ConnectOptions {
    use sea_orm::sqlx::sqlite::{SqliteJournalMode, SqliteSynchronous};
    let mut options = ConnectOptions::new(url);
    options
        .max_connections(connections)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        // A file does not hang up.
        .test_before_acquire(false)
        .sqlx_logging(false)
        .map_sqlx_sqlite_opts(move |options| {
            options
                .statement_cache_capacity(PREPARED_ON_SQLITE)
                .journal_mode(SqliteJournalMode::Wal)
                // What was acknowledged survives a power cut, not only a crash of ours.
                .synchronous(SqliteSynchronous::Full)
                .foreign_keys(true)
                .busy_timeout(BUSY_TIMEOUT)
                .pragma("cache_size", cache)
                // What a savepoint may have to undo needs no file of its own.
                .pragma("temp_store", "memory")
                .pragma("wal_autocheckpoint", CHECKPOINT_PAGES)
        });
    options
}

fn postgres(url: &str, connections: u32) -> ConnectOptions {
    let mut options = ConnectOptions::new(url);
    options
        .max_connections(connections)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .connect_timeout(ACQUIRE_TIMEOUT)
        .test_before_acquire_if_idle_for(TRY_AFTER)
        .map_sqlx_postgres_opts(|options| options.statement_cache_capacity(PREPARED))
        .sqlx_logging(false);
    options
}
