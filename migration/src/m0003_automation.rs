//! ACME accounts and orders, jobs and leases, mail, alerts.

use sea_orm_migration::prelude::*;

use crate::table::{
    bytes, bytes_or_null, index, number, refers, table, text, text_or_null, time, time_or_null,
};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for statement in jobs().into_iter().chain(acme()).chain(mail()) {
            manager.create_table(statement).await?;
        }
        for statement in [
            index("job_run", "job_run_by_job", &["job", "started_at"]),
            index("acme_order", "acme_order_by_host", &["host", "created_at"]),
            index("acme_challenge", "acme_challenge_by_order", &["order_id"]),
            index("outbox", "outbox_by_attempt", &["state", "next_attempt_at"]),
            index("alert", "alert_by_time", &["raised_at"]),
        ] {
            manager.create_index(statement).await?;
        }
        let connection = manager.get_connection();
        // What is wrong is said once; when it went away and comes back, it is said again.
        connection
            .execute_unprepared(
                "CREATE UNIQUE INDEX alert_once_while_open ON alert (kind, object) WHERE closed_at IS NULL",
            )
            .await?;
        // One order a name at a time, whichever replica drives it.
        connection
            .execute_unprepared(
                "CREATE UNIQUE INDEX acme_order_one_open ON acme_order (host) \
                 WHERE state NOT IN ('done', 'failed')",
            )
            .await?;
        Ok(())
    }
}

fn jobs() -> Vec<TableCreateStatement> {
    vec![
        // The token rises with every change of hands and is never reset.
        table("lease")
            .col(text("name").primary_key())
            .col(text("owner"))
            .col(number("token"))
            .col(time("expires_at"))
            .to_owned(),
        table("job_run")
            .col(text("id").primary_key())
            .col(text("job"))
            .col(text("replica"))
            .col(number("fencing"))
            .col(time("started_at"))
            .col(time_or_null("finished_at"))
            .col(text_or_null("outcome"))
            .col(text_or_null("detail"))
            .to_owned(),
    ]
}

fn acme() -> Vec<TableCreateStatement> {
    vec![
        // The key is here before the authority hears of it.
        table("acme_account")
            .col(text("id").primary_key())
            .col(text("directory").unique_key())
            .col(bytes("sealed_key"))
            .col(text_or_null("url"))
            .col(time("created_at"))
            .to_owned(),
        // The journal of one order. Key and request are here before the authority sees the request.
        table("acme_order")
            .col(text("id").primary_key())
            .col(text("host"))
            .col(text("directory"))
            .col(text("state"))
            .col(text("challenge"))
            .col(text_or_null("order_url"))
            .col(bytes("csr"))
            .col(bytes("sealed_key"))
            .col(text_or_null("chain_pem"))
            .col(text_or_null("certificate_id"))
            .col(text_or_null("previous_certificate_id"))
            .col(text_or_null("last_error"))
            .col(number("fencing"))
            .col(time("created_at"))
            .col(time("updated_at"))
            .to_owned(),
        // Part of the configuration: edges answer these.
        table("acme_challenge")
            .col(text("id").primary_key())
            .col(text("order_id"))
            .col(text("host"))
            .col(text("kind"))
            .col(text("token"))
            .col(text("key_authorization"))
            .foreign_key(&mut refers("order_id", "acme_order", "id"))
            .to_owned(),
        // What is known of a name's renewal between orders.
        table("acme_renewal")
            .col(text("host").primary_key())
            .col(number("failures"))
            .col(number("jitter"))
            .col(time_or_null("last_failed_at"))
            .col(time_or_null("blocked_until"))
            .col(time_or_null("requested_at"))
            .col(time_or_null("succeeded_at"))
            .col(text_or_null("last_error"))
            // The authority's suggested window (RFC 9773), for this certificate only, with the moment
            // that was picked in it.
            .col(text_or_null("window_certificate"))
            .col(time_or_null("window_start"))
            .col(time_or_null("window_end"))
            .col(time_or_null("window_selected"))
            .col(time_or_null("window_next_look"))
            .to_owned(),
    ]
}

fn mail() -> Vec<TableCreateStatement> {
    vec![
        table("outbox")
            .col(text("id").primary_key())
            .col(text("kind"))
            .col(text("state"))
            .col(bytes_or_null("sealed"))
            .col(number("attempts"))
            .col(time("next_attempt_at"))
            .col(text_or_null("last_error"))
            .col(time("created_at"))
            .to_owned(),
        table("alert")
            .col(text("id").primary_key())
            .col(text("kind"))
            .col(text("object"))
            .col(text("message"))
            .col(text("severity"))
            .col(time("raised_at"))
            .col(time_or_null("acknowledged_at"))
            .col(time_or_null("closed_at"))
            .to_owned(),
        // A certificate is warned about once a threshold.
        table("expiry_notice")
            .col(text("kind"))
            .col(text("object"))
            .col(number("threshold"))
            .col(time("sent_at"))
            .primary_key(
                Index::create()
                    .col(Alias::new("kind"))
                    .col(Alias::new("object"))
                    .col(Alias::new("threshold")),
            )
            .to_owned(),
    ]
}
