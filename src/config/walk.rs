//! Holds a parsed file against the schema: unknown keys, wrong types, numbers out of range, words that
//! are no choice. Takes out whatever is faulty, so that the rest can be read and checked as well.

use toml::{Table, Value};

use super::environment::Origins;
use super::fault::Fault;
use super::schema::{Kind, Node};

/// Below this likeness (Jaro-Winkler, 0 to 1) a known name is not offered.
const ALIKE: f64 = 0.8;

/// Walks `table`, removes what is faulty and returns the faults.
pub(super) fn walk(table: &mut Table, schema: Node<'_>, origins: &Origins) -> Vec<Fault> {
    let mut known = Vec::new();
    collect_keys(schema, "", &mut known);
    let mut walker = Walker { known, origins, faults: Vec::new() };
    walker.table(table, schema, "");
    walker.faults
}

struct Walker<'a> {
    known: Vec<String>,
    origins: &'a Origins,
    faults: Vec<Fault>,
}

impl Walker<'_> {
    fn table(&mut self, table: &mut Table, schema: Node<'_>, prefix: &str) {
        let keys: Vec<String> = table.keys().cloned().collect();
        for key in keys {
            let path = join(prefix, &key);
            let fits = match (schema.child(&key), table.get_mut(&key)) {
                (Some(node), Some(value)) => self.value(value, node, &path),
                _ => {
                    self.unknown(&path);
                    false
                }
            };
            if !fits {
                table.remove(&key);
            }
        }
    }

    /// Whether the value may stay.
    fn value(&mut self, value: &mut Value, node: Node<'_>, path: &str) -> bool {
        match (node.kind(), value) {
            (Kind::Table, Value::Table(inner)) => {
                self.table(inner, node, path);
                true
            }
            (Kind::List, Value::Array(items)) => {
                self.list(items, node, path);
                true
            }
            (_, value) => match leaf_fault(value, node) {
                None => true,
                Some(reason) => {
                    self.refuse(value, node, path, reason);
                    false
                }
            },
        }
    }

    fn list(&mut self, items: &mut Vec<Value>, node: Node<'_>, path: &str) {
        let Some(item_node) = node.item() else { return };
        let mut index = 0;
        items.retain_mut(|item| {
            let fits = self.value(item, item_node, &format!("{path}[{index}]"));
            index += 1;
            fits
        });
    }

    fn refuse(&mut self, value: &Value, node: Node<'_>, path: &str, reason: String) {
        let shown = if node.is_secret() { None } else { shown(value) };
        let mut fault = match shown {
            Some(text) => Fault::of_value(path, &text, reason),
            None => Fault::of_key(path, reason),
        };
        fault.from = origin(self.origins, path);
        self.faults.push(fault);
    }

    /// The value stays unsaid: behind a misspelt key may be a secret.
    fn unknown(&mut self, path: &str) {
        let reason = match self.meant(path) {
            Some(name) => format!("unknown key (did you mean {name}?)"),
            None => "unknown key".to_owned(),
        };
        let mut fault = Fault::of_key(printable(path), reason);
        fault.from = origin(self.origins, path);
        self.faults.push(fault);
    }

    /// A known key with the same last name, else the likeliest one.
    fn meant(&self, path: &str) -> Option<&str> {
        let last = path.rsplit('.').next().unwrap_or(path);
        let same_name = |known: &&String| known.rsplit('.').next() == Some(last);
        let likeness = |known: &String| {
            let name = known.rsplit('.').next().unwrap_or(known);
            strsim::jaro_winkler(known, path).max(strsim::jaro_winkler(name, last) - 0.05)
        };
        let likeliest = || {
            let scored = self.known.iter().map(|known| (likeness(known), known));
            scored.filter(|(score, _)| *score >= ALIKE).max_by(|a, b| a.0.total_cmp(&b.0))
        };
        let elsewhere = self.known.iter().find(same_name);
        elsewhere.or_else(|| likeliest().map(|(_, known)| known)).map(String::as_str)
    }
}

/// Why the value does not fit, if it does not.
fn leaf_fault(value: &Value, node: Node<'_>) -> Option<String> {
    match (node.kind(), value) {
        (Kind::Text, Value::String(_)) | (Kind::Boolean, Value::Boolean(_)) => None,
        (Kind::Integer, Value::Integer(number)) => {
            let (least, most) = node.range();
            (!(least..=most).contains(number)).then(|| match most {
                i64::MAX => format!("must be at least {least}"),
                _ => format!("must be {least}..={most}"),
            })
        }
        (Kind::Fraction, Value::Float(_) | Value::Integer(_)) => {
            let (least, most) = node.fractions();
            let fits = fraction(value).is_some_and(|number| (least..=most).contains(&number));
            (!fits).then(|| format!("must be {least}..={most}"))
        }
        (Kind::Choice, Value::String(word)) => {
            let words = node.words();
            if words.contains(&word.as_str()) {
                return None;
            }
            let scored = words.iter().map(|known| (strsim::jaro_winkler(known, word), known));
            let likeliest = scored.filter(|(score, _)| *score >= ALIKE).max_by(|a, b| a.0.total_cmp(&b.0));
            let hint = likeliest.map(|(_, known)| format!(" (did you mean {known}?)")).unwrap_or_default();
            Some(format!("must be one of {}{hint}", words.join(", ")))
        }
        (Kind::Table, other) => Some(format!("must be a table, is {}", type_name(other))),
        (Kind::List, other) => Some(format!("must be a list, is {}", type_name(other))),
        (Kind::Integer, other) => Some(format!("must be a whole number, is {}", type_name(other))),
        (Kind::Fraction, other) => Some(format!("must be a number, is {}", type_name(other))),
        (Kind::Boolean, other) => Some(format!("must be true or false, is {}", type_name(other))),
        (Kind::Text, other) => Some(format!("must be text in quotes, is {}", type_name(other))),
        (Kind::Choice, other) => {
            Some(format!("must be one of {}, is {}", node.words().join(", "), type_name(other)))
        }
    }
}

/// A number as a fraction. Whole ones of any size that fits a ratio are exact.
fn fraction(value: &Value) -> Option<f64> {
    match value {
        Value::Float(number) => Some(*number),
        Value::Integer(number) => i32::try_from(*number).ok().map(f64::from),
        _ => None,
    }
}

/// The value as text; tables and lists stay unsaid, since secrets may be inside.
fn shown(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Table(_) | Value::Array(_) => None,
        other => Some(other.to_string()),
    }
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "text",
        Value::Integer(_) => "a whole number",
        Value::Float(_) => "a fraction",
        Value::Boolean(_) => "true or false",
        Value::Datetime(_) => "a date",
        Value::Array(_) => "a list",
        Value::Table(_) => "a table",
    }
}

/// The variable that set the key, or the list that the key is an item of.
pub(super) fn origin(origins: &Origins, path: &str) -> Option<String> {
    let list = path.split('[').next().unwrap_or(path);
    origins.get(path).or_else(|| origins.get(list)).cloned()
}

fn collect_keys(node: Node<'_>, prefix: &str, into: &mut Vec<String>) {
    for (key, child) in node.children() {
        let path = join(prefix, key);
        if child.kind() == Kind::Table {
            collect_keys(child, &path, into);
        }
        into.push(path);
    }
}

fn join(prefix: &str, key: &str) -> String {
    if prefix.is_empty() { key.to_owned() } else { format!("{prefix}.{key}") }
}

/// Keys may be quoted in TOML and hold anything.
fn printable(path: &str) -> String {
    path.chars().flat_map(char::escape_debug).take(200).collect()
}
