//! Short words for columns, so that a step reads like the table it makes. The same on both databases:
//! text for names and ids, BIGINT Unix seconds for times, BLOB/BYTEA for bytes.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::DbBackend;

pub(crate) fn table(name: &'static str) -> TableCreateStatement {
    Table::create().table(Alias::new(name)).to_owned()
}

pub(crate) fn text(name: &'static str) -> ColumnDef {
    ColumnDef::new(Alias::new(name)).text().not_null().to_owned()
}

pub(crate) fn text_or_null(name: &'static str) -> ColumnDef {
    ColumnDef::new(Alias::new(name)).text().null().to_owned()
}

/// Counts, versions, epochs.
pub(crate) fn number(name: &'static str) -> ColumnDef {
    ColumnDef::new(Alias::new(name)).big_integer().not_null().to_owned()
}

pub(crate) fn number_or_null(name: &'static str) -> ColumnDef {
    ColumnDef::new(Alias::new(name)).big_integer().null().to_owned()
}

/// Unix seconds, UTC.
pub(crate) fn time(name: &'static str) -> ColumnDef {
    number(name)
}

pub(crate) fn time_or_null(name: &'static str) -> ColumnDef {
    number_or_null(name)
}

pub(crate) fn flag(name: &'static str) -> ColumnDef {
    ColumnDef::new(Alias::new(name)).boolean().not_null().to_owned()
}

pub(crate) fn bytes(name: &'static str) -> ColumnDef {
    ColumnDef::new(Alias::new(name)).blob().not_null().to_owned()
}

pub(crate) fn bytes_or_null(name: &'static str) -> ColumnDef {
    ColumnDef::new(Alias::new(name)).blob().null().to_owned()
}

/// A foreign key without cascades: nothing that a certificate or the audit refers to is ever deleted.
pub(crate) fn refers(
    from: &'static str,
    to_table: &'static str,
    to: &'static str,
) -> ForeignKeyCreateStatement {
    ForeignKey::create().from_col(Alias::new(from)).to(Alias::new(to_table), Alias::new(to)).to_owned()
}

pub(crate) fn index(
    table: &'static str,
    name: &'static str,
    columns: &[&'static str],
) -> IndexCreateStatement {
    let mut index = Index::create().name(name).table(Alias::new(table)).to_owned();
    for column in columns {
        index.col(Alias::new(*column));
    }
    index
}

/// Makes a table append-only: the database itself refuses UPDATE and DELETE.
pub(crate) async fn append_only(manager: &SchemaManager<'_>, table: &str) -> Result<(), DbErr> {
    let connection = manager.get_connection();
    match manager.get_database_backend() {
        DbBackend::Sqlite => {
            for act in ["UPDATE", "DELETE"] {
                let name = act.to_lowercase();
                connection
                    .execute_unprepared(&format!(
                        "CREATE TRIGGER {table}_no_{name} BEFORE {act} ON {table} \
                         BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
                    ))
                    .await?;
            }
        }
        _ => {
            connection
                .execute_unprepared(&format!(
                    "CREATE FUNCTION {table}_append_only() RETURNS trigger LANGUAGE plpgsql AS \
                     $$ BEGIN RAISE EXCEPTION '{table} is append-only'; END $$; \
                     CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} \
                     FOR EACH STATEMENT EXECUTE FUNCTION {table}_append_only()"
                ))
                .await?;
        }
    }
    Ok(())
}
