//! An idempotency key names the act that its request began, so that a repetition finds what came of
//! it even if the process died before it kept the answer.

use sea_orm_migration::prelude::*;

use crate::table::text_or_null;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let add =
            Table::alter().table(Alias::new("idempotency_key")).add_column(text_or_null("act")).to_owned();
        manager.alter_table(add).await
    }
}
