//! `wicketgate config …`: what the file may say, and what it says.

use clap::Subcommand as Clap;

use super::output;
use crate::config::{Config, ConfigFaults, effective, json_schema};

#[derive(Debug, Clap)]
pub(super) enum Subcommand {
    /// Print the JSON Schema of the configuration file
    Schema,
    /// Print the configuration in force, defaults and environment included, secrets left out
    Show,
}

pub(super) fn run(
    subcommand: &Subcommand,
    load: impl FnOnce() -> Result<Config, ConfigFaults>,
) -> anyhow::Result<()> {
    match subcommand {
        Subcommand::Schema => output::print(&serde_json::to_string_pretty(&json_schema())?),
        Subcommand::Show => output::print(&toml::to_string_pretty(&effective(&load()?))?),
    }
}
