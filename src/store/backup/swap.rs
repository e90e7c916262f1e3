//! One SQLite file in another's place. The old one is kept beside it.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use sea_orm::ConnectionTrait;

use crate::domain::UtcTime;
use crate::store::Store;
use crate::store::settings::INSTALLATION_ID;

/// What SQLite keeps beside its file.
const BESIDE: [&str; 2] = ["-wal", "-shm"];

/// Whether there is nothing in the file that could be lost: it is not there, or holds no installation.
/// What cannot be read is not known to be empty.
pub(super) async fn is_empty(path: &Path) -> bool {
    match path.metadata() {
        Err(error) => return error.kind() == io::ErrorKind::NotFound,
        Ok(metadata) if metadata.len() == 0 => return true,
        Ok(_) => {}
    }
    let Ok(store) = Store::open(&url(path), 1).await else { return false };
    let tables = store.reader().query_one_raw(sea_orm::Statement::from_string(
        sea_orm::DbBackend::Sqlite,
        "SELECT 1 AS found FROM sqlite_schema WHERE type = 'table' AND name = 'setting'",
    ));
    let empty = match tables.await {
        Err(_) => false,
        Ok(None) => true,
        Ok(Some(_)) => matches!(store.setting(INSTALLATION_ID).await, Ok(None)),
    };
    store.close().await;
    empty
}

/// The new file while it is filled; gone when it does not get into place.
pub(super) struct Draft(PathBuf);

impl Draft {
    pub(super) fn beside(path: &Path) -> Self {
        let draft = Self(with(path, ".restoring"));
        // What an earlier run left that was killed.
        draft.remove();
        draft
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Puts the file, which nobody has open, into the place of `old`. Returns where that one is kept.
    pub(super) async fn take_place(self, old: &Path, now: UtcTime) -> io::Result<Option<PathBuf>> {
        File::open(&self.0)?.sync_all()?;
        let mut kept = None;
        if old.exists() {
            // Into the one file whatever is beside it, if it can still be read at all.
            if let Ok(store) = Store::open(&url(old), 1).await {
                let _ = store.writer().execute_unprepared("PRAGMA wal_checkpoint(TRUNCATE)").await;
                store.close().await;
            }
            let place = with(old, &format!(".replaced-{}", now.as_unix()));
            std::fs::hard_link(old, &place)?;
            kept = Some(place);
        }
        // Another file's log must not be played into this one.
        let mut moved = Vec::new();
        let aside = kept.clone().unwrap_or_else(|| with(old, &format!(".replaced-{}", now.as_unix())));
        let swapped = BESIDE
            .into_iter()
            .map(|end| (with(old, end), with(&aside, end)))
            .filter(|(from, _)| from.exists())
            .try_for_each(|(from, to)| {
                std::fs::rename(&from, &to)?;
                moved.push((from, to));
                Ok(())
            })
            .and_then(|()| std::fs::rename(&self.0, old));
        if let Err(error) = swapped {
            for (from, to) in moved {
                let _ = std::fs::rename(to, from);
            }
            return Err(error);
        }
        let directory = old.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(directory.unwrap_or(Path::new(".")))?.sync_all()?;
        Ok(kept)
    }

    fn remove(&self) {
        for end in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(with(&self.0, end));
        }
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        self.remove();
    }
}

fn with(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    PathBuf::from(name)
}

fn url(path: &Path) -> String {
    format!("sqlite:{}", path.display())
}
