//! Key ceremonies: what was planned, byte for byte, and whether its outcome came back.

use entity::{authority, ceremony, crl};
use sea_orm::sea_query::Expr;
use sea_orm::{ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter};

use super::crls::Crl;
use super::{Store, StoreError, Transaction, at};
use crate::domain::{AuthorityState, Slug, UtcTime};

/// A planned ceremony.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ceremony {
    /// SHA-256 of the plan, hexadecimal.
    pub plan_sha256: String,
    /// The plan's bytes.
    pub plan: Vec<u8>,
    /// When it was planned.
    pub created_at: UtcTime,
    /// When its outcome was taken over.
    pub completed_at: Option<UtcTime>,
}

impl Store {
    /// The ceremony with this plan.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn ceremony(&self, plan_sha256: &str) -> Result<Option<Ceremony>, StoreError> {
        let row = ceremony::Entity::find_by_id(plan_sha256.to_owned()).one(self.reader()).await?;
        Ok(row.map(|row| Ceremony {
            plan_sha256: row.plan_sha256,
            plan: row.plan,
            created_at: at(row.created_at),
            completed_at: row.completed_at.map(at),
        }))
    }
}

impl Transaction {
    /// Records what is planned.
    ///
    /// # Errors
    /// [`StoreError::Taken`] when the same bytes were planned before.
    pub async fn insert_ceremony(
        &self,
        plan_sha256: &str,
        plan: &[u8],
        now: UtcTime,
    ) -> Result<(), StoreError> {
        let row = ceremony::ActiveModel {
            plan_sha256: Set(plan_sha256.to_owned()),
            plan: Set(plan.to_vec()),
            created_at: Set(now.as_unix()),
            completed_at: Set(None),
        };
        let inserted = ceremony::Entity::insert(row).exec_without_returning(self.connection()).await;
        inserted.map(drop).map_err(|error| StoreError::unique(error, "the plan"))
    }

    /// Says that the outcome of a ceremony was taken over. Returns whether it was open.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn complete_ceremony(&self, plan_sha256: &str, now: UtcTime) -> Result<bool, StoreError> {
        let update = ceremony::Entity::update_many()
            .col_expr(ceremony::Column::CompletedAt, Expr::value(now.as_unix()))
            .filter(ceremony::Column::PlanSha256.eq(plan_sha256))
            .filter(ceremony::Column::CompletedAt.is_null());
        Ok(update.exec(self.connection()).await?.rows_affected == 1)
    }

    /// Publishes a list that a ceremony brought; older ones of its authority are dropped, and numbers go
    /// on above it.
    ///
    /// # Errors
    /// [`StoreError::Taken`] when there is a list with this number, [`StoreError::Conflict`] when a newer
    /// one is published.
    pub async fn import_crl(&self, list: &Crl, tbs: &[u8]) -> Result<(), StoreError> {
        let number = i64::try_from(list.number).unwrap_or(i64::MAX);
        let row = crl::ActiveModel {
            authority: Set(list.authority.to_string()),
            number: Set(number),
            this_update: Set(list.this_update.as_unix()),
            next_update: Set(list.next_update.as_unix()),
            entries_sha256: Set(String::new()),
            tbs: Set(tbs.to_vec()),
            der: Set(None),
        };
        let inserted = crl::Entity::insert(row).exec_without_returning(self.connection()).await;
        inserted.map_err(|error| StoreError::unique(error, "the list's number"))?;
        authority::Entity::update_many()
            .col_expr(authority::Column::CrlNumber, Expr::value(number))
            .filter(authority::Column::Name.eq(list.authority.to_string()))
            .filter(authority::Column::CrlNumber.lt(number))
            .exec(self.connection())
            .await?;
        let changes = self.list_changes(&list.authority).await?;
        if self.publish_crl(list, changes).await? {
            return Ok(());
        }
        Err(StoreError::Conflict { what: "the authority's newest list" })
    }

    /// Adds the certificate that a ceremony brought to an authority that waits for it.
    ///
    /// * `tbs` — the bytes that the plan led to, equal to those inside `der`.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when it waits no longer.
    pub async fn import_authority(
        &self,
        name: &Slug,
        tbs: &[u8],
        der: &[u8],
        state: AuthorityState,
    ) -> Result<(), StoreError> {
        let update = authority::Entity::update_many()
            .col_expr(authority::Column::Tbs, Expr::value(tbs.to_vec()))
            .col_expr(authority::Column::Certificate, Expr::value(der.to_vec()))
            .col_expr(authority::Column::State, Expr::value(state.name()))
            .filter(authority::Column::Name.eq(name.to_string()))
            .filter(authority::Column::Certificate.is_null());
        let changed = update.exec(self.connection()).await?.rows_affected;
        if changed == 1 { Ok(()) } else { Err(StoreError::Conflict { what: "the authority" }) }
    }
}
