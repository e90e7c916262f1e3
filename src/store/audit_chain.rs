//! Rows of the audit's chain. An event belongs to it once it has a link; which events have none is asked
//! of the tables, never inferred from identities: a transaction may commit an event long after one with
//! a greater identity.

use std::collections::HashMap;
use std::time::Duration;

use entity::{audit_checkpoint, audit_event, audit_link};
use sea_orm::sea_query::{Expr, OnConflict, Query};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, ExprTrait, QueryFilter, QueryOrder,
    QuerySelect,
};

use super::leases::Lease;
use super::{Store, StoreError, at};
use crate::crash;
use crate::domain::audit_chain::{AuditEvent, ChainHead, Checkpoint, LinkHash};

/// How many of the newest links say where in time the chain is. More than one, and the earliest of them
/// counts, so that one replica whose clock is ahead does not hide everybody else's events.
const NEWEST: u64 = 256;

/// A link with its event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditLink {
    /// Its place.
    pub head: ChainHead,
    /// The identity of its event.
    pub event_id: String,
    /// Its event; `None` when the row is gone, which nothing of ours does.
    pub event: Option<AuditEvent>,
}

/// How far back events without a link are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// From this long before the newest links on. Cheap: the events of that time.
    Back(Duration),
    /// Everywhere. Reads the whole audit's index.
    Everywhere,
}

impl Store {
    /// Events that have no link, oldest identity first, at most `limit`, and those after `after` only.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn unchained_audit_events(
        &self,
        look: Look,
        after: Option<&str>,
        limit: u64,
    ) -> Result<Vec<AuditEvent>, StoreError> {
        let from = match look {
            Look::Back(span) => self.chain_time(span).await?,
            Look::Everywhere => None,
        };
        let mut linked = Query::select()
            .expr(Expr::val(1))
            .from(audit_link::Entity)
            .and_where(
                Expr::col((audit_link::Entity, audit_link::Column::EventId))
                    .equals((audit_event::Entity, audit_event::Column::Id)),
            )
            .to_owned();
        let mut query = audit_event::Entity::find().order_by_asc(audit_event::Column::Id).limit(limit);
        if let Some(from) = from.as_deref() {
            query = query.filter(audit_event::Column::Id.gte(from));
            // Says nothing new, but lets PostgreSQL read that part of the links only.
            linked.and_where(Expr::col((audit_link::Entity, audit_link::Column::EventId)).gte(from));
        }
        if let Some(after) = after {
            query = query.filter(audit_event::Column::Id.gt(after));
        }
        let query = query.filter(Expr::exists(linked).not());
        Ok(query.all(self.reader()).await?.into_iter().map(AuditEvent::from).collect())
    }

    /// The least identity of an event that was made `span` before the newest links; `None` when that is
    /// everywhere.
    async fn chain_time(&self, span: Duration) -> Result<Option<String>, StoreError> {
        let newest = audit_link::Entity::find().order_by_desc(audit_link::Column::Number).limit(NEWEST);
        let newest = newest.all(self.reader()).await?;
        if u64::try_from(newest.len()).unwrap_or(0) < NEWEST {
            return Ok(None);
        }
        let earliest = newest.into_iter().map(|link| link.event_id).min();
        Ok(earliest.and_then(|id: String| least_id_before(&id, span)))
    }

    /// Puts `events` at the end of the chain, in one transaction under `lease`: whoever lost the lease, or
    /// comes second, gets nothing in. `expected` is where the caller thinks that the chain ends.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when the lease is lost or the chain ends elsewhere; [`StoreError::Taken`]
    /// when one of the events has a link already.
    pub async fn append_audit_links(
        &self,
        lease: &Lease,
        events: &[AuditEvent],
        expected: Option<ChainHead>,
    ) -> Result<ChainHead, StoreError> {
        let transaction = self.begin().await?;
        // First: it holds the lease's row, so that nobody else is between here and the commit.
        transaction.check_lease(lease).await?;
        let mut head = head(transaction.connection()).await?;
        if expected.is_some_and(|expected| expected != head) {
            return Err(StoreError::Conflict { what: "the end of the audit's chain" });
        }
        let mut rows = Vec::with_capacity(events.len());
        for event in events {
            head = head.next(event);
            rows.push(audit_link::ActiveModel {
                number: Set(signed(head.number)),
                event_id: Set(event.id.clone()),
                hash: Set(head.hash.0.to_vec()),
            });
        }
        if rows.is_empty() {
            return Ok(head);
        }
        let inserted =
            audit_link::Entity::insert_many(rows).exec_without_returning(transaction.connection()).await;
        inserted.map_err(|error| StoreError::unique(error, "a place in the audit's chain"))?;
        crash::reach("audit.before_commit");
        transaction.commit().await?;
        crash::reach("audit.after_links");
        Ok(head)
    }

    /// Where the chain ends.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn audit_head(&self) -> Result<ChainHead, StoreError> {
        head(self.reader()).await
    }

    /// Links after number `after` with their events, in order, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn audit_links(&self, after: u64, limit: u64) -> Result<Vec<AuditLink>, StoreError> {
        let links = audit_link::Entity::find()
            .filter(audit_link::Column::Number.gt(signed(after)))
            .order_by_asc(audit_link::Column::Number)
            .limit(limit)
            .all(self.reader())
            .await?;
        let ids: Vec<&str> = links.iter().map(|link| link.event_id.as_str()).collect();
        let events = audit_event::Entity::find().filter(audit_event::Column::Id.is_in(ids));
        let events = events.all(self.reader()).await?.into_iter().map(|row| (row.id.clone(), row));
        let mut events: HashMap<String, audit_event::Model> = events.collect();
        let link = |link: audit_link::Model| {
            let event = events.remove(&link.event_id).map(AuditEvent::from);
            Ok(AuditLink { head: place(link.number, &link.hash)?, event_id: link.event_id, event })
        };
        links.into_iter().map(link).collect()
    }

    /// The places of these events in the chain, of those that have one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn audit_places(&self, events: &[&str]) -> Result<HashMap<String, ChainHead>, StoreError> {
        let ids = events.iter().copied();
        let links = audit_link::Entity::find().filter(audit_link::Column::EventId.is_in(ids));
        let links = links.all(self.reader()).await?.into_iter();
        links.map(|link| Ok((link.event_id, place(link.number, &link.hash)?))).collect()
    }

    /// Adds a checkpoint. Returns whether there was none for its number.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn insert_audit_checkpoint(&self, checkpoint: &Checkpoint) -> Result<bool, StoreError> {
        let row = audit_checkpoint::ActiveModel {
            number: Set(signed(checkpoint.number)),
            installation_id: Set(checkpoint.installation_id.clone()),
            hash: Set(checkpoint.hash.0.to_vec()),
            at: Set(checkpoint.at.as_unix()),
            key_id: Set(checkpoint.key_id.clone()),
            signature: Set(checkpoint.signature.clone()),
        };
        let unless_there = OnConflict::column(audit_checkpoint::Column::Number).do_nothing().to_owned();
        let inserted = audit_checkpoint::Entity::insert(row)
            .on_conflict(unless_there)
            .exec_without_returning(self.writer())
            .await?;
        Ok(inserted == 1)
    }

    /// Checkpoints after number `after`, in order, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn audit_checkpoints(&self, after: u64, limit: u64) -> Result<Vec<Checkpoint>, StoreError> {
        let query = audit_checkpoint::Entity::find()
            .filter(audit_checkpoint::Column::Number.gt(signed(after)))
            .order_by_asc(audit_checkpoint::Column::Number)
            .limit(limit);
        query.all(self.reader()).await?.into_iter().map(read_checkpoint).collect()
    }

    /// The checkpoint with the highest number.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn latest_audit_checkpoint(&self) -> Result<Option<Checkpoint>, StoreError> {
        let query = audit_checkpoint::Entity::find().order_by_desc(audit_checkpoint::Column::Number);
        query.one(self.reader()).await?.map(read_checkpoint).transpose()
    }
}

async fn head<C: ConnectionTrait>(connection: &C) -> Result<ChainHead, StoreError> {
    let last = audit_link::Entity::find().order_by_desc(audit_link::Column::Number).one(connection).await?;
    last.map_or(Ok(ChainHead::START), |link| place(link.number, &link.hash))
}

fn place(number: i64, hash: &[u8]) -> Result<ChainHead, StoreError> {
    let corrupt =
        |detail: &str| StoreError::Corrupt { what: "a link of the audit", detail: detail.to_owned() };
    let number = u64::try_from(number).map_err(|_| corrupt("its number is negative"))?;
    let octets = hash.try_into().map_err(|_| corrupt("its hash has not 32 bytes"))?;
    Ok(ChainHead { number, hash: LinkHash(octets) })
}

fn read_checkpoint(row: audit_checkpoint::Model) -> Result<Checkpoint, StoreError> {
    let place = place(row.number, &row.hash)?;
    Ok(Checkpoint {
        installation_id: row.installation_id,
        number: place.number,
        hash: place.hash,
        at: at(row.at),
        key_id: row.key_id,
        signature: row.signature,
    })
}

impl From<audit_event::Model> for AuditEvent {
    fn from(row: audit_event::Model) -> Self {
        Self {
            id: row.id,
            at: at(row.at),
            phase: row.phase,
            act: row.act,
            actor: row.actor,
            action: row.action,
            object_kind: row.object_kind,
            object_id: row.object_id,
            outcome: row.outcome,
            detail: row.detail,
            request_id: row.request_id,
        }
    }
}

/// The least identity (UUID version 7, RFC 9562 §5.7) that can have been made `span` before `id`; `None`
/// when `id` is not one of ours.
fn least_id_before(id: &str, span: Duration) -> Option<String> {
    let id = uuid::Uuid::try_parse(id).ok()?;
    let milliseconds = u64::try_from(id.as_u128() >> 80).ok()?;
    let earlier = milliseconds.saturating_sub(u64::try_from(span.as_millis()).unwrap_or(u64::MAX));
    Some(uuid::Uuid::from_u128(u128::from(earlier) << 80).to_string())
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_back_is_a_look_at_identities() {
        let id = "0192f0c1-2345-7abc-8def-0123456789ab";
        let least = |span| least_id_before(id, span).unwrap();
        assert_eq!(least(Duration::ZERO), "0192f0c1-2345-0000-0000-000000000000");
        assert_eq!(least(Duration::from_millis(0x46)), "0192f0c1-22ff-0000-0000-000000000000");
        assert_eq!(least(Duration::MAX), "00000000-0000-0000-0000-000000000000");
        assert_eq!(least_id_before("nobody", Duration::ZERO), None);
    }
}
