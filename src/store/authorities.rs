//! Authorities and their sealed signing keys.

use entity::{authority, serial, signing_key};
use sea_orm::sea_query::Expr;
use sea_orm::{ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter, QueryOrder};

use super::{Store, StoreError, Transaction, at, named, parse};
use crate::domain::{AuthorityKind, AuthorityState, Serial, Slug, UtcTime};
use crate::keys::{KeyId, Place};

/// One generation of an authority as rows hold it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    /// The slug of this generation.
    pub name: Slug,
    /// What it signs.
    pub kind: AuthorityKind,
    /// Where in its life it stands.
    pub state: AuthorityState,
    /// Its signing key.
    pub key_id: KeyId,
    /// Who signed it; `None` when it signed itself.
    pub issuer: Option<Slug>,
    /// Its serial.
    pub serial: Serial,
    /// Its common name.
    pub common_name: String,
    /// Start of validity.
    pub not_before: UtcTime,
    /// End of validity.
    pub not_after: UtcTime,
    /// The bytes that were to be signed, recorded before the signature.
    pub tbs: Vec<u8>,
    /// Its certificate, DER; `None` between record and signature.
    pub certificate: Option<Vec<u8>>,
    /// The last CRL number handed out; 0 before the first.
    pub crl_number: u64,
    /// When it was made.
    pub created_at: UtcTime,
}

/// A signing key as its row holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningKey {
    /// Its id.
    pub id: KeyId,
    /// Its public half, SubjectPublicKeyInfo DER.
    pub spki: Vec<u8>,
    /// Its private half, PKCS#8 DER, sealed at [`SigningKey::place`]: what edges sign with under the server
    /// vault, everything else under the authority vault. Empty when it is not in this system: the key of an
    /// offline root.
    pub sealed: Vec<u8>,
}

impl SigningKey {
    /// Whether the private half is in this system.
    pub fn is_here(&self) -> bool {
        !self.sealed.is_empty()
    }

    /// Where the private half of key `id` is sealed to.
    pub fn place(id: &KeyId) -> Place<'_> {
        Place { table: "signing_key", column: "sealed", row: &id.0 }
    }
}

impl Store {
    /// Every authority, oldest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn authorities(&self) -> Result<Vec<Authority>, StoreError> {
        let query = authority::Entity::find()
            .order_by_asc(authority::Column::CreatedAt)
            .order_by_asc(authority::Column::Name);
        query.all(self.reader()).await?.into_iter().map(read).collect()
    }

    /// The authority of this name.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn authority(&self, name: &Slug) -> Result<Option<Authority>, StoreError> {
        authority::Entity::find_by_id(name.to_string()).one(self.reader()).await?.map(read).transpose()
    }

    /// The newest authority of `kind` that signs.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn signing_authority(&self, kind: AuthorityKind) -> Result<Option<Authority>, StoreError> {
        let query = authority::Entity::find()
            .filter(authority::Column::Kind.eq(kind.name()))
            .filter(authority::Column::State.eq(AuthorityState::Issuing.name()))
            .order_by_desc(authority::Column::CreatedAt)
            .order_by_desc(authority::Column::Name);
        query.one(self.reader()).await?.map(read).transpose()
    }

    /// The signing key with this id.
    ///
    /// # Errors
    /// [`StoreError::Missing`].
    pub async fn signing_key(&self, id: &KeyId) -> Result<SigningKey, StoreError> {
        let row = signing_key::Entity::find_by_id(id.0.clone()).one(self.reader()).await?;
        let row = row.ok_or(StoreError::Missing { what: "signing key" })?;
        Ok(SigningKey { id: id.clone(), spki: row.spki, sealed: row.sealed })
    }

    /// The keys that sign or signed checkpoints of the audit, by id.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn audit_signing_keys(&self) -> Result<Vec<SigningKey>, StoreError> {
        let query = signing_key::Entity::find()
            .filter(signing_key::Column::Id.starts_with("audit-"))
            .order_by_asc(signing_key::Column::Id);
        let rows = query.all(self.reader()).await?.into_iter();
        Ok(rows.map(|row| SigningKey { id: KeyId(row.id), spki: row.spki, sealed: row.sealed }).collect())
    }
}

impl Store {
    /// As [`Transaction::reserve_serial`], in a transaction of its own.
    ///
    /// # Errors
    /// [`StoreError::Taken`] when it was handed out before: draw another.
    pub async fn reserve_serial(
        &self,
        serial: Serial,
        purpose: &str,
        now: UtcTime,
    ) -> Result<(), StoreError> {
        let transaction = self.begin().await?;
        transaction.reserve_serial(serial, purpose, now).await?;
        transaction.commit().await
    }
}

impl Transaction {
    /// Takes a serial for `purpose`; from here on it is never handed out again, used or not.
    ///
    /// # Errors
    /// [`StoreError::Taken`] when it was handed out before: draw another.
    pub async fn reserve_serial(
        &self,
        serial: Serial,
        purpose: &str,
        now: UtcTime,
    ) -> Result<(), StoreError> {
        let row = serial::ActiveModel {
            serial: Set(serial.to_string()),
            purpose: Set(purpose.to_owned()),
            reserved_at: Set(now.as_unix()),
        };
        let inserted = serial::Entity::insert(row).exec_without_returning(self.connection()).await;
        inserted.map(drop).map_err(|error| StoreError::unique(error, "the serial number"))
    }

    /// Adds a signing key.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn insert_signing_key(&self, key: &SigningKey, now: UtcTime) -> Result<(), StoreError> {
        let row = signing_key::ActiveModel {
            id: Set(key.id.0.clone()),
            spki: Set(key.spki.clone()),
            sealed: Set(key.sealed.clone()),
            created_at: Set(now.as_unix()),
        };
        signing_key::Entity::insert(row).exec_without_returning(self.connection()).await?;
        Ok(())
    }

    /// Records an authority, before its certificate is signed.
    ///
    /// # Errors
    /// [`StoreError::Taken`] when the name is there already.
    pub async fn insert_authority(&self, authority: &Authority) -> Result<(), StoreError> {
        let row = authority::ActiveModel {
            name: Set(authority.name.to_string()),
            kind: Set(authority.kind.name().to_owned()),
            state: Set(authority.state.name().to_owned()),
            key_id: Set(authority.key_id.0.clone()),
            issuer: Set(authority.issuer.as_ref().map(ToString::to_string)),
            serial: Set(authority.serial.to_string()),
            common_name: Set(authority.common_name.clone()),
            not_before: Set(authority.not_before.as_unix()),
            not_after: Set(authority.not_after.as_unix()),
            tbs: Set(authority.tbs.clone()),
            certificate: Set(authority.certificate.clone()),
            crl_number: Set(0),
            created_at: Set(authority.created_at.as_unix()),
        };
        let inserted = authority::Entity::insert(row).exec_without_returning(self.connection()).await;
        inserted.map(drop).map_err(|error| StoreError::unique(error, "the authority's name"))
    }

    /// Adds the signed certificate and moves the authority to `state`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn complete_authority(
        &self,
        name: &Slug,
        der: &[u8],
        state: AuthorityState,
    ) -> Result<(), StoreError> {
        authority::Entity::update_many()
            .col_expr(authority::Column::Certificate, Expr::value(der.to_vec()))
            .col_expr(authority::Column::State, Expr::value(state.name()))
            .filter(authority::Column::Name.eq(name.to_string()))
            .exec(self.connection())
            .await?;
        Ok(())
    }
}

pub(in crate::store) fn read(row: authority::Model) -> Result<Authority, StoreError> {
    Ok(Authority {
        name: parse("an authority's name", &row.name)?,
        kind: named("an authority's kind", &row.kind, AuthorityKind::from_name(&row.kind))?,
        state: named("an authority's state", &row.state, AuthorityState::from_name(&row.state))?,
        key_id: KeyId(row.key_id),
        issuer: row.issuer.map(|issuer| parse("an authority's issuer", &issuer)).transpose()?,
        serial: parse("an authority's serial", &row.serial)?,
        common_name: row.common_name,
        not_before: at(row.not_before),
        not_after: at(row.not_after),
        tbs: row.tbs,
        certificate: row.certificate,
        crl_number: u64::try_from(row.crl_number).unwrap_or(0),
        created_at: at(row.created_at),
    })
}
