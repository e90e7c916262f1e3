//! Values of the installation as a whole.

use entity::setting;
use sea_orm::sea_query::OnConflict;
use sea_orm::{ActiveValue::Set, EntityTrait};

use super::{Store, StoreError, Transaction};

/// The name under which the installation's identity is kept (the `iss` of assertions).
pub const INSTALLATION_ID: &str = "installation_id";
/// The name under which the installation's display name is kept.
pub const INSTALLATION_NAME: &str = "installation_name";

/// The name under which the id of the key that signs the audit's checkpoints is kept.
pub const AUDIT_KEY: &str = "audit_key";
/// The name under which is kept which of our own client certificates edges show to upstreams, and its
/// generation.
pub const UPSTREAM_IDENTITY: &str = "upstream_identity";

impl Store {
    /// The value of this setting, if it was ever set.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn setting(&self, name: &str) -> Result<Option<String>, StoreError> {
        Ok(setting::Entity::find_by_id(name.to_owned()).one(self.reader()).await?.map(|row| row.value))
    }
}

impl Transaction {
    /// Sets a value.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn set_setting(&self, name: &str, value: &str) -> Result<(), StoreError> {
        let row = setting::ActiveModel { name: Set(name.to_owned()), value: Set(value.to_owned()) };
        let update =
            OnConflict::column(setting::Column::Name).update_column(setting::Column::Value).to_owned();
        setting::Entity::insert(row).on_conflict(update).exec_without_returning(self.connection()).await?;
        Ok(())
    }
}
