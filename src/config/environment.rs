//! Overrides from the environment: `WICKETGATE_EDGE__TLS__SUITES` is `edge.tls.suites`.
//!
//! Only names with a double underscore are keys: Kubernetes injects `WICKETGATE_PORT_8443_TCP` and
//! the like for a service of our name.

use std::collections::BTreeMap;

use toml::{Table, Value};

use super::schema::{Kind, Node};

/// The environment as values, so that tests bring their own.
pub type Environment = BTreeMap<String, String>;

/// Which variable set which key.
pub(super) type Origins = BTreeMap<String, String>;

const PREFIX: &str = "WICKETGATE_";

/// The environment of this process. What is not UTF-8 is left out.
pub fn environment() -> Environment {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// Lays the overrides over `table` and says which keys came from where.
pub(super) fn overlay(table: &mut Table, environment: &Environment, schema: Node<'_>) -> Origins {
    let mut origins = Origins::new();
    for (name, text) in environment {
        let Some(rest) = name.strip_prefix(PREFIX) else { continue };
        if !rest.contains("__") {
            continue;
        }
        let path: Vec<String> = rest.split("__").map(str::to_ascii_lowercase).collect();
        let mut node = Some(schema);
        for key in &path {
            node = node.and_then(|node| node.child(key));
        }
        if insert(table, &path, value(text, node)) {
            origins.insert(path.join("."), name.clone());
        }
    }
    // A secret and its file are two spellings of one key: the environment's replaces the file's.
    for key in origins.keys() {
        let other = key.strip_suffix("_file").map_or_else(|| format!("{key}_file"), str::to_owned);
        if !origins.contains_key(&other) {
            remove(table, &other, schema);
        }
    }
    origins
}

/// Reads the text as what the key holds; the walk complains about what does not fit.
fn value(text: &str, node: Option<Node<'_>>) -> Value {
    let trimmed = text.trim();
    let parsed = match node.map(Node::kind) {
        Some(Kind::Integer) => trimmed.parse().ok().map(Value::Integer),
        Some(Kind::Fraction) => trimmed.parse().ok().map(Value::Float),
        Some(Kind::Boolean) => trimmed.parse().ok().map(Value::Boolean),
        Some(Kind::List) => {
            let items = trimmed.split(',').map(str::trim).filter(|item| !item.is_empty());
            Some(Value::Array(items.map(|item| Value::String(item.to_owned())).collect()))
        }
        _ => None,
    };
    parsed.unwrap_or_else(|| Value::String(text.to_owned()))
}

/// False when something that is not a table stands in the way; the walk reports that.
fn insert(table: &mut Table, path: &[String], value: Value) -> bool {
    match path {
        [] => false,
        [key] => {
            table.insert(key.clone(), value);
            true
        }
        [key, rest @ ..] => match table.entry(key.clone()).or_insert_with(|| Value::Table(Table::new())) {
            Value::Table(inner) => insert(inner, rest, value),
            _ => false,
        },
    }
}

fn remove(table: &mut Table, path: &str, schema: Node<'_>) {
    let (mut table, mut node) = (table, schema);
    let mut keys = path.split('.').peekable();
    while let Some(key) = keys.next() {
        let Some(child) = node.child(key) else { return };
        if keys.peek().is_none() {
            table.remove(key);
            return;
        }
        let Some(Value::Table(inner)) = table.get_mut(key) else { return };
        (table, node) = (inner, child);
    }
}
