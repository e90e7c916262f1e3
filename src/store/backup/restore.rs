//! The way back: everything is checked before anything is touched, and what was there stays until all
//! of it is in place.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use migration::{Migrator, MigratorTrait};
use sea_orm::sea_query::{Alias, Query};
use sea_orm::{ConnectionTrait, DatabaseConnection, DbErr, Statement, TransactionTrait};

use super::part::Reader;
use super::{
    FORMAT, MANIFEST, Manifest, Part, SEAL, SEAL_PLACE, catalogue, known_steps, part_file, rows, swap,
};
use crate::crash;
use crate::domain::hex::hex;
use crate::domain::{Seal, UtcTime};
use crate::keys::{KeyFault, Purpose, Vaults, WrappedKey};
use crate::store::settings::INSTALLATION_ID;
use crate::store::{Store, StoreError};

/// A manifest is a few KiB. In bytes.
const LONGEST_MANIFEST: u64 = 4 * 1024 * 1024;
/// Values bound in one statement; SQLite takes 32,766.
const VALUES: usize = 10_000;
/// How far CRL numbers are moved on: past every list that was published since the backup was taken
/// (RFC 5280 §5.2.3: a number is never used twice).
const CRL_NUMBERS: i64 = 1_000_000;

/// How often is looked whether other connections are gone.
const LOOKS: u32 = 30;
/// Between two looks.
const BETWEEN_LOOKS: Duration = Duration::from_millis(100);

/// Why nothing was restored. What was there is as it was.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// A file of the backup cannot be read.
    #[error("{path} cannot be read")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// It is no backup, or one of another kind.
    #[error("this is no backup of the kind {FORMAT}: {0}")]
    Format(String),
    /// The seal does not open or does not fit.
    #[error("the manifest was changed, or the backup was taken under another authority key")]
    Seal,
    /// A file is not what the manifest says.
    #[error("{0} is not what was backed up: it is torn or was changed")]
    Changed(PathBuf),
    /// The backup has steps of the schema that this program does not know.
    #[error("the backup's schema is newer than this program: it has step {0}; use the program that took it")]
    Newer(String),
    /// The key files do not open what is in it.
    #[error(transparent)]
    Key(#[from] KeyFault),
    /// There is an installation already.
    #[error("there is an installation in the database already; say --replace to put the backup in its place")]
    NotEmpty,
    /// A process works with the database.
    #[error("the database is in use by {0} other connections; stop every wicketgate process first")]
    InUse(i64),
    /// The rows could not be written.
    #[error("the rows could not be written")]
    Store(#[from] StoreError),
    /// The new file could not be put in place.
    #[error("{path} could not be put in place")]
    Swap {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
}

impl From<DbErr> for RestoreError {
    fn from(error: DbErr) -> Self {
        Self::Store(error.into())
    }
}

/// A backup whose every byte was found to be what was backed up.
#[derive(Debug)]
pub struct Backup {
    directory: PathBuf,
    manifest: Manifest,
}

/// What was restored.
#[derive(Debug)]
pub struct Restored {
    /// Where the SQLite file is kept that was there before.
    pub kept: Option<PathBuf>,
}

impl Backup {
    /// Reads the manifest and checks it, its seal, and every part.
    ///
    /// # Errors
    /// As [`RestoreError`] says.
    pub fn open(directory: &Path, seal: &dyn Seal) -> Result<Self, RestoreError> {
        let read = |name: &str| {
            let path = directory.join(name);
            let file = std::fs::File::open(&path);
            let mut bytes = Vec::new();
            let read = file.and_then(|file| {
                io::Read::read_to_end(&mut io::Read::take(file, LONGEST_MANIFEST), &mut bytes)
            });
            read.map(|_| bytes).map_err(|cause| RestoreError::Read { path, cause })
        };
        let text = read(MANIFEST)?;
        let sealed = STANDARD.decode(read(SEAL)?.trim_ascii()).map_err(|_| RestoreError::Seal)?;
        let digest = hex(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &text).as_ref());
        if seal.open(SEAL_PLACE, &sealed).map_err(|_| RestoreError::Seal)? != digest.as_bytes() {
            return Err(RestoreError::Seal);
        }
        let manifest: Manifest =
            serde_json::from_slice(&text).map_err(|error| RestoreError::Format(error.to_string()))?;
        if manifest.format != FORMAT {
            return Err(RestoreError::Format(manifest.format));
        }
        let known = known_steps();
        if let Some(newer) = manifest.steps.iter().find(|step| !known.contains(step)) {
            return Err(RestoreError::Newer(newer.clone()));
        }
        if !known.starts_with(&manifest.steps) {
            return Err(RestoreError::Format("its schema's steps are in another order".to_owned()));
        }
        let backup = Self { directory: directory.to_owned(), manifest };
        for part in &backup.manifest.parts {
            backup.each_row(part, |_| Ok(()))?;
        }
        Ok(backup)
    }

    /// What it says about itself.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Checks that the keys at hand open what is sealed in it.
    ///
    /// # Errors
    /// [`RestoreError::Key`] when they do not.
    pub fn check_keys(&self, vaults: &Vaults) -> Result<(), RestoreError> {
        let part = self.manifest.parts.iter().find(|part| part.table == "data_key");
        let part = part.ok_or_else(|| RestoreError::Format("it holds no data keys".to_owned()))?;
        let at = |name: &str| part.columns.iter().position(|column| column.name == name);
        let (Some(id), Some(purpose), Some(wrapped)) = (at("id"), at("purpose"), at("wrapped")) else {
            return Err(RestoreError::Format("its data keys cannot be read".to_owned()));
        };
        self.each_row(part, |row| {
            let text = |at: usize| row.get(at).and_then(serde_json::Value::as_str).unwrap_or_default();
            let purposes = [Purpose::Server, Purpose::Authority];
            let key = WrappedKey {
                id: row
                    .get(id)
                    .and_then(serde_json::Value::as_u64)
                    .and_then(|id| id.try_into().ok())
                    .unwrap_or(0),
                purpose: purposes
                    .into_iter()
                    .find(|known| known.name() == text(purpose))
                    .unwrap_or(Purpose::Server),
                wrapped: STANDARD.decode(text(wrapped)).unwrap_or_default(),
            };
            Ok(vaults.of(key.purpose).add(&key)?)
        })
    }

    /// Gives every row to `take`, and checks that the file is the one that was backed up.
    fn each_row(
        &self,
        part: &Part,
        mut take: impl FnMut(Vec<serde_json::Value>) -> Result<(), RestoreError>,
    ) -> Result<(), RestoreError> {
        let mut file = self.reader(part)?;
        while let Some(row) = self.next(&mut file, part)? {
            take(row)?;
        }
        self.finish(file, part)
    }

    fn reader(&self, part: &Part) -> Result<Reader, RestoreError> {
        let plain = |c: char| c.is_ascii_lowercase() || c == '_';
        if part.table.is_empty() || !part.table.chars().all(plain) {
            return Err(RestoreError::Format(format!("{:?} is no table", part.table)));
        }
        let path = part_file(&self.directory, &part.table);
        Reader::open(&path).map_err(|cause| RestoreError::Read { path, cause })
    }

    fn next(&self, file: &mut Reader, part: &Part) -> Result<Option<Vec<serde_json::Value>>, RestoreError> {
        file.row().map_err(|_| self.changed(part))
    }

    fn finish(&self, file: Reader, part: &Part) -> Result<(), RestoreError> {
        let fits = (file.rows, file.bytes) == (part.rows, part.bytes) && file.sha256() == part.sha256;
        if fits { Ok(()) } else { Err(self.changed(part)) }
    }

    fn changed(&self, part: &Part) -> RestoreError {
        RestoreError::Changed(part_file(&self.directory, &part.table))
    }

    /// Puts every row into the tables of `connection`, which has the backup's own steps.
    async fn fill<C: ConnectionTrait>(&self, connection: &C) -> Result<(), RestoreError> {
        for part in &self.manifest.parts {
            // What a step itself puts into its tables.
            let seeded = Query::select()
                .expr(sea_orm::sea_query::Expr::cust("1 AS seeded"))
                .from(Alias::new(&part.table))
                .limit(1)
                .to_owned();
            if connection.query_one(&seeded).await?.is_some() {
                connection.execute(&Query::delete().from_table(Alias::new(&part.table)).to_owned()).await?;
            }
        }
        for part in &self.manifest.parts {
            let at_once = (VALUES / part.columns.len().max(1)).max(1);
            let mut file = self.reader(part)?;
            let mut lines = Vec::with_capacity(at_once.min(1024));
            loop {
                let row = self.next(&mut file, part)?;
                let ended = row.is_none();
                lines.extend(row);
                if lines.len() == at_once || (ended && !lines.is_empty()) {
                    connection.execute(&rows::insert(part, std::mem::take(&mut lines))?).await?;
                }
                if ended {
                    break;
                }
            }
            self.finish(file, part)?;
        }
        Ok(())
    }

    fn steps(&self) -> Option<u32> {
        u32::try_from(self.manifest.steps.len()).ok()
    }
}

/// Puts a backup into the database at `url`, brought up to this program's schema. No process may serve
/// it meanwhile. Where an installation is already, `replace` must say so.
///
/// # Errors
/// As [`RestoreError`] says; then what was there is as it was.
pub async fn restore(
    url: &str,
    backup: &Backup,
    replace: bool,
    now: UtcTime,
) -> Result<Restored, RestoreError> {
    match url.strip_prefix("sqlite:") {
        Some(path) => into_file(Path::new(path), backup, replace, now).await,
        None => into_server(url, backup, replace, now).await,
    }
}

/// A new file beside the old one, which takes its place when it is whole.
async fn into_file(
    path: &Path,
    backup: &Backup,
    replace: bool,
    now: UtcTime,
) -> Result<Restored, RestoreError> {
    if !replace && !swap::is_empty(path).await {
        return Err(RestoreError::NotEmpty);
    }
    let draft = swap::Draft::beside(path);
    let store = Store::create(&format!("sqlite:{}", draft.path().display()), 1).await?;
    let filled = fill_file(store.writer(), backup, now).await;
    store.close().await;
    filled?;
    crash::reach("restore.before_swap");
    let kept = draft.take_place(path, now).await;
    Ok(Restored { kept: kept.map_err(|cause| RestoreError::Swap { path: path.to_owned(), cause })? })
}

async fn fill_file(
    connection: &DatabaseConnection,
    backup: &Backup,
    now: UtcTime,
) -> Result<(), RestoreError> {
    Migrator::up(connection, backup.steps()).await?;
    let transaction = connection.begin().await?;
    backup.fill(&transaction).await?;
    crash::reach("restore.before_commit");
    transaction.commit().await?;
    Migrator::up(connection, None).await?;
    settle(connection, now).await?;
    connection.execute_unprepared("PRAGMA wal_checkpoint(TRUNCATE)").await?;
    Ok(())
}

/// One transaction, tables and all: PostgreSQL takes back what was dropped, too.
async fn into_server(
    url: &str,
    backup: &Backup,
    replace: bool,
    now: UtcTime,
) -> Result<Restored, RestoreError> {
    let store = Store::open(url, 1).await?;
    let result = into_open_server(&store, backup, replace, now).await;
    store.close().await;
    result.map(|()| Restored { kept: None })
}

async fn into_open_server(
    store: &Store,
    backup: &Backup,
    replace: bool,
    now: UtcTime,
) -> Result<(), RestoreError> {
    let others = others_gone(store).await?;
    if others > 0 {
        return Err(RestoreError::InUse(others));
    }
    let transaction = store.writer().begin().await?;
    let ask = |sql: &str| Statement::from_string(transaction.get_database_backend(), sql.to_owned());
    let table = transaction.query_one_raw(ask("SELECT to_regclass('setting')::text AS name")).await?;
    let table: Option<String> = table.map(|row| row.try_get("", "name")).transpose()?.flatten();
    if table.is_some() && !replace {
        let installed = format!("SELECT value FROM setting WHERE name = '{INSTALLATION_ID}'");
        if transaction.query_one_raw(ask(&installed)).await?.is_some() {
            return Err(RestoreError::NotEmpty);
        }
    }
    let mut tables = catalogue::after(known_steps().len()).await?;
    tables.reverse();
    for name in tables.iter().map(|table| table.name.as_str()).chain(["seaql_migrations"]) {
        transaction.execute_unprepared(&format!("DROP TABLE IF EXISTS {name} CASCADE")).await?;
        transaction
            .execute_unprepared(&format!("DROP FUNCTION IF EXISTS {name}_append_only() CASCADE"))
            .await?;
    }
    Migrator::up(&transaction, backup.steps()).await?;
    backup.fill(&transaction).await?;
    Migrator::up(&transaction, None).await?;
    settle(&transaction, now).await?;
    crash::reach("restore.before_commit");
    transaction.commit().await?;
    Ok(())
}

/// How many other connections there are, once those of a process that just ended had time to go.
async fn others_gone(store: &Store) -> Result<i64, RestoreError> {
    let count = "SELECT count(*) AS others FROM pg_stat_activity WHERE datname = current_database() \
                 AND usename = current_user AND pid <> pg_backend_pid()";
    let connection = store.writer();
    let mut looks = 0;
    loop {
        let count = Statement::from_string(connection.get_database_backend(), count);
        let row = connection.query_one_raw(count).await?;
        let others: i64 = row.map(|row| row.try_get("", "others")).transpose()?.unwrap_or(0);
        looks += 1;
        if others == 0 || looks == LOOKS {
            return Ok(others);
        }
        tokio::time::sleep(BETWEEN_LOOKS).await;
    }
}

/// What may not simply go on from where the backup was taken.
async fn settle<C: ConnectionTrait>(connection: &C, now: UtcTime) -> Result<(), RestoreError> {
    let now = now.as_unix();
    for sql in [
        format!("UPDATE authority SET crl_number = crl_number + {CRL_NUMBERS}"),
        // The lists of that time have lower numbers than those that verifiers know: new ones are due.
        "UPDATE crl_head SET changes = changes + 1".to_owned(),
        // A link that was used since would open again.
        format!("UPDATE invitation SET revoked_at = {now} WHERE used_at IS NULL AND revoked_at IS NULL"),
    ] {
        connection.execute_unprepared(&sql).await?;
    }
    Ok(())
}
