//! The passphrase of an offline root: typed twice when it is made, once when it is used, never shown.

use std::io::{BufRead, IsTerminal, Write};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};

use crate::domain::Secret;

/// Reads it from `file`, or asks; `twice` when nothing could tell that it was mistyped.
pub(super) fn read(file: Option<&Path>, twice: bool) -> anyhow::Result<Secret<String>> {
    match file {
        Some(path) if path.as_os_str() != "-" => {
            let unreadable = || format!("cannot read {}", path.display());
            let text = Secret::new(std::fs::read_to_string(path).with_context(unreadable)?);
            Ok(first_line(text.expose()))
        }
        Some(_) => line(),
        None => ask(twice),
    }
}

fn ask(twice: bool) -> anyhow::Result<Secret<String>> {
    ensure!(
        std::io::stdin().is_terminal(),
        "there is no terminal to type the passphrase on: give --passphrase-file"
    );
    let passphrase = ask_once("Passphrase of the root")?;
    if twice {
        let again = ask_once("The same again")?;
        ensure!(passphrase.expose() == again.expose(), "the two passphrases differ; nothing was made");
    }
    Ok(passphrase)
}

fn ask_once(prompt: &str) -> anyhow::Result<Secret<String>> {
    let mut out = std::io::stderr().lock();
    write!(out, "{prompt}: ")?;
    out.flush()?;
    // What is typed must not be seen; a terminal that cannot do that is not used.
    let echo = |on: &str| Command::new("stty").arg(on).status().is_ok_and(|status| status.success());
    ensure!(echo("-echo"), "the terminal cannot hide what is typed: give --passphrase-file");
    let typed = line();
    echo("echo");
    writeln!(out)?;
    typed
}

fn line() -> anyhow::Result<Secret<String>> {
    let mut text = String::with_capacity(256);
    std::io::stdin().lock().read_line(&mut text)?;
    Ok(first_line(Secret::new(text).expose()))
}

fn first_line(text: &str) -> Secret<String> {
    Secret::new(text.lines().next().unwrap_or_default().to_owned())
}
