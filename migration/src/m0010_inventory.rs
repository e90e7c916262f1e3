//! Certificates found and listed by index, however many there are.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{DbBackend, Statement};

use crate::table::index;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

/// Columns that hold what another column says, in lower case: what a search compares with.
const KEYS: [(&str, &str, &str); 3] = [
    ("certificate", "subject_key", "subject"),
    ("certificate", "email_key", "email"),
    ("device", "name_key", "name"),
];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let connection = manager.get_connection();
        // By code point, whatever the database's language: a prefix is then a range of the index.
        let collation = match manager.get_database_backend() {
            DbBackend::Sqlite => "",
            _ => " COLLATE \"C\"",
        };
        for (table, key, of) in KEYS {
            let column = format!("ALTER TABLE {table} ADD COLUMN {key} text{collation} NOT NULL DEFAULT ''");
            connection.execute_unprepared(&column).await?;
            fill(manager, table, key, of).await?;
        }
        for statement in [
            // With what a search asks besides, so that it reads the rows that it shows and no others.
            index(
                "certificate",
                "certificate_by_subject_key",
                &["subject_key", "serial", "revoked_at", "not_after"],
            ),
            index(
                "certificate",
                "certificate_by_email_key",
                &["email_key", "serial", "subject_key", "revoked_at", "not_after"],
            ),
            index("device", "device_by_name_key", &["name_key", "id"]),
            index("certificate", "certificate_by_issue", &["issued_at", "serial"]),
            index("certificate", "certificate_by_person_and_end", &["person_id", "not_after", "serial"]),
            index(
                "certificate",
                "certificate_of_device",
                &["device_id", "serial", "not_after", "revoked_at", "subject_key", "email_key"],
            ),
        ] {
            manager.create_index(statement).await?;
        }
        for sql in [
            // Active and expired ones are two ends of this; which is which depends on the time of day.
            "CREATE INDEX certificate_unrevoked_by_end ON certificate (not_after, serial) WHERE revoked_at IS NULL",
            "CREATE INDEX certificate_revoked_by_time ON certificate (revoked_at, serial) WHERE revoked_at IS NOT NULL",
            // The longer ones above begin with the same column.
            "DROP INDEX certificate_by_person",
            "DROP INDEX certificate_by_device",
        ] {
            connection.execute_unprepared(sql).await?;
        }
        Ok(())
    }
}

/// Writes the keys of rows that were there before. Not by the database's own `lower`: SQLite's knows
/// ASCII only, and the program compares with its own.
async fn fill(manager: &SchemaManager<'_>, table: &str, key: &str, of: &str) -> Result<(), DbErr> {
    let (connection, backend) = (manager.get_connection(), manager.get_database_backend());
    let distinct = format!("SELECT DISTINCT {of} AS text FROM {table} WHERE {of} IS NOT NULL");
    let (first, second) = if backend == DbBackend::Sqlite { ("?", "?") } else { ("$1", "$2") };
    let update = format!("UPDATE {table} SET {key} = {first} WHERE {of} = {second}");
    for row in connection.query_all_raw(Statement::from_string(backend, distinct)).await? {
        let text: String = row.try_get("", "text")?;
        let values = [text.to_lowercase().into(), text.into()];
        connection.execute_raw(Statement::from_sql_and_values(backend, &update, values)).await?;
    }
    Ok(())
}
