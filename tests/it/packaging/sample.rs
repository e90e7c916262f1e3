//! The sample configuration names every key, with its real default.

use std::collections::BTreeMap;

use serde_json::Value;
use wicketgate::config::{Config, Environment, effective, json_schema};

const SAMPLE: &str = include_str!("../../../packaging/wicketgate.toml");

/// The commented keys of the sample: full name, section header and line.
fn commented() -> Vec<(String, String, String)> {
    let (mut section, mut found) = (String::new(), Vec::new());
    for line in SAMPLE.lines() {
        if let Some(name) = line.strip_prefix('[') {
            name.trim_end_matches(']').clone_into(&mut section);
        } else if let Some(line) =
            line.strip_prefix('#').filter(|line| !line.starts_with(' ') && !line.is_empty())
        {
            let key = line.split(" = ").next().unwrap();
            found.push((format!("{section}.{key}"), format!("[{section}]"), line.to_owned()));
        }
    }
    found
}

/// Every key of the schema that is no table, with its default.
fn known(schema: &Value, prefix: &str, into: &mut BTreeMap<String, Option<Value>>) {
    for (key, node) in schema["properties"].as_object().unwrap() {
        let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        if node.get("properties").is_some() {
            known(node, &path, into);
        } else {
            into.insert(path, node.get("default").cloned());
        }
    }
}

#[test]
fn the_sample_as_it_stands_means_the_defaults() {
    let sample = Config::parse(SAMPLE, &Environment::new()).unwrap();
    let defaults = Config::parse("", &Environment::new()).unwrap();
    assert_eq!(effective(&sample), effective(&defaults));
}

#[test]
fn the_sample_names_every_key_with_its_default() {
    let mut schema = BTreeMap::new();
    known(&json_schema(), "", &mut schema);
    let sample = commented();
    for key in schema.keys() {
        assert_eq!(sample.iter().filter(|(name, ..)| name == key).count(), 1, "{key} must stand there once");
    }
    for (key, header, line) in sample {
        let Some(default) = schema.get(&key) else { panic!("{key} is no key") };
        let text = format!("{header}\n{line}");
        let table: toml::Table = text.parse().unwrap();
        let said = key.split('.').fold(serde_json::to_value(table).unwrap(), |node, part| node[part].clone());
        match default {
            Some(default) => assert_eq!(&said, default, "{key}"),
            // An example: it must at least be of the right kind. Some need company, or a file.
            None => {
                let faults = Config::parse(&text, &Environment::new()).err().map(|faults| faults.to_string());
                let faults = faults.unwrap_or_default();
                let wrong = [
                    "unknown key",
                    "must be a",
                    "must be one",
                    "must be http",
                    "must be sqlite",
                    "must be tr",
                ];
                assert!(!wrong.iter().any(|reason| faults.contains(reason)), "{key}: {faults}");
            }
        }
    }
}
