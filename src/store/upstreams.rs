//! Upstreams: named pools of targets, and what is done with them. Every write moves the configuration to its next
//! version in the same transaction.

use entity::{route, site, upstream};
use sea_orm::sea_query::Expr;
use sea_orm::{ActiveValue::Set, ColumnTrait, EntityTrait, ExprTrait, QueryFilter, QueryOrder};

use super::configuration::signed;
use super::{Store, StoreError, Transaction, at, json, parse, to_json};
use crate::domain::upstream::UpstreamOptions;
use crate::domain::{Slug, UtcTime};

/// An upstream as rows hold it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// Its name.
    pub name: Slug,
    /// Base URLs, `http://host:port`.
    pub targets: Vec<String>,
    /// How requests are spread over them.
    pub options: UpstreamOptions,
    /// When it was made.
    pub created_at: UtcTime,
    /// Counts edits, for `If-Match`.
    pub version: u64,
}

impl Store {
    /// Every upstream, by name.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn upstreams(&self) -> Result<Vec<Upstream>, StoreError> {
        let query = upstream::Entity::find().order_by_asc(upstream::Column::Name);
        query.all(self.reader()).await?.into_iter().map(read_upstream).collect()
    }

    /// The upstream of this name.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn upstream(&self, name: &Slug) -> Result<Option<Upstream>, StoreError> {
        upstream::Entity::find_by_id(name.to_string())
            .one(self.reader())
            .await?
            .map(read_upstream)
            .transpose()
    }
}

impl Transaction {
    /// Adds an upstream.
    ///
    /// # Errors
    /// [`StoreError::Taken`].
    pub async fn insert_upstream(&self, new: &Upstream) -> Result<(), StoreError> {
        let row = upstream::ActiveModel {
            name: Set(new.name.to_string()),
            targets: Set(to_json("targets", &new.targets)?),
            options: Set(to_json("options", &new.options)?),
            created_at: Set(new.created_at.as_unix()),
            version: Set(1),
        };
        let inserted = upstream::Entity::insert(row).exec_without_returning(self.connection()).await;
        inserted.map_err(|error| StoreError::unique(error, "the upstream's name"))?;
        self.touch_configuration().await
    }

    /// Changes an upstream; `edited.version` is the version that was read.
    ///
    /// # Errors
    /// [`StoreError::Conflict`].
    pub async fn update_upstream(&self, edited: &Upstream) -> Result<(), StoreError> {
        let update = upstream::Entity::update_many()
            .col_expr(upstream::Column::Targets, Expr::value(to_json("targets", &edited.targets)?))
            .col_expr(upstream::Column::Options, Expr::value(to_json("options", &edited.options)?))
            .col_expr(upstream::Column::Version, Expr::col(upstream::Column::Version).add(1))
            .filter(upstream::Column::Name.eq(edited.name.to_string()))
            .filter(upstream::Column::Version.eq(signed(edited.version)));
        self.one_row(update.exec(self.connection()).await?.rows_affected, "the upstream").await
    }

    /// Removes an upstream that no route and no site leads to.
    ///
    /// # Errors
    /// [`StoreError::Taken`] when one still does, [`StoreError::Conflict`].
    pub async fn delete_upstream(&self, name: &Slug, version: u64) -> Result<(), StoreError> {
        let used = route::Entity::find().filter(route::Column::Upstream.eq(name.to_string()));
        if used.one(self.connection()).await?.is_some() {
            return Err(StoreError::Taken { what: "the upstream (a route leads to it)" });
        }
        let used = site::Entity::find().filter(site::Column::Upstream.eq(name.to_string()));
        if used.one(self.connection()).await?.is_some() {
            return Err(StoreError::Taken { what: "the upstream (a site leads to it)" });
        }
        let delete = upstream::Entity::delete_many()
            .filter(upstream::Column::Name.eq(name.to_string()))
            .filter(upstream::Column::Version.eq(signed(version)));
        self.one_row(delete.exec(self.connection()).await?.rows_affected, "the upstream").await
    }
}

fn read_upstream(row: upstream::Model) -> Result<Upstream, StoreError> {
    Ok(Upstream {
        name: parse("an upstream's name", &row.name)?,
        targets: json("an upstream's targets", &row.targets)?,
        options: json("an upstream's options", &row.options)?,
        created_at: at(row.created_at),
        version: u64::try_from(row.version).unwrap_or(0),
    })
}
