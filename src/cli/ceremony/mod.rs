//! `wicketgate ca ceremony plan | root | sign | import`: a root that is made, kept and used on a machine that
//! is never online. `plan` and `import` run where the installation is; `root` and `sign` where the root is,
//! and touch neither database nor network.

mod offline;
mod online;
mod papers;
mod passphrase;

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use clap::{Args, Subcommand};

use super::output::Output;
use crate::config::Config;
use crate::pki::ceremony::Plan;

/// Steps of a ceremony, in their order.
#[derive(Debug, Subcommand)]
pub(crate) enum Act {
    /// Decide everything and write it into one file for review (on the running system)
    Plan(PlanArguments),
    /// Make the root's key and certificate (on the offline machine)
    Root(OfflineArguments),
    /// Sign the issuing authority and the root's revocation list (on the offline machine)
    Sign(OfflineArguments),
    /// Take over what was signed, without the root's key (on the running system)
    Import(ImportArguments),
}

/// What to plan.
#[derive(Debug, Args)]
pub(crate) struct PlanArguments {
    /// Plan a new issuing authority, too; the first ceremony always has one
    #[arg(long)]
    issuing: bool,
    /// Plan a new root, although there is one
    #[arg(long)]
    new_root: bool,
    /// Days from this revocation list of the root to when the next ceremony must have brought another
    #[arg(long, default_value_t = 400, value_parser = clap::value_parser!(u32).range(30..=1830))]
    list_days: u32,
    /// The file to write; one that exists is not touched
    #[arg(long, default_value = "ceremony.toml")]
    out: PathBuf,
}

/// What the offline machine needs.
#[derive(Debug, Args)]
pub(crate) struct OfflineArguments {
    /// The reviewed plan
    #[arg(long, default_value = "ceremony.toml")]
    plan: PathBuf,
    /// SHA-256 of the plan, as it was reviewed
    #[arg(long, value_name = "HEX")]
    plan_sha256: String,
    /// Where root.key.pem, root.pem, outcome.pem, transcript.txt and recovery-sheet.txt are or will be
    #[arg(long, default_value = ".")]
    directory: PathBuf,
    /// File with the root's passphrase on its first line, `-` for standard input [default: ask]
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

/// What to take over.
#[derive(Debug, Args)]
pub(crate) struct ImportArguments {
    /// The plan
    #[arg(long, default_value = "ceremony.toml")]
    plan: PathBuf,
    /// What `sign` wrote
    #[arg(default_value = "outcome.pem")]
    outcome: PathBuf,
}

/// Runs one step. The configuration is read by those steps only that run on the running system.
pub(super) async fn run(
    act: Act,
    config: impl FnOnce() -> anyhow::Result<Config>,
    output: Output,
) -> anyhow::Result<()> {
    match act {
        Act::Plan(arguments) => online::plan(&arguments, &config()?, output).await,
        Act::Root(arguments) => offline::root(&arguments, output),
        Act::Sign(arguments) => offline::sign(&arguments, output),
        Act::Import(arguments) => online::import(&arguments, &config()?, output).await,
    }
}

impl OfflineArguments {
    /// The plan, which must be the reviewed one.
    fn read_plan(&self) -> anyhow::Result<(Plan, String)> {
        let text = read(&self.plan)?;
        let sha256 = Plan::sha256(&text);
        ensure!(
            sha256.eq_ignore_ascii_case(self.plan_sha256.trim()),
            "{} has SHA-256 {sha256}, which is not the one that was reviewed: stop the ceremony",
            self.plan.display()
        );
        Ok((Plan::from_text(&text)?, sha256))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

fn read(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Writes a file that is not there yet, for its owner alone if it holds a key.
fn write_new(path: &Path, text: &str, mode: u32) -> anyhow::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .with_context(|| format!("cannot write {}; a ceremony overwrites nothing", path.display()))?;
    file.write_all(text.as_bytes())?;
    Ok(file.sync_all()?)
}
