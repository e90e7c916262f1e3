//! `wicketgate apply` and `wicketgate export`: the configuration as one TOML file.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use http::Method;
use serde_json::{Map, Value};

use super::Client;
use crate::cli::output::{Output, print};

/// Where the API has it.
const PATH: &str = "/api/v1/configuration";
/// The sections in the order in which a person reads them.
const SECTIONS: [&str; 4] = ["settings", "upstreams", "sites", "routes"];

#[derive(Debug, Args)]
pub(crate) struct ApplyArguments {
    /// The file; - reads standard input
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    /// Only say what would change
    #[arg(long)]
    dry_run: bool,
    /// Delete what the file does not name, in the sections that it has
    #[arg(long)]
    prune: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ExportArguments {
    /// The file to write; it must not be there [default: standard output]
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
}

/// Sends the file, against the version that stands now.
pub(super) async fn apply(arguments: ApplyArguments, client: &Client, output: Output) -> anyhow::Result<()> {
    let document = read(&arguments.file)?;
    let etag = client.send(Method::GET, PATH, None, None).await?.etag;
    let path = format!("{PATH}?dry_run={}&prune={}", arguments.dry_run, arguments.prune);
    let answer = client.send(Method::PUT, &path, Some(&document), etag.as_deref()).await?;
    output.answer(&show(&answer.body, arguments.dry_run), &answer.body)
}

/// Prints or writes what stands now.
pub(super) async fn export(
    arguments: ExportArguments,
    client: &Client,
    output: Output,
) -> anyhow::Result<()> {
    let document = client.send(Method::GET, PATH, None, None).await?.body;
    let text = write(&document)?;
    let Some(path) = &arguments.to else {
        return match output {
            Output::Text => print(&text),
            Output::Json => output.answer("", &document),
        };
    };
    let file = std::fs::OpenOptions::new().write(true).create_new(true).open(path);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
    written.with_context(|| format!("cannot write {}", path.display()))?;
    let said = format!("The configuration is in {}.", path.display());
    output.answer(&said, &serde_json::json!({ "file": path.display().to_string() }))
}

fn read(path: &Path) -> anyhow::Result<Value> {
    let mut text = String::new();
    let read = match path.to_str() {
        Some("-") => std::io::stdin().read_to_string(&mut text).map(drop),
        _ => std::fs::read_to_string(path).map(|read| text = read),
    };
    read.with_context(|| format!("cannot read {}", path.display()))?;
    let table: toml::Table =
        toml::from_str(&text).with_context(|| format!("{} is not TOML", path.display()))?;
    if let Some(unknown) = table.keys().find(|key| !SECTIONS.contains(&key.as_str())) {
        bail!("{}: there is no section {unknown:?}; there are {}", path.display(), SECTIONS.join(", "));
    }
    Ok(serde_json::to_value(table)?)
}

/// The document as TOML: sections and fields in an order that stays the same.
fn write(document: &Value) -> anyhow::Result<String> {
    let mut text =
        String::from("# What an administrator edits; `wicketgate apply -f FILE` puts it in force.\n");
    for section in SECTIONS {
        let Some(value) = document.get(section) else { continue };
        if value.as_array().is_some_and(Vec::is_empty) {
            // Named, so that `--prune` knows that there shall be none.
            text.push_str(&format!("\n{section} = []\n"));
        }
    }
    for section in SECTIONS {
        let Some(value) = document.get(section) else { continue };
        if value.as_array().is_none_or(|all| !all.is_empty()) {
            let one = Map::from_iter([(section.to_owned(), value.clone())]);
            text.push('\n');
            text.push_str(&toml::to_string(&one)?);
        }
    }
    Ok(text)
}

/// A plan for people: a line a change.
fn show(plan: &Value, dry_run: bool) -> String {
    let changes = plan["changes"].as_array().map(Vec::as_slice).unwrap_or_default();
    if changes.is_empty() {
        return "Nothing differs.".to_owned();
    }
    let mut text = String::new();
    for change in changes {
        let part = |name: &str| change[name].as_str().unwrap_or_default();
        let mark = match part("action") {
            "create" => '+',
            "delete" => '-',
            _ => '~',
        };
        let fields: Vec<_> =
            change["fields"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        text.push_str(&format!("{mark} {} {}", part("kind"), part("name")));
        if !fields.is_empty() {
            text.push_str(&format!(" ({})", fields.join(", ")));
        }
        text.push('\n');
    }
    let count = changes.len();
    text.push_str(&match (dry_run, &plan["enforced"]) {
        (true, _) => format!("{count} changes; nothing was done."),
        (false, enforced) => format!(
            "{count} changes done; {} of {} edges have them.",
            enforced["acknowledged"], enforced["edges"]
        ),
    });
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_exported_reads_back_the_same_and_looks_the_same_every_time() {
        let document = json!({
            "settings": { "installation_name": "It's \"ours\": ä\\" },
            "upstreams": [{ "name": "app", "targets": ["http://127.0.0.1:3000", "http://[::1]:3000"] }],
            "sites": [],
            "routes": [
                { "host": "a.example", "path_prefix": "/", "upstream": "app",
                  "policy": { "kind": "known", "groups": ["staff"] }, "plain_header": "X-WEBAUTH-USER" },
                { "host": "a.example", "path_prefix": "/public", "upstream": "app", "policy": { "kind": "public" },
                  "options": { "rate": [{ "per": "person", "requests": 5, "seconds": 60 }], "max_body_mib": 4 } },
            ],
        });
        let text = write(&document).unwrap();
        assert_eq!(text, write(&document).unwrap());
        let again: toml::Table = toml::from_str(&text).unwrap();
        assert_eq!(serde_json::to_value(again).unwrap(), document, "{text}");
    }
}
