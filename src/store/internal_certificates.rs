//! Certificates of ours that no device holds: delegates that sign OCSP responses, cross-certificates, and what
//! the edge shows to upstreams. They come out of the same gate as client certificates and are never in the
//! register.

use entity::{internal_certificate as rows, signing_key};
use sea_orm::sea_query::{Expr, Query};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect,
};

use super::certificates::IntentPurpose;
use super::{Store, StoreError, Transaction, at, named, parse};
use crate::domain::{Fingerprint, RevocationReason, Serial, Slug, UtcTime};
use crate::keys::KeyId;

/// What stands between an authority's name and a digest in the id of its OCSP signer's key, and in no
/// other key's.
pub const OCSP_KEY: &str = "-ocsp-";
/// What the id of a key of the edge's own client certificate begins with, and no other key's.
pub const UPSTREAM_KEY: &str = "upstream-client-";

/// One of them as rows hold it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InternalCertificate {
    /// Its serial, unique in the whole database.
    pub serial: Serial,
    /// Who signed it.
    pub authority: Slug,
    /// What it is for; never a client.
    pub purpose: IntentPurpose,
    /// The authority that it certifies, or whose responses its key signs; of the edge's own, who signed it.
    pub subject: Slug,
    /// Its private key, if we hold it for this certificate alone.
    pub key_id: Option<KeyId>,
    /// SHA-256 of its DER.
    pub fingerprint: Fingerprint,
    /// Start of validity, inclusive.
    pub not_before: UtcTime,
    /// End of validity, inclusive.
    pub not_after: UtcTime,
    /// When it was issued.
    pub issued_at: UtcTime,
    /// Its bytes.
    pub der: Vec<u8>,
    /// When and why it was revoked, if it was.
    pub revoked: Option<(UtcTime, RevocationReason)>,
}

impl Store {
    /// Those for `purpose`, of one subject or of all, newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn internal_certificates(
        &self,
        purpose: &IntentPurpose,
        subject: Option<&Slug>,
    ) -> Result<Vec<InternalCertificate>, StoreError> {
        let mut query = rows::Entity::find()
            .filter(rows::Column::Purpose.eq(purpose.name()))
            .order_by_desc(rows::Column::NotAfter)
            .order_by_desc(rows::Column::Serial);
        if let Some(subject) = subject {
            query = query.filter(rows::Column::Subject.eq(subject.to_string()));
        }
        query.all(self.reader()).await?.into_iter().map(read).collect()
    }

    /// How many there ever were for `purpose`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn count_internal_certificates(&self, purpose: &IntentPurpose) -> Result<u64, StoreError> {
        let all = rows::Entity::find().filter(rows::Column::Purpose.eq(purpose.name()));
        Ok(all.count(self.reader()).await?)
    }

    /// The one with this serial.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn internal_certificate(
        &self,
        serial: Serial,
    ) -> Result<Option<InternalCertificate>, StoreError> {
        rows::Entity::find_by_id(serial.to_string()).one(self.reader()).await?.map(read).transpose()
    }
}

impl Store {
    /// Removes the private keys behind certificates for `purpose` that ended before `before`, and those with
    /// `mark` in their ids that were made before then and never certified. The certificates stay. Returns the
    /// keys' ids.
    ///
    /// # Errors
    /// [`StoreError`]; then all of them are still there.
    pub async fn forget_internal_keys(
        &self,
        purpose: &IntentPurpose,
        mark: &str,
        before: UtcTime,
    ) -> Result<Vec<KeyId>, StoreError> {
        let transaction = self.begin().await?;
        let connection = transaction.connection();
        rows::Entity::update_many()
            .col_expr(rows::Column::KeyId, Expr::value(Option::<String>::None))
            .filter(rows::Column::Purpose.eq(purpose.name()))
            .filter(rows::Column::NotAfter.lt(before.as_unix()))
            .filter(rows::Column::KeyId.is_not_null())
            .exec(connection)
            .await?;
        let certified = Query::select()
            .column(rows::Column::KeyId)
            .from(rows::Entity)
            .and_where(rows::Column::KeyId.is_not_null())
            .to_owned();
        let nobodys: Vec<String> = signing_key::Entity::find()
            .select_only()
            .column(signing_key::Column::Id)
            .filter(signing_key::Column::Id.contains(mark))
            .filter(signing_key::Column::CreatedAt.lt(before.as_unix()))
            .filter(signing_key::Column::Id.not_in_subquery(certified))
            .into_tuple()
            .all(connection)
            .await?;
        if nobodys.is_empty() {
            return Ok(Vec::new());
        }
        signing_key::Entity::delete_many()
            .filter(signing_key::Column::Id.is_in(&nobodys))
            .exec(connection)
            .await?;
        transaction.commit().await?;
        Ok(nobodys.into_iter().map(KeyId).collect())
    }
}

impl Transaction {
    /// Adds a signed one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn insert_internal_certificate(&self, new: &InternalCertificate) -> Result<(), StoreError> {
        let row = rows::ActiveModel {
            serial: Set(new.serial.to_string()),
            authority: Set(new.authority.to_string()),
            purpose: Set(new.purpose.name().to_owned()),
            subject: Set(new.subject.to_string()),
            key_id: Set(new.key_id.as_ref().map(|id| id.0.clone())),
            fingerprint: Set(new.fingerprint.to_string()),
            not_before: Set(new.not_before.as_unix()),
            not_after: Set(new.not_after.as_unix()),
            issued_at: Set(new.issued_at.as_unix()),
            der: Set(new.der.clone()),
            revoked_at: Set(None),
            revocation_reason: Set(None),
        };
        rows::Entity::insert(row).exec_without_returning(self.connection()).await?;
        Ok(())
    }
}

fn read(row: rows::Model) -> Result<InternalCertificate, StoreError> {
    let purpose = [IntentPurpose::OcspSigner, IntentPurpose::CrossCertificate, IntentPurpose::UpstreamClient]
        .into_iter()
        .find(|purpose| purpose.name() == row.purpose);
    let reason = row.revocation_reason.and_then(|code| u8::try_from(code).ok());
    let reason = reason.and_then(RevocationReason::from_code);
    Ok(InternalCertificate {
        serial: parse("an internal certificate's serial", &row.serial)?,
        authority: parse("an internal certificate's authority", &row.authority)?,
        purpose: named("an internal certificate's purpose", &row.purpose, purpose)?,
        subject: parse("an internal certificate's subject", &row.subject)?,
        key_id: row.key_id.map(KeyId),
        fingerprint: parse("an internal certificate's fingerprint", &row.fingerprint)?,
        not_before: at(row.not_before),
        not_after: at(row.not_after),
        issued_at: at(row.issued_at),
        der: row.der,
        revoked: row.revoked_at.map(|when| (at(when), reason.unwrap_or(RevocationReason::Unspecified))),
    })
}
