//! Where each authority's revocation lists stand, and the keys that are blocked for ever.

use sea_orm_migration::prelude::*;

use crate::table::{number, refers, table, text, time};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // `changes` counts what lists must name, in the transaction that changes it; a list is due when
        // it was made of fewer. `published` moves by compare-and-swap and only up.
        let heads = table("crl_head")
            .col(text("authority").primary_key())
            .col(number("changes"))
            .col(number("published"))
            .col(number("published_changes"))
            .foreign_key(&mut refers("authority", "authority", "name"))
            .to_owned();
        // Never deleted, whatever becomes of the certificates.
        let keys =
            table("blocked_key").col(text("spki_sha256").primary_key()).col(time("blocked_at")).to_owned();
        manager.create_table(heads).await?;
        manager.create_table(keys).await?;
        let connection = manager.get_connection();
        // One change that no list has: what was revoked before this step is published anew.
        connection
            .execute_unprepared(
                "INSERT INTO crl_head (authority, changes, published, published_changes) \
                 SELECT name, 1, COALESCE((SELECT MAX(number) FROM crl \
                 WHERE crl.authority = authority.name AND crl.der IS NOT NULL), 0), 0 FROM authority",
            )
            .await?;
        connection
            .execute_unprepared(
                "INSERT INTO blocked_key (spki_sha256, blocked_at) \
                 SELECT spki_sha256, MIN(revoked_at) FROM certificate \
                 WHERE revocation_reason = 1 GROUP BY spki_sha256",
            )
            .await?;
        Ok(())
    }
}
