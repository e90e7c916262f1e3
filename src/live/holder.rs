//! The edge's end of the feed: holds the snapshot in force, makes it durable, wakes whom it concerns.

use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use async_trait::async_trait;
use parking_lot::RwLock;

use super::Snapshot;
use super::configuration::{BuildContext, Configuration, ConfigurationData};
use super::feed::{Ack, Document, Documents, EdgeError, EdgeLink, Update};
use super::journal::{Journal, JournalFault, Restored};
use super::ocsp::OcspAnswers;
use super::register::Register;
use super::tls::TlsPolicy;
use crate::clock::SharedClock;
use crate::domain::{Change, Delta};

/// Told about applied changes before they are acknowledged; must not block.
type Listener = Box<dyn Fn(&[&Change]) + Send + Sync>;

/// What one edge works from. Readers take what is in force without waiting; one writer at a time applies.
pub struct Holder {
    register: Arc<Register>,
    configuration: ArcSwapOption<Configuration>,
    documents: ArcSwap<Documents>,
    ocsp: OcspAnswers,
    tls: TlsPolicy,
    clock: SharedClock,
    listeners: RwLock<Vec<Listener>>,
    publications: RwLock<Vec<Box<dyn Fn() + Send + Sync>>>,
    writer: tokio::sync::Mutex<Writer>,
}

struct Writer {
    journal: Option<Journal>,
    data: Option<Arc<ConfigurationData>>,
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
        if let Ok(mut writer) = holder.writer.try_lock()
            && let Some(journal) = &mut writer.journal
        {
            journal.reseal(&holder.register)?;
        }
        Ok(Arc::new(holder))
    }

    fn with(tls: TlsPolicy, clock: SharedClock, journal: Option<Journal>) -> Self {
        Self {
            register: Register::new(),
            configuration: ArcSwapOption::empty(),
            documents: ArcSwap::default(),
            ocsp: OcspAnswers::default(),
            tls,
            clock,
            listeners: RwLock::default(),
            publications: RwLock::default(),
            writer: tokio::sync::Mutex::new(Writer { journal, data: None }),
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
            if let Ok(mut writer) = self.writer.try_lock() {
                writer.data = Some(Arc::new(data));
            }
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

    /// Calls `listener` whenever a configuration was published, before it is acknowledged.
    pub fn on_publish(&self, listener: impl Fn() + Send + Sync + 'static) {
        self.publications.write().push(Box::new(listener));
    }

    fn context<'a>(&'a self, previous: Option<&'a Configuration>) -> BuildContext<'a> {
        BuildContext { tls: &self.tls, register: &self.register, clock: &self.clock, previous }
    }

    /// Compiles and publishes `data`. With the same data again, root hints follow the register.
    fn publish(&self, data: &ConfigurationData) -> Result<(), EdgeError> {
        let previous = self.configuration.load_full();
        let built = Configuration::build(data, &self.context(previous.as_deref()))?;
        self.configuration.store(Some(Arc::new(built)));
        self.publications.read().iter().for_each(|listener| listener());
        Ok(())
    }
}

#[async_trait]
impl EdgeLink for Holder {
    async fn apply(&self, update: &Update) -> Result<Ack, EdgeError> {
        let mut writer = self.writer.lock().await;
        // The register first, and whatever happens to the rest: a revocation is never gated.
        let new = self.register.apply(&update.changes);
        if let Some(as_of) = update.as_of {
            self.register.confirm(as_of);
        }
        if !new.is_empty() {
            self.ocsp.forget(&new, &self.register);
            self.listeners.read().iter().for_each(|listener| listener(&new));
        }
        if let Some(documents) = &update.documents {
            self.documents.store(documents.clone());
        }
        let trust_moved = new.iter().any(|change| matches!(change.delta, Delta::Authority(_)));
        let mut refusal = None;
        let mut accepted = None;
        match &update.configuration {
            Some(data) => match self.publish(data) {
                Ok(()) => {
                    writer.data = Some(data.clone());
                    accepted = Some(data.clone());
                }
                Err(error) => refusal = Some(error),
            },
            // Root hints belong to a ServerConfig, so new trust means new TLS sides.
            None if trust_moved => {
                if let Some(data) = writer.data.clone() {
                    refusal = self.publish(&data).err();
                }
            }
            None => {}
        }
        let new: Vec<Change> = new.into_iter().cloned().collect();
        if let Some(journal) = writer.journal.take() {
            let as_of = update.as_of;
            let (journal, written) = journal.append(new, accepted, as_of, &self.register).await;
            writer.journal = Some(journal);
            written.map_err(EdgeError::Journal)?;
        }
        if let Some(error) = refusal {
            return Err(error);
        }
        let version = self.configuration.load().as_ref().map_or(0, |configuration| configuration.version);
        Ok(Ack { version, epoch: self.register.epoch() })
    }
}
