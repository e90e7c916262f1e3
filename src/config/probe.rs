//! Looks at the files that a checked configuration names, for `wicketgate check` and before a start.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::checked::{Config, DatabaseUrl, KeySource};
use super::fault::Fault;

/// Mode bits that let others than the owner at a file.
const OTHERS: u32 = 0o077;

/// Every fault of the files and directories that `config` names. Creates and removes one empty file in
/// each directory that must be writable; changes nothing else.
pub fn probe(config: &Config) -> Vec<Fault> {
    let mut faults = Vec::new();
    faults.extend(directory_fault("server.data_dir", &config.server.data_dir));
    if let DatabaseUrl::Sqlite(file) = &config.database.url {
        let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.unwrap_or_else(|| Path::new("."));
        if parent != config.server.data_dir {
            faults.extend(directory_fault("database.url", parent));
        }
    }
    for (key, source) in
        [("keys.server_key_file", &config.keys.server), ("keys.authority_key_file", &config.keys.authority)]
    {
        if let KeySource::File(path) = source {
            faults.extend(key_file_fault(key, path));
        }
    }
    if let Some(path) = &config.acme.root_ca_file {
        faults.extend(pem_fault("acme.root_ca_file", path));
    }
    if let Some(path) = config.smtp.as_ref().and_then(|smtp| smtp.root_ca_file.as_ref()) {
        faults.extend(pem_fault("smtp.root_ca_file", path));
    }
    faults
}

fn directory_fault(key: &str, path: &Path) -> Option<Fault> {
    let reason = match fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            "does not exist; `wicketgate init` makes it".to_owned()
        }
        Err(error) => format!("cannot be reached: {error}"),
        Ok(found) if !found.is_dir() => "is not a directory".to_owned(),
        // Trying is the only honest test: mode bits know nothing of read-only mounts and ACLs.
        Ok(_) => match write_and_remove(&path.join(format!(".check-{}", std::process::id()))) {
            Ok(()) => return None,
            Err(error) => format!("cannot be written to: {error}"),
        },
    };
    Some(Fault::of_value(key, &path.display().to_string(), reason))
}

fn write_and_remove(path: &Path) -> std::io::Result<()> {
    OpenOptions::new().write(true).create_new(true).open(path)?;
    fs::remove_file(path)
}

fn key_file_fault(key: &str, path: &Path) -> Option<Fault> {
    let reason = match File::open(path).and_then(|file| file.metadata()) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            "does not exist; `wicketgate init` makes it".to_owned()
        }
        Err(error) => format!("cannot be read: {error}"),
        Ok(found) if !found.is_file() => "is not a file".to_owned(),
        Ok(found) if found.len() == 0 => "is empty".to_owned(),
        Ok(found) if found.permissions().mode() & OTHERS != 0 => {
            let mode = found.permissions().mode() & 0o7777;
            format!("has mode {mode:04o}: only its owner may read it (chmod 0600)")
        }
        Ok(_) => return None,
    };
    Some(Fault::of_value(key, &path.display().to_string(), reason))
}

fn pem_fault(key: &str, path: &Path) -> Option<Fault> {
    let mut text = String::new();
    let reason = match File::open(path).and_then(|file| file.take(1 << 20).read_to_string(&mut text)) {
        Err(error) => format!("cannot be read: {error}"),
        Ok(_) if !text.contains("-----BEGIN CERTIFICATE-----") => "holds no PEM certificate".to_owned(),
        Ok(_) => return None,
    };
    Some(Fault::of_value(key, &path.display().to_string(), reason))
}
