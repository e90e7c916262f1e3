//! Taking a backup: one read-only picture of the database, written beside its place and renamed into it.

use std::fs::{DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use entity::{configuration_head, register_head, setting};
use futures_util::TryStreamExt;
use sea_orm::{AccessMode, DatabaseTransaction, EntityTrait, IsolationLevel, StreamTrait, TransactionTrait};

use super::catalogue::{self, Table};
use super::part::Writer;
use super::{FORMAT, LEFT_OUT, MANIFEST, Manifest, Part, SEAL, SEAL_PLACE, known_steps, part_file, rows};
use crate::domain::hex::hex;
use crate::domain::{Seal, UtcTime};
use crate::store::settings::INSTALLATION_ID;
use crate::store::{Store, StoreError};

/// Why there is no backup. Nothing of it is left behind.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// Something is there already; a backup never overwrites.
    #[error("{0} is there already; name a directory that is not")]
    Exists(PathBuf),
    /// There is no installation to back up.
    #[error("there is no installation in this database")]
    NoInstallation,
    /// The rows could not be read.
    #[error("the rows could not be read")]
    Store(#[from] StoreError),
    /// The files could not be written.
    #[error("{path} could not be written")]
    Write {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
}

impl Store {
    /// Writes a backup to the new directory `to`, readable by its owner only. The database may be
    /// served meanwhile: what is read is one moment's picture.
    ///
    /// * `seal` — the authority's key-encryption key, which a restore needs too.
    ///
    /// # Errors
    /// As [`BackupError`] says; then `to` is not there.
    pub async fn back_up(&self, to: &Path, seal: &dyn Seal, now: UtcTime) -> Result<Manifest, BackupError> {
        self.check_schema().await?;
        self.take(known_steps(), to, seal, now).await
    }

    /// A backup of a database that has these steps.
    pub(super) async fn take(
        &self,
        steps: Vec<String>,
        to: &Path,
        seal: &dyn Seal,
        now: UtcTime,
    ) -> Result<Manifest, BackupError> {
        if to.symlink_metadata().is_ok() {
            return Err(BackupError::Exists(to.to_owned()));
        }
        let draft = Draft::make(to)?;
        let picture = self.picture().await?;
        let mut parts = Vec::new();
        for table in catalogue::after(steps.len()).await? {
            if !LEFT_OUT.contains(&table.name.as_str()) {
                parts.push(write_part(&picture, &draft.0, table).await?);
            }
        }
        let manifest = Manifest {
            format: FORMAT.to_owned(),
            program: env!("CARGO_PKG_VERSION").to_owned(),
            steps,
            taken_at: now.as_unix(),
            parts,
            ..heads(&picture).await?
        };
        picture.rollback().await.map_err(StoreError::from)?;
        let text = serde_json::to_vec_pretty(&manifest)
            .map_err(|cause| BackupError::Write { path: to.to_owned(), cause: cause.into() })?;
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &text);
        let sealed = STANDARD.encode(seal.seal(SEAL_PLACE, hex(digest.as_ref()).as_bytes()));
        draft.write(MANIFEST, &text)?;
        draft.write(SEAL, sealed.as_bytes())?;
        crate::crash::reach("backup.before_rename");
        draft.finish(to)?;
        Ok(manifest)
    }

    /// Begins to read what is committed now, and nothing that is committed later.
    async fn picture(&self) -> Result<DatabaseTransaction, StoreError> {
        if self.is_sqlite() {
            let picture = self.reader().begin().await?;
            // The picture is taken by the first read, not by BEGIN (SQLite, "isolation in WAL mode").
            register_head::Entity::find_by_id(1).one(&picture).await?;
            return Ok(picture);
        }
        let (isolation, access) = (IsolationLevel::RepeatableRead, AccessMode::ReadOnly);
        Ok(self.reader().begin_with_config(Some(isolation), Some(access)).await?)
    }
}

async fn write_part(
    picture: &DatabaseTransaction,
    directory: &Path,
    table: Table,
) -> Result<Part, BackupError> {
    let path = part_file(directory, &table.name);
    let fault = |cause| BackupError::Write { path: path.clone(), cause };
    let mut file = Writer::create(&path).map_err(fault)?;
    let query = rows::select(&table);
    let mut found = picture.stream(&query).await.map_err(StoreError::from)?;
    while let Some(row) = found.try_next().await.map_err(StoreError::from)? {
        let values = rows::to_json(&row, &table.columns).map_err(StoreError::from)?;
        file.row(&values).map_err(fault)?;
    }
    let (rows, bytes) = (file.rows, file.bytes);
    let sha256 = file.finish().map_err(fault)?;
    Ok(Part { table: table.name, columns: table.columns, rows, bytes, sha256 })
}

async fn heads(picture: &DatabaseTransaction) -> Result<Manifest, BackupError> {
    let installation = setting::Entity::find_by_id(INSTALLATION_ID.to_owned())
        .one(picture)
        .await
        .map_err(StoreError::from)?;
    let epoch = register_head::Entity::find_by_id(1).one(picture).await.map_err(StoreError::from)?;
    let version = configuration_head::Entity::find_by_id(1).one(picture).await.map_err(StoreError::from)?;
    Ok(Manifest {
        format: String::new(),
        program: String::new(),
        steps: Vec::new(),
        installation: installation.ok_or(BackupError::NoInstallation)?.value,
        taken_at: 0,
        epoch: epoch.and_then(|head| u64::try_from(head.epoch).ok()).unwrap_or(0),
        configuration_version: version.and_then(|head| u64::try_from(head.version).ok()).unwrap_or(0),
        parts: Vec::new(),
    })
}

/// The directory while it is written, beside its place; gone when it does not get there.
struct Draft(PathBuf);

impl Draft {
    fn make(to: &Path) -> Result<Self, BackupError> {
        let mut name = std::ffi::OsString::from(".");
        name.push(to.file_name().ok_or_else(|| BackupError::Exists(to.to_owned()))?);
        name.push(".partial");
        let path = to.with_file_name(name);
        // What an earlier run left that was killed.
        let _ = std::fs::remove_dir_all(&path);
        DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(|cause| BackupError::Write { path: path.clone(), cause })?;
        Ok(Self(path))
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), BackupError> {
        let path = self.0.join(name);
        let write = || -> io::Result<()> {
            let mut file =
                std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
            file.write_all(bytes)?;
            file.sync_all()
        };
        write().map_err(|cause| BackupError::Write { path: path.clone(), cause })
    }

    fn finish(self, to: &Path) -> Result<(), BackupError> {
        let finish = || -> io::Result<()> {
            File::open(&self.0)?.sync_all()?;
            std::fs::rename(&self.0, to)?;
            let parent = to.parent().filter(|parent| !parent.as_os_str().is_empty());
            File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
        };
        finish().map_err(|cause| BackupError::Write { path: to.to_owned(), cause })
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
