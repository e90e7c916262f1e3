//! Answers of the API as text: a list as columns, one thing as lines.

use serde_json::Value;

/// `body` for people: `columns` of its items, its fields, or `done` when there is nothing to show.
pub(in crate::cli) fn show(body: &Value, columns: &[&str], done: &str) -> String {
    match body {
        Value::Null => done.to_owned(),
        Value::Object(object) => match object.get("items").and_then(Value::as_array) {
            Some(items) if items.is_empty() => "none".to_owned(),
            Some(items) => {
                let mut text = list(items, columns);
                if object.get("next_cursor").is_some_and(Value::is_string) {
                    text.push_str("(there are more; use --output json and the API's cursor for all)\n");
                }
                text
            }
            None => {
                let width = object.keys().map(String::len).max().unwrap_or(0);
                object.iter().map(|(key, value)| format!("{key:width$}  {}\n", plain(value))).collect()
            }
        },
        other => plain(other),
    }
}

fn list(items: &[Value], columns: &[&str]) -> String {
    let mut rows = vec![columns.iter().map(|column| column.to_uppercase()).collect::<Vec<_>>()];
    for item in items {
        rows.push(columns.iter().map(|column| item.get(column).map(plain).unwrap_or_default()).collect());
    }
    let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
    let widths: Vec<_> = (0..columns.len()).map(width).collect();
    rows.iter()
        .map(|row| {
            let line: Vec<_> =
                row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
            format!("{}\n", line.join("  ").trim_end())
        })
        .collect()
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn lists_are_aligned_and_empty_ones_say_so() {
        let body = json!({ "items": [{ "name": "a", "state": "ok" }, { "name": "longer", "state": null }] });
        assert_eq!(show(&body, &["name", "state"], ""), "NAME    STATE\na       ok\nlonger\n");
        assert_eq!(show(&json!({ "items": [] }), &["name"], ""), "none");
        assert_eq!(show(&Value::Null, &[], "Done."), "Done.");
    }
}
