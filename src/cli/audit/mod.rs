//! `wicketgate audit …`: look at the audit, keep a copy of it, and check a copy without any server.

mod export;
mod verify;

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, Subcommand};
use http::Method;
use serde_json::Value;

use super::output::Output;
use super::remote::{Client, table};

/// Acts on the audit.
#[derive(Debug, Subcommand)]
pub(super) enum Act {
    /// List its newest events
    List,
    /// Write all of it to a file, with its chain and signed checkpoints
    Export {
        /// Where to; a file that is there is not touched
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
    },
    /// Sign what is chained by now; keep the result away from this host, later exports are checked against it
    Checkpoint(Kept),
    /// Show the public keys that sign checkpoints; keep them away from this host, too
    Key(Kept),
    /// Check an export, without a server: nothing changed, moved, cut off or left out
    Verify(verify::Arguments),
}

/// Where an answer is kept.
#[derive(Debug, Args)]
pub(super) struct Kept {
    /// Write it to this file, too; a file that is there is not touched
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
}

/// Runs the subcommand; `client` is asked for only if it needs a server.
pub(super) async fn run(
    act: Act,
    client: impl FnOnce() -> anyhow::Result<Client>,
    output: Output,
) -> anyhow::Result<()> {
    match act {
        Act::List => {
            let answer = client()?.send(Method::GET, "/api/v1/audit-events?limit=200", None, None).await?;
            let columns = &["at", "number", "actor", "action", "phase", "outcome", "object_id", "detail"];
            output.answer(&table::show(&answer.body, columns, ""), &answer.body)
        }
        Act::Export { to } => export::run(&to, &client()?, output).await,
        Act::Checkpoint(kept) => {
            let answer = client()?.send(Method::POST, "/api/v1/audit-checkpoints", None, None).await?;
            kept.write(&format!("{}\n", answer.body))?;
            output.answer(&table::show(&answer.body, &[], ""), &answer.body)
        }
        Act::Key(kept) => {
            let answer = client()?.send(Method::GET, "/api/v1/audit-keys", None, None).await?;
            let keys = answer.body.get("items").and_then(Value::as_array).into_iter().flatten();
            let pem: String = keys.filter_map(|key| key.get("pem").and_then(Value::as_str)).collect();
            kept.write(&pem)?;
            output.answer(&pem, &answer.body)
        }
        Act::Verify(arguments) => verify::run(arguments, output),
    }
}

impl Kept {
    fn write(&self, text: &str) -> anyhow::Result<()> {
        let Some(path) = &self.to else { return Ok(()) };
        let mut file = new_file(path)?;
        file.write_all(text.as_bytes())?;
        Ok(file.sync_all()?)
    }
}

/// A file that was not there, for its owner alone.
fn new_file(path: &Path) -> anyhow::Result<std::fs::File> {
    let mut options = std::fs::OpenOptions::new();
    options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("cannot write {}", path.display()))
}
