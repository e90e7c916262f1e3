//! The chain of the audit and its signed checkpoints.

use sea_orm_migration::prelude::*;

use crate::table::{append_only, bytes, number, refers, table, text, time};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for statement in tables() {
            manager.create_table(statement).await?;
        }
        append_only(manager, "audit_link").await?;
        append_only(manager, "audit_checkpoint").await
    }
}

fn tables() -> Vec<TableCreateStatement> {
    vec![
        // From 1, without gaps. No foreign key to the event: checking it would lock and rewrite rows of
        // the audit, and a link whose event is gone must stand, for it shows that something is gone.
        table("audit_link")
            .col(number("number").primary_key())
            .col(text("event_id").unique_key())
            .col(bytes("hash"))
            .to_owned(),
        table("audit_checkpoint")
            .col(number("number").primary_key())
            .col(text("installation_id"))
            .col(bytes("hash"))
            .col(time("at"))
            .col(text("key_id"))
            .col(bytes("signature"))
            .foreign_key(&mut refers("key_id", "signing_key", "id"))
            .to_owned(),
    ]
}
