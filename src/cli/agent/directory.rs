//! What the agent keeps on disk, so that whatever moment it ends at leaves a key and a certificate that
//! belong together, and the next run goes on.
//!
//! ```text
//! agent.json           door and device name
//! server-ca.pem        whom to trust at the door, unless the system's roots do
//! pending/             a key and its request, from before the request leaves until its certificate is in use
//! versions/<serial>/   key.pem cert.pem chain.pem bundle.pem, never changed once they have their name
//! current              -> versions/<serial>, swapped by one rename
//! key.pem cert.pem …   -> current/…
//! hooked               the version that the hook has run for
//! ```

use std::fs::{DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use url::Url;
use zeroize::Zeroizing;

use crate::crash;
use crate::domain::{Secret, UtcTime};
use crate::pki::{chain, keygen, pem};

/// Files of a version that have a link beside `current`.
const LINKED: [&str; 4] = ["key.pem", "cert.pem", "chain.pem", "bundle.pem"];

/// The agent's directory, held by this process alone.
pub(super) struct Directory {
    path: PathBuf,
    _lock: File,
}

/// What an enrolment was told.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Settings {
    /// The door's URL.
    door: String,
    /// What the device is called.
    pub(super) name: String,
}

impl Settings {
    /// What an enrolment at this door is told.
    pub(super) fn new(door: &Url, name: String) -> Self {
        Self { door: door.to_string(), name }
    }

    /// The door.
    pub(super) fn door(&self) -> anyhow::Result<Url> {
        Url::parse(&self.door).context("agent.json names a door that is not a URL")
    }
}

/// A key that waits for its certificate.
pub(super) struct Pending {
    /// PKCS#8 DER.
    pub(super) key: Secret<Vec<u8>>,
    /// PKCS#10 DER.
    pub(super) request: Vec<u8>,
    /// The serial that it renews; none for a first certificate.
    pub(super) renews: Option<String>,
}

/// A key and its certificate.
pub(super) struct Pair {
    /// PKCS#8 DER.
    pub(super) key: Secret<Vec<u8>>,
    /// The certificate and its issuer, DER.
    pub(super) chain: Vec<Vec<u8>>,
    /// The certificate's serial: the name of the version.
    pub(super) serial: String,
    /// First second of validity.
    pub(super) not_before: UtcTime,
    /// Last second of validity.
    pub(super) not_after: UtcTime,
}

impl Directory {
    /// Opens the directory, made with mode 0700 if it is not there, for this process alone.
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        private_directory(path)?;
        let lock = path.join(".lock");
        let lock = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&lock);
        let lock = lock.with_context(|| format!("cannot write in {}", path.display()))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => bail!("another agent is at work in {}", path.display()),
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
        let path = path.canonicalize()?;
        Ok(Self { path, _lock: lock })
    }

    /// The file of this name.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// What the enrolment was told.
    pub(super) fn settings(&self) -> anyhow::Result<Settings> {
        let file = self.file("agent.json");
        let text = std::fs::read_to_string(&file)
            .with_context(|| format!("{} is missing: run `wicketgate agent enrol` first", file.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} cannot be read", file.display()))
    }

    /// Keeps what the enrolment is told; `server_ca` is PEM.
    pub(super) fn keep_settings(&self, settings: &Settings, server_ca: Option<&[u8]>) -> anyhow::Result<()> {
        if let Some(server_ca) = server_ca {
            self.replace("server-ca.pem", server_ca)?;
        }
        self.replace("agent.json", serde_json::to_string_pretty(settings)?.as_bytes())
    }

    /// Whom to trust at the door, if that was said.
    pub(super) fn server_ca(&self) -> Option<PathBuf> {
        Some(self.file("server-ca.pem")).filter(|file| file.exists())
    }

    /// The pair in use.
    pub(super) fn current(&self) -> anyhow::Result<Option<Pair>> {
        let Some(version) = self.version()? else { return Ok(None) };
        let pair = read_pair(&self.file("versions").join(&version));
        pair.map(Some).with_context(|| format!("version {version} in {} is damaged", self.path.display()))
    }

    /// The name of the version in use.
    fn version(&self) -> anyhow::Result<Option<String>> {
        match std::fs::read_link(self.file("current")) {
            Ok(target) => Ok(target.file_name().and_then(|name| name.to_str()).map(str::to_owned)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The key that waits for its certificate, if one does.
    pub(super) fn pending(&self) -> anyhow::Result<Option<Pending>> {
        let folder = self.file("pending");
        if !folder.exists() {
            return Ok(None);
        }
        let read = |name: &str| std::fs::read(folder.join(name)).map(Zeroizing::new);
        let key = read_key(&folder.join("key.pem"))?;
        let renews = String::from_utf8_lossy(&read("renews")?).trim().to_owned();
        let renews = Some(renews).filter(|serial| !serial.is_empty());
        Ok(Some(Pending { key, request: read("request.der")?.to_vec(), renews }))
    }

    /// Stores a key and its request. From here on they outlive everything but this disk.
    pub(super) fn keep_pending(&self, pending: &Pending) -> anyhow::Result<()> {
        let renews = pending.renews.clone().unwrap_or_default();
        let key = keygen::private_key_pem(pending.key.expose());
        let files: [(&str, &[u8]); 3] = [
            ("key.pem", key.expose().as_bytes()),
            ("request.der", &pending.request),
            ("renews", renews.as_bytes()),
        ];
        crash::reach("agent.before_pending");
        self.make_folder("pending", &files)?;
        crash::reach("agent.after_pending");
        Ok(())
    }

    /// Forgets the waiting key: its certificate is in use, or nobody will certify it.
    pub(super) fn drop_pending(&self) -> anyhow::Result<()> {
        let (folder, gone) = (self.file("pending"), self.file(".pending-gone"));
        remove(&gone)?;
        if folder.exists() {
            // By one rename first: half a folder must not be taken for a whole one.
            std::fs::rename(&folder, &gone)?;
            sync(&self.path)?;
            remove(&gone)?;
        }
        Ok(())
    }

    /// Puts a key and its certificate into use.
    ///
    /// * `chain` — the certificate, then its issuer, DER. The caller has checked that they belong together.
    pub(super) fn install(&self, pending: &Pending, chain: &[Vec<u8>], serial: &str) -> anyhow::Result<()> {
        let key = keygen::private_key_pem(pending.key.expose());
        let pems: Vec<String> = chain.iter().map(|der| pem::block("CERTIFICATE", der)).collect();
        let certificates = pems.concat();
        let bundle = Zeroizing::new(format!("{}{certificates}", key.expose()));
        let above = pems.get(1..).unwrap_or_default().concat();
        let renews = pending.renews.clone().unwrap_or_default();
        let files: [(&str, &[u8]); 5] = [
            ("key.pem", key.expose().as_bytes()),
            ("cert.pem", certificates.as_bytes()),
            ("chain.pem", above.as_bytes()),
            ("bundle.pem", bundle.as_bytes()),
            ("renews", renews.as_bytes()),
        ];
        private_directory(&self.file("versions"))?;
        let name = format!("versions/{serial}");
        // One that has its name is whole: it was made before a crash.
        if !self.file(&name).exists() {
            self.make_folder(&name, &files)?;
        }
        crash::reach("agent.after_version");
        self.swap("current", &name)?;
        crash::reach("agent.after_swap");
        for link in LINKED {
            match symlink(format!("current/{link}"), self.file(link)) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error.into()),
                _ => {}
            }
        }
        sync(&self.path)
    }

    /// Removes what crashes left behind, and versions that are neither in use nor the one before.
    pub(super) fn tidy(&self) -> anyhow::Result<()> {
        for entry in std::fs::read_dir(&self.path)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(".new-") {
                remove(&entry.path())?;
            }
        }
        remove(&self.file(".pending-gone"))?;
        let Some(current) = self.version()? else { return Ok(()) };
        let before = std::fs::read_to_string(self.file("current/renews")).unwrap_or_default();
        for entry in std::fs::read_dir(self.file("versions"))? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name != current && name != before.trim() {
                remove(&entry.path())?;
            }
        }
        Ok(())
    }

    /// Whether the hook has run for this version.
    pub(super) fn is_hooked(&self, serial: &str) -> bool {
        std::fs::read_to_string(self.file("hooked")).is_ok_and(|hooked| hooked.trim() == serial)
    }

    /// Notes that the hook has run for this version.
    pub(super) fn note_hooked(&self, serial: &str) -> anyhow::Result<()> {
        self.replace("hooked", serial.as_bytes())
    }

    /// Replaces a file as a whole.
    fn replace(&self, name: &str, content: &[u8]) -> anyhow::Result<()> {
        let new = self.file(&format!(".new-{name}"));
        remove(&new)?;
        write(&new, content)?;
        std::fs::rename(&new, self.file(name))?;
        sync(&self.path)
    }

    /// Makes a folder with these files, which has its name only when all of them are on disk.
    fn make_folder(&self, name: &str, files: &[(&str, &[u8])]) -> anyhow::Result<()> {
        let new = self.file(&format!(".new-{}", name.replace('/', "-")));
        remove(&new)?;
        private_directory(&new)?;
        for (file, content) in files {
            write(&new.join(file), content)?;
        }
        sync(&new)?;
        crash::reach(match name {
            "pending" => "agent.before_pending_has_its_name",
            _ => "agent.before_version_has_its_name",
        });
        let target = self.file(name);
        std::fs::rename(&new, &target).with_context(|| format!("cannot make {}", target.display()))?;
        sync(target.parent().unwrap_or(&self.path))?;
        sync(&self.path)
    }

    /// Points a link elsewhere, by one rename.
    fn swap(&self, name: &str, target: &str) -> anyhow::Result<()> {
        let new = self.file(&format!(".new-{name}"));
        remove(&new)?;
        symlink(target, &new)?;
        crash::reach("agent.before_swap");
        std::fs::rename(&new, self.file(name))?;
        sync(&self.path)
    }
}

impl Pair {
    /// Whether this is the pair of that key.
    pub(super) fn has_key(&self, key: &Secret<Vec<u8>>) -> bool {
        self.key.expose() == key.expose()
    }
}

fn read_pair(folder: &Path) -> anyhow::Result<Pair> {
    let key = read_key(&folder.join("key.pem"))?;
    let text = std::fs::read_to_string(folder.join("cert.pem"))?;
    let chain = pem::blocks(&text, "CERTIFICATE");
    let leaf = chain::read_leaf(chain.first().context("cert.pem holds no certificate")?)?;
    anyhow::ensure!(
        leaf.spki_der == keygen::public_key(key.expose())?,
        "key and certificate do not belong together"
    );
    let serial = leaf.serial.context("the certificate has no serial")?.to_string();
    Ok(Pair { key, chain, serial, not_before: leaf.not_before, not_after: leaf.not_after })
}

fn read_key(file: &Path) -> anyhow::Result<Secret<Vec<u8>>> {
    let text = Zeroizing::new(
        std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?,
    );
    let key = pem::first_block(&text, &["PRIVATE KEY"]);
    Ok(Secret::new(key.with_context(|| format!("{} holds no private key", file.display()))?))
}

/// A directory that only its owner may enter.
fn private_directory(path: &Path) -> anyhow::Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.with_context(|| format!("cannot make {}", path.display()))?;
    let mode = std::fs::metadata(path)?.permissions().mode();
    if mode & 0o077 != 0 {
        // Ours to narrow: private keys are going to lie in it.
        std::fs::set_permissions(path, Permissions::from_mode(mode & !0o077))
            .with_context(|| format!("{} is open to others and not ours to close", path.display()))?;
    }
    Ok(())
}

/// A new file that only its owner may read, on disk when this returns.
fn write(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let mut file = file.with_context(|| format!("cannot write {}", path.display()))?;
    file.write_all(content)?;
    Ok(file.sync_all()?)
}

/// What was created, renamed and removed in the directory is on disk when this returns.
fn sync(directory: &Path) -> anyhow::Result<()> {
    Ok(File::open(directory)?.sync_all()?)
}

/// Removes a file, link or folder, if it is there.
fn remove(path: &Path) -> anyhow::Result<()> {
    let removed = match path.symlink_metadata() {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
        Ok(found) if found.is_dir() => std::fs::remove_dir_all(path),
        Ok(_) => std::fs::remove_file(path),
    };
    removed.with_context(|| format!("cannot remove {}", path.display()))
}
