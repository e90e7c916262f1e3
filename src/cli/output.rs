//! What a command prints. Standard output carries the answer and nothing else.

use std::io::Write;

use clap::ValueEnum;
use serde::Serialize;

/// How answers are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    Text,
    /// One JSON object.
    Json,
}

impl Output {
    /// Prints `text` to people, `object` to programs.
    pub(crate) fn answer(self, text: &str, object: &impl Serialize) -> anyhow::Result<()> {
        match self {
            Self::Text => print(text),
            Self::Json => print(&serde_json::to_string(object)?),
        }
    }
}

/// Prints a line to standard output.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.trim_end().as_bytes())?;
    out.write_all(b"\n")?;
    Ok(out.flush()?)
}

/// Prints a line to standard error; if even that fails there is nobody to tell.
pub(crate) fn complain(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "wicketgate: {text}");
}
