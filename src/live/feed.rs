//! How configuration and register reach the edges, and how they say that they have it.
//!
//! In role `all` the one edge is in this process ([`Holder`](super::Holder)); a remote edge will be
//! another [`EdgeLink`] and nobody who publishes will notice.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use parking_lot::Mutex;
use tracing::Instrument;

use super::configuration::{ConfigurationData, ConfigurationFault};
use super::probe::ProbeFault;
use crate::domain::{Change, Enforced, UtcTime};

/// How long a publisher waits for a connected edge before it answers without it.
const ACKNOWLEDGE_WITHIN: Duration = Duration::from_secs(5);

/// Public documents an edge serves under `/pki/`: CRLs, authority certificates, keys of assertions.
pub type Documents = BTreeMap<String, Document>;

/// One public document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Its media type.
    pub content_type: &'static str,
    /// Its bytes.
    pub body: bytes::Bytes,
}

/// One step of the feed. Parts that are absent did not change.
#[derive(Clone, Debug, Default)]
pub struct Update {
    /// A new configuration version.
    pub configuration: Option<Arc<ConfigurationData>>,
    /// Register changes, in order, without gaps.
    pub changes: Arc<[Change]>,
    /// The public documents.
    pub documents: Option<Arc<Documents>>,
    /// Until when, by the publisher's clock, nothing is missing.
    pub as_of: Option<UtcTime>,
}

/// What an edge has taken over, durably.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    /// The configuration version in force there.
    pub version: u64,
    /// The register's epoch there.
    pub epoch: u64,
}

/// Why an edge did not take an update. Register changes in the same update are in force regardless.
#[derive(Debug, thiserror::Error)]
pub enum EdgeError {
    /// The configuration does not build; the one in force stays.
    #[error("the configuration was refused")]
    Configuration(#[from] ConfigurationFault),
    /// The configuration would let strangers in, or could not be tried; the one in force stays.
    #[error("the configuration did not pass its trial")]
    Probe(#[from] ProbeFault),
    /// The register could not be made durable: enforced now, but a restart may forget it.
    #[error("the snapshot could not be written")]
    Journal(#[source] std::io::Error),
    /// An edge in another process could not follow.
    #[error("another process's edge did not follow: {0}")]
    Elsewhere(String),
}

impl EdgeError {
    /// Whether the same update may be taken over when it comes again.
    pub fn may_pass_later(&self) -> bool {
        matches!(
            self,
            Self::Probe(ProbeFault::Late | ProbeFault::Impossible(_)) | Self::Journal(_) | Self::Elsewhere(_)
        )
    }
}

/// One connected edge.
#[async_trait]
pub trait EdgeLink: Send + Sync {
    /// Applies `update`; answers when it is enforced and durable.
    ///
    /// # Errors
    /// As [`EdgeError`] says.
    async fn apply(&self, update: &Update) -> Result<Ack, EdgeError>;

    /// Whether it has come to its end, with every connection that it served: then it is not asked any more.
    fn is_gone(&self) -> bool {
        false
    }
}

/// The publisher's side. Cheap to clone.
#[derive(Clone, Default)]
pub struct Feed {
    edges: Arc<Mutex<Vec<Arc<dyn EdgeLink>>>>,
}

impl Feed {
    /// A feed that nobody listens to yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Connects an edge. It gets what is published from now on; the caller brings it up to date first.
    pub fn connect(&self, edge: Arc<dyn EdgeLink>) {
        self.edges.lock().push(edge);
    }

    /// How many edges are connected.
    pub fn len(&self) -> u32 {
        u32::try_from(self.edges.lock().len()).unwrap_or(u32::MAX)
    }

    /// Whether no edge is connected.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Gives `update` to every connected edge and waits for their acknowledgements, at most
    /// five seconds. The first refusal is returned beside the count.
    pub async fn publish(&self, update: &Update) -> (Enforced, Option<EdgeError>) {
        let edges = {
            let mut edges = self.edges.lock();
            edges.retain(|edge| !edge.is_gone());
            edges.clone()
        };
        let answers = join_all(edges.iter().map(|edge| {
            let (edge, update) = (edge.clone(), update.clone());
            // In a task of its own: whoever stops waiting does not stop the edge halfway.
            let applying = tokio::spawn(async move { edge.apply(&update).await }.in_current_span());
            tokio::time::timeout(ACKNOWLEDGE_WITHIN, applying)
        }))
        .await;
        let mut enforced =
            Enforced { edges: u32::try_from(edges.len()).unwrap_or(u32::MAX), acknowledged: 0 };
        let mut refusal = None;
        for answer in answers {
            match answer {
                Ok(Ok(Ok(_))) => enforced.acknowledged += 1,
                Ok(Ok(Err(error))) => refusal = refusal.or(Some(error)),
                Ok(Err(_panicked)) => {}
                Err(_late) => {}
            }
        }
        (enforced, refusal)
    }
}
