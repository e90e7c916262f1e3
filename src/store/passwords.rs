//! Password hashes, in their PHC form. They leave the store only towards the check.

use entity::person;
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QuerySelect};

use super::{Store, StoreError, Transaction};
use crate::domain::{PersonId, Secret};

impl Store {
    /// The hash of a person's password, if they have one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn password_hash(&self, id: PersonId) -> Result<Option<Secret<String>>, StoreError> {
        let query = person::Entity::find_by_id(id.to_string())
            .select_only()
            .column(person::Column::PasswordHash)
            .into_tuple::<Option<String>>();
        Ok(query.one(self.reader()).await?.flatten().map(Secret::new))
    }

    /// Whether any administrator is there: the installation has been set up.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn has_administrator(&self) -> Result<bool, StoreError> {
        let query = person::Entity::find().filter(person::Column::Role.eq("administrator"));
        Ok(query.one(self.reader()).await?.is_some())
    }
}

impl Transaction {
    /// Whether there is an administrator who is not shut out, other than `except`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn has_other_administrator(&self, except: PersonId) -> Result<bool, StoreError> {
        let query = person::Entity::find()
            .filter(person::Column::Role.eq("administrator"))
            .filter(person::Column::Disabled.eq(false))
            .filter(person::Column::Id.ne(except.to_string()));
        Ok(query.one(self.connection()).await?.is_some())
    }

    /// Gives a person a password in the place of `before`, or their first one. Not an edit of the
    /// person: the version stays.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when the hash is no longer the one that was read.
    pub async fn set_password(
        &self,
        id: PersonId,
        before: Option<&Secret<String>>,
        hash: &Secret<String>,
    ) -> Result<(), StoreError> {
        let unchanged = match before {
            Some(before) => person::Column::PasswordHash.eq(before.expose().as_str()),
            None => person::Column::PasswordHash.is_null(),
        };
        let update = person::Entity::update_many()
            .col_expr(person::Column::PasswordHash, Expr::value(hash.expose().clone()))
            .filter(person::Column::Id.eq(id.to_string()))
            .filter(unchanged);
        match update.exec(self.connection()).await?.rows_affected {
            1 => Ok(()),
            _ => Err(StoreError::Conflict { what: "the password" }),
        }
    }
}
