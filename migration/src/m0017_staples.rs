//! Server certificates keep the OCSP answer that is stapled to them, and its times.

use sea_orm_migration::prelude::*;

use crate::table::{bytes_or_null, time_or_null};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let columns =
            [bytes_or_null("staple"), time_or_null("staple_this_update"), time_or_null("staple_until")];
        // SQLite adds one column at a time.
        for column in columns {
            let add = Table::alter().table(Alias::new("server_certificate")).add_column(column).to_owned();
            manager.alter_table(add).await?;
        }
        Ok(())
    }
}
