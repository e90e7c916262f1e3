//! The edge's copy of its snapshot on disk, sealed under the server key: what it starts from when
//! nobody can tell it more. An update is fsynced here before the edge acknowledges it.
//!
//! Two files: a base (`snapshot`) written whole and renamed into place, and a log of updates behind
//! it (`snapshot.log`). Every frame is sealed with format, edge id, generation and position as
//! associated data, so frames cannot be changed, dropped, reordered or taken from another edge.
//! A torn last frame was never acknowledged and is cut off; anything else that does not open is a
//! fault, and the edge refuses to guess.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::configuration::{ConfigurationData, ConfigurationFault};
use super::register::Register;
use crate::domain::{Change, Seal, SealBroken, UtcTime};

/// Names the layout; a reader that does not know it refuses.
const FORMAT: &str = "wicketgate-snapshot-1";
/// The log is folded into a new base when it grows past this.
const FOLD_AT_BYTES: u64 = 8 * 1024 * 1024;
/// A confirmation without changes is written at most this often.
const CONFIRM_EVERY_SECONDS: i64 = 60;

/// The files of one edge.
pub struct Journal {
    directory: PathBuf,
    edge: String,
    seal: Arc<dyn Seal>,
    open: Option<Open>,
    /// The configuration in the base or log; a fold writes it again.
    configuration: Option<Arc<ConfigurationData>>,
    confirmed: i64,
    /// What could not be written before: in force in memory, so it goes into the next frame. Without
    /// this, a restart would find a later epoch and never ask for the lost ones again.
    owed: Owed,
    /// Something on disk is sealed under an older key, which may leave the key file soon.
    is_under_old_key: bool,
    /// Nobody else may have it at the same time.
    is_alone: bool,
    held: Option<Held>,
}

/// A directory that no other process writes to. Given up when dropped, and with the process.
pub struct Held(File);

impl Held {
    /// Holds `directory`, which is there.
    ///
    /// # Errors
    /// [`JournalFault::Taken`] when another process does; [`JournalFault::Io`].
    pub fn take(directory: &Path) -> Result<Self, JournalFault> {
        let path = directory.to_owned();
        // The directory itself, so that nothing is left behind that another user could not open.
        match File::open(directory).map_err(TryLockError::Error).and_then(|it| it.try_lock().map(|()| it)) {
            Ok(directory) => Ok(Self(directory)),
            Err(TryLockError::WouldBlock) => Err(JournalFault::Taken { path }),
            Err(TryLockError::Error(cause)) => Err(JournalFault::Io { path, cause }),
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // Closing would do, but for a copy in a child that has not started its program yet.
        let _ = self.0.unlock();
    }
}

#[derive(Default)]
struct Owed {
    changes: Vec<Change>,
    configuration: Option<Arc<ConfigurationData>>,
}

struct Open {
    log: File,
    generation: u64,
    position: u64,
    bytes: u64,
}

/// What was on disk.
#[derive(Default)]
pub struct Restored {
    /// Register changes; those of the base have epoch 0 but for the last, which carries the epoch.
    pub changes: Vec<Change>,
    /// The configuration in force.
    pub configuration: Option<ConfigurationData>,
    /// The last confirmation.
    pub as_of: Option<UtcTime>,
}

/// Why the copy on disk cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalFault {
    /// The files cannot be read or written.
    #[error("the edge's snapshot at {path} cannot be used")]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        cause: std::io::Error,
    },
    /// Another process has it.
    #[error("another wicketgate uses {path}; stop it first, or use `wicketgate serve --take-over`")]
    Taken {
        /// Which directory.
        path: PathBuf,
    },
    /// A frame does not open.
    #[error(
        "the edge's snapshot at {path} was changed or belongs to another key or edge; remove it to start from the database"
    )]
    Broken {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        cause: SealBroken,
    },
    /// A frame opens but cannot be understood.
    #[error("the edge's snapshot at {path} is not one of ours")]
    Unreadable {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        cause: serde_json::Error,
    },
    /// What it holds does not build.
    #[error("the configuration in the edge's snapshot does not build")]
    Configuration(#[source] ConfigurationFault),
}

#[derive(Serialize, Deserialize)]
struct Frame {
    changes: Vec<Change>,
    configuration: Option<ConfigurationData>,
    as_of: Option<UtcTime>,
    /// Only in a base: which log continues it.
    #[serde(default)]
    generation: u64,
}

impl Journal {
    /// The journal of edge `edge` in `directory`; nothing is read yet.
    pub fn at(directory: &Path, edge: &str, seal: Arc<dyn Seal>) -> Self {
        Self {
            directory: directory.to_owned(),
            edge: edge.to_owned(),
            seal,
            open: None,
            configuration: None,
            confirmed: 0,
            owed: Owed::default(),
            is_under_old_key: false,
            is_alone: false,
            held: None,
        }
    }

    /// The same; once it is read, no other process can have it that wants it alone, too.
    #[must_use]
    pub fn alone(self) -> Self {
        Self { is_alone: true, ..self }
    }

    /// Reads what is there and opens the log for appending.
    ///
    /// # Errors
    /// As [`JournalFault`] says; no file is not a fault.
    pub fn load(mut self) -> Result<(Self, Restored), JournalFault> {
        if self.is_alone {
            self.held = Some(Held::take(&self.directory)?);
        }
        let base_path = self.base_path();
        let io = |path: &Path| {
            let path = path.to_owned();
            move |cause| JournalFault::Io { path, cause }
        };
        let mut restored = Restored::default();
        let mut generation = 0;
        match std::fs::read(&base_path) {
            Ok(sealed) => {
                let frame = self.open_frame(&base_path, &self.place("base", 0, 0), &sealed)?;
                generation = frame.generation;
                self.is_under_old_key |= self.seal.is_outdated(&sealed);
                restored.take(frame);
            }
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => {}
            Err(cause) => return Err(io(&base_path)(cause)),
        }
        let log_path = self.log_path(generation);
        let mut log = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&log_path)
            .map_err(io(&log_path))?;
        let mut bytes = Vec::new();
        log.read_to_end(&mut bytes).map_err(io(&log_path))?;
        let (mut position, (frames, torn)) = (0, frames(&bytes));
        for sealed in frames {
            let place = self.place("log", generation, position);
            self.is_under_old_key |= self.seal.is_outdated(sealed);
            restored.take(self.open_frame(&log_path, &place, sealed)?);
            position += 1;
        }
        let at = bytes.len() - torn;
        if torn > 0 {
            tracing::warn!(bytes = torn, "Cut an unfinished update off the edge's snapshot");
            log.set_len(at as u64).map_err(io(&log_path))?;
        }
        sync_directory(&self.directory).map_err(io(&self.directory))?;
        self.configuration = restored.configuration.clone().map(Arc::new);
        self.confirmed = restored.as_of.map_or(0, UtcTime::as_unix);
        self.open = Some(Open { log, generation, position, bytes: at as u64 });
        Ok((self, restored))
    }

    /// The same, without a hold on the files: nothing is written until they are read again.
    pub fn let_go(&self) -> Self {
        Self { is_alone: self.is_alone, ..Self::at(&self.directory, &self.edge, self.seal.clone()) }
    }

    /// Writes everything anew if something on disk is sealed under an older key.
    ///
    /// # Errors
    /// [`JournalFault::Io`]; the old files stay.
    pub fn reseal(&mut self, register: &Register) -> Result<(), JournalFault> {
        if !self.is_under_old_key {
            return Ok(());
        }
        self.fold(register).map_err(|cause| JournalFault::Io { path: self.directory.clone(), cause })?;
        self.is_under_old_key = false;
        Ok(())
    }

    /// Makes an update durable. Gives itself back, because the writing happens on a blocking thread.
    pub async fn append(
        self,
        changes: Vec<Change>,
        configuration: Option<Arc<ConfigurationData>>,
        as_of: Option<UtcTime>,
        register: &Arc<Register>,
    ) -> (Self, std::io::Result<()>) {
        // Earlier, too: a clock that was ahead for a moment must not be what a restart begins with.
        let confirm_due =
            as_of.is_some_and(|at| (at.as_unix() - self.confirmed).abs() >= CONFIRM_EVERY_SECONDS);
        let owes = !self.owed.changes.is_empty() || self.owed.configuration.is_some();
        if changes.is_empty() && configuration.is_none() && !confirm_due && !owes {
            return (self, Ok(()));
        }
        let register = register.clone();
        let (directory, edge, seal) = (self.directory.clone(), self.edge.clone(), self.seal.clone());
        let mut journal = self;
        let task = tokio::task::spawn_blocking(move || {
            let written = journal.write(changes, configuration, as_of, &register);
            (journal, written)
        });
        match task.await {
            Ok(result) => result,
            // The writer panicked or the runtime ends: the files are as they were; without a handle
            // every later append fails, and so does every acknowledgement.
            Err(join) => (Self::at(&directory, &edge, seal), Err(std::io::Error::other(join))),
        }
    }

    fn write(
        &mut self,
        changes: Vec<Change>,
        configuration: Option<Arc<ConfigurationData>>,
        as_of: Option<UtcTime>,
        register: &Register,
    ) -> std::io::Result<()> {
        let owed = std::mem::take(&mut self.owed);
        let changes: Vec<Change> = owed.changes.into_iter().chain(changes).collect();
        let configuration = configuration.or(owed.configuration);
        let written = self.write_frame(&changes, configuration.as_ref(), as_of);
        if let Err(cause) = written {
            self.owed = Owed { changes, configuration };
            return Err(cause);
        }
        self.confirmed = as_of.map_or(self.confirmed, UtcTime::as_unix);
        if configuration.is_some() {
            self.configuration = configuration;
        }
        if self.open.as_ref().is_some_and(|open| open.bytes > FOLD_AT_BYTES) {
            self.fold(register)?;
        }
        Ok(())
    }

    fn write_frame(
        &mut self,
        changes: &[Change],
        configuration: Option<&Arc<ConfigurationData>>,
        as_of: Option<UtcTime>,
    ) -> std::io::Result<()> {
        let Some(open) = &mut self.open else {
            return Err(std::io::Error::other("the snapshot log is not open"));
        };
        let frame = Frame {
            changes: changes.to_vec(),
            configuration: configuration.map(|data| ConfigurationData::clone(data)),
            as_of,
            generation: 0,
        };
        let plain = serde_json::to_vec(&frame)?;
        let place = place(&self.edge, "log", open.generation, open.position);
        let sealed = self.seal.seal(&place, &plain);
        let length = u32::try_from(sealed.len()).map_err(std::io::Error::other)?;
        let mut record = length.to_be_bytes().to_vec();
        record.extend_from_slice(&sealed);
        if let Err(cause) = open.log.write_all(&record).and_then(|()| open.log.sync_data()) {
            // Half a frame must not stand before the next whole one.
            if open.log.set_len(open.bytes).is_err() {
                self.open = None; // nothing after it could be read: refuse to acknowledge until a restart
            }
            return Err(cause);
        }
        open.position += 1;
        open.bytes += record.len() as u64;
        Ok(())
    }

    /// Writes a new base and starts a new log. A crash in between leaves the old pair or the new one.
    fn fold(&mut self, register: &Register) -> std::io::Result<()> {
        let generation = self.open.as_ref().map_or(0, |open| open.generation) + 1;
        let (epoch, deltas) = register.dump();
        let last = deltas.len().saturating_sub(1);
        let changes = deltas
            .into_iter()
            .enumerate()
            .map(|(at, delta)| Change { epoch: if at == last { epoch } else { 0 }, delta })
            .collect();
        let as_of = Some(register.as_of());
        let frame =
            Frame { changes, configuration: self.configuration.as_deref().cloned(), as_of, generation };
        let sealed = self.seal.seal(&self.place("base", 0, 0), &serde_json::to_vec(&frame)?);
        let log_path = self.log_path(generation);
        let log = OpenOptions::new().append(true).create(true).truncate(false).mode(0o600).open(&log_path)?;
        log.set_len(0)?;
        let fresh = self.base_path().with_extension("new");
        let mut base = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
        base.write_all(&sealed)?;
        base.sync_all()?;
        log.sync_all()?;
        std::fs::rename(&fresh, self.base_path())?;
        sync_directory(&self.directory)?;
        let old = self.log_path(generation - 1);
        self.open = Some(Open { log, generation, position: 0, bytes: 0 });
        let _ = std::fs::remove_file(old); // only litter: the base names its log
        Ok(())
    }

    fn open_frame(&self, path: &Path, place: &[u8], sealed: &[u8]) -> Result<Frame, JournalFault> {
        let broken = |cause| JournalFault::Broken { path: path.to_owned(), cause };
        let plain = self.seal.open(place, sealed).map_err(broken)?;
        serde_json::from_slice(&plain)
            .map_err(|cause| JournalFault::Unreadable { path: path.to_owned(), cause })
    }

    fn place(&self, part: &str, generation: u64, position: u64) -> Vec<u8> {
        place(&self.edge, part, generation, position)
    }

    fn base_path(&self) -> PathBuf {
        self.directory.join("snapshot")
    }

    fn log_path(&self, generation: u64) -> PathBuf {
        self.directory.join(format!("snapshot.{generation}.log"))
    }
}

impl Restored {
    fn take(&mut self, frame: Frame) {
        self.changes.extend(frame.changes);
        self.configuration = frame.configuration.or(self.configuration.take());
        self.as_of = frame.as_of.or(self.as_of);
    }
}

fn place(edge: &str, part: &str, generation: u64, position: u64) -> Vec<u8> {
    format!("{FORMAT}\n{edge}\n{part}\n{generation}\n{position}").into_bytes()
}

/// The sealed frames of a log, and how many octets of an unfinished one stand behind them.
pub fn frames(bytes: &[u8]) -> (Vec<&[u8]>, usize) {
    let (mut frames, mut rest) = (Vec::new(), bytes);
    while let Some(sealed) = next_frame(rest) {
        frames.push(sealed);
        rest = &rest[4 + sealed.len()..];
    }
    (frames, rest.len())
}

/// Whether an opened frame is one of ours.
pub fn is_understood(plain: &[u8]) -> bool {
    serde_json::from_slice::<Frame>(plain).is_ok()
}

/// The first whole frame of `bytes`, if there is one. A tail of zeros is what a power cut leaves of a
/// file that had grown but was not filled.
fn next_frame(bytes: &[u8]) -> Option<&[u8]> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    if *length == [0; 4] && rest.iter().all(|octet| *octet == 0) {
        return None;
    }
    rest.get(..u32::from_be_bytes(*length) as usize)
}

fn sync_directory(directory: &Path) -> std::io::Result<()> {
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Delta, Fingerprint};

    struct Plain;

    impl Seal for Plain {
        fn seal(&self, _: &[u8], plain: &[u8]) -> Vec<u8> {
            plain.to_vec()
        }

        fn open(&self, _: &[u8], sealed: &[u8]) -> Result<Vec<u8>, SealBroken> {
            Ok(sealed.to_vec())
        }
    }

    fn change(epoch: u64) -> Vec<Change> {
        vec![Change { epoch, delta: Delta::Released { fingerprint: Fingerprint([0; 32]) } }]
    }

    #[tokio::test]
    async fn what_could_not_be_written_goes_into_the_next_frame() {
        let directory = tempfile::tempdir().unwrap();
        let register = Register::new();
        let (journal, _) = Journal::at(directory.path(), "local", Arc::new(Plain)).load().unwrap();
        let (mut journal, first) = journal.append(change(1), None, None, &register).await;
        first.unwrap();
        let disk = journal.open.take(); // the disk is full
        let (mut journal, failed) = journal.append(change(2), None, None, &register).await;
        assert!(failed.is_err(), "acknowledged though not durable");
        journal.open = disk;
        let (_, third) = journal.append(change(3), None, None, &register).await;
        third.unwrap();
        let (_, restored) = Journal::at(directory.path(), "local", Arc::new(Plain)).load().unwrap();
        assert_eq!(restored.changes.iter().map(|change| change.epoch).collect::<Vec<_>>(), [1, 2, 3]);
    }

    #[test]
    fn a_directory_is_one_processes_until_it_lets_go() {
        let directory = tempfile::tempdir().unwrap();
        let at = || Journal::at(directory.path(), "local", Arc::new(Plain)).alone();
        let (mut first, _) = at().load().unwrap();
        assert!(matches!(at().load(), Err(JournalFault::Taken { .. })));
        first.fold(&Register::new()).unwrap();
        assert!(matches!(at().load(), Err(JournalFault::Taken { .. })), "also behind a fold");
        let lent = first.let_go();
        drop(first);
        let (second, _) = at().load().unwrap();
        assert!(matches!(lent.let_go().load(), Err(JournalFault::Taken { .. })));
        drop(second);
        assert!(lent.load().is_ok());
    }

    #[tokio::test]
    async fn a_folded_journal_restores_the_same_register() {
        let directory = tempfile::tempdir().unwrap();
        let register = Register::new();
        register.apply(&change(7));
        register.confirm(UtcTime::from_unix(5));
        let (mut journal, _) = Journal::at(directory.path(), "local", Arc::new(Plain)).load().unwrap();
        journal.fold(&register).unwrap();
        let (_, appended) = journal.append(change(8), None, None, &register).await;
        appended.unwrap();
        let (journal, restored) = Journal::at(directory.path(), "local", Arc::new(Plain)).load().unwrap();
        assert_eq!(restored.changes.last().unwrap().epoch, 8);
        assert_eq!(restored.as_of, Some(UtcTime::from_unix(5)));
        assert!(!journal.log_path(0).exists(), "the old log is litter");
    }
}
