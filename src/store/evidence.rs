//! What tests ask the rows, and do to them: whether bytes are on record, how every intent ended, what
//! somebody with the database in hand could write. Never part of a release.

use entity::{authority, crl, idempotency_key, intent};
use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait, DatabaseConnection, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder, Select,
};

use super::{Store, StoreError, parse};
use crate::domain::{Serial, Slug};

/// More than a pool holds.
const CONNECTIONS_TRIED: usize = 20;

/// An intent and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IntentEvidence {
    /// Its serial.
    pub serial: Serial,
    /// The bytes that were to be signed.
    pub tbs: Vec<u8>,
    /// How it ended; `None` while it is open.
    pub outcome: Option<String>,
}

impl Store {
    /// Whether a committed row holds these to-be-signed bytes: an intent, an authority, a list. Asked
    /// of the database itself, whatever a test does to the connections of a task.
    pub async fn is_on_record(&self, tbs: &[u8]) -> bool {
        let intents = intent::Entity::find().filter(intent::Column::Tbs.eq(tbs));
        let authorities = authority::Entity::find().filter(authority::Column::Tbs.eq(tbs));
        let lists = crl::Entity::find().filter(crl::Column::Tbs.eq(tbs));
        self.has(intents).await || self.has(authorities).await || self.has(lists).await
    }

    /// Whether it finds anything. A connection that a test has cut is no answer: the next one is asked.
    async fn has<E: EntityTrait>(&self, query: Select<E>) -> bool
    where
        Select<E>: for<'db> PaginatorTrait<'db, DatabaseConnection>,
    {
        for _ in 0..CONNECTIONS_TRIED {
            if let Ok(count) = query.clone().count(&self.read).await {
                return count > 0;
            }
        }
        false
    }

    /// Every intent there ever was.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn every_intent(&self) -> Result<Vec<IntentEvidence>, StoreError> {
        let rows = intent::Entity::find().order_by_asc(intent::Column::Serial).all(self.reader()).await?;
        let read = |row: intent::Model| {
            let serial = parse("an intent's serial", &row.serial)?;
            Ok(IntentEvidence { serial, tbs: row.tbs, outcome: row.outcome })
        };
        rows.into_iter().map(read).collect()
    }

    /// Puts another certificate in an authority's row, as somebody with the database in hand could.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn forge_authority(&self, name: &Slug, certificate: &[u8]) -> Result<(), StoreError> {
        authority::Entity::update_many()
            .col_expr(authority::Column::Certificate, Expr::value(certificate.to_vec()))
            .filter(authority::Column::Name.eq(name.to_string()))
            .exec(self.writer())
            .await?;
        Ok(())
    }

    /// Forgets every kept answer but not its claim: what a crash between the commit and the answer leaves.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn lose_kept_answers(&self) -> Result<(), StoreError> {
        idempotency_key::Entity::update_many()
            .col_expr(idempotency_key::Column::Status, Expr::value(Option::<i64>::None))
            .col_expr(idempotency_key::Column::Answer, Expr::value(Option::<String>::None))
            .col_expr(idempotency_key::Column::Location, Expr::value(Option::<String>::None))
            .exec(self.writer())
            .await?;
        Ok(())
    }
}
