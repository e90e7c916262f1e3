//! `wicketgate audit verify`: reads a file and says what is wrong with it. No server, no configuration.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use serde_json::json;

use crate::cli::output::Output;
use crate::domain::audit_chain::ChainHead;
use crate::pki::audit::{MAX_LINE, Pinned, Trust, Verdict, Verifier};
use crate::pki::pem;

/// Largest file with a key or a checkpoint, in bytes.
const MAX_SMALL_FILE: u64 = 64 * 1024;

/// What to check, against what.
#[derive(Debug, Args)]
pub(in crate::cli) struct Arguments {
    /// The export
    file: PathBuf,
    /// An earlier checkpoint: the file of `audit checkpoint`, the hash of a link, or NUMBER:HASH
    #[arg(long, value_name = "FILE_OR_HASH", value_parser = pinned)]
    checkpoint: Option<Pinned>,
    /// PEM file with the keys that may sign: the file of `audit key`
    #[arg(long, value_name = "FILE", value_parser = keys)]
    key: Option<Keys>,
}

#[derive(Clone, Debug)]
struct Keys(Vec<Vec<u8>>);

pub(super) fn run(arguments: Arguments, output: Output) -> anyhow::Result<()> {
    let keys = arguments.key.map(|keys| keys.0).unwrap_or_default();
    let trust = Trust { checkpoint: arguments.checkpoint, keys };
    let verdict = read(&arguments.file, trust)?;
    output.answer(&text(&arguments.file, &verdict), &object(&verdict))?;
    match verdict.fault_count {
        0 => Ok(()),
        1 => anyhow::bail!("the export does not verify: 1 fault"),
        count => anyhow::bail!("the export does not verify: {count} faults"),
    }
}

/// Reads line by line; no line takes more memory than the longest that may be.
fn read(path: &Path, trust: Trust) -> anyhow::Result<Verdict> {
    let unreadable = || format!("cannot read {}", path.display());
    let mut file = BufReader::new(std::fs::File::open(path).with_context(unreadable)?);
    let mut verifier = Verifier::new(trust);
    let mut line = Vec::new();
    loop {
        line.clear();
        let most = MAX_LINE as u64 + 1;
        if file.by_ref().take(most).read_until(b'\n', &mut line).with_context(unreadable)? == 0 {
            return Ok(verifier.finish());
        }
        verifier.read(&line);
    }
}

fn text(path: &Path, verdict: &Verdict) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "{name:<12} {value}");
    };
    line("export", path.display().to_string());
    if let (Some(id), Some(at)) = (&verdict.installation_id, verdict.exported_at) {
        line("of", format!("installation {id}, at {at}"));
    }
    match verdict.head {
        Some(head) => {
            line("chain", format!("{} links, the last is {}:{}", verdict.links, head.number, head.hash))
        }
        None => line("chain", "empty".to_owned()),
    }
    if let Some(signed) = &verdict.signed {
        line("signed", format!("up to link {} at {} by {}", signed.number, signed.at, signed.key_id));
    }
    if let Some(number) = verdict.pinned_at {
        line("checkpoint", format!("the given one is that of link {number}"));
    }
    if !verdict.key_is_trusted {
        let risk = match verdict.pinned_at {
            None => "nothing outside the file vouches for it, so all of it may be made up",
            Some(_) => "the key is the file's own, so what follows the given checkpoint may be made up",
        };
        line("trust", format!("{risk}: give --key, or a --checkpoint file"));
    }
    if verdict.unchained > 0 {
        line("not chained", format!("{} events, too young to be in the chain", verdict.unchained));
    }
    if verdict.open_acts > 0 {
        let named = verdict.first_open_acts.join(", ");
        let more = if verdict.open_acts > verdict.first_open_acts.len() as u64 { ", …" } else { "" };
        line(
            "not finished",
            format!("{} acts were started and not finished: {named}{more}", verdict.open_acts),
        );
    }
    if verdict.is_clean() {
        line("result", "nothing is wrong".to_owned());
        return text;
    }
    line("result", format!("{} faults", verdict.fault_count));
    for found in &verdict.faults {
        let _ = writeln!(text, "  line {}: {}", found.line, found.fault);
    }
    if verdict.fault_count > verdict.faults.len() as u64 {
        text.push_str("  and more\n");
    }
    text
}

fn object(verdict: &Verdict) -> serde_json::Value {
    let faults: Vec<_> = verdict
        .faults
        .iter()
        .map(|found| json!({ "line": found.line, "fault": found.fault.to_string() }))
        .collect();
    let place = |head: ChainHead| json!({ "number": head.number, "hash": head.hash });
    json!({
        "ok": verdict.is_clean(),
        "installation_id": verdict.installation_id,
        "exported_at": verdict.exported_at,
        "links": verdict.links,
        "head": verdict.head.map(place),
        "checkpoints": verdict.checkpoints,
        "signed": verdict.signed,
        "is_vouched_for": verdict.is_vouched_for(),
        "key_is_trusted": verdict.key_is_trusted,
        "checkpoint_found_at": verdict.pinned_at,
        "unchained": verdict.unchained,
        "open_acts": verdict.open_acts,
        "first_open_acts": verdict.first_open_acts,
        "fault_count": verdict.fault_count,
        "faults": faults,
    })
}

/// A hash, a number with a hash, or a file with a signed checkpoint.
fn pinned(text: &str) -> Result<Pinned, String> {
    if let Ok(hash) = text.parse() {
        return Ok(Pinned::Hash(hash));
    }
    if let Some((number, hash)) = text.split_once(':')
        && let (Ok(number), Ok(hash)) = (number.parse(), hash.parse())
    {
        return Ok(Pinned::Place(ChainHead { number, hash }));
    }
    let checkpoint = serde_json::from_slice(&small_file(text)?);
    checkpoint.map(Pinned::Signed).map_err(|error| format!("is not the file of a checkpoint: {error}"))
}

fn keys(path: &str) -> Result<Keys, String> {
    let text = String::from_utf8(small_file(path)?).map_err(|_| "is not a PEM file".to_owned())?;
    let keys = pem::blocks(&text, "PUBLIC KEY");
    if keys.is_empty() { Err("has no PUBLIC KEY in it".to_owned()) } else { Ok(Keys(keys)) }
}

fn small_file(path: &str) -> Result<Vec<u8>, String> {
    let file = std::fs::File::open(path).map_err(|error| format!("cannot be read: {error}"))?;
    let mut bytes = Vec::new();
    let read = file.take(MAX_SMALL_FILE).read_to_end(&mut bytes);
    read.map(|_| bytes).map_err(|error| format!("cannot be read: {error}"))
}
