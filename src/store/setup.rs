//! The one-time link with which the first administrator comes in, and settings that are edited.

use entity::{setting, setup_link};
use sea_orm::sea_query::{Expr, OnConflict};
use sea_orm::{ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter};

use super::{Store, StoreError, Transaction};
use crate::domain::{Fingerprint, UtcTime};

/// There is only one link at a time.
const ONLY: i64 = 1;

impl Store {
    /// Makes `secret` the setup link until `expires_at`; one made before no longer opens.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn replace_setup_link(
        &self,
        secret: Fingerprint,
        now: UtcTime,
        expires_at: UtcTime,
    ) -> Result<(), StoreError> {
        use setup_link::Column;
        let row = setup_link::ActiveModel {
            id: Set(ONLY),
            secret_sha256: Set(secret.to_string()),
            created_at: Set(now.as_unix()),
            expires_at: Set(expires_at.as_unix()),
        };
        let replace = OnConflict::column(Column::Id)
            .update_columns([Column::SecretSha256, Column::CreatedAt, Column::ExpiresAt])
            .to_owned();
        setup_link::Entity::insert(row).on_conflict(replace).exec_without_returning(self.writer()).await?;
        Ok(())
    }

    /// Whether the link with this secret opens at `now`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn setup_link_opens(&self, secret: Fingerprint, now: UtcTime) -> Result<bool, StoreError> {
        let query = setup_link::Entity::find()
            .filter(setup_link::Column::SecretSha256.eq(secret.to_string()))
            .filter(setup_link::Column::ExpiresAt.gt(now.as_unix()));
        Ok(query.one(self.reader()).await?.is_some())
    }
}

impl Transaction {
    /// Uses the link up. Returns whether this call did: two at once cannot both.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn use_setup_link(&self, secret: Fingerprint, now: UtcTime) -> Result<bool, StoreError> {
        let delete = setup_link::Entity::delete_many()
            .filter(setup_link::Column::SecretSha256.eq(secret.to_string()))
            .filter(setup_link::Column::ExpiresAt.gt(now.as_unix()));
        Ok(delete.exec(self.connection()).await?.rows_affected == 1)
    }

    /// Changes a setting from the value that was read. Returns whether it still had it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn swap_setting(&self, name: &str, from: &str, to: &str) -> Result<bool, StoreError> {
        let update = setting::Entity::update_many()
            .col_expr(setting::Column::Value, Expr::value(to))
            .filter(setting::Column::Name.eq(name))
            .filter(setting::Column::Value.eq(from));
        Ok(update.exec(self.connection()).await?.rows_affected == 1)
    }

    /// Gives a setting that was never set its first value.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] about `what` when it has been set meanwhile.
    pub async fn begin_setting(&self, name: &str, value: &str, what: &'static str) -> Result<(), StoreError> {
        let row = setting::ActiveModel { name: Set(name.to_owned()), value: Set(value.to_owned()) };
        let inserted = setting::Entity::insert(row).exec_without_returning(self.connection()).await;
        match inserted.map_err(|error| StoreError::unique(error, what)) {
            Err(StoreError::Taken { what }) => Err(StoreError::Conflict { what }),
            other => other.map(drop),
        }
    }
}
