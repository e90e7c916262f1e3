//! Named leases with fencing tokens: one holder at a time, and a late one cannot commit.
//!
//! A lease says who may act; the token, checked in the transaction that writes ([`Transaction::check_lease`]),
//! makes sure of it: a holder that slept past its lease and was replaced finds its token stale.

use std::time::Duration;

use entity::lease;
use sea_orm::sea_query::{Expr, OnConflict};
use sea_orm::{ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, ExprTrait, QueryFilter};

use super::{Store, StoreError, Transaction, at};
use crate::domain::UtcTime;

/// Names this process among replicas; a new one each start, so that a restarted process never takes
/// itself for its predecessor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaId(String);

impl ReplicaId {
    /// A new identity.
    #[expect(clippy::new_without_default, reason = "two defaults would not be equal")]
    pub fn new() -> Self {
        Self(uuid::Uuid::now_v7().to_string())
    }

    /// As rows hold it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A lease that was taken. Holding it proves nothing later: check it where you write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// What it is about, for example `job:send_mail`.
    pub name: String,
    /// Strictly rises with every change of hands.
    pub token: u64,
}

/// Whether a lease was had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Acquired {
    /// It is ours.
    Ours(Lease),
    /// Someone else has it, at least until then.
    Theirs {
        /// When it ends unless it is renewed.
        until: UtcTime,
    },
}

impl Store {
    /// Takes the lease if nobody has it, or if its time is over. Never waits, and never takes it from
    /// its own holder either: two acts of one replica exclude each other too.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn acquire_lease(
        &self,
        name: &str,
        owner: &ReplicaId,
        lifetime: Duration,
        now: UtcTime,
    ) -> Result<Acquired, StoreError> {
        let transaction = self.begin().await?;
        let connection = transaction.connection();
        let row = lease::ActiveModel {
            name: Set(name.to_owned()),
            owner: Set(String::new()),
            token: Set(0),
            expires_at: Set(0),
        };
        let unless_there = OnConflict::column(lease::Column::Name).do_nothing().to_owned();
        lease::Entity::insert(row).on_conflict(unless_there).exec_without_returning(connection).await?;
        let taken = lease::Entity::update_many()
            .col_expr(lease::Column::Owner, Expr::value(owner.as_str()))
            .col_expr(lease::Column::Token, Expr::col(lease::Column::Token).add(1))
            .col_expr(lease::Column::ExpiresAt, Expr::value(now.plus(lifetime).as_unix()))
            .filter(lease::Column::Name.eq(name))
            .filter(lease::Column::ExpiresAt.lte(now.as_unix()))
            .exec(connection)
            .await?;
        let row = lease::Entity::find_by_id(name.to_owned()).one(connection).await?;
        let row = row.ok_or(StoreError::Missing { what: "lease" })?;
        transaction.commit().await?;
        if taken.rows_affected == 1 {
            let token = u64::try_from(row.token).unwrap_or(0);
            return Ok(Acquired::Ours(Lease { name: name.to_owned(), token }));
        }
        Ok(Acquired::Theirs { until: at(row.expires_at) })
    }

    /// Prolongs a lease from `now` on. A lease whose time was over, but which nobody took, is prolonged too.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when someone else has it.
    pub async fn renew_lease(
        &self,
        lease: &Lease,
        lifetime: Duration,
        now: UtcTime,
    ) -> Result<(), StoreError> {
        let update = lease::Entity::update_many()
            .col_expr(lease::Column::ExpiresAt, Expr::value(now.plus(lifetime).as_unix()))
            .filter(lease::Column::Name.eq(lease.name.as_str()))
            .filter(lease::Column::Token.eq(signed(lease.token)));
        let changed = update.exec(self.writer()).await?.rows_affected;
        if changed == 1 { Ok(()) } else { Err(StoreError::Conflict { what: "the lease" }) }
    }

    /// Gives a lease back. One that is someone else's by now is left alone.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn release_lease(&self, lease: &Lease) -> Result<(), StoreError> {
        let update = lease::Entity::update_many()
            .col_expr(lease::Column::ExpiresAt, Expr::value(0_i64))
            .filter(lease::Column::Name.eq(lease.name.as_str()))
            .filter(lease::Column::Token.eq(signed(lease.token)));
        update.exec(self.writer()).await?;
        Ok(())
    }

    /// Gives back whatever this replica still holds, when it ends.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn release_leases_of(&self, owner: &ReplicaId) -> Result<(), StoreError> {
        let update = lease::Entity::update_many()
            .col_expr(lease::Column::ExpiresAt, Expr::value(0_i64))
            .filter(lease::Column::Owner.eq(owner.as_str()));
        update.exec(self.writer()).await?;
        Ok(())
    }

    /// Ends every lease, at the start of a process on a SQLite file: the file has one owner, so whoever
    /// held them is dead. On PostgreSQL nothing happens; leases there end by their time.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn end_leases_of_the_dead(&self) -> Result<(), StoreError> {
        if self.is_sqlite() {
            let update = lease::Entity::update_many().col_expr(lease::Column::ExpiresAt, Expr::value(0_i64));
            update.exec(self.writer()).await?;
        }
        Ok(())
    }
}

impl Transaction {
    /// Checks that the lease is still ours, and keeps it so until this transaction ends.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when its token is no longer current; then nothing may be committed.
    pub async fn check_lease(&self, lease: &Lease) -> Result<(), StoreError> {
        check(self.connection(), lease).await
    }
}

async fn check<C: ConnectionTrait>(connection: &C, lease: &Lease) -> Result<(), StoreError> {
    // An update, not a read: it locks the row, so that nobody takes the lease before we commit.
    let update = lease::Entity::update_many()
        .col_expr(lease::Column::Token, Expr::col(lease::Column::Token))
        .filter(lease::Column::Name.eq(lease.name.as_str()))
        .filter(lease::Column::Token.eq(signed(lease.token)));
    let ours = update.exec(connection).await?.rows_affected;
    if ours == 1 { Ok(()) } else { Err(StoreError::Conflict { what: "the lease" }) }
}

fn signed(token: u64) -> i64 {
    i64::try_from(token).unwrap_or(i64::MAX)
}
