//! A site may lead to an upstream: its connections are passed through there unread.

use sea_orm_migration::prelude::*;

use crate::table::text_or_null;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let upstream = text_or_null("upstream");
        let add = Table::alter().table(Alias::new("site")).add_column(upstream).to_owned();
        manager.alter_table(add).await
    }
}
