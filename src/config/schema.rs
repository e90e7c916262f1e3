//! The schema of the file, for editors and for our own walk.

use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::raw::RawConfig;

/// The JSON Schema (draft 2020-12) of the configuration file, as `wicketgate config schema` prints it.
pub fn json_schema() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    settings.into_generator().into_root_schema_for::<RawConfig>().into()
}

/// What the walk needs to know about one key.
#[derive(Clone, Copy)]
pub(super) struct Node<'a>(pub(super) &'a Value);

/// What a key may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Table,
    List,
    Integer,
    Fraction,
    Boolean,
    Text,
    Choice,
}

impl<'a> Node<'a> {
    /// The key below this table.
    pub(super) fn child(self, key: &str) -> Option<Self> {
        self.0.get("properties")?.get(key).map(Self)
    }

    /// The keys below this table.
    pub(super) fn children(self) -> impl Iterator<Item = (&'a str, Self)> {
        let properties = self.0.get("properties").and_then(Value::as_object);
        properties.into_iter().flatten().map(|(key, node)| (key.as_str(), Self(node)))
    }

    /// The schema of a list's items.
    pub(super) fn item(self) -> Option<Self> {
        self.0.get("items").map(Self)
    }

    /// What the key may hold.
    pub(super) fn kind(self) -> Kind {
        let name = match self.0.get("type") {
            Some(Value::String(name)) => Some(name.as_str()),
            // Optional keys are `["string", "null"]`; TOML has no null.
            Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).find(|name| *name != "null"),
            _ => None,
        };
        match name {
            Some("object") => Kind::Table,
            Some("array") => Kind::List,
            Some("integer") => Kind::Integer,
            Some("number") => Kind::Fraction,
            Some("boolean") => Kind::Boolean,
            Some("string") if !self.0.get("enum").is_some_and(Value::is_array) => Kind::Text,
            _ => Kind::Choice,
        }
    }

    /// The smallest and largest integer.
    pub(super) fn range(self) -> (i64, i64) {
        let bound = |name, otherwise| self.0.get(name).and_then(Value::as_i64).unwrap_or(otherwise);
        let widest = match self.0.get("format").and_then(Value::as_str) {
            Some("uint16") => i64::from(u16::MAX),
            Some("uint32") => i64::from(u32::MAX),
            _ => i64::MAX,
        };
        (bound("minimum", 0), bound("maximum", widest))
    }

    /// The smallest and largest fraction.
    pub(super) fn fractions(self) -> (f64, f64) {
        let bound = |name, otherwise| self.0.get(name).and_then(Value::as_f64).unwrap_or(otherwise);
        (bound("minimum", f64::MIN), bound("maximum", f64::MAX))
    }

    /// The words of a choice.
    pub(super) fn words(self) -> Vec<&'a str> {
        let own = self.0.get("const").into_iter().chain(list(self.0.get("enum")));
        let nested = ["oneOf", "anyOf"].into_iter().flat_map(|name| list(self.0.get(name)));
        own.filter_map(Value::as_str).chain(nested.flat_map(|node| Self(node).words())).collect()
    }

    /// Whether the value must never be shown.
    pub(super) fn is_secret(self) -> bool {
        self.0.get("writeOnly").and_then(Value::as_bool).unwrap_or(false)
    }
}

fn list(value: Option<&Value>) -> impl Iterator<Item = &Value> {
    value.and_then(Value::as_array).into_iter().flatten()
}
