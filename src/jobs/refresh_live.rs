//! Rows -> feed: reads what was committed and gives it to every edge. The one place where the
//! authority's rows and the edges meet.
//!
//! Runs after every commit that edges must know (through [`Enforce`]), and every second besides, so
//! that what another replica committed arrives too and the register stays confirmed.

mod rows;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use tokio::sync::Mutex;

use crate::activate::{Activation, Enforce};
use crate::clock::SharedClock;
use crate::domain::{Delta, Enforced, Slug};
use crate::keys::{KeyId, Vaults};
use crate::live::feed::{Document, Documents};
use crate::live::{Feed, Update};
use crate::store::register::Marks;
use crate::store::{Store, StoreError};
use crate::telemetry::TraceContext;

/// The setting that names the assertion key in use.
pub const ASSERTION_KEY: &str = "assertion_key";
/// How often rows are looked at without being asked to.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Changes read and published at a time.
const BATCH: u64 = 1_000;

/// Brings edges up to date.
pub struct RefreshLive {
    store: Store,
    vaults: Arc<Vaults>,
    feed: Feed,
    clock: SharedClock,
    door_url: Option<String>,
    activation: Activation,
    /// How many have asked to be brought up to date so far.
    asked: AtomicU64,
    state: Mutex<State>,
    /// Woken when a look has found lists that edges do not have yet.
    new_lists: Activation,
    documents: Arc<Mutex<Published>>,
    /// Woken when a look has found a configuration that edges do not have yet.
    new_configuration: Activation,
    /// The version that edges have, or have refused, and how many have it.
    configured: Mutex<Option<(u64, Enforced)>>,
    /// Whom we trust is another now, and so is what handshakes ask for: the same version is published again.
    trust_moved: AtomicBool,
}

/// The documents that edges have, and what they were made of.
#[derive(Default)]
struct Published {
    documents: Arc<Documents>,
    lists: Option<Lists>,
}

/// Authorities, and the number of the newest list of each.
type Lists = Vec<(Slug, Option<u64>)>;

struct State {
    epoch: u64,
    /// As of the last look.
    version: Option<u64>,
    /// As of the last look.
    lists: Option<Lists>,
    /// How many had asked when the last refresh began, and what came of it.
    served: Option<(u64, Enforced)>,
}

/// Why edges could not be brought up to date. What they have stays in force.
#[derive(Debug, thiserror::Error)]
pub enum RefreshError {
    /// The rows could not be read.
    #[error("what edges must know cannot be read")]
    Store(#[from] StoreError),
    /// A key in the rows does not open.
    #[error("the key of {0} does not open: its row was changed or belongs to another key file")]
    Sealed(String),
    /// An edge refused what it was given.
    #[error("an edge refused the update")]
    Refused(#[source] crate::live::EdgeError),
}

impl RefreshError {
    /// Whether the same version would be refused again.
    fn is_final(&self) -> bool {
        match self {
            Self::Store(_) => false,
            Self::Sealed(_) => true,
            Self::Refused(error) => !error.may_pass_later(),
        }
    }
}

impl RefreshLive {
    /// A publisher to `feed`, whose edges have the register up to `epoch` already.
    pub fn new(
        store: Store,
        vaults: Arc<Vaults>,
        feed: Feed,
        clock: SharedClock,
        door_url: Option<String>,
        epoch: u64,
    ) -> Arc<Self> {
        Arc::new(Self {
            store,
            vaults,
            feed,
            clock,
            door_url,
            activation: Activation::new("refresh_live"),
            asked: AtomicU64::new(0),
            state: Mutex::new(State { epoch, version: None, lists: None, served: None }),
            new_lists: Activation::new("publish_documents"),
            documents: Arc::default(),
            new_configuration: Activation::new("publish_configuration"),
            configured: Mutex::default(),
            trust_moved: AtomicBool::new(false),
        })
    }

    /// The handle that makes it look soon.
    pub fn activation(&self) -> &Activation {
        &self.activation
    }

    /// Looks when woken, and every second, until dropped.
    pub async fn run(self: Arc<Self>) {
        let looks = async {
            loop {
                let look = async {
                    let mut state = self.state.lock().await;
                    if let Err(error) = self.look_and_serve(&mut state).await {
                        tracing::error!(error = &error as &dyn std::error::Error, "Edges are not up to date");
                    }
                };
                TraceContext::background().scope(look).await;
                let _ = tokio::time::timeout(LOOK_EVERY, self.activation.woken()).await;
            }
        };
        // Beside the looks: a configuration is tried before it is published, lists may be long, and nobody who
        // is revoked waits for either.
        let configurations = async {
            loop {
                self.new_configuration.woken().await;
                let publish = async {
                    if let Err(error) = self.configuration_up_to_date().await {
                        tracing::error!(
                            error = &error as &dyn std::error::Error,
                            "Edges have an old configuration"
                        );
                    }
                };
                TraceContext::background().scope(publish).await;
            }
        };
        let documents = async {
            loop {
                self.new_lists.woken().await;
                TraceContext::background().scope(Enforce::publish_documents(&*self)).await;
            }
        };
        tokio::join!(looks, configurations, documents);
    }

    /// Reads what is new and publishes it.
    ///
    /// # Errors
    /// As [`RefreshError`] says. Register changes reach the edges even if the configuration is refused.
    pub async fn refresh(&self) -> Result<Enforced, RefreshError> {
        let result = {
            let mut state = self.state.lock().await;
            self.look_and_serve(&mut state).await
        };
        let configured = self.configuration_up_to_date().await;
        let documents = self.documents_up_to_date().await;
        let enforced = result?.and(configured?);
        documents.map(|()| enforced)
    }

    /// Refreshes, and answers with it whoever had asked when it began.
    async fn look_and_serve(&self, state: &mut State) -> Result<Enforced, RefreshError> {
        let asked = self.asked.load(Ordering::SeqCst);
        let result = self.look(state).await;
        let enforced = result.as_ref().copied().unwrap_or_else(|_| self.nobody());
        state.served = Some((asked, enforced));
        result
    }

    /// Every edge is behind.
    fn nobody(&self) -> Enforced {
        Enforced { edges: self.feed.len(), acknowledged: 0 }
    }

    /// The register, shared with whoever asks at the same moment: what they committed was there when it began.
    async fn register_up_to_date(&self) -> Enforced {
        let turn = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        let mut state = self.state.lock().await;
        if let Some((_, enforced)) = state.served.filter(|(asked, _)| *asked >= turn) {
            return enforced;
        }
        self.look_and_serve(&mut state).await.unwrap_or_else(|error| {
            tracing::error!(error = &error as &dyn std::error::Error, "Edges are not up to date");
            self.activation.wake();
            self.nobody()
        })
    }

    async fn look(&self, state: &mut State) -> Result<Enforced, RefreshError> {
        let mut enforced;
        loop {
            let now = self.clock.now();
            let Marks { epoch: head, version, lists } = self.store.marks().await?;
            let changes = match head > state.epoch {
                true => self.store.changes_after(state.epoch, BATCH).await?,
                false => Vec::new(),
            };
            let last = changes.last().map_or(state.epoch, |change| change.epoch);
            // The head may be ahead of the last row: it was raised above what edges know.
            let complete = (changes.len() as u64) < BATCH;
            if state.lists.as_ref() != Some(&lists) {
                state.lists = Some(lists);
                self.new_lists.wake();
            }
            if state.version != Some(version) {
                state.version = Some(version);
                self.new_configuration.wake();
            }
            let trust_moves = changes.iter().any(|change| matches!(change.delta, Delta::Authority(_)));
            let as_of = complete.then_some(now);
            let update = Update { configuration: None, changes: changes.into(), documents: None, as_of };
            let refusal;
            (enforced, refusal) = self.feed.publish(&update).await;
            state.epoch = if complete { last.max(head) } else { last };
            if trust_moves {
                self.trust_moved.store(true, Ordering::SeqCst);
                self.new_configuration.wake();
            }
            if let Some(error) = refusal {
                return Err(RefreshError::Refused(error));
            }
            if complete {
                return Ok(enforced);
            }
        }
    }

    /// Gives edges the configuration, if it is new. What they have refused is not offered again, and not said
    /// to be in force either.
    async fn configuration_up_to_date(&self) -> Result<Enforced, RefreshError> {
        let mut configured = self.configured.lock().await;
        let Marks { version, .. } = self.store.marks().await?;
        let trust_moved = self.trust_moved.swap(false, Ordering::SeqCst);
        if let Some((_, enforced)) = configured.filter(|(known, _)| *known == version && !trust_moved) {
            return Ok(enforced);
        }
        let offered = self.offer(version).await;
        match &offered {
            Ok(enforced) if enforced.acknowledged == enforced.edges => {
                *configured = Some((version, *enforced))
            }
            Err(error) if error.is_final() => *configured = Some((version, self.nobody())),
            // Too late, or for now: the next look finds it new again.
            Ok(_) | Err(_) => {
                *configured = None;
                self.trust_moved.fetch_or(trust_moved, Ordering::SeqCst);
                self.state.lock().await.version = None;
            }
        }
        offered
    }

    async fn offer(&self, version: u64) -> Result<Enforced, RefreshError> {
        let data = self.configuration(version).await?;
        let update = Update { configuration: Some(Arc::new(data)), ..Update::default() };
        let (enforced, refusal) = self.feed.publish(&update).await;
        refusal.map_or(Ok(enforced), |error| Err(RefreshError::Refused(error)))
    }

    /// Gives edges authority certificates, revocation lists and the keys of assertions, if any of them is new.
    async fn documents_up_to_date(&self) -> Result<(), RefreshError> {
        let published = self.documents.clone().lock_owned().await;
        // Behind the lock, so that they are never older than what is published.
        let Marks { lists, .. } = self.store.marks().await?;
        if published.lists.as_ref() == Some(&lists) {
            return Ok(());
        }
        let documents = Arc::new(self.documents(&published, &lists).await?);
        let update = Update { documents: Some(documents.clone()), ..Update::default() };
        let feed = self.feed.clone();
        // Whoever stops waiting does not let the next one overtake.
        let publish = tokio::spawn(async move {
            let mut published = published;
            let (enforced, refusal) = feed.publish(&update).await;
            let is_everywhere = refusal.is_none() && enforced.acknowledged == enforced.edges;
            *published = Published { documents, lists: is_everywhere.then_some(lists) };
            refusal.map_or(Ok(()), |refusal| Err(RefreshError::Refused(refusal)))
        });
        publish.await.unwrap_or(Ok(()))
    }

    /// What there is to publish; lists that edges have are not read again.
    async fn documents(&self, published: &Published, lists: &Lists) -> Result<Documents, RefreshError> {
        let mut documents = Documents::new();
        for authority in self.store.authorities().await? {
            let name = format!("{}.crl", authority.name);
            let number = |lists: &Lists| {
                lists.iter().find(|(of, _)| *of == authority.name).and_then(|(_, number)| *number)
            };
            let before = published.lists.as_ref().and_then(number);
            let kept = published.documents.get(&name).filter(|_| before.is_some() && before == number(lists));
            let list = match kept {
                Some(kept) => Some(kept.clone()),
                None => self.store.latest_crl(&authority.name).await?.map(|list| Document {
                    content_type: "application/pkix-crl",
                    body: Bytes::from(list.der),
                }),
            };
            documents.extend(list.map(|list| (name, list)));
            if let Some(der) = authority.certificate {
                let body = Bytes::from(der);
                documents.insert(
                    format!("{}.cer", authority.name),
                    Document { content_type: "application/pkix-cert", body },
                );
            }
        }
        if let Some(jwks) = self.jwks().await? {
            documents.insert(
                "jwks.json".to_owned(),
                Document { content_type: "application/jwk-set+json", body: jwks },
            );
        }
        Ok(documents)
    }

    /// RFC 7517: the public half of the assertion key.
    async fn jwks(&self) -> Result<Option<Bytes>, RefreshError> {
        let Some(kid) = self.store.setting(ASSERTION_KEY).await? else { return Ok(None) };
        let row = self.store.signing_key(&KeyId(kid.clone())).await?;
        // The last 64 octets of a P-256 SubjectPublicKeyInfo are x and y (RFC 5480 §2.2).
        let Some(point) = row.spki.len().checked_sub(64).and_then(|at| row.spki.get(at..)) else {
            return Ok(None);
        };
        let (x, y) = point.split_at(32);
        let jwks = serde_json::json!({ "keys": [{
            "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": kid,
            "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y),
        }]});
        Ok(Some(Bytes::from(jwks.to_string())))
    }
}

#[async_trait]
impl Enforce for RefreshLive {
    async fn bring_up_to_date(&self) -> Enforced {
        let register = self.register_up_to_date().await;
        let configured = self.configuration_up_to_date().await.unwrap_or_else(|error| {
            tracing::error!(error = &error as &dyn std::error::Error, "Edges have an old configuration");
            self.nobody()
        });
        register.and(configured)
    }

    async fn bring_register_up_to_date(&self) -> Enforced {
        self.register_up_to_date().await
    }

    async fn publish_documents(&self) {
        if let Err(error) = self.documents_up_to_date().await {
            tracing::error!(error = &error as &dyn std::error::Error, "Edges have no new documents");
            // The next look tries again.
            self.state.lock().await.lists = None;
        }
    }
}
