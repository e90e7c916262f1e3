//! Revocation lists: the number and the bytes to be signed first, the signature second.

use entity::{authority, certificate, crl, intent};
use sea_orm::sea_query::Expr;
use sea_orm::{ActiveValue::Set, ColumnTrait, EntityTrait, ExprTrait, QueryFilter, QueryOrder, QuerySelect};

use super::certificates::IntentOutcome;
use super::{Store, StoreError, Transaction, at, named, parse};
use crate::domain::{RevocationReason, Serial, Slug, UtcTime};

/// A published revocation list.
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
    /// SHA-256 of what it names, hexadecimal: a list is due when this would change.
    pub entries_sha256: String,
    /// Its bytes.
    pub der: Vec<u8>,
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
        let certificates = certificate::Entity::find()
            .select_only()
            .column(certificate::Column::Serial)
            .column(certificate::Column::RevokedAt)
            .column(certificate::Column::RevocationReason)
            .column(certificate::Column::InvalidSince)
            .filter(certificate::Column::Authority.eq(authority.to_string()))
            .filter(certificate::Column::RevokedAt.is_not_null())
            .filter(certificate::Column::NotAfter.gte(keep_after_end.as_unix()))
            .into_tuple::<(String, i64, i64, Option<i64>)>()
            .all(self.reader())
            .await?;
        let abandoned = intent::Entity::find()
            .select_only()
            .column(intent::Column::Serial)
            .column(intent::Column::ResolvedAt)
            .filter(intent::Column::Authority.eq(authority.to_string()))
            .filter(intent::Column::Outcome.eq(IntentOutcome::Abandoned.name()))
            .filter(intent::Column::NotAfter.gte(keep_after_end.as_unix()))
            .into_tuple::<(String, i64)>()
            .all(self.reader())
            .await?;
        let mut revocations = Vec::with_capacity(certificates.len() + abandoned.len());
        for (serial, when, code, invalid_since) in certificates {
            let reason = u8::try_from(code).ok().and_then(RevocationReason::from_code);
            revocations.push(Revocation {
                serial: parse("a certificate's serial", &serial)?,
                at: at(when),
                reason: named("a revocation reason", &code.to_string(), reason)?,
                invalid_since: invalid_since.map(at),
            });
        }
        for (serial, when) in abandoned {
            let serial = parse("an intent's serial", &serial)?;
            revocations.push(Revocation {
                serial,
                at: at(when),
                reason: RevocationReason::CessationOfOperation,
                invalid_since: None,
            });
        }
        Ok(revocations)
    }

    /// Records a list that is about to be signed.
    ///
    /// # Errors
    /// [`StoreError`]; then it must not be signed.
    pub async fn record_crl(&self, list: &Crl, tbs: &[u8]) -> Result<(), StoreError> {
        let row = crl::ActiveModel {
            authority: Set(list.authority.to_string()),
            number: Set(i64::try_from(list.number).unwrap_or(i64::MAX)),
            this_update: Set(list.this_update.as_unix()),
            next_update: Set(list.next_update.as_unix()),
            entries_sha256: Set(list.entries_sha256.clone()),
            tbs: Set(tbs.to_vec()),
            der: Set(None),
        };
        crl::Entity::insert(row).exec_without_returning(self.writer()).await?;
        Ok(())
    }

    /// Every authority with the number of its newest published list: changes whenever there is something
    /// new to publish to edges.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn published_crl_numbers(&self) -> Result<Vec<(Slug, Option<u64>)>, StoreError> {
        let published = crl::Entity::find()
            .select_only()
            .column(crl::Column::Authority)
            .column_as(crl::Column::Number.max(), "number")
            .filter(crl::Column::Der.is_not_null())
            .group_by(crl::Column::Authority)
            .into_tuple::<(String, i64)>()
            .all(self.reader())
            .await?;
        let names = authority::Entity::find()
            .select_only()
            .column(authority::Column::Name)
            .filter(authority::Column::Certificate.is_not_null())
            .order_by_asc(authority::Column::Name)
            .into_tuple::<String>()
            .all(self.reader())
            .await?;
        names
            .iter()
            .map(|name| {
                let number = published
                    .iter()
                    .find(|(of, _)| of == name)
                    .and_then(|(_, number)| u64::try_from(*number).ok());
                Ok((parse("an authority's name", name)?, number))
            })
            .collect()
    }

    /// The newest published list of `authority`.
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
            number: u64::try_from(row.number).unwrap_or(0),
            this_update: at(row.this_update),
            next_update: at(row.next_update),
            entries_sha256: row.entries_sha256,
            der: row.der.unwrap_or_default(),
        }))
    }
}

impl Transaction {
    /// Publishes a signed list. Lists become visible by number, so a late signer of an older number
    /// never hides a newer list. Older lists of the authority are dropped.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn publish_crl(&self, list: &Crl) -> Result<(), StoreError> {
        let number = i64::try_from(list.number).unwrap_or(i64::MAX);
        crl::Entity::update_many()
            .col_expr(crl::Column::Der, Expr::value(list.der.clone()))
            .filter(crl::Column::Authority.eq(list.authority.to_string()))
            .filter(crl::Column::Number.eq(number))
            .exec(self.connection())
            .await?;
        crl::Entity::delete_many()
            .filter(crl::Column::Authority.eq(list.authority.to_string()))
            .filter(crl::Column::Number.lt(number))
            .exec(self.connection())
            .await?;
        Ok(())
    }
}
