//! Wrapped data keys: what the vaults open everything else with.

use entity::data_key;
use sea_orm::{ActiveValue::Set, EntityTrait, QueryOrder, TransactionTrait};

use super::{Store, StoreError, named};
use crate::domain::{Entropy, UtcTime};
use crate::keys::{KeyFault, Purpose, Vaults, WrappedKey};

/// Why the vaults could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The rows could not be read or written.
    #[error("the data keys cannot be read")]
    Store(#[from] StoreError),
    /// They do not open under our key-encryption keys.
    #[error(transparent)]
    Key(#[from] KeyFault),
}

impl Store {
    /// Takes every stored data key into use, and makes the first one of a purpose that has none.
    ///
    /// # Errors
    /// [`VaultError::Key`] when a key-encryption key is not the one the data was sealed under.
    pub async fn open_vaults(
        &self,
        vaults: &Vaults,
        entropy: &dyn Entropy,
        now: UtcTime,
    ) -> Result<(), VaultError> {
        let stored = self.wrapped_keys().await?;
        for key in &stored {
            vaults.of(key.purpose).add(key)?;
        }
        let mut next = stored.iter().map(|key| key.id).max().unwrap_or(0) + 1;
        for purpose in [Purpose::Server, Purpose::Authority] {
            if stored.iter().any(|key| key.purpose == purpose) {
                continue;
            }
            let key = vaults.of(purpose).make_key(next, entropy);
            let row = data_key::ActiveModel {
                id: Set(i64::from(key.id)),
                purpose: Set(purpose.name().to_owned()),
                wrapped: Set(key.wrapped.clone()),
                created_at: Set(now.as_unix()),
            };
            data_key::Entity::insert(row)
                .exec_without_returning(self.writer())
                .await
                .map_err(StoreError::from)?;
            vaults.of(purpose).add(&key)?;
            next += 1;
        }
        Ok(())
    }

    /// Wraps every data key under the newest key-encryption key of its purpose. Safe while running:
    /// sealed columns do not change. Returns how many were wrapped anew.
    ///
    /// # Errors
    /// [`VaultError`]; then nothing changed.
    pub async fn rewrap_data_keys(&self, vaults: &Vaults) -> Result<u32, VaultError> {
        let mut count = 0;
        let transaction = self.writer().begin().await.map_err(StoreError::from)?;
        for key in self.wrapped_keys().await? {
            let Some(again) = vaults.of(key.purpose).rewrap(&key)? else { continue };
            let row = data_key::ActiveModel {
                id: Set(i64::from(again.id)),
                wrapped: Set(again.wrapped),
                ..Default::default()
            };
            data_key::Entity::update(row).exec(&transaction).await.map_err(StoreError::from)?;
            count += 1;
        }
        transaction.commit().await.map_err(StoreError::from)?;
        Ok(count)
    }

    async fn wrapped_keys(&self) -> Result<Vec<WrappedKey>, StoreError> {
        let rows = data_key::Entity::find().order_by_asc(data_key::Column::Id).all(self.reader()).await?;
        rows.into_iter()
            .map(|row| {
                let purpose =
                    [Purpose::Server, Purpose::Authority].into_iter().find(|p| p.name() == row.purpose);
                let id = u32::try_from(row.id).map_err(|_| StoreError::Corrupt {
                    what: "a data key's id",
                    detail: row.id.to_string(),
                })?;
                Ok(WrappedKey {
                    id,
                    purpose: named("a data key's purpose", &row.purpose, purpose)?,
                    wrapped: row.wrapped,
                })
            })
            .collect()
    }
}
