//! One of our houses as a process of its own, and how it is asked.

use std::cell::RefCell;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::ROLE;
use super::client::Place;
use super::load;

/// Where the house finds what it needs.
pub(crate) const FOLDER: &str = "WICKETGATE_BENCH_FOLDER";
/// Its database.
pub(crate) const URL: &str = "WICKETGATE_BENCH_DATABASE";

/// What a house says when it is ready.
#[derive(Serialize, Deserialize)]
pub(crate) struct Ready {
    pub(crate) port: u16,
    /// The authority of its server certificate, DER.
    pub(crate) root: Vec<u8>,
    /// An administrator's.
    pub(crate) token: String,
}

/// A running house; killed when dropped.
pub(crate) struct House {
    pub(crate) name: String,
    pub(crate) place: Place,
    pub(crate) token: String,
    process: Child,
    ends: RefCell<(ChildStdin, BufReader<ChildStdout>)>,
    /// PostgreSQL's first process, whose work is ours.
    postmaster: Option<u32>,
}

impl Drop for House {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl House {
    /// Starts a house over a fresh database: a SQLite file in `folder`, or the one at this URL, with a
    /// process of its server's.
    pub(crate) fn start(folder: &Path, name: &str, postgres: Option<(&str, u32)>) -> Result<Self> {
        let own = folder.join(name);
        std::fs::create_dir(&own)?;
        let file = format!("sqlite:{}", own.join("wicketgate.db").display());
        let mut process = Command::new(std::env::current_exe()?)
            .env(ROLE, "house")
            .env(FOLDER, &own)
            .env(URL, postgres.map_or(&*file, |(url, _)| url))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Its log, as in production, but to where nobody reads.
            .stderr(std::fs::File::create(own.join("log"))?)
            .spawn()?;
        let stdin = process.stdin.take().context("stdin")?;
        let mut stdout = BufReader::new(process.stdout.take().context("stdout")?);
        let mut line = String::new();
        stdout.read_line(&mut line)?;
        let log = || std::fs::read_to_string(own.join("log")).unwrap_or_default();
        let ready: Ready = serde_json::from_str(&line).with_context(log)?;
        let place = Place { address: ([127, 0, 0, 1], ready.port).into(), root: ready.root };
        let postmaster = postgres.map(|(_, process)| load::parent(process)).transpose()?;
        let (name, token, ends) = (name.to_owned(), ready.token, RefCell::new((stdin, stdout)));
        Ok(Self { name, place, token, process, ends, postmaster })
    }

    /// Whether it is measured through its API.
    pub(crate) fn is_by_api(&self) -> bool {
        self.name.ends_with("by API")
    }

    /// Has the house do something, and waits for what it says of it.
    pub(crate) fn ask<T: DeserializeOwned>(&self, command: &str) -> Result<T> {
        let mut ends = self.ends.borrow_mut();
        let (stdin, stdout) = &mut *ends;
        writeln!(stdin, "{command}")?;
        stdin.flush()?;
        let mut line = String::new();
        if stdout.read_line(&mut line)? == 0 {
            bail!("the house on {} ended at {command:?}", self.name);
        }
        serde_json::from_str(&line).with_context(|| format!("{command}: {line}"))
    }

    /// Its own and its database's.
    pub(crate) fn cpu_seconds(&self) -> Result<f64> {
        let database = self.postmaster.map_or(Ok(0.0), load::cpu_seconds)?;
        Ok(load::cpu_seconds(self.process.id())? + database)
    }
}
