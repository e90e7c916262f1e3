//! Routes have options: how often they may be asked, how much may be sent (JSON; `{}` is none).

use sea_orm_migration::prelude::*;

use crate::table::text;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let options = text("options").default("{}").to_owned();
        let add = Table::alter().table(Alias::new("route")).add_column(options).to_owned();
        manager.alter_table(add).await
    }
}
