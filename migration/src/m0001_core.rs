//! Authorities, certificates, people and devices, audit, register, configuration.

use sea_orm_migration::prelude::*;

use crate::table::{
    append_only, bytes, bytes_or_null, flag, index, number, number_or_null, refers, table, text,
    text_or_null, time, time_or_null,
};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for statement in
            keys().into_iter().chain(people()).chain(authorities()).chain(feed()).chain(configuration())
        {
            manager.create_table(statement).await?;
        }
        for statement in [
            index("certificate", "certificate_by_device", &["device_id"]),
            index("certificate", "certificate_by_person", &["person_id"]),
            index("certificate", "certificate_by_lineage", &["lineage"]),
            index("certificate", "certificate_by_key", &["spki_sha256"]),
            index("certificate", "certificate_by_end", &["not_after"]),
            index("certificate", "certificate_by_revocation", &["authority", "revoked_at"]),
            index("intent", "intent_by_resolution", &["resolved_at"]),
            index("device", "device_by_person", &["person_id"]),
            index("audit_event", "audit_event_by_act", &["act"]),
            index("audit_event", "audit_event_by_time", &["at"]),
            index("server_certificate", "server_certificate_by_host", &["host", "created_at"]),
            index("route", "route_by_place", &["host", "path_prefix"]).unique().to_owned(),
        ] {
            manager.create_index(statement).await?;
        }
        append_only(manager, "audit_event").await?;
        append_only(manager, "register_change").await?;
        let connection = manager.get_connection();
        connection.execute_unprepared("INSERT INTO register_head (id, epoch) VALUES (1, 0)").await?;
        connection.execute_unprepared("INSERT INTO configuration_head (id, version) VALUES (1, 0)").await?;
        Ok(())
    }
}

fn keys() -> Vec<TableCreateStatement> {
    vec![
        table("setting").col(text("name").primary_key()).col(text("value")).to_owned(),
        // Data keys, wrapped under a key-encryption key. Re-wrapping touches only this table.
        table("data_key")
            .col(number("id").primary_key())
            .col(text("purpose"))
            .col(bytes("wrapped"))
            .col(time("created_at"))
            .to_owned(),
        table("signing_key")
            .col(text("id").primary_key())
            .col(bytes("spki"))
            .col(bytes("sealed"))
            .col(time("created_at"))
            .to_owned(),
    ]
}

fn people() -> Vec<TableCreateStatement> {
    vec![
        table("person")
            .col(text("id").primary_key())
            .col(text("email").unique_key())
            .col(text("name"))
            .col(text("role"))
            .col(text("groups"))
            .col(flag("disabled"))
            .col(text_or_null("password_hash"))
            .col(time("created_at"))
            .col(number("version"))
            .to_owned(),
        table("device")
            .col(text("id").primary_key())
            .col(text("person_id"))
            .col(text("name"))
            .col(time("created_at"))
            .col(number("version"))
            .foreign_key(&mut refers("person_id", "person", "id"))
            .to_owned(),
        table("audit_event")
            .col(text("id").primary_key())
            .col(time("at"))
            .col(text("phase"))
            .col(text("act"))
            .col(text("actor"))
            .col(text("action"))
            .col(text_or_null("object_kind"))
            .col(text_or_null("object_id"))
            .col(text_or_null("outcome"))
            .col(text_or_null("detail"))
            .col(text_or_null("request_id"))
            .to_owned(),
    ]
}

fn authorities() -> Vec<TableCreateStatement> {
    vec![
        // Every serial ever handed out, before anything is built with it. Never reused, never deleted.
        table("serial")
            .col(text("serial").primary_key())
            .col(text("purpose"))
            .col(time("reserved_at"))
            .to_owned(),
        table("authority")
            .col(text("name").primary_key())
            .col(text("kind"))
            .col(text("state"))
            .col(text("key_id"))
            .col(text_or_null("issuer"))
            .col(text("serial").unique_key())
            .col(text("common_name"))
            .col(time("not_before"))
            .col(time("not_after"))
            .col(bytes("tbs"))
            .col(bytes_or_null("certificate"))
            .col(number("crl_number"))
            .col(time("created_at"))
            .foreign_key(&mut refers("key_id", "signing_key", "id"))
            .foreign_key(&mut refers("serial", "serial", "serial"))
            .to_owned(),
        // What we are about to sign; committed before the signature is made.
        table("intent")
            .col(text("serial").primary_key())
            .col(text("authority"))
            .col(bytes("tbs"))
            .col(text("person_id"))
            .col(text("device_id"))
            .col(text("profile"))
            .col(time("not_after"))
            .col(time("created_at"))
            .col(time_or_null("resolved_at"))
            .col(text_or_null("outcome"))
            .foreign_key(&mut refers("serial", "serial", "serial"))
            .foreign_key(&mut refers("authority", "authority", "name"))
            .to_owned(),
        table("certificate")
            .col(text("serial").primary_key())
            .col(text("authority"))
            .col(text("person_id"))
            .col(text("device_id"))
            .col(text("profile"))
            .col(text("lineage"))
            .col(text_or_null("replaces"))
            .col(text("fingerprint").unique_key())
            .col(text("spki_sha256"))
            .col(text("subject"))
            .col(text_or_null("email"))
            .col(time("not_before"))
            .col(time("not_after"))
            .col(time("issued_at"))
            .col(bytes("der"))
            .col(time_or_null("revoked_at"))
            .col(number_or_null("revocation_reason"))
            .col(time_or_null("invalid_since"))
            .foreign_key(&mut refers("serial", "intent", "serial"))
            .foreign_key(&mut refers("authority", "authority", "name"))
            .foreign_key(&mut refers("person_id", "person", "id"))
            .foreign_key(&mut refers("device_id", "device", "id"))
            .to_owned(),
        // The number and bytes to be signed first, the signature second.
        table("crl")
            .col(text("authority"))
            .col(number("number"))
            .col(time("this_update"))
            .col(time("next_update"))
            .col(text("entries_sha256"))
            .col(bytes("tbs"))
            .col(bytes_or_null("der"))
            .primary_key(Index::create().col(Alias::new("authority")).col(Alias::new("number")))
            .foreign_key(&mut refers("authority", "authority", "name"))
            .to_owned(),
    ]
}

fn feed() -> Vec<TableCreateStatement> {
    vec![
        table("register_head").col(number("id").primary_key()).col(number("epoch")).to_owned(),
        table("register_change")
            .col(number("epoch").primary_key())
            .col(text("delta"))
            .col(time("at"))
            .to_owned(),
        table("configuration_head").col(number("id").primary_key()).col(number("version")).to_owned(),
    ]
}

fn configuration() -> Vec<TableCreateStatement> {
    vec![
        table("upstream")
            .col(text("name").primary_key())
            .col(text("targets"))
            .col(time("created_at"))
            .col(number("version"))
            .to_owned(),
        table("site")
            .col(text("host").primary_key())
            .col(text("kind"))
            .col(text("client_auth"))
            .col(number("hsts_max_age_seconds"))
            .col(text("certificate_source"))
            .col(flag("enabled"))
            .col(text_or_null("server_certificate_id"))
            .col(time("created_at"))
            .col(number("version"))
            .to_owned(),
        table("server_certificate")
            .col(text("id").primary_key())
            .col(text("host"))
            .col(text("source"))
            .col(text("chain_pem"))
            .col(bytes("sealed_key"))
            .col(text("serial"))
            .col(text("issuer"))
            .col(text("fingerprint"))
            .col(time("not_before"))
            .col(time("not_after"))
            .col(time("created_at"))
            .to_owned(),
        table("route")
            .col(text("id").primary_key())
            .col(text("host"))
            .col(text("path_prefix"))
            .col(text("upstream"))
            .col(text("policy"))
            .col(text_or_null("plain_header"))
            .col(text_or_null("audience"))
            .col(time("created_at"))
            .col(number("version"))
            .foreign_key(&mut refers("host", "site", "host"))
            .foreign_key(&mut refers("upstream", "upstream", "name"))
            .to_owned(),
    ]
}
