//! One-time links to an enrolment. The link's token is not here, only its SHA-256.

use std::collections::HashSet;

use entity::invitation;
use sea_orm::sea_query::Expr;
use sea_orm::{ActiveValue::Set, ColumnTrait, EntityTrait, ExprTrait, QueryFilter, QueryOrder, QuerySelect};

use super::{Store, StoreError, Transaction, at, parse};
use crate::domain::{Fingerprint, InvitationId, PersonId, Slug, UtcTime};

/// An invitation as rows hold it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invitation {
    /// Its identity, which opens nothing.
    pub id: InvitationId,
    /// SHA-256 of the token in its link.
    pub secret: Fingerprint,
    /// Who is invited.
    pub person: PersonId,
    /// The name that the device will have; the person chooses if absent.
    pub device_name: Option<String>,
    /// The profile of the certificate.
    pub profile: Slug,
    /// When it was made.
    pub created_at: UtcTime,
    /// Until when its link opens.
    pub expires_at: UtcTime,
    /// When its link was opened. It opens once.
    pub accepted_at: Option<UtcTime>,
    /// When its certificate was issued. It gives one.
    pub used_at: Option<UtcTime>,
    /// When it was taken back.
    pub revoked_at: Option<UtcTime>,
}

/// Where an invitation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvitationState {
    /// Its link opens.
    Open,
    /// Its link was opened; the certificate is still to come.
    Accepted,
    /// Its certificate was issued.
    Used,
    /// Nobody came in time.
    Expired,
    /// It was taken back.
    Revoked,
}

impl Invitation {
    /// Where it stands at `now`.
    pub fn state(&self, now: UtcTime) -> InvitationState {
        match (self.revoked_at, self.used_at, self.accepted_at) {
            (Some(_), _, _) => InvitationState::Revoked,
            (_, Some(_), _) => InvitationState::Used,
            (_, _, Some(_)) => InvitationState::Accepted,
            _ if self.expires_at <= now => InvitationState::Expired,
            _ => InvitationState::Open,
        }
    }
}

impl Store {
    /// The invitation with this identity.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn invitation(&self, id: InvitationId) -> Result<Option<Invitation>, StoreError> {
        invitation::Entity::find_by_id(id.to_string()).one(self.reader()).await?.map(read).transpose()
    }

    /// The invitation with this secret.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn invitation_by_secret(&self, secret: Fingerprint) -> Result<Option<Invitation>, StoreError> {
        let query =
            invitation::Entity::find().filter(invitation::Column::SecretSha256.eq(secret.to_string()));
        query.one(self.reader()).await?.map(read).transpose()
    }

    /// The invitations of one person, or of all, newest first, before `before`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn invitations(
        &self,
        person: Option<PersonId>,
        before: Option<InvitationId>,
        limit: u64,
    ) -> Result<Vec<Invitation>, StoreError> {
        let mut query = invitation::Entity::find().order_by_desc(invitation::Column::Id).limit(limit);
        if let Some(person) = person {
            query = query.filter(invitation::Column::PersonId.eq(person.to_string()));
        }
        if let Some(before) = before {
            query = query.filter(invitation::Column::Id.lt(before.to_string()));
        }
        query.all(self.reader()).await?.into_iter().map(read).collect()
    }
}

impl Transaction {
    /// Adds an invitation.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn insert_invitation(&self, new: &Invitation) -> Result<(), StoreError> {
        let row = invitation::ActiveModel {
            id: Set(new.id.to_string()),
            secret_sha256: Set(new.secret.to_string()),
            person_id: Set(new.person.to_string()),
            device_name: Set(new.device_name.clone()),
            profile: Set(new.profile.to_string()),
            created_at: Set(new.created_at.as_unix()),
            expires_at: Set(new.expires_at.as_unix()),
            accepted_at: Set(None),
            used_at: Set(None),
            revoked_at: Set(None),
        };
        invitation::Entity::insert(row).exec_without_returning(self.connection()).await?;
        Ok(())
    }

    /// Opens an invitation's link: once, before its end, unless taken back. Returns whether it did.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn accept_invitation(&self, id: InvitationId, now: UtcTime) -> Result<bool, StoreError> {
        let update = invitation::Entity::update_many()
            .col_expr(invitation::Column::AcceptedAt, Expr::value(now.as_unix()))
            .filter(invitation::Column::Id.eq(id.to_string()))
            .filter(invitation::Column::AcceptedAt.is_null())
            .filter(invitation::Column::RevokedAt.is_null())
            .filter(invitation::Column::ExpiresAt.gt(now.as_unix()));
        Ok(update.exec(self.connection()).await?.rows_affected == 1)
    }

    /// Takes an invitation back, unless that happened before or its certificate is there. Returns
    /// whether it did.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn revoke_invitation(&self, id: InvitationId, now: UtcTime) -> Result<bool, StoreError> {
        let update = invitation::Entity::update_many()
            .col_expr(invitation::Column::RevokedAt, Expr::value(now.as_unix()))
            .filter(invitation::Column::Id.eq(id.to_string()))
            .filter(invitation::Column::UsedAt.is_null())
            .filter(invitation::Column::RevokedAt.is_null());
        Ok(update.exec(self.connection()).await?.rows_affected == 1)
    }

    /// Those of the invitations that have a certificate to give: at the time that stands beside each,
    /// open, or opened and not used.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(in crate::store) async fn giving_invitations(
        &self,
        asked: &[(InvitationId, UtcTime)],
    ) -> Result<HashSet<InvitationId>, StoreError> {
        if asked.is_empty() {
            return Ok(HashSet::new());
        }
        let query = invitation::Entity::find()
            .filter(invitation::Column::Id.is_in(asked.iter().map(|(id, _)| id.to_string())));
        let mut giving = HashSet::new();
        for row in query.all(self.connection()).await? {
            let found = read(row)?;
            let gives = |(id, now): &(InvitationId, UtcTime)| {
                *id == found.id
                    && matches!(found.state(*now), InvitationState::Open | InvitationState::Accepted)
            };
            if asked.iter().any(gives) {
                giving.insert(found.id);
            }
        }
        Ok(giving)
    }

    /// Takes the one certificate of an invitation, opening it if nobody did before. In the transaction
    /// that stores the certificate, so that it is used exactly when there is one.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when it gave its certificate already, or was taken back.
    pub(in crate::store) async fn use_invitation(
        &self,
        id: InvitationId,
        now: UtcTime,
    ) -> Result<(), StoreError> {
        let opened = Expr::col(invitation::Column::AcceptedAt).if_null(now.as_unix());
        let update = invitation::Entity::update_many()
            .col_expr(invitation::Column::AcceptedAt, opened)
            .col_expr(invitation::Column::UsedAt, Expr::value(now.as_unix()))
            .filter(invitation::Column::Id.eq(id.to_string()))
            .filter(invitation::Column::UsedAt.is_null())
            .filter(invitation::Column::RevokedAt.is_null());
        match update.exec(self.connection()).await?.rows_affected {
            1 => Ok(()),
            _ => Err(StoreError::Conflict { what: "an invitation" }),
        }
    }
}

fn read(row: invitation::Model) -> Result<Invitation, StoreError> {
    Ok(Invitation {
        id: parse("an invitation's id", &row.id)?,
        secret: parse("an invitation's secret", &row.secret_sha256)?,
        person: parse("an invitation's person", &row.person_id)?,
        device_name: row.device_name,
        profile: parse("an invitation's profile", &row.profile)?,
        created_at: at(row.created_at),
        expires_at: at(row.expires_at),
        accepted_at: row.accepted_at.map(at),
        used_at: row.used_at.map(at),
        revoked_at: row.revoked_at.map(at),
    })
}
