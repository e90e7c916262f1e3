//! Completions and the manual page, made from the command line's own description.

use clap::{Args, CommandFactory};

use super::{Cli, output};

#[derive(Debug, Args)]
pub(super) struct Completions {
    /// For which shell
    shell: clap_complete::Shell,
}

pub(super) fn completions(arguments: &Completions) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Cli::command(), "wicketgate", &mut script);
    output::print(&String::from_utf8(script)?)
}

pub(super) fn manual() -> anyhow::Result<()> {
    let mut page = Vec::new();
    clap_mangen::Man::new(Cli::command()).render(&mut page)?;
    output::print(&String::from_utf8(page)?)
}
