//! The chain of the audit for whoever keeps or checks a copy: every link, the signed checkpoints, and
//! the public halves of the keys.

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
use crate::domain::audit_chain::Checkpoint;
use crate::pki::pem;
use crate::store::audit_chain as rows;

/// Links of a page at most: an export reads all of them.
const MOST_LINKS: u64 = 1000;

/// Operations on the chain.
pub struct Api(pub Services);

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
