//! What an issuance writes is kept small: indexes hold only the rows that are looked for by them.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::DbBackend;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let connection = manager.get_connection();
        for sql in [
            "DROP INDEX certificate_by_revocation",
            "CREATE INDEX certificate_by_revocation ON certificate (authority, revoked_at) \
             WHERE revoked_at IS NOT NULL",
            "DROP INDEX certificate_by_supersession",
            "CREATE INDEX certificate_by_supersession ON certificate (supersede_at) \
             WHERE supersede_at IS NOT NULL",
            // Whoever asks by the end asks for those that are not revoked, which have their own.
            "DROP INDEX certificate_by_end",
            "CREATE INDEX certificate_unrevoked_by_authority ON certificate (authority, not_after) \
             WHERE revoked_at IS NULL",
        ] {
            connection.execute_unprepared(sql).await?;
        }
        if manager.get_database_backend() == DbBackend::Postgres {
            // A list of many entries is some megabytes that compress badly and slowly.
            for column in ["tbs", "der"] {
                let sql = format!("ALTER TABLE crl ALTER COLUMN {column} SET STORAGE EXTERNAL");
                connection.execute_unprepared(&sql).await?;
            }
        }
        Ok(())
    }
}
