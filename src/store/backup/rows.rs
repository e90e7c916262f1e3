//! One row between database and file.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sea_orm::sea_query::{Alias, Expr, InsertStatement, Order, Query, SelectStatement};
use sea_orm::{DbErr, QueryResult, Value};
use serde_json::Value as Json;

use super::catalogue::Table;
use super::{Column, Kind, Part, corrupt};
use crate::store::StoreError;

/// All rows of a table, in the order of its key.
pub(super) fn select(table: &Table) -> SelectStatement {
    let mut query = Query::select();
    query.columns(table.columns.iter().map(|column| Alias::new(&column.name))).from(Alias::new(&table.name));
    for column in &table.key {
        query.order_by(Alias::new(column), Order::Asc);
    }
    query.to_owned()
}

/// A row of the database as a line holds it.
pub(super) fn to_json(row: &QueryResult, columns: &[Column]) -> Result<Vec<Json>, DbErr> {
    columns
        .iter()
        .map(|column| {
            let name = column.name.as_str();
            Ok(match column.kind {
                Kind::Text => row.try_get::<Option<String>>("", name)?.into(),
                Kind::Integer => row.try_get::<Option<i64>>("", name)?.into(),
                Kind::Boolean => row.try_get::<Option<bool>>("", name)?.into(),
                Kind::Bytes => row.try_get::<Option<Vec<u8>>>("", name)?.map(|b| STANDARD.encode(b)).into(),
            })
        })
        .collect()
}

/// Puts lines of a part into its table.
pub(super) fn insert(part: &Part, lines: Vec<Vec<Json>>) -> Result<InsertStatement, StoreError> {
    let mut insert = Query::insert();
    insert
        .into_table(Alias::new(&part.table))
        .columns(part.columns.iter().map(|column| Alias::new(&column.name)));
    for line in lines {
        if line.len() != part.columns.len() {
            return Err(corrupt(format!("a row of {} has {} values", part.table, line.len())));
        }
        let values = line.into_iter().zip(&part.columns).map(|(value, column)| {
            let value = from_json(value, column.kind);
            value.ok_or_else(|| corrupt(format!("a value of {}.{} cannot be read", part.table, column.name)))
        });
        let values = values.map(|value| value.map(Expr::value)).collect::<Result<Vec<_>, _>>()?;
        insert.values(values).map_err(|error| corrupt(error.to_string()))?;
    }
    Ok(insert)
}

fn from_json(value: Json, kind: Kind) -> Option<Value> {
    Some(match (kind, value) {
        (Kind::Text, Json::Null) => Value::from(None::<String>),
        (Kind::Text, Json::String(text)) => Value::from(text),
        (Kind::Integer, Json::Null) => Value::from(None::<i64>),
        (Kind::Integer, Json::Number(number)) => Value::from(number.as_i64()?),
        (Kind::Boolean, Json::Null) => Value::from(None::<bool>),
        (Kind::Boolean, Json::Bool(flag)) => Value::from(flag),
        (Kind::Bytes, Json::Null) => Value::from(None::<Vec<u8>>),
        (Kind::Bytes, Json::String(text)) => Value::from(STANDARD.decode(text).ok()?),
        _ => return None,
    })
}
