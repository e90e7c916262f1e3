//! Alerts: what an administrator should know, once while it lasts. And the notices of what ends soon,
//! each once a certificate and threshold.

use entity::{alert, authority, certificate, expiry_notice};
use sea_orm::sea_query::{Alias, Expr, OnConflict, Query};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, ExprTrait, QueryFilter, QueryOrder,
    QuerySelect, QueryTrait,
};

use super::{Store, StoreError, Transaction, at, named, parse};
use crate::domain::{AuthorityKind, AuthorityState, DeviceId, PersonId, UtcTime};

/// How much an alert matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Something will go wrong unless someone acts.
    Warning,
    /// Something is wrong now.
    Critical,
}

impl Severity {
    /// The name in rows and JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }

    /// The severity of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Warning, Self::Critical].into_iter().find(|severity| severity.name() == name)
    }
}

/// An alert that is to be raised.
#[derive(Clone, Copy, Debug)]
pub struct NewAlert<'a> {
    /// What is wrong, for example `renewal_failing`.
    pub kind: &'static str,
    /// With what, for example a host name. No e-mail addresses.
    pub object: &'a str,
    /// What to know and what to do, for people.
    pub message: &'a str,
    /// How much it matters.
    pub severity: Severity,
}

/// An alert as rows hold it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alert {
    /// Its identity.
    pub id: String,
    /// What is wrong.
    pub kind: String,
    /// With what.
    pub object: String,
    /// What to know and what to do.
    pub message: String,
    /// How much it matters.
    pub severity: Severity,
    /// Since when.
    pub raised_at: UtcTime,
    /// When someone said that they know.
    pub acknowledged_at: Option<UtcTime>,
    /// When it went away.
    pub closed_at: Option<UtcTime>,
}

impl Store {
    /// Raises an alert. While one of its kind is open for the object, only the text is brought up to
    /// date. Returns whether it is new.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn raise_alert(&self, new: NewAlert<'_>, now: UtcTime) -> Result<bool, StoreError> {
        raise(self.writer(), new, now).await
    }

    /// Closes the open alert of this kind for the object, if there is one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn close_alert(&self, kind: &str, object: &str, now: UtcTime) -> Result<(), StoreError> {
        close(self.writer(), kind, object, now).await
    }

    /// Notes that someone knows of an alert. Returns whether there is such an alert.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn acknowledge_alert(&self, id: &str, now: UtcTime) -> Result<bool, StoreError> {
        alert::Entity::update_many()
            .col_expr(alert::Column::AcknowledgedAt, Expr::value(now.as_unix()))
            .filter(alert::Column::Id.eq(id))
            .filter(alert::Column::AcknowledgedAt.is_null())
            .exec(self.writer())
            .await?;
        Ok(self.alert(id).await?.is_some())
    }

    /// The alert with this identity.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn alert(&self, id: &str) -> Result<Option<Alert>, StoreError> {
        alert::Entity::find_by_id(id.to_owned()).one(self.reader()).await?.map(read_alert).transpose()
    }

    /// Alerts, newest first, at most `limit`, before the one with the identity `before`; closed ones only if asked for.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn alerts(
        &self,
        with_closed: bool,
        before: Option<&str>,
        limit: u64,
    ) -> Result<Vec<Alert>, StoreError> {
        let mut query = alert::Entity::find().order_by_desc(alert::Column::Id).limit(limit);
        if !with_closed {
            query = query.filter(alert::Column::ClosedAt.is_null());
        }
        if let Some(before) = before {
            query = query.filter(alert::Column::Id.lt(before));
        }
        query.all(self.reader()).await?.into_iter().map(read_alert).collect()
    }
}

impl Transaction {
    /// Raises an alert, as [`Store::raise_alert`] does.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn raise_alert(&self, new: NewAlert<'_>, now: UtcTime) -> Result<bool, StoreError> {
        raise(self.connection(), new, now).await
    }

    /// Closes an alert, as [`Store::close_alert`] does.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn close_alert(&self, kind: &str, object: &str, now: UtcTime) -> Result<(), StoreError> {
        close(self.connection(), kind, object, now).await
    }
}

async fn raise<C: ConnectionTrait>(
    connection: &C,
    new: NewAlert<'_>,
    now: UtcTime,
) -> Result<bool, StoreError> {
    let open = alert::Entity::update_many()
        .col_expr(alert::Column::Message, Expr::value(new.message))
        .col_expr(alert::Column::Severity, Expr::value(new.severity.name()))
        .filter(alert::Column::Kind.eq(new.kind))
        .filter(alert::Column::Object.eq(new.object))
        .filter(alert::Column::ClosedAt.is_null());
    if open.exec(connection).await?.rows_affected > 0 {
        return Ok(false);
    }
    let row = alert::ActiveModel {
        id: Set(uuid::Uuid::now_v7().to_string()),
        kind: Set(new.kind.to_owned()),
        object: Set(new.object.to_owned()),
        message: Set(new.message.to_owned()),
        severity: Set(new.severity.name().to_owned()),
        raised_at: Set(now.as_unix()),
        acknowledged_at: Set(None),
        closed_at: Set(None),
    };
    // Another replica may raise the same one now; the partial index leaves one of the two.
    let insert = alert::Entity::insert(row)
        .on_conflict(OnConflict::new().do_nothing().to_owned())
        .exec_without_returning(connection)
        .await?;
    Ok(insert == 1)
}

async fn close<C: ConnectionTrait>(
    connection: &C,
    kind: &str,
    object: &str,
    now: UtcTime,
) -> Result<(), StoreError> {
    alert::Entity::update_many()
        .col_expr(alert::Column::ClosedAt, Expr::value(now.as_unix()))
        .filter(alert::Column::Kind.eq(kind))
        .filter(alert::Column::Object.eq(object))
        .filter(alert::Column::ClosedAt.is_null())
        .exec(connection)
        .await?;
    Ok(())
}

fn read_alert(row: alert::Model) -> Result<Alert, StoreError> {
    Ok(Alert {
        severity: named("an alert's severity", &row.severity, Severity::from_name(&row.severity))?,
        id: row.id,
        kind: row.kind,
        object: row.object,
        message: row.message,
        raised_at: at(row.raised_at),
        acknowledged_at: row.acknowledged_at.map(at),
        closed_at: row.closed_at.map(at),
    })
}

/// A client certificate in its last third, with nothing newer in its lineage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndingClient {
    /// Its serial.
    pub serial: String,
    /// Whose it is.
    pub person: PersonId,
    /// Where it is installed.
    pub device: DeviceId,
    /// Start of validity.
    pub not_before: UtcTime,
    /// End of validity.
    pub not_after: UtcTime,
}

/// An authority in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndingAuthority {
    /// Its slug.
    pub name: String,
    /// What it signs.
    pub kind: AuthorityKind,
    /// What people know it as.
    pub common_name: String,
    /// Start of validity.
    pub not_before: UtcTime,
    /// End of validity.
    pub not_after: UtcTime,
}

impl Store {
    /// Client certificates that are active at `now`, have at most one part in `threshold` of their life left, were
    /// not superseded, and were not yet noticed at this threshold; by end, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn ending_client_certificates(
        &self,
        now: UtcTime,
        threshold: i64,
        limit: u64,
    ) -> Result<Vec<EndingClient>, StoreError> {
        use certificate::Column;
        let newer = Alias::new("newer");
        let superseded = Query::select()
            .expr(Expr::value(1))
            .from_as(Alias::new("certificate"), newer.clone())
            .and_where(
                Expr::col((newer.clone(), Column::Lineage))
                    .equals((Alias::new("certificate"), Column::Lineage)),
            )
            .and_where(
                Expr::col((newer.clone(), Column::NotAfter))
                    .gt(Expr::col((Alias::new("certificate"), Column::NotAfter))),
            )
            .and_where(Expr::col((newer, Column::RevokedAt)).is_null())
            .to_owned();
        let noticed = expiry_notice::Entity::find()
            .select_only()
            .column(expiry_notice::Column::Object)
            .filter(expiry_notice::Column::Kind.eq("client"))
            .filter(expiry_notice::Column::Threshold.eq(threshold))
            .into_query();
        let rows = certificate::Entity::find()
            .filter(Column::RevokedAt.is_null())
            .filter(Column::NotAfter.gt(now.as_unix()))
            .filter(
                Expr::col((Alias::new("certificate"), Column::NotAfter))
                    .sub(now.as_unix())
                    .mul(threshold)
                    .lte(
                        Expr::col((Alias::new("certificate"), Column::NotAfter))
                            .sub(Expr::col((Alias::new("certificate"), Column::NotBefore))),
                    ),
            )
            .filter(Expr::exists(superseded).not())
            .filter(Column::Serial.not_in_subquery(noticed))
            .order_by_asc(Column::NotAfter)
            .limit(limit)
            .all(self.reader())
            .await?;
        rows.into_iter()
            .map(|row| {
                Ok(EndingClient {
                    person: parse("a certificate's person", &row.person_id)?,
                    device: parse("a certificate's device", &row.device_id)?,
                    serial: row.serial,
                    not_before: at(row.not_before),
                    not_after: at(row.not_after),
                })
            })
            .collect()
    }

    /// When the first active client certificate ends, if there is one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn first_client_end(&self, now: UtcTime) -> Result<Option<UtcTime>, StoreError> {
        let first = certificate::Entity::find()
            .filter(certificate::Column::RevokedAt.is_null())
            .filter(certificate::Column::NotAfter.gt(now.as_unix()))
            .order_by_asc(certificate::Column::NotAfter)
            .one(self.reader())
            .await?;
        Ok(first.map(|row| at(row.not_after)))
    }

    /// Authorities that are in force and not over at `now`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn authorities_in_force(&self, now: UtcTime) -> Result<Vec<EndingAuthority>, StoreError> {
        let rows = authority::Entity::find()
            .filter(authority::Column::NotAfter.gt(now.as_unix()))
            .order_by_asc(authority::Column::Name)
            .all(self.reader())
            .await?;
        let in_force = |row: &authority::Model| {
            AuthorityState::from_name(&row.state).is_some_and(AuthorityState::is_in_force)
        };
        let read = |row: authority::Model| {
            Ok(EndingAuthority {
                kind: named("an authority's kind", &row.kind, AuthorityKind::from_name(&row.kind))?,
                name: row.name,
                common_name: row.common_name,
                not_before: at(row.not_before),
                not_after: at(row.not_after),
            })
        };
        rows.into_iter().filter(in_force).map(read).collect()
    }
}

impl Transaction {
    /// Notes that this object was warned about at this threshold. Returns whether it was not yet.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn note_expiry(
        &self,
        kind: &'static str,
        object: &str,
        threshold: i64,
        now: UtcTime,
    ) -> Result<bool, StoreError> {
        let row = expiry_notice::ActiveModel {
            kind: Set(kind.to_owned()),
            object: Set(object.to_owned()),
            threshold: Set(threshold),
            sent_at: Set(now.as_unix()),
        };
        let insert = expiry_notice::Entity::insert(row)
            .on_conflict(OnConflict::new().do_nothing().to_owned())
            .exec_without_returning(self.connection())
            .await?;
        Ok(insert == 1)
    }
}
