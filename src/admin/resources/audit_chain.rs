//! The chain of the audit: how it stands, and for whoever keeps or checks a copy every link, the signed
//! checkpoints, and the public halves of the keys.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use poem_openapi::param::Query;
use poem_openapi::{Object, OpenApi};

use super::Tag;
use super::audit_events::AuditEvent;
use crate::admin::auth::caller::Call;
use crate::admin::body::Shown;
use crate::admin::error::Outcome;
use crate::admin::page::Page;
use crate::admin::services::Services;
use crate::admin::values::When;
use crate::ca::CheckpointError;
use crate::domain::audit_chain::Checkpoint;
use crate::pki::pem;
use crate::store::audit_chain::{self as rows, Look};

/// Links of a page at most: an export reads all of them.
const MOST_LINKS: u64 = 1000;

/// Events without a link that are counted at most.
const MOST_UNCHAINED: u64 = 1000;
/// How far before the newest links they are looked for; an older one would have raised an alert.
const UNCHAINED_SINCE: Duration = Duration::from_secs(86_400);

/// Operations on the chain.
pub struct Api(pub Services);

/// How the chain stands.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
struct AuditChain {
    /// The number of the last link; 0 before the first.
    number: u64,
    /// Its hash.
    hash: String,
    /// The first link since the last checkpoint that does not fit; absent when all do. Links that were
    /// signed before are not read again: check an export for that.
    fault: Option<AuditFault>,
    last_checkpoint: Option<AuditCheckpoint>,
    /// Events of the last day that are not in the chain yet; 1000 means 1000 or more.
    unchained: u64,
    /// When the oldest of these was written.
    unchained_since: Option<When>,
}

/// Where the chain is broken.
#[derive(Debug, Object)]
struct AuditFault {
    /// At which link.
    number: u64,
    /// What is wrong with it.
    detail: String,
}

/// The place of an event in the chain.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
struct AuditLink {
    /// From 1, without gaps.
    number: u64,
    /// SHA-256 over the link before, the number and the event, in hexadecimal.
    hash: String,
    /// Absent when the event's row is gone, which nothing of ours does.
    event: Option<AuditEvent>,
}

/// A page of links.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
struct AuditLinkList {
    items: Vec<AuditLink>,
    next_cursor: Option<String>,
}

/// A signed statement of the chain's hash at a number. Keep it somewhere else: later exports are
/// checked against it.
#[derive(Debug, Object)]
struct AuditCheckpoint {
    installation_id: String,
    number: u64,
    /// The hash of the link of that number.
    hash: String,
    at: When,
    key_id: String,
    /// ECDSA with P-256 and SHA-256, a DER ECDSA-Sig-Value in base64.
    signature: String,
}

/// A page of checkpoints.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
struct AuditCheckpointList {
    items: Vec<AuditCheckpoint>,
    next_cursor: Option<String>,
}

/// The public half of a key that signs checkpoints.
#[derive(Debug, Object)]
struct AuditKey {
    /// `audit-` and the SHA-256 of the key's SubjectPublicKeyInfo.
    key_id: String,
    pem: String,
}

/// Every key that signs or signed checkpoints.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
struct AuditKeyList {
    items: Vec<AuditKey>,
    next_cursor: Option<String>,
}

#[OpenApi(prefix_path = "/api/v1/", tag = "Tag::AuditEvents")]
impl Api {
    /// How the chain of the audit stands
    ///
    /// Reads every link since the last checkpoint.
    #[oai(path = "/audit-chain", method = "get", operation_id = "getAuditChain")]
    async fn chain(&self) -> Outcome<Shown<AuditChain>> {
        let store = self.0.store();
        let last_checkpoint = store.latest_audit_checkpoint().await?.map(AuditCheckpoint::from);
        let (head, fault) = match self.0.ca().check_chain().await {
            Ok(head) => (head, None),
            Err(CheckpointError::Broken { number, what }) => {
                (store.audit_head().await?, Some(AuditFault { number, detail: what.to_owned() }))
            }
            Err(error) => return Err(error.into()),
        };
        let unchained =
            store.unchained_audit_events(Look::Back(UNCHAINED_SINCE), None, MOST_UNCHAINED).await?;
        Ok(Shown::new(AuditChain {
            number: head.number,
            hash: head.hash.to_string(),
            fault,
            last_checkpoint,
            unchained: unchained.len() as u64,
            unchained_since: unchained.iter().map(|event| event.at).min().map(When),
        }))
    }

    /// The chain of the audit, in order
    #[oai(path = "/audit-links", method = "get", operation_id = "listAuditLinks")]
    async fn links(
        &self,
        #[oai(validator(minimum(value = "1"), maximum(value = "1000")))] limit: Query<Option<u32>>,
        cursor: Query<Option<String>>,
    ) -> Outcome<Shown<AuditLinkList>> {
        let page = Page::<u64>::read_up_to(MOST_LINKS, &limit, &cursor)?;
        let fetched = self.0.store().audit_links(page.after.unwrap_or(0), page.fetch()).await?;
        let (links, next_cursor) = page.cut(fetched, |link| link.head.number.to_string());
        Ok(Shown::new(AuditLinkList { items: links.into_iter().map(AuditLink::from).collect(), next_cursor }))
    }

    /// Signed checkpoints of the chain, in order
    #[oai(path = "/audit-checkpoints", method = "get", operation_id = "listAuditCheckpoints")]
    async fn checkpoints(
        &self,
        #[oai(validator(minimum(value = "1"), maximum(value = "1000")))] limit: Query<Option<u32>>,
        cursor: Query<Option<String>>,
    ) -> Outcome<Shown<AuditCheckpointList>> {
        let page = Page::<u64>::read_up_to(MOST_LINKS, &limit, &cursor)?;
        let fetched = self.0.store().audit_checkpoints(page.after.unwrap_or(0), page.fetch()).await?;
        let (checkpoints, next_cursor) = page.cut(fetched, |checkpoint| checkpoint.number.to_string());
        let items = checkpoints.into_iter().map(AuditCheckpoint::from).collect();
        Ok(Shown::new(AuditCheckpointList { items, next_cursor }))
    }

    /// Signs everything that is chained by now; answers with the last checkpoint if that covers it
    #[oai(path = "/audit-checkpoints", method = "post", operation_id = "signAuditCheckpoint")]
    async fn sign(&self, call: Call) -> Outcome<Shown<AuditCheckpoint>> {
        Ok(Shown::new(self.0.ca().checkpoint(call.now).await?.into()))
    }

    /// The public halves of the keys that sign checkpoints
    #[oai(path = "/audit-keys", method = "get", operation_id = "listAuditKeys")]
    async fn keys(
        &self,
        #[oai(validator(minimum(value = "1"), maximum(value = "200")))] limit: Query<Option<u32>>,
        cursor: Query<Option<String>>,
    ) -> Outcome<Shown<AuditKeyList>> {
        let page = Page::<String>::read(&limit, &cursor)?;
        let all = self.0.ca().audit_keys(self.0.now()).await?;
        let (keys, next_cursor) = page.cut(page.slice(all, |key| key.id.0.clone()), |key| key.id.0.clone());
        let show = |key: crate::store::authorities::SigningKey| AuditKey {
            pem: pem::block("PUBLIC KEY", &key.spki),
            key_id: key.id.0,
        };
        Ok(Shown::new(AuditKeyList { items: keys.into_iter().map(show).collect(), next_cursor }))
    }
}

impl From<rows::AuditLink> for AuditLink {
    fn from(link: rows::AuditLink) -> Self {
        Self {
            number: link.head.number,
            hash: link.head.hash.to_string(),
            event: link.event.map(AuditEvent::from),
        }
    }
}

impl From<Checkpoint> for AuditCheckpoint {
    fn from(checkpoint: Checkpoint) -> Self {
        Self {
            installation_id: checkpoint.installation_id,
            number: checkpoint.number,
            hash: checkpoint.hash.to_string(),
            at: checkpoint.at.into(),
            key_id: checkpoint.key_id,
            signature: STANDARD.encode(checkpoint.signature),
        }
    }
}
