//! The register's changes as rows: one order for all replicas, appended in the transaction that makes
//! them true, read by whoever feeds an edge.

use entity::{authority, configuration_head, crl_head, register_change, register_head};
use sea_orm::sea_query::{Expr, UpdateStatement};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, EntityTrait, ExprTrait, QueryFilter, QueryOrder, QuerySelect, QueryTrait,
    UpdateMany,
};

use super::crls::unsigned;
use super::script::Script;
use super::{Store, StoreError, Transaction, json, parse, to_json};
use crate::domain::{Change, Delta, Slug, UtcTime};

/// How far everything is that edges must know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// The last epoch of the register.
    pub epoch: u64,
    /// The configuration's version.
    pub version: u64,
    /// Every authority that has a certificate, with the number of its newest published list.
    pub lists: Vec<(Slug, Option<u64>)>,
}

/// Changes nothing, and so locks the head row until commit.
fn taking_register() -> UpdateMany<register_head::Entity> {
    register_head::Entity::update_many()
        .col_expr(register_head::Column::Epoch, Expr::col(register_head::Column::Epoch))
        .filter(register_head::Column::Id.eq(1))
}

/// The statement behind [`Transaction::lock_register`].
pub(super) fn register_lock() -> UpdateStatement {
    taking_register().into_query()
}

impl Transaction {
    /// Takes the lock under which register changes are made, until commit. Whoever reads what decides
    /// over a change takes it first, so that nobody changes it in between. Returns the last epoch.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn lock_register(&self) -> Result<u64, StoreError> {
        let heads = taking_register().exec_with_returning(self.connection()).await?;
        let head = heads.first().ok_or(StoreError::Missing { what: "head of the register" })?;
        Ok(u64::try_from(head.epoch).unwrap_or(0))
    }

    /// Appends changes. The head row is locked until commit, so epochs become visible in order and
    /// without gaps. Returns the last epoch.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn append_changes(&self, deltas: &[Delta], now: UtcTime) -> Result<u64, StoreError> {
        let epoch = self.lock_register().await?;
        let mut script = Script::on(self);
        add_changes(&mut script, epoch, deltas, now)?;
        script.run().await?;
        Ok(epoch + deltas.len() as u64)
    }

    /// Moves the head to `epoch` if it is behind: edges know more than this database, which was
    /// restored from an older copy, and what happens from now on must come after what they know.
    /// Takes the lock of [`Transaction::lock_register`].
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn raise_epoch(&self, epoch: u64) -> Result<(), StoreError> {
        let epoch = i64::try_from(epoch).unwrap_or(i64::MAX);
        register_head::Entity::update_many()
            .col_expr(register_head::Column::Epoch, Expr::value(epoch))
            .filter(register_head::Column::Id.eq(1))
            .filter(register_head::Column::Epoch.lt(epoch))
            .exec(self.connection())
            .await?;
        Ok(())
    }

    /// Goes on only if the configuration still has the version that was read; nobody edits it until commit.
    ///
    /// # Errors
    /// [`StoreError::Conflict`].
    pub async fn hold_configuration(&self, version: u64) -> Result<(), StoreError> {
        let version = i64::try_from(version).unwrap_or(i64::MAX);
        let held = configuration_head::Entity::update_many()
            .col_expr(configuration_head::Column::Version, Expr::col(configuration_head::Column::Version))
            .filter(configuration_head::Column::Id.eq(1))
            .filter(configuration_head::Column::Version.eq(version))
            .exec(self.connection())
            .await?;
        let what = "the configuration";
        if held.rows_affected == 1 { Ok(()) } else { Err(StoreError::Conflict { what }) }
    }

    /// Moves the configuration to its next version, because something in it changes here.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn touch_configuration(&self) -> Result<(), StoreError> {
        configuration_head::Entity::update_many()
            .col_expr(
                configuration_head::Column::Version,
                Expr::col(configuration_head::Column::Version).add(1),
            )
            .filter(configuration_head::Column::Id.eq(1))
            .exec(self.connection())
            .await?;
        Ok(())
    }
}

/// Adds changes after `epoch`, the last one, to what is about to be written by a transaction that holds
/// the register.
pub(in crate::store) fn add_changes(
    script: &mut Script<'_>,
    epoch: u64,
    deltas: &[Delta],
    now: UtcTime,
) -> Result<(), StoreError> {
    if deltas.is_empty() {
        return Ok(());
    }
    let before = i64::try_from(epoch).unwrap_or(i64::MAX);
    let rows = deltas.iter().zip(before + 1..).map(|(delta, epoch)| {
        let delta = to_json("a register change", delta)?;
        Ok(register_change::ActiveModel { epoch: Set(epoch), delta: Set(delta), at: Set(now.as_unix()) })
    });
    let rows = rows.collect::<Result<Vec<_>, StoreError>>()?;
    let last = before + i64::try_from(rows.len()).unwrap_or(i64::MAX);
    let head = register_head::Entity::update_many()
        .col_expr(register_head::Column::Epoch, Expr::value(last))
        .filter(register_head::Column::Id.eq(1));
    script.update(head);
    script.insert_plain(None, rows);
    Ok(())
}

impl Store {
    /// Changes after `epoch`, oldest first, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn changes_after(&self, epoch: u64, limit: u64) -> Result<Vec<Change>, StoreError> {
        let rows = register_change::Entity::find()
            .filter(register_change::Column::Epoch.gt(i64::try_from(epoch).unwrap_or(i64::MAX)))
            .order_by_asc(register_change::Column::Epoch)
            .limit(limit)
            .all(self.reader())
            .await?;
        rows.into_iter()
            .map(|row| {
                let epoch = u64::try_from(row.epoch).unwrap_or(0);
                Ok(Change { epoch, delta: json("a register change", &row.delta)? })
            })
            .collect()
    }

    /// The last epoch and the configuration version, read together.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn heads(&self) -> Result<(u64, u64), StoreError> {
        let mut heads = register_head::Entity::find_by_id(1)
            .select_only()
            .column(register_head::Column::Epoch)
            .column(configuration_head::Column::Version);
        let first = Expr::col((configuration_head::Entity, configuration_head::Column::Id)).eq(1);
        QueryTrait::query(&mut heads).left_join(configuration_head::Entity, first);
        let found = heads.into_tuple::<(i64, Option<i64>)>().one(self.reader()).await?;
        let (epoch, version) = found.unwrap_or_default();
        Ok((u64::try_from(epoch).unwrap_or(0), u64::try_from(version.unwrap_or(0)).unwrap_or(0)))
    }

    /// What a look for news begins with, in one trip: [`Self::heads`], and every authority that has a
    /// certificate with the number of its newest published list.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn marks(&self) -> Result<Marks, StoreError> {
        let mut query = register_head::Entity::find_by_id(1)
            .select_only()
            .column(register_head::Column::Epoch)
            .column(configuration_head::Column::Version)
            .column(authority::Column::Name)
            .column(crl_head::Column::Published)
            .order_by_asc(authority::Column::Name);
        let first = Expr::col((configuration_head::Entity, configuration_head::Column::Id)).eq(1);
        let certified = Expr::col((authority::Entity, authority::Column::Certificate)).is_not_null();
        let of_authority = Expr::col((crl_head::Entity, crl_head::Column::Authority))
            .equals((authority::Entity, authority::Column::Name));
        QueryTrait::query(&mut query)
            .left_join(configuration_head::Entity, first)
            .left_join(authority::Entity, certified)
            .left_join(crl_head::Entity, of_authority);
        type Row = (i64, Option<i64>, Option<String>, Option<i64>);
        let rows = query.into_tuple::<Row>().all(self.reader()).await?;
        let mut marks = Marks::default();
        for (epoch, version, authority, published) in rows {
            marks.epoch = u64::try_from(epoch).unwrap_or(0);
            marks.version = u64::try_from(version.unwrap_or(0)).unwrap_or(0);
            if let Some(name) = authority {
                let published = published.map(unsigned).filter(|number| *number > 0);
                marks.lists.push((parse("an authority's name", &name)?, published));
            }
        }
        Ok(marks)
    }
}
