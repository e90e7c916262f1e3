//! Rows: the only user of sea-orm. SQLite and PostgreSQL behind one set of functions.
//!
//! One file an area, plain functions on [`Store`]. Several rows that belong together are written in one
//! transaction ([`Store::begin`]); on SQLite there is one writing connection, so writers queue instead
//! of failing. Times are UTC Unix seconds; secrets are sealed before they get here.

pub mod acme;
pub mod alerts;
pub mod audit;
pub mod audit_chain;
pub mod authorities;
pub mod backup;
pub mod ceremonies;
pub mod certificates;
pub mod configuration;
pub mod crls;
pub mod data_keys;
#[cfg(feature = "test-util")]
mod evidence;
pub mod idempotency;
pub mod internal_certificates;
pub mod inventory;
pub mod invitations;
pub mod issuance;
pub mod jobs;
pub mod leases;
mod open;
pub mod outbox;
pub mod passwords;
pub mod people;
pub mod profiles;
pub mod register;
pub mod revocation;
pub mod rollover;
mod script;
pub mod sessions;
pub mod settings;
pub mod setup;
pub mod staples;
mod together;
pub mod tokens;
pub mod upstream_identity;
pub mod upstreams;
mod visitors;
pub(crate) mod writer;

use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use migration::{Migrator, MigratorTrait};
use sea_orm::sqlx;
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, RuntimeErr, SqlErr,
    TransactionTrait,
};

use crate::domain::{Fingerprint, UtcTime};
use issuance::Standings;
use open::private_file;
use together::Together;
use tokens::Bearer;
use writer::Writer;

/// The database. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    read: DatabaseConnection,
    write: DatabaseConnection,
    /// Closed from the beginning: what a task sees to which a test has taken the database away.
    #[cfg(feature = "test-util")]
    severed: DatabaseConnection,
    writer: Writer,
    standing: Arc<Standings>,
    bearer: Arc<Together<Fingerprint, Option<Bearer>>>,
}

/// Why the database did not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It cannot be reached, or answers too late; repeating later is safe.
    #[error("the database is not available")]
    Unavailable(#[source] DbErr),
    /// A row with this unique value is there already.
    #[error("{what} is taken")]
    Taken {
        /// Which value, in words.
        what: &'static str,
    },
    /// The row changed since it was read.
    #[error("{what} was changed by someone else")]
    Conflict {
        /// Which row, in words.
        what: &'static str,
    },
    /// The row is not there.
    #[error("there is no such {what}")]
    Missing {
        /// What kind of row.
        what: &'static str,
    },
    /// A row holds something that this program did not write.
    #[error("{what} in the database cannot be read: {detail}")]
    Corrupt {
        /// Which value, in words.
        what: &'static str,
        /// Why.
        detail: String,
    },
    /// The schema is older or newer than this program.
    #[error("the database has {found} of {known} migration steps; run `wicketgate migrate`")]
    Schema {
        /// Steps applied.
        found: usize,
        /// Steps known to this program.
        known: usize,
    },
    /// The file of a SQLite database, or its copy, cannot be made.
    #[error("the database file cannot be made")]
    File(#[source] std::io::Error),
    /// Everything else.
    #[error("the database refused")]
    Database(#[source] DbErr),
}

impl From<DbErr> for StoreError {
    fn from(error: DbErr) -> Self {
        match error {
            DbErr::Conn(_) | DbErr::ConnectionAcquire(_) => Self::Unavailable(error),
            DbErr::Exec(RuntimeErr::SqlxError(ref cause))
            | DbErr::Query(RuntimeErr::SqlxError(ref cause))
                if is_connection_lost(cause) =>
            {
                Self::Unavailable(error)
            }
            _ => Self::Database(error),
        }
    }
}

fn is_connection_lost(cause: &sqlx::Error) -> bool {
    match cause {
        sqlx::Error::Io(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => true,
        // Class 08: connection exception; 57P: the server is going away (PostgreSQL, appendix A).
        sqlx::Error::Database(error) => {
            error.code().is_some_and(|code| code.starts_with("08") || code.starts_with("57P"))
        }
        _ => false,
    }
}

impl StoreError {
    #[cfg(feature = "test-util")]
    fn lost() -> Self {
        Self::Unavailable(DbErr::Conn(RuntimeErr::Internal("the connection was lost".to_owned())))
    }

    /// Turns a violated unique constraint into [`StoreError::Taken`].
    pub fn unique(error: DbErr, what: &'static str) -> Self {
        match error.sql_err() {
            Some(SqlErr::UniqueConstraintViolation(_)) => Self::Taken { what },
            _ => error.into(),
        }
    }

    /// The same for another caller of the same commit.
    fn retold(&self) -> Self {
        let told = |error: &DbErr| DbErr::Custom(error.to_string());
        match self {
            Self::Unavailable(error) => Self::Unavailable(told(error)),
            Self::Taken { what } => Self::Taken { what },
            Self::Conflict { what } => Self::Conflict { what },
            Self::Missing { what } => Self::Missing { what },
            Self::Corrupt { what, detail } => Self::Corrupt { what, detail: detail.clone() },
            Self::Schema { found, known } => Self::Schema { found: *found, known: *known },
            Self::File(error) => Self::File(std::io::Error::new(error.kind(), error.to_string())),
            Self::Database(error) => Self::Database(told(error)),
        }
    }
}

/// A transaction. Dropped without [`Transaction::commit`] it never happened.
pub struct Transaction(DatabaseTransaction);

impl Transaction {
    /// Makes it durable.
    ///
    /// # Errors
    /// [`StoreError`]; whether it happened is unknown only if the connection broke.
    pub async fn commit(self) -> Result<(), StoreError> {
        #[cfg(feature = "test-util")]
        match crate::crash::at_commit() {
            crate::crash::AtCommit::Answer => {}
            crate::crash::AtCommit::Refuse => return Err(StoreError::lost()),
            crate::crash::AtCommit::LoseAnswer => {
                self.0.commit().await?;
                return Err(StoreError::lost());
            }
        }
        Ok(self.0.commit().await?)
    }

    pub(in crate::store) fn connection(&self) -> &DatabaseTransaction {
        &self.0
    }
}

#[cfg(feature = "test-util")]
impl Transaction {
    /// Runs what no function here does, so that a test sees what becomes of it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn execute(&self, sql: &str) -> Result<(), StoreError> {
        self.0.execute_unprepared(sql).await?;
        Ok(())
    }
}

impl Store {
    /// Whether this is a SQLite file, which has one owner and migrates itself at start.
    pub fn is_sqlite(&self) -> bool {
        self.read.get_database_backend() == DbBackend::Sqlite
    }

    /// Applies every step that is missing. A SQLite file is copied to `keep` first, if there is
    /// anything in it to keep.
    ///
    /// # Errors
    /// [`StoreError`]; a step that failed is not half applied.
    pub async fn migrate(&self, keep: Option<&Path>) -> Result<(), StoreError> {
        let pending = pending(&self.write).await?;
        let known = Migrator::migrations().len();
        if pending == 0 {
            return Ok(());
        }
        if let Some(keep) = keep.filter(|_| self.is_sqlite() && pending < known) {
            private_file(keep).map_err(StoreError::File)?;
            let sql = format!("VACUUM INTO '{}'", keep.display().to_string().replace('\'', "''"));
            self.write.execute_unprepared(&sql).await?;
        }
        Ok(Migrator::up(&self.write, None).await?)
    }

    /// Checks that the schema has every step that this program knows. Those of a newer one only add.
    ///
    /// # Errors
    /// [`StoreError::Schema`] when it is not.
    pub async fn check_schema(&self) -> Result<(), StoreError> {
        let known = Migrator::migrations().len();
        let pending = pending(&self.read).await?;
        if pending > 0 { Err(StoreError::Schema { found: known - pending, known }) } else { Ok(()) }
    }

    /// Whether the database answers.
    ///
    /// # Errors
    /// [`StoreError`] when it does not.
    pub async fn ping(&self) -> Result<(), StoreError> {
        Ok(self.read.ping().await?)
    }

    /// Runs `job` in a transaction and commits, together with what others write at this moment: one
    /// durable commit for all of them. If `job` fails, what it wrote is rolled back and nobody else
    /// notices. It does nothing but statements of this transaction: others wait for it. It runs to its
    /// end though the caller stops waiting.
    ///
    /// # Errors
    /// Those of `job`, and [`StoreError`]; then nothing of it stands, unless the connection broke in the
    /// middle of the commit.
    pub async fn write<T, E, F>(&self, job: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: for<'t> FnOnce(&'t Transaction) -> BoxFuture<'t, Result<T, E>> + Send + 'static,
    {
        self.writer.run(job).await
    }

    /// Writes one of a kind together with what others write at this moment. It runs to its end though the
    /// caller stops waiting.
    ///
    /// # Errors
    /// As [`Store::write`].
    pub(crate) async fn add<R: writer::Rows>(&self, row: R) -> Result<R::Answer, StoreError> {
        self.writer.add(row).await
    }

    /// Begins a transaction of one's own, which no other write shares.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn begin(&self) -> Result<Transaction, StoreError> {
        Ok(Transaction(self.writer().begin().await?))
    }

    /// Closes every connection; what was committed is on disk.
    pub async fn close(self) {
        let _ = self.read.close().await;
        let _ = self.write.close().await;
        self.writer.close().await;
    }

    pub(in crate::store) fn reader(&self) -> &DatabaseConnection {
        #[cfg(feature = "test-util")]
        if crate::crash::is_database_away() {
            return &self.severed;
        }
        &self.read
    }

    pub(in crate::store) fn writer(&self) -> &DatabaseConnection {
        #[cfg(feature = "test-util")]
        if crate::crash::is_database_away() {
            return &self.severed;
        }
        &self.write
    }
}

/// How many steps are missing. Those of a newer program, which began to take over and did not make it, only add:
/// this one goes on beside them.
async fn pending(connection: &DatabaseConnection) -> Result<usize, StoreError> {
    let known: Vec<String> = Migrator::migrations().iter().map(|step| step.name().to_owned()).collect();
    let mut applied: Vec<String> =
        Migrator::get_migration_models(connection).await?.into_iter().map(|step| step.version).collect();
    applied.retain(|step| known.last().is_none_or(|last| step <= last));
    if applied.iter().any(|step| !known.contains(step)) {
        // It says which one.
        return Ok(Migrator::get_pending_migrations(connection).await?.len());
    }
    Ok(known.iter().filter(|step| !applied.contains(step)).count())
}

/// Reads a text column into its type.
pub(in crate::store) fn parse<T>(what: &'static str, text: &str) -> Result<T, StoreError>
where
    T: FromStr<Err: std::fmt::Display>,
{
    text.parse().map_err(|cause: T::Err| StoreError::Corrupt { what, detail: cause.to_string() })
}

/// Reads a named value (a role, a state) into its type.
pub(in crate::store) fn named<T>(what: &'static str, name: &str, found: Option<T>) -> Result<T, StoreError> {
    found.ok_or_else(|| StoreError::Corrupt { what, detail: format!("{name:?} is not one we know") })
}

/// Reads a JSON column into its type.
pub(in crate::store) fn json<T: serde::de::DeserializeOwned>(
    what: &'static str,
    text: &str,
) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|cause| StoreError::Corrupt { what, detail: cause.to_string() })
}

/// Writes a JSON column.
pub(in crate::store) fn to_json<T: serde::Serialize>(
    what: &'static str,
    value: &T,
) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|cause| StoreError::Corrupt { what, detail: cause.to_string() })
}

/// Reads a time column.
pub(in crate::store) fn at(seconds: i64) -> UtcTime {
    UtcTime::from_unix(seconds)
}
