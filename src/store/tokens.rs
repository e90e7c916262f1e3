//! API tokens. The token itself is not here, only its SHA-256.

use std::collections::{HashMap, HashSet};

use entity::{person, token};
use futures_util::FutureExt;
use sea_orm::sea_query::Expr;
use sea_orm::{ActiveValue::Set, ColumnTrait, EntityTrait, JoinType, QueryFilter, QueryOrder, QuerySelect};

use super::people::{Person, read_person};
use super::{Store, StoreError, Transaction, at, named, parse};
use crate::domain::{Fingerprint, PersonId, Role, TokenId, UtcTime};

/// A token as rows hold it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Its identity, which opens nothing.
    pub id: TokenId,
    /// SHA-256 of the token.
    pub secret: Fingerprint,
    /// Whose it is.
    pub person: PersonId,
    /// What they call it.
    pub name: String,
    /// What it may do at most; never more than its owner.
    pub role: Role,
    /// When it was made.
    pub created_at: UtcTime,
    /// When it ends.
    pub expires_at: UtcTime,
    /// When it was last used, to within a few minutes.
    pub last_used_at: Option<UtcTime>,
}

/// A token and whose it is.
#[derive(Clone, Debug)]
pub struct Bearer {
    /// The token.
    pub token: Token,
    /// Its owner.
    pub owner: Person,
}

impl Store {
    /// The token with this secret, and its owner; read once for all who ask at the same moment.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn bearer(&self, secret: Fingerprint) -> Result<Option<Bearer>, StoreError> {
        self.bearer.join(secret, |secrets| self.bearers(secrets).boxed()).await
    }

    async fn bearers(&self, secrets: Vec<Fingerprint>) -> Result<Vec<Option<Bearer>>, StoreError> {
        let known: HashSet<_> = secrets.iter().map(ToString::to_string).collect();
        let rows = token::Entity::find().filter(token::Column::SecretSha256.is_in(known));
        let owner =
            token::Entity::belongs_to(person::Entity).from(token::Column::PersonId).to(person::Column::Id);
        let rows = rows.join(JoinType::InnerJoin, owner.into()).select_also(person::Entity);
        let rows = rows.all(self.reader()).await?;
        let bearer = |(token, owner): (token::Model, Option<person::Model>)| {
            let owner = owner.ok_or(StoreError::Missing { what: "owner of the token" })?;
            let token = read(token)?;
            Ok((token.secret, Bearer { token, owner: read_person(owner)? }))
        };
        let found = rows.into_iter().map(bearer).collect::<Result<HashMap<_, _>, StoreError>>()?;
        Ok(secrets.iter().map(|secret| found.get(secret).cloned()).collect())
    }

    /// The tokens of one person, or of all, by identity, after `after`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn tokens(
        &self,
        person: Option<PersonId>,
        after: Option<TokenId>,
        limit: u64,
    ) -> Result<Vec<Token>, StoreError> {
        let mut query = token::Entity::find().order_by_asc(token::Column::Id).limit(limit);
        if let Some(person) = person {
            query = query.filter(token::Column::PersonId.eq(person.to_string()));
        }
        if let Some(after) = after {
            query = query.filter(token::Column::Id.gt(after.to_string()));
        }
        query.all(self.reader()).await?.into_iter().map(read).collect()
    }

    /// Notes that a token was used.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn touch_token(&self, id: TokenId, now: UtcTime) -> Result<(), StoreError> {
        token::Entity::update_many()
            .col_expr(token::Column::LastUsedAt, Expr::value(now.as_unix()))
            .filter(token::Column::Id.eq(id.to_string()))
            .exec(self.writer())
            .await?;
        Ok(())
    }
}

impl Transaction {
    /// Adds a token.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn insert_token(&self, new: &Token) -> Result<(), StoreError> {
        let row = token::ActiveModel {
            id: Set(new.id.to_string()),
            secret_sha256: Set(new.secret.to_string()),
            person_id: Set(new.person.to_string()),
            name: Set(new.name.clone()),
            role: Set(new.role.name().to_owned()),
            created_at: Set(new.created_at.as_unix()),
            expires_at: Set(new.expires_at.as_unix()),
            last_used_at: Set(None),
        };
        token::Entity::insert(row).exec_without_returning(self.connection()).await?;
        Ok(())
    }

    /// Removes a token, of `owner` if one is named. Returns whether it was there.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn delete_token(&self, id: TokenId, owner: Option<PersonId>) -> Result<bool, StoreError> {
        let mut delete = token::Entity::delete_many().filter(token::Column::Id.eq(id.to_string()));
        if let Some(owner) = owner {
            delete = delete.filter(token::Column::PersonId.eq(owner.to_string()));
        }
        Ok(delete.exec(self.connection()).await?.rows_affected == 1)
    }

    /// Removes every token of a person.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn delete_tokens(&self, owner: PersonId) -> Result<(), StoreError> {
        let delete = token::Entity::delete_many().filter(token::Column::PersonId.eq(owner.to_string()));
        delete.exec(self.connection()).await?;
        Ok(())
    }
}

fn read(row: token::Model) -> Result<Token, StoreError> {
    Ok(Token {
        id: parse("a token's id", &row.id)?,
        secret: parse("a token's secret", &row.secret_sha256)?,
        person: parse("a token's person", &row.person_id)?,
        role: named("a token's role", &row.role, Role::from_name(&row.role))?,
        name: row.name,
        created_at: at(row.created_at),
        expires_at: at(row.expires_at),
        last_used_at: row.last_used_at.map(at),
    })
}
