//! Which tables there are after a number of steps, with columns and order: read from a schema that is
//! made in memory, so that no table of ours can be forgotten and none of others is touched.

use std::collections::BTreeSet;

use migration::{Migrator, MigratorTrait};
use sea_orm::{ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DbErr, QueryResult, Statement};

use super::{Column, Kind, corrupt};
use crate::store::StoreError;

/// A table of ours.
pub(super) struct Table {
    pub(super) name: String,
    pub(super) columns: Vec<Column>,
    /// Its primary key.
    pub(super) key: Vec<String>,
    refers: BTreeSet<String>,
}

/// Every table after the first `steps` steps, each after those that it refers to.
pub(super) async fn after(steps: usize) -> Result<Vec<Table>, StoreError> {
    let mut options = ConnectOptions::new("sqlite::memory:");
    options.max_connections(1).sqlx_logging(false);
    let schema = Database::connect(options).await?;
    Migrator::up(&schema, Some(u32::try_from(steps).unwrap_or(u32::MAX))).await?;
    let names = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%' \
                 AND name <> 'seaql_migrations' ORDER BY name";
    let mut tables = Vec::new();
    for row in ask(&schema, names, None).await? {
        tables.push(describe(&schema, row.try_get("", "name")?).await?);
    }
    schema.close().await?;
    in_order(tables)
}

async fn describe(schema: &DatabaseConnection, name: String) -> Result<Table, StoreError> {
    let (mut columns, mut key) = (Vec::new(), Vec::new());
    let info = "SELECT name, lower(type) AS kind, pk FROM pragma_table_info(?) ORDER BY cid";
    for row in ask(schema, info, Some(&name)).await? {
        let column: String = row.try_get("", "name")?;
        let kind: String = row.try_get("", "kind")?;
        let kind = match kind.as_str() {
            "text" => Kind::Text,
            "bigint" | "integer" => Kind::Integer,
            "boolean" => Kind::Boolean,
            "blob" => Kind::Bytes,
            other => return Err(corrupt(format!("{name}.{column} is of a kind it cannot hold: {other}"))),
        };
        if row.try_get::<i32>("", "pk")? > 0 {
            key.push(column.clone());
        }
        columns.push(Column { name: column, kind });
    }
    let mut refers = BTreeSet::new();
    let foreign = r#"SELECT DISTINCT "table" AS target FROM pragma_foreign_key_list(?)"#;
    for row in ask(schema, foreign, Some(&name)).await? {
        refers.insert(row.try_get::<String>("", "target")?);
    }
    refers.remove(&name);
    Ok(Table { name, columns, key, refers })
}

async fn ask(schema: &DatabaseConnection, sql: &str, value: Option<&str>) -> Result<Vec<QueryResult>, DbErr> {
    let values: Vec<sea_orm::Value> = value.map(Into::into).into_iter().collect();
    schema.query_all_raw(Statement::from_sql_and_values(schema.get_database_backend(), sql, values)).await
}

fn in_order(mut left: Vec<Table>) -> Result<Vec<Table>, StoreError> {
    let mut ordered: Vec<Table> = Vec::with_capacity(left.len());
    while !left.is_empty() {
        let done: BTreeSet<String> = ordered.iter().map(|table| table.name.clone()).collect();
        let (ready, rest): (Vec<_>, Vec<_>) =
            left.into_iter().partition(|table| table.refers.is_subset(&done));
        if ready.is_empty() {
            return Err(corrupt("its tables refer to one another in a circle"));
        }
        ordered.extend(ready);
        left = rest;
    }
    Ok(ordered)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_table_comes_after_those_it_refers_to_and_has_a_key() {
        let tables = after(super::super::known_steps().len()).await.unwrap();
        let place = |name: &str| tables.iter().position(|table| table.name == name).unwrap();
        assert!(place("serial") < place("intent") && place("intent") < place("certificate"));
        assert!(place("person") < place("device") && place("site") < place("route"));
        for table in &tables {
            assert!(!table.key.is_empty(), "{}", table.name);
        }
        for name in super::super::LEFT_OUT {
            place(name);
        }
    }
}
