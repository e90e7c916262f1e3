//! Signed-in browsers. The cookie's value is not here, only its SHA-256.

use entity::session;
use sea_orm::sea_query::Expr;
use sea_orm::{ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use super::{Store, StoreError, Transaction, at, named, parse};
use crate::domain::{Fingerprint, InvitationId, PersonId, SessionId, UtcTime};

/// How a session came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionKind {
    /// With a password.
    Password,
    /// With an invitation; it reaches only what enrolment needs.
    Enrolment,
}

impl SessionKind {
    /// The name in rows and JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Password => "password",
            Self::Enrolment => "enrolment",
        }
    }

    /// The kind of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Password, Self::Enrolment].into_iter().find(|kind| kind.name() == name)
    }
}

/// A session as rows hold it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Its identity, which opens nothing.
    pub id: SessionId,
    /// SHA-256 of the cookie's value.
    pub secret: Fingerprint,
    /// Who is signed in.
    pub person: PersonId,
    /// How.
    pub kind: SessionKind,
    /// The invitation it is bound to, for an enrolment.
    pub invitation: Option<InvitationId>,
    /// When it began.
    pub created_at: UtcTime,
    /// When it was last used, to within a few minutes.
    pub last_seen_at: UtcTime,
    /// When it ends at the latest.
    pub expires_at: UtcTime,
}

impl Store {
    /// The session with this secret.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn session_by_secret(&self, secret: Fingerprint) -> Result<Option<Session>, StoreError> {
        let query = session::Entity::find().filter(session::Column::SecretSha256.eq(secret.to_string()));
        query.one(self.reader()).await?.map(read).transpose()
    }

    /// The sessions of a person that have not reached their end, by identity, after `after`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn sessions(
        &self,
        person: PersonId,
        after: Option<SessionId>,
        limit: u64,
        now: UtcTime,
    ) -> Result<Vec<Session>, StoreError> {
        let mut query = session::Entity::find()
            .filter(session::Column::PersonId.eq(person.to_string()))
            .filter(session::Column::ExpiresAt.gt(now.as_unix()))
            .order_by_asc(session::Column::Id)
            .limit(limit);
        if let Some(after) = after {
            query = query.filter(session::Column::Id.gt(after.to_string()));
        }
        query.all(self.reader()).await?.into_iter().map(read).collect()
    }

    /// Notes that a session was used.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn touch_session(&self, id: SessionId, now: UtcTime) -> Result<(), StoreError> {
        session::Entity::update_many()
            .col_expr(session::Column::LastSeenAt, Expr::value(now.as_unix()))
            .filter(session::Column::Id.eq(id.to_string()))
            .exec(self.writer())
            .await?;
        Ok(())
    }

    /// Removes sessions that ended before `now`. Returns how many.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn sweep_sessions(&self, now: UtcTime) -> Result<u64, StoreError> {
        let delete = session::Entity::delete_many().filter(session::Column::ExpiresAt.lte(now.as_unix()));
        Ok(delete.exec(self.writer()).await?.rows_affected)
    }
}

impl Transaction {
    /// Begins a session.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn insert_session(&self, new: &Session) -> Result<(), StoreError> {
        let row = session::ActiveModel {
            id: Set(new.id.to_string()),
            secret_sha256: Set(new.secret.to_string()),
            person_id: Set(new.person.to_string()),
            kind: Set(new.kind.name().to_owned()),
            invitation_id: Set(new.invitation.map(|id| id.to_string())),
            created_at: Set(new.created_at.as_unix()),
            last_seen_at: Set(new.last_seen_at.as_unix()),
            expires_at: Set(new.expires_at.as_unix()),
        };
        session::Entity::insert(row).exec_without_returning(self.connection()).await?;
        Ok(())
    }

    /// Ends one session of a person. Returns whether it was there.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn end_session(&self, person: PersonId, id: SessionId) -> Result<bool, StoreError> {
        let delete = session::Entity::delete_many()
            .filter(session::Column::Id.eq(id.to_string()))
            .filter(session::Column::PersonId.eq(person.to_string()));
        Ok(delete.exec(self.connection()).await?.rows_affected == 1)
    }

    /// Ends every session of a person, but for `keep`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn end_sessions(&self, person: PersonId, keep: Option<SessionId>) -> Result<(), StoreError> {
        let mut delete =
            session::Entity::delete_many().filter(session::Column::PersonId.eq(person.to_string()));
        if let Some(keep) = keep {
            delete = delete.filter(session::Column::Id.ne(keep.to_string()));
        }
        delete.exec(self.connection()).await?;
        Ok(())
    }

    /// Ends the sessions that an invitation began.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn end_enrolments(&self, invitation: InvitationId) -> Result<(), StoreError> {
        session::Entity::delete_many()
            .filter(session::Column::InvitationId.eq(invitation.to_string()))
            .exec(self.connection())
            .await?;
        Ok(())
    }
}

fn read(row: session::Model) -> Result<Session, StoreError> {
    Ok(Session {
        id: parse("a session's id", &row.id)?,
        secret: parse("a session's secret", &row.secret_sha256)?,
        person: parse("a session's person", &row.person_id)?,
        kind: named("a session's kind", &row.kind, SessionKind::from_name(&row.kind))?,
        invitation: row.invitation_id.map(|id| parse("a session's invitation", &id)).transpose()?,
        created_at: at(row.created_at),
        last_seen_at: at(row.last_seen_at),
        expires_at: at(row.expires_at),
    })
}
