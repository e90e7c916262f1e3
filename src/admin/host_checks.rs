//! Health checks of the host: the files and the disk that the configuration names.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use async_trait::async_trait;

use crate::ca::health::{CheckError, Finding, HealthCheck, Severity};
use crate::config::{Config, DatabaseUrl, KeySource};
use crate::domain::UtcTime;

/// Below this a database stops writing within hours.
pub const LEAST_FREE_BYTES: u64 = 512 * 1024 * 1024;
/// Mode bits that let others than the owner at a file.
const OTHERS: u32 = 0o077;

/// The checks of the host that this configuration describes.
pub fn of_host(config: &Config) -> Vec<Box<dyn HealthCheck>> {
    let key_files =
        [&config.keys.server, &config.keys.authority].into_iter().filter_map(|source| match source {
            KeySource::File(path) => Some(path.clone()),
            KeySource::Inline(_) => None,
        });
    let mut disks = vec![config.server.data_dir.clone()];
    if let DatabaseUrl::Sqlite(file) = &config.database.url
        && let Some(folder) = file.parent().filter(|folder| !folder.as_os_str().is_empty())
        && folder != config.server.data_dir
    {
        disks.push(folder.to_owned());
    }
    let disks = disks.into_iter().map(|path| LowDisk { path, least: LEAST_FREE_BYTES });
    let disks = disks.map(|check| Box::new(check) as Box<dyn HealthCheck>);
    std::iter::once(Box::new(KeyFileModes(key_files.collect())) as Box<dyn HealthCheck>)
        .chain(disks)
        .collect()
}

/// Key files that others than their owner can read, or that are gone.
pub struct KeyFileModes(pub Vec<PathBuf>);

#[async_trait]
impl HealthCheck for KeyFileModes {
    fn name(&self) -> &'static str {
        "key_file"
    }

    async fn look(&self, _: UtcTime) -> Result<Vec<Finding>, CheckError> {
        let finding = |path: &Path, detail, advice| Finding {
            check: self.name(),
            severity: Severity::Critical,
            object: path.display().to_string(),
            detail,
            advice,
        };
        let mut findings = Vec::new();
        for path in &self.0 {
            match fs::metadata(path) {
                Err(error) => findings.push(finding(
                    path,
                    format!("cannot be reached: {error}"),
                    "Bring it back from its backup before this process ends: without it nothing starts again.",
                )),
                Ok(found) if found.permissions().mode() & OTHERS != 0 => findings.push(finding(
                    path,
                    format!("has mode {:04o}", found.permissions().mode() & 0o7777),
                    "Make it readable by its owner alone (chmod 0600), and think about who has read it.",
                )),
                Ok(_) => {}
            }
        }
        Ok(findings)
    }
}

/// A disk that is nearly full.
pub struct LowDisk {
    /// Something on it.
    pub path: PathBuf,
    /// How many bytes must be free.
    pub least: u64,
}

#[async_trait]
impl HealthCheck for LowDisk {
    fn name(&self) -> &'static str {
        "disk_low"
    }

    async fn look(&self, _: UtcTime) -> Result<Vec<Finding>, CheckError> {
        let unreadable =
            |error| CheckError::Other(format!("{} cannot be measured: {error}", self.path.display()));
        let found = rustix::fs::statvfs(self.path.as_path()).map_err(unreadable)?;
        let free = found.f_bavail.saturating_mul(found.f_frsize);
        if free >= self.least {
            return Ok(Vec::new());
        }
        Ok(vec![Finding {
            check: self.name(),
            severity: Severity::Critical,
            object: self.path.display().to_string(),
            detail: format!("{} MiB are free, {} must be", free >> 20, self.least >> 20),
            advice: "Make room: without it nothing can be recorded, and so nothing is issued or revoked.",
        }])
    }
}
