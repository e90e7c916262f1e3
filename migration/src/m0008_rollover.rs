//! Roll-over of authorities: at most one of a kind issues; key ceremonies with what was planned for them.

use sea_orm_migration::prelude::*;

use crate::table::{bytes, index, table, text, time, time_or_null};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .create_table(
                // What was planned, byte for byte, under its SHA-256. Never changed, only completed.
                table("ceremony")
                    .col(text("plan_sha256").primary_key())
                    .col(bytes("plan"))
                    .col(time("created_at"))
                    .col(time_or_null("completed_at"))
                    .to_owned(),
            )
            .await?;
        manager
            .create_index(index(
                "certificate",
                "certificate_by_authority_and_end",
                &["authority", "not_after"],
            ))
            .await?;
        // Two administrators, two replicas: the database itself admits one.
        manager
            .get_connection()
            .execute_unprepared(
                "CREATE UNIQUE INDEX authority_one_issuing ON authority (kind) WHERE state = 'issuing'",
            )
            .await?;
        Ok(())
    }
}
