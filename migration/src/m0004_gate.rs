//! One gate for every certificate, and profiles as rows.

use sea_orm_migration::prelude::*;

use crate::table::{
    append_only, bytes, index, number, number_or_null, refers, table, text, text_or_null, time, time_or_null,
};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for statement in gate().into_iter().chain(profiles()) {
            manager.create_table(statement).await?;
        }
        for (of, column) in [
            // What the intent is for; the columns of people and devices are empty for other purposes.
            ("intent", text("purpose").default("client").to_owned()),
            ("intent", text_or_null("lineage")),
            ("certificate", number("profile_version").default(0).to_owned()),
            // When the successor's overlap is over and this certificate is taken back as superseded.
            ("certificate", time_or_null("supersede_at")),
        ] {
            let mut column = column;
            manager
                .alter_table(Table::alter().table(Alias::new(of)).add_column(&mut column).to_owned())
                .await?;
        }
        for statement in [
            index("internal_certificate", "internal_certificate_by_use", &["purpose", "subject"]),
            index("certificate", "certificate_by_supersession", &["supersede_at"]),
            index("intent", "intent_by_person", &["person_id", "resolved_at"]),
            index("profile_version", "profile_version_once", &["profile", "version"]).unique().to_owned(),
            index("issuance_request", "issuance_request_by_profile", &["profile", "at"]),
        ] {
            manager.create_index(statement).await?;
        }
        append_only(manager, "profile_version").await
    }
}

fn gate() -> Vec<TableCreateStatement> {
    vec![
        // Certificates of ours that no device holds: OCSP signers, cross-certificates.
        table("internal_certificate")
            .col(text("serial").primary_key())
            .col(text("authority"))
            .col(text("purpose"))
            .col(text("subject"))
            .col(text_or_null("key_id"))
            .col(text("fingerprint").unique_key())
            .col(time("not_before"))
            .col(time("not_after"))
            .col(time("issued_at"))
            .col(bytes("der"))
            .col(time_or_null("revoked_at"))
            .col(number_or_null("revocation_reason"))
            .foreign_key(&mut refers("serial", "intent", "serial"))
            .foreign_key(&mut refers("authority", "authority", "name"))
            .foreign_key(&mut refers("key_id", "signing_key", "id"))
            .to_owned(),
        // What was asked of a profile and what it said: what a draft is rehearsed on. No names, no addresses.
        table("issuance_request")
            .col(text("id").primary_key())
            .col(time("at"))
            .col(text("person_id"))
            .col(text("profile"))
            .col(number("profile_version"))
            .col(text("facts"))
            .col(text_or_null("refused_by"))
            .to_owned(),
    ]
}

fn profiles() -> Vec<TableCreateStatement> {
    vec![
        table("profile")
            .col(text("name").primary_key())
            .col(text("rules"))
            .col(time("created_at"))
            .col(number("version"))
            .to_owned(),
        table("profile_version")
            .col(text("id").primary_key())
            .col(text("profile"))
            .col(number("version"))
            .col(text("rules"))
            .col(text("actor"))
            .col(time("at"))
            .to_owned(),
    ]
}
