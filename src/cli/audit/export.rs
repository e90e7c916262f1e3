//! `wicketgate audit export`: reads the chain page by page and writes it line by line, so that its length
//! does not matter. The file has its name only when it is whole.

use std::collections::VecDeque;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::Context;
use http::Method;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::new_file;
use crate::cli::output::Output;
use crate::cli::remote::Client;
use crate::clock::{Clock, SystemClock};
use crate::domain::audit_chain::{AuditEvent, Checkpoint};
use crate::pki::audit::{Export, FORMAT, Header, Key, Line, Link};
use crate::pki::pem;

pub(super) async fn run(to: &Path, client: &Client, output: Output) -> anyhow::Result<()> {
    anyhow::ensure!(!to.exists(), "{} is there already; choose another --to", to.display());
    let mut partial = to.as_os_str().to_owned();
    partial.push(".partial");
    let partial = Path::new(&partial);
    let file = new_file(partial)?;
    let written = write(BufWriter::new(file), client).await;
    let (last, unchained) = match written {
        Ok(counts) => counts,
        Err(error) => {
            let _ = std::fs::remove_file(partial);
            return Err(error);
        }
    };
    std::fs::rename(partial, to).with_context(|| format!("cannot write {}", to.display()))?;
    let mut text = format!("Links 1 to {} and their events are in {}.", last.number, to.display());
    if unchained > 0 {
        text.push_str(&format!(" So are {unchained} events that are not in the chain yet."));
    }
    let object = json!({ "file": to, "links": last.number, "unchained": unchained, "checkpoint": last });
    output.answer(&text, &object)
}

/// Writes every line. Returns the checkpoint at its end, and how many events have no link.
async fn write(file: BufWriter<std::fs::File>, client: &Client) -> anyhow::Result<(Checkpoint, u64)> {
    // Signed first, so that everything in the file is covered.
    let answer = client.send(Method::POST, "/api/v1/audit-checkpoints", None, None).await?;
    let last: Checkpoint = read(answer.body)?;
    let mut out = Out { file, export: Export::default() };
    let mut keys = Vec::new();
    let mut listing = Listing::new("/api/v1/audit-keys?limit=200");
    while let Some(page) = listing.next::<Value>(client).await? {
        for key in page {
            let text = |name: &str| key.get(name).and_then(Value::as_str).unwrap_or_default();
            let spki = pem::first_block(text("pem"), &["PUBLIC KEY"]).context("the server sent no key")?;
            keys.push(Key { key_id: text("key_id").to_owned(), spki });
        }
    }
    out.line(&Line::Header(Header {
        format: FORMAT.to_owned(),
        installation_id: last.installation_id.clone(),
        exported_at: SystemClock.now(),
        keys,
    }))?;

    let mut checkpoints = Listing::new("/api/v1/audit-checkpoints?limit=1000");
    let mut waiting: VecDeque<Checkpoint> = VecDeque::new();
    let mut links = Listing::new("/api/v1/audit-links?limit=1000");
    'chain: while let Some(page) = links.next::<Link>(client).await? {
        for link in page {
            let number = link.number;
            if number > last.number {
                break 'chain;
            }
            out.line(&Line::Link(link))?;
            loop {
                if waiting.is_empty()
                    && let Some(page) = checkpoints.next(client).await?
                {
                    waiting.extend(page);
                }
                match waiting.pop_front_if(|checkpoint| checkpoint.number <= number) {
                    Some(checkpoint) => out.line(&Line::Checkpoint(checkpoint))?,
                    None => break,
                }
            }
        }
    }
    let mut unchained = 0;
    let mut events = Listing::new("/api/v1/audit-events?chained=false&limit=200");
    while let Some(page) = events.next::<AuditEvent>(client).await? {
        for event in page {
            out.line(&Line::Unchained(event))?;
            unchained += 1;
        }
    }
    let end = out.export.end();
    out.line(&Line::End(end))?;
    out.file.into_inner().context("the export could not be written")?.sync_all()?;
    Ok((last, unchained))
}

/// The file and what was written to it.
struct Out {
    file: BufWriter<std::fs::File>,
    export: Export,
}

impl Out {
    fn line(&mut self, line: &Line) -> anyhow::Result<()> {
        let text = self.export.write(line)?;
        self.file.write_all(text.as_bytes()).context("the export could not be written")
    }
}

/// A listing of the API, page by page.
struct Listing {
    path: &'static str,
    cursor: Option<String>,
    over: bool,
}

impl Listing {
    fn new(path: &'static str) -> Self {
        Self { path, cursor: None, over: false }
    }

    async fn next<T: DeserializeOwned>(&mut self, client: &Client) -> anyhow::Result<Option<Vec<T>>> {
        if self.over {
            return Ok(None);
        }
        let path = match &self.cursor {
            Some(cursor) => format!("{}&cursor={cursor}", self.path),
            None => self.path.to_owned(),
        };
        let mut body = client.send(Method::GET, &path, None, None).await?.body;
        self.cursor = body.get("next_cursor").and_then(Value::as_str).map(str::to_owned);
        self.over = self.cursor.is_none();
        Ok(Some(read(body.get_mut("items").map(Value::take).unwrap_or_default())?))
    }
}

fn read<T: DeserializeOwned>(body: Value) -> anyhow::Result<T> {
    serde_json::from_value(body).context("the server answered something else than expected")
}
