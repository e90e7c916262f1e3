//! The edge's end of the feed: holds the snapshot in force, makes it durable, wakes whom it concerns.
//!
//! The register has a way of its own: a revocation waits for no configuration, and for no trial of one.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use async_trait::async_trait;
use parking_lot::RwLock;
use tokio::time::Instant;

use super::Snapshot;
use super::configuration::{BuildContext, Configuration, ConfigurationData};
use super::feed::{Ack, Document, Documents, EdgeError, EdgeLink, Update};
use super::journal::{Journal, JournalFault, Restored};
use super::ocsp::OcspAnswers;
use super::probe::{Candidate, Probe};
use super::register::Register;
use super::tls::TlsPolicy;
use crate::clock::SharedClock;
use crate::domain::{Change, UtcTime};

/// How long a copy that was lent may still be the other process's.
const FREE_WITHIN: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Told about applied changes before they are acknowledged; must not block.
type Listener = Box<dyn Fn(&[&Change]) + Send + Sync>;

#[cfg(feature = "test-util")]
type Fault = Box<dyn Fn(&mut Configuration) + Send + Sync>;

/// An edge's copy on disk, while another process of this host has it.
pub struct Lent(Journal);

/// What one edge works from. Readers take what is in force without waiting; one writer at a time applies.
pub struct Holder {
    register: Arc<Register>,
    configuration: ArcSwapOption<Configuration>,
    /// What it was made of.
    data: ArcSwapOption<ConfigurationData>,
    documents: ArcSwap<Documents>,
    ocsp: OcspAnswers,
    tls: TlsPolicy,
    clock: SharedClock,
    listeners: RwLock<Vec<Listener>>,
    publications: RwLock<Vec<Box<dyn Fn() + Send + Sync>>>,
    probe: OnceLock<Arc<dyn Probe>>,
    journal: tokio::sync::Mutex<Option<Journal>>,
    /// What a fault of ours would make of a configuration.
    #[cfg(feature = "test-util")]
    fault: RwLock<Option<Fault>>,
    /// Whoever publishes a configuration has this.
    publishing: tokio::sync::Mutex<()>,
}

impl Holder {
    /// An edge that knows nothing and refuses everyone, without a copy on disk.
    pub fn in_memory(tls: TlsPolicy, clock: SharedClock) -> Arc<Self> {
        Arc::new(Self::with(tls, clock, None))
    }

    /// An edge that starts from its copy on disk, if there is one.
    ///
    /// # Errors
    /// [`JournalFault`] when the copy is there and cannot be trusted: the edge must not guess.
    pub fn restore(tls: TlsPolicy, clock: SharedClock, journal: Journal) -> Result<Arc<Self>, JournalFault> {
        let (journal, restored) = journal.load()?;
        let holder = Self::with(tls, clock, Some(journal));
        holder.take_over(restored)?;
        if let Ok(mut journal) = holder.journal.try_lock()
            && let Some(journal) = journal.as_mut()
        {
            journal.reseal(&holder.register)?;
        }
        Ok(Arc::new(holder))
    }

    /// What a candidate would be in force with.
    pub fn of(snapshot: Snapshot, clock: SharedClock) -> Arc<Self> {
        let Snapshot { configuration, register } = snapshot;
        let holder = Self { register, ..Self::with(TlsPolicy::modern(), clock, None) };
        holder.configuration.store(Some(configuration));
        Arc::new(holder)
    }

    fn with(tls: TlsPolicy, clock: SharedClock, journal: Option<Journal>) -> Self {
        Self {
            register: Register::new(),
            configuration: ArcSwapOption::empty(),
            data: ArcSwapOption::empty(),
            documents: ArcSwap::default(),
            ocsp: OcspAnswers::default(),
            tls,
            clock,
            listeners: RwLock::default(),
            publications: RwLock::default(),
            probe: OnceLock::new(),
            #[cfg(feature = "test-util")]
            fault: RwLock::default(),
            journal: tokio::sync::Mutex::new(journal),
            publishing: tokio::sync::Mutex::default(),
        }
    }

    fn take_over(&self, restored: Restored) -> Result<(), JournalFault> {
        self.register.apply(&restored.changes);
        if let Some(as_of) = restored.as_of {
            self.register.confirm(as_of);
        }
        if let Some(data) = restored.configuration {
            let built =
                Configuration::build(&data, &self.context(None)).map_err(JournalFault::Configuration)?;
            self.configuration.store(Some(Arc::new(built)));
            self.data.store(Some(Arc::new(data)));
        }
        Ok(())
    }

    /// The register in force.
    pub fn register(&self) -> &Arc<Register> {
        &self.register
    }

    /// The snapshot in force; `None` before the first configuration, when every request is refused.
    pub fn snapshot(&self) -> Option<Snapshot> {
        let configuration = self.configuration.load_full()?;
        Some(Snapshot { configuration, register: self.register.clone() })
    }

    /// What the configuration in force was made of, and so what it has to do.
    pub fn data(&self) -> Option<Arc<ConfigurationData>> {
        self.data.load_full()
    }

    /// The public document at this path below `/pki/`.
    pub fn document(&self, name: &str) -> Option<Document> {
        self.documents.load().get(name).cloned()
    }

    /// The OCSP answers that are kept here.
    pub fn ocsp(&self) -> &OcspAnswers {
        &self.ocsp
    }

    /// Calls `listener` with every change from now on, before it is acknowledged.
    pub fn on_change(&self, listener: impl Fn(&[&Change]) + Send + Sync + 'static) {
        self.listeners.write().push(Box::new(listener));
    }

    /// From now on, `probe` tries each configuration before it is published. Later calls change nothing.
    pub fn try_with(&self, probe: Arc<dyn Probe>) {
        let _ = self.probe.set(probe);
    }

    /// Calls `listener` whenever a configuration was published, before it is acknowledged.
    pub fn on_publish(&self, listener: impl Fn() + Send + Sync + 'static) {
        self.publications.write().push(Box::new(listener));
    }

    fn context<'a>(&'a self, previous: Option<&'a Configuration>) -> BuildContext<'a> {
        BuildContext { tls: &self.tls, register: &self.register, clock: &self.clock, previous }
    }

    /// Compiles, tries and publishes `data`. With the same data again, root hints follow the register: they belong
    /// to a `ServerConfig`.
    async fn publish(&self, data: Arc<ConfigurationData>) -> Result<(), EdgeError> {
        let previous = self.configuration.load_full();
        let built = Configuration::build(&data, &self.context(previous.as_deref()))?;
        #[cfg(feature = "test-util")]
        let built = self.spoilt(built);
        let built = Arc::new(built);
        if let Some(probe) = self.probe.get() {
            let snapshot = Snapshot { configuration: built.clone(), register: self.register.clone() };
            probe.probe(Candidate { snapshot, data: data.clone(), previous: self.data() }).await?;
        }
        self.configuration.store(Some(built));
        self.data.store(Some(data));
        self.publications.read().iter().for_each(|listener| listener());
        Ok(())
    }

    /// From now on, `fault` spoils what is compiled.
    #[cfg(feature = "test-util")]
    pub fn spoil(&self, fault: impl Fn(&mut Configuration) + Send + Sync + 'static) {
        *self.fault.write() = Some(Box::new(fault));
    }

    /// Nothing is spoilt any more.
    #[cfg(feature = "test-util")]
    pub fn mend(&self) {
        *self.fault.write() = None;
    }

    #[cfg(feature = "test-util")]
    fn spoilt(&self, mut built: Configuration) -> Configuration {
        if let Some(fault) = self.fault.read().as_ref() {
            fault(&mut built);
        }
        built
    }

    /// Makes durable what is in force.
    async fn write(
        &self,
        slot: &mut Option<Journal>,
        changes: Vec<Change>,
        configuration: Option<Arc<ConfigurationData>>,
        as_of: Option<UtcTime>,
    ) -> Result<(), EdgeError> {
        let Some(journal) = slot.take() else { return Ok(()) };
        let (journal, written) = journal.append(changes, configuration, as_of, &self.register).await;
        *slot = Some(journal);
        written.map_err(EdgeError::Journal)
    }

    /// Lets go of the copy on disk, with everything in it: another process goes on with it. What is applied
    /// meanwhile is in force, and it is that process's to write it down. `None` where there is no copy.
    ///
    /// # Errors
    /// [`EdgeError::Journal`] when what is in force cannot be written; then nothing is let go of.
    pub async fn lend_journal(&self) -> Result<Option<Lent>, EdgeError> {
        let mut slot = self.journal.lock().await;
        // What is owed.
        self.write(&mut slot, Vec::new(), None, None).await?;
        Ok(slot.take().map(|journal| Lent(journal.let_go())))
    }

    /// Goes on with the copy on disk, and with what the other process has applied.
    ///
    /// # Errors
    /// [`JournalFault`]; then nothing is acknowledged any more.
    pub async fn take_journal_back(&self, lent: Lent) -> Result<(), JournalFault> {
        let mut slot = self.journal.lock().await;
        let began = Instant::now();
        let loaded = loop {
            match lent.0.let_go().load() {
                // A process that has ended may not have given up everything yet.
                Err(JournalFault::Taken { .. }) if began.elapsed() < FREE_WITHIN => {
                    tokio::time::sleep(LOOK_EVERY).await;
                }
                loaded => break loaded,
            }
        };
        let (journal, restored) = match loaded {
            Ok(loaded) => loaded,
            Err(fault) => {
                *slot = Some(lent.0);
                return Err(fault);
            }
        };
        *slot = Some(journal);
        let changes = whole(restored.changes, self.register.epoch());
        let new = self.register.apply(&changes);
        self.tell(&new);
        Ok(())
    }

    /// Says what has changed to whom it concerns.
    fn tell(&self, new: &[&Change]) {
        if !new.is_empty() {
            self.ocsp.forget(new, &self.register);
            self.listeners.read().iter().for_each(|listener| listener(new));
        }
    }

    /// Applies register changes.
    async fn apply_changes(&self, update: &Update) -> Result<(), EdgeError> {
        // Applied and written in one order.
        let mut journal = self.journal.lock().await;
        let new = self.register.apply(&update.changes);
        if let Some(as_of) = update.as_of {
            self.register.confirm(as_of);
        }
        self.tell(&new);
        self.write(&mut journal, new.into_iter().cloned().collect(), None, update.as_of).await
    }
}

/// What a copy holds as rows of a dump, if it goes beyond `epoch`: in its order all of it is applied again, since a
/// part of it may be older than what is in force.
fn whole(mut changes: Vec<Change>, epoch: u64) -> Vec<Change> {
    let reached = changes.iter().map(|change| change.epoch).max().unwrap_or(0);
    if reached <= epoch {
        return Vec::new();
    }
    changes.iter_mut().for_each(|change| change.epoch = 0);
    if let Some(last) = changes.last_mut() {
        last.epoch = reached;
    }
    changes
}

#[async_trait]
impl EdgeLink for Holder {
    async fn apply(&self, update: &Update) -> Result<Ack, EdgeError> {
        // The register first, and whatever happens to the rest: a revocation is never gated.
        let changes = self.apply_changes(update).await;
        if let Some(documents) = &update.documents {
            self.documents.store(documents.clone());
        }
        if let Some(data) = &update.configuration {
            let _one_at_a_time = self.publishing.lock().await;
            self.publish(data.clone()).await?;
            let mut journal = self.journal.lock().await;
            self.write(&mut journal, Vec::new(), Some(data.clone()), None).await?;
        }
        changes?;
        let version = self.configuration.load().as_ref().map_or(0, |configuration| configuration.version);
        Ok(Ack { version, epoch: self.register.epoch() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Delta, Fingerprint};

    fn change(epoch: u64) -> Change {
        Change { epoch, delta: Delta::Released { fingerprint: Fingerprint([0; 32]) } }
    }

    #[test]
    fn a_copy_that_is_no_further_changes_nothing_and_one_that_is_applies_whole() {
        let copy = || vec![change(0), change(5), change(6), change(7)];
        assert!(whole(copy(), 7).is_empty());
        let register = Register::new();
        register.apply(&[change(6)]);
        let changes = whole(copy(), register.epoch());
        assert_eq!(register.apply(&changes).len(), 4, "also what was known before, in its place");
        assert_eq!(register.epoch(), 7);
    }
}
