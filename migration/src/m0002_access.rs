//! Sessions, tokens, invitations, the setup link, idempotency keys. What people sign in with is kept
//! only as SHA-256 of the secret.

use sea_orm_migration::prelude::*;

use crate::table::{index, number, number_or_null, refers, table, text, text_or_null, time, time_or_null};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for statement in tables() {
            manager.create_table(statement).await?;
        }
        for statement in [
            index("session", "session_by_person", &["person_id"]),
            index("session", "session_by_end", &["expires_at"]),
            index("token", "token_by_person", &["person_id"]),
            index("invitation", "invitation_by_person", &["person_id"]),
            index("idempotency_key", "idempotency_key_by_time", &["created_at"]),
        ] {
            manager.create_index(statement).await?;
        }
        Ok(())
    }
}

fn tables() -> Vec<TableCreateStatement> {
    vec![
        table("session")
            .col(text("id").primary_key())
            .col(text("secret_sha256").unique_key())
            .col(text("person_id"))
            .col(text("kind"))
            // Not a foreign key: a session outlives nothing, an invitation is never deleted.
            .col(text_or_null("invitation_id"))
            .col(time("created_at"))
            .col(time("last_seen_at"))
            .col(time("expires_at"))
            .foreign_key(&mut refers("person_id", "person", "id"))
            .to_owned(),
        table("token")
            .col(text("id").primary_key())
            .col(text("secret_sha256").unique_key())
            .col(text("person_id"))
            .col(text("name"))
            .col(text("role"))
            .col(time("created_at"))
            .col(time("expires_at"))
            .col(time_or_null("last_used_at"))
            .foreign_key(&mut refers("person_id", "person", "id"))
            .to_owned(),
        table("invitation")
            .col(text("id").primary_key())
            .col(text("secret_sha256").unique_key())
            .col(text("person_id"))
            .col(text_or_null("device_name"))
            .col(text("profile"))
            .col(time("created_at"))
            .col(time("expires_at"))
            .col(time_or_null("accepted_at"))
            .col(time_or_null("used_at"))
            .col(time_or_null("revoked_at"))
            .foreign_key(&mut refers("person_id", "person", "id"))
            .to_owned(),
        // At most one row: the newest link replaces the one before.
        table("setup_link")
            .col(number("id").primary_key())
            .col(text("secret_sha256"))
            .col(time("created_at"))
            .col(time("expires_at"))
            .to_owned(),
        table("idempotency_key")
            .col(text("scope"))
            .col(text("key"))
            .col(text("request_sha256"))
            .col(number_or_null("status"))
            .col(text_or_null("answer"))
            .col(text_or_null("location"))
            .col(time("created_at"))
            .primary_key(Index::create().col(Alias::new("scope")).col(Alias::new("key")))
            .to_owned(),
    ]
}
