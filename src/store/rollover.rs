//! Moving authorities through their life, and who depends on them.

use entity::{authority, certificate, intent};
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect, Select};

use super::authorities::{Authority, read};
use super::certificates::{Certificate, read as read_certificate};
use super::{Store, StoreError, Transaction, at};
use crate::domain::{AuthorityState, Serial, Slug, UtcTime};

/// How much stands on some authorities: certificates that are neither revoked nor expired.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dependants {
    /// Active certificates.
    pub certificates: u64,
    /// People who have one.
    pub people: u64,
    /// Devices that have one.
    pub devices: u64,
}

impl Store {
    /// How much stands on these authorities at `now`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn dependants(&self, of: &[Slug], now: UtcTime) -> Result<Dependants, StoreError> {
        count(self.reader(), of, now).await
    }

    /// The certificates behind [`Store::dependants`], by serial, after `after`, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn dependent_certificates(
        &self,
        of: &[Slug],
        after: Option<Serial>,
        limit: u64,
        now: UtcTime,
    ) -> Result<Vec<Certificate>, StoreError> {
        let mut query = active(of, now).order_by_asc(certificate::Column::Serial).limit(limit);
        if let Some(after) = after {
            query = query.filter(certificate::Column::Serial.gt(after.to_string()));
        }
        query.all(self.reader()).await?.into_iter().map(read_certificate).collect()
    }

    /// When the last certificate ends that these authorities signed, or meant to sign; `None` if there
    /// never was one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn last_end_under(&self, authorities: &[Slug]) -> Result<Option<UtcTime>, StoreError> {
        // Every certificate has an intent with the same end, so intents alone say it. OCSP delegates do not
        // count: they are renewed for as long as status is given.
        let last = intent::Entity::find()
            .select_only()
            .column_as(intent::Column::NotAfter.max(), "last")
            .filter(intent::Column::Authority.is_in(names(authorities)))
            .filter(intent::Column::Purpose.eq("client"))
            .into_tuple::<Option<i64>>()
            .one(self.reader())
            .await?;
        Ok(last.flatten().map(at))
    }
}

impl Transaction {
    /// Every authority, oldest first, as this transaction sees them.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn authorities(&self) -> Result<Vec<Authority>, StoreError> {
        let query = authority::Entity::find()
            .order_by_asc(authority::Column::CreatedAt)
            .order_by_asc(authority::Column::Name);
        query.all(self.connection()).await?.into_iter().map(read).collect()
    }

    /// Moves an authority that is in state `from` to state `to`.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when it is in another state, or when another of its kind issues already.
    pub async fn move_authority(
        &self,
        name: &Slug,
        from: AuthorityState,
        to: AuthorityState,
    ) -> Result<(), StoreError> {
        let conflict = || StoreError::Conflict { what: "the authority" };
        let update = authority::Entity::update_many()
            .col_expr(authority::Column::State, Expr::value(to.name()))
            .filter(authority::Column::Name.eq(name.to_string()))
            .filter(authority::Column::State.eq(from.name()));
        match update.exec(self.connection()).await.map_err(|error| StoreError::unique(error, "issuing")) {
            Ok(done) if done.rows_affected == 1 => Ok(()),
            Ok(_) | Err(StoreError::Taken { .. }) => Err(conflict()),
            Err(error) => Err(error),
        }
    }

    /// How much stands on these authorities at `now`, as this transaction sees it. Exact while the
    /// register is locked.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn dependants(&self, of: &[Slug], now: UtcTime) -> Result<Dependants, StoreError> {
        count(self.connection(), of, now).await
    }
}

async fn count<C: ConnectionTrait>(
    connection: &C,
    of: &[Slug],
    now: UtcTime,
) -> Result<Dependants, StoreError> {
    let found = active(of, now)
        .select_only()
        .column_as(certificate::Column::Serial.count(), "certificates")
        .column_as(Expr::col(certificate::Column::PersonId).count_distinct(), "people")
        .column_as(Expr::col(certificate::Column::DeviceId).count_distinct(), "devices")
        .into_tuple::<(i64, i64, i64)>()
        .one(connection)
        .await?;
    let (certificates, people, devices) = found.unwrap_or_default();
    let whole = |number: i64| u64::try_from(number).unwrap_or(0);
    Ok(Dependants { certificates: whole(certificates), people: whole(people), devices: whole(devices) })
}

fn active(of: &[Slug], now: UtcTime) -> Select<certificate::Entity> {
    certificate::Entity::find()
        .filter(certificate::Column::Authority.is_in(names(of)))
        .filter(certificate::Column::RevokedAt.is_null())
        .filter(certificate::Column::NotAfter.gte(now.as_unix()))
}

fn names(authorities: &[Slug]) -> Vec<String> {
    authorities.iter().map(ToString::to_string).collect()
}
