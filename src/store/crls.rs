//! Revocation lists: the number and the bytes to be signed first, the signature second, and published
//! by compare-and-swap.

use entity::{authority, certificate, crl, crl_head, intent, internal_certificate};
use sea_orm::sea_query::{Expr, OnConflict, UnionType};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, DbErr, EntityTrait, ExprTrait, QueryFilter, QueryOrder,
    QueryResult, QuerySelect, QueryTrait, TryGetableMany,
};

use super::certificates::IntentOutcome;
use super::{Store, StoreError, Transaction, at, named, parse};
use crate::domain::{RevocationReason, Serial, Slug, UtcTime};

/// A revocation list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crl {
    /// Whose.
    pub authority: Slug,
    /// Strictly increasing for each authority.
    pub number: u64,
    /// When it was made.
    pub this_update: UtcTime,
    /// When the next one is promised at the latest.
    pub next_update: UtcTime,
    /// Its bytes.
    pub der: Vec<u8>,
}

/// Where the lists of an authority stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CrlHead {
    /// How often what a list must name has changed.
    pub changes: u64,
    /// The number of the newest published list; 0 before the first.
    pub published: u64,
    /// How many of the changes that list was made of, at least.
    pub published_changes: u64,
}

/// One serial that a revocation list must name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// Which.
    pub serial: Serial,
    /// When it was revoked.
    pub at: UtcTime,
    /// Why.
    pub reason: RevocationReason,
    /// Since when the key is thought to be in other hands.
    pub invalid_since: Option<UtcTime>,
}

impl Store {
    /// Takes the next CRL number of `authority`: strictly increasing across replicas and crashes,
    /// and never handed out twice, used or not (RFC 5280 §5.2.3).
    ///
    /// # Errors
    /// [`StoreError::Missing`] when there is no such authority.
    pub async fn next_crl_number(&self, authority: &Slug) -> Result<u64, StoreError> {
        let transaction = self.begin().await?;
        let update = authority::Entity::update_many()
            .col_expr(authority::Column::CrlNumber, Expr::col(authority::Column::CrlNumber).add(1))
            .filter(authority::Column::Name.eq(authority.to_string()));
        update.exec(transaction.connection()).await?;
        let row = authority::Entity::find_by_id(authority.to_string()).one(transaction.connection()).await?;
        let number = row.ok_or(StoreError::Missing { what: "authority" })?.crl_number;
        transaction.commit().await?;
        Ok(u64::try_from(number).unwrap_or(0))
    }

    /// Where the lists of `authority` stand. Read before [`Self::revocations`], what those return holds
    /// every change counted here.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn crl_head(&self, authority: &Slug) -> Result<CrlHead, StoreError> {
        let row = crl_head::Entity::find_by_id(authority.to_string()).one(self.reader()).await?;
        Ok(row.map_or_else(CrlHead::default, |row| CrlHead {
            changes: unsigned(row.changes),
            published: unsigned(row.published),
            published_changes: unsigned(row.published_changes),
        }))
    }

    /// What a list of `authority` must name at `now`: revoked certificates, and intents that came to
    /// nothing. An entry stays until it has been on a list published after the end of the certificate
    /// (RFC 5280 §3.3); `keep_after_end` is that list's `thisUpdate` at the earliest.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn revocations(
        &self,
        authority: &Slug,
        keep_after_end: UtcTime,
    ) -> Result<Vec<Revocation>, StoreError> {
        let (name, oldest_end) = (authority.to_string(), keep_after_end.as_unix());
        let mut query = certificate::Entity::find()
            .select_only()
            .column(certificate::Column::Serial)
            .column(certificate::Column::RevokedAt)
            .column(certificate::Column::RevocationReason)
            .column(certificate::Column::InvalidSince)
            .filter(certificate::Column::Authority.eq(&name))
            .filter(certificate::Column::RevokedAt.is_not_null())
            .filter(certificate::Column::NotAfter.gte(oldest_end));
        let internal = internal_certificate::Entity::find()
            .select_only()
            .column(internal_certificate::Column::Serial)
            .column(internal_certificate::Column::RevokedAt)
            .column(internal_certificate::Column::RevocationReason)
            .expr(Expr::val(None::<i64>))
            .filter(internal_certificate::Column::Authority.eq(&name))
            .filter(internal_certificate::Column::RevokedAt.is_not_null())
            .filter(internal_certificate::Column::NotAfter.gte(oldest_end));
        let abandoned = intent::Entity::find()
            .select_only()
            .column(intent::Column::Serial)
            .column(intent::Column::ResolvedAt)
            .expr(Expr::val(i64::from(RevocationReason::CessationOfOperation.code())))
            .expr(Expr::val(None::<i64>))
            .filter(intent::Column::Authority.eq(&name))
            .filter(intent::Column::Outcome.eq(IntentOutcome::Abandoned.name()))
            .filter(intent::Column::NotAfter.gte(oldest_end));
        QueryTrait::query(&mut query)
            .union(UnionType::All, internal.into_query())
            .union(UnionType::All, abandoned.into_query());
        let reader = self.reader();
        let rows = reader.query_all_raw(query.build(reader.get_database_backend())).await?;
        // A hundred thousand take a while, in which nobody else should have to wait.
        let read = tokio::task::spawn_blocking(move || rows.iter().map(revocation).collect());
        read.await.unwrap_or_else(|_| Err(DbErr::Custom("revocations could not be read".to_owned()).into()))
    }

    /// Records a list that is about to be signed.
    ///
    /// # Errors
    /// [`StoreError`]; then it must not be signed.
    pub async fn record_crl(&self, list: &Crl, tbs: &[u8]) -> Result<(), StoreError> {
        let row = crl::ActiveModel {
            authority: Set(list.authority.to_string()),
            number: Set(signed(list.number)),
            this_update: Set(list.this_update.as_unix()),
            next_update: Set(list.next_update.as_unix()),
            // Nobody reads it any more; `crl_head` says what is due.
            entries_sha256: Set(String::new()),
            tbs: Set(tbs.to_vec()),
            der: Set(None),
        };
        crl::Entity::insert(row).exec_without_returning(self.writer()).await?;
        Ok(())
    }

    /// The newest published list of `authority`, with its bytes.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn latest_crl(&self, authority: &Slug) -> Result<Option<Crl>, StoreError> {
        let query = crl::Entity::find()
            .filter(crl::Column::Authority.eq(authority.to_string()))
            .filter(crl::Column::Der.is_not_null())
            .order_by_desc(crl::Column::Number);
        let Some(row) = query.one(self.reader()).await? else { return Ok(None) };
        Ok(Some(Crl {
            authority: authority.clone(),
            number: unsigned(row.number),
            this_update: at(row.this_update),
            next_update: at(row.next_update),
            der: row.der.unwrap_or_default(),
        }))
    }

    /// As [`Self::latest_crl`], without the bytes, which may be many.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn latest_crl_dates(&self, authority: &Slug) -> Result<Option<Crl>, StoreError> {
        let query = crl::Entity::find()
            .select_only()
            .columns([crl::Column::Number, crl::Column::ThisUpdate, crl::Column::NextUpdate])
            .filter(crl::Column::Authority.eq(authority.to_string()))
            .filter(crl::Column::Der.is_not_null())
            .order_by_desc(crl::Column::Number)
            .into_tuple::<(i64, i64, i64)>();
        Ok(query.one(self.reader()).await?.map(|(number, this_update, next_update)| Crl {
            authority: authority.clone(),
            number: unsigned(number),
            this_update: at(this_update),
            next_update: at(next_update),
            der: Vec::new(),
        }))
    }
}

impl Transaction {
    /// How often what a list of `authority` must name has changed, as this transaction sees it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn list_changes(&self, authority: &Slug) -> Result<u64, StoreError> {
        let row = crl_head::Entity::find_by_id(authority.to_string()).one(self.connection()).await?;
        Ok(row.map_or(0, |row| unsigned(row.changes)))
    }

    /// Publishes a signed list that was made of at least the first `changes` changes, unless a list with
    /// a higher number, or made of more changes, was published meanwhile: what is published never goes
    /// back, in number or in content. Older lists of the authority are dropped. Returns whether it was
    /// published.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn publish_crl(&self, list: &Crl, changes: u64) -> Result<bool, StoreError> {
        let (authority, number) = (list.authority.to_string(), signed(list.number));
        let first = crl_head::ActiveModel {
            authority: Set(authority.clone()),
            changes: Set(0),
            published: Set(0),
            published_changes: Set(0),
        };
        let unless_there = OnConflict::column(crl_head::Column::Authority).do_nothing().to_owned();
        crl_head::Entity::insert(first)
            .on_conflict(unless_there)
            .exec_without_returning(self.connection())
            .await?;
        let swap = crl_head::Entity::update_many()
            .col_expr(crl_head::Column::Published, Expr::value(number))
            .col_expr(crl_head::Column::PublishedChanges, Expr::value(signed(changes)))
            .filter(crl_head::Column::Authority.eq(&authority))
            .filter(crl_head::Column::Published.lt(number))
            .filter(crl_head::Column::PublishedChanges.lte(signed(changes)));
        if swap.exec(self.connection()).await?.rows_affected != 1 {
            return Ok(false);
        }
        let written = crl::Entity::update_many()
            .col_expr(crl::Column::Der, Expr::value(list.der.clone()))
            // The signed bytes hold them.
            .col_expr(crl::Column::Tbs, Expr::value(Vec::<u8>::new()))
            .filter(crl::Column::Authority.eq(&authority))
            .filter(crl::Column::Number.eq(number))
            .exec(self.connection())
            .await?;
        if written.rows_affected != 1 {
            return Err(StoreError::Missing { what: "recorded revocation list" });
        }
        crl::Entity::delete_many()
            .filter(crl::Column::Authority.eq(&authority))
            .filter(crl::Column::Number.lt(number))
            .exec(self.connection())
            .await?;
        Ok(true)
    }
}

fn revocation(row: &QueryResult) -> Result<Revocation, StoreError> {
    type Row = (String, i64, Option<i64>, Option<i64>);
    let (serial, when, code, invalid_since) = Row::try_get_many_by_index(row).map_err(DbErr::from)?;
    let code = code.unwrap_or(0);
    let reason = u8::try_from(code).ok().and_then(RevocationReason::from_code);
    Ok(Revocation {
        serial: parse("a revoked serial", &serial)?,
        at: at(when),
        reason: match reason {
            Some(reason) => reason,
            None => named("a revocation reason", &code.to_string(), None)?,
        },
        invalid_since: invalid_since.map(at),
    })
}

pub(super) fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
