//! `make bench-edge`: our edge beside nginx and haproxy from Debian, all with mutual TLS 1.3, one core
//! for the proxy, one for visitors and backend. Alternating rounds, medians; ratios go into
//! `benches/RESULTS.md`, and the last line on stdout is one JSON object.
//!
//! `BENCH_ROUNDS` (default 5) and `BENCH_SECONDS` (default 3, for each cell) make it shorter or longer.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "this program's job is to report")]

mod backend;
mod certificates;
mod load;
mod peers;
mod report;
mod server;

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use load::{Cell, Sample};
use peers::Target;

/// Like the product.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Which part a process of this program plays.
const ROLE: &str = "WICKETGATE_BENCH_ROLE";
/// The proxy's core.
const PROXY_CORE: &str = "0";
/// The core of visitors and backend.
const LOAD_CORE: &str = "1";

fn main() -> Result<()> {
    match std::env::var(ROLE).as_deref() {
        Ok("server") => server::run(),
        Ok("load") => measure(),
        _ => pin(),
    }
}

/// Starts over on the core of the visitors.
fn pin() -> Result<()> {
    if std::thread::available_parallelism()?.get() < 2 {
        bail!("this bench pins a proxy and its visitors to two cores, and there is one");
    }
    let program = std::env::current_exe()?;
    let status = Command::new("taskset").args(["-c", LOAD_CORE]).arg(program).env(ROLE, "load").status();
    let status = status.context("taskset (util-linux) is needed to pin cores")?;
    if !status.success() {
        bail!("the measurement failed");
    }
    Ok(())
}

fn measure() -> Result<()> {
    let rounds: usize = number("BENCH_ROUNDS", 5)?;
    let seconds = Duration::from_secs(number("BENCH_SECONDS", 3)?);
    let folder = tempfile::tempdir()?;
    let material = certificates::make(folder.path())?;
    let backend = backend::start()?;
    let targets = peers::start_all(folder.path(), backend)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut samples: Vec<(Cell, &'static str, Sample)> = Vec::new();
    for round in 0..=rounds {
        for cell in [Cell::KeepAlive, Cell::Handshakes] {
            // Neighbours on the machine drift; alternating and reversing spreads that evenly.
            let order: Vec<&Target> =
                if round % 2 == 0 { targets.iter().collect() } else { targets.iter().rev().collect() };
            for target in order {
                // Round 0 warms up.
                let span = if round == 0 { Duration::from_millis(500) } else { seconds };
                let sample = load::run(&runtime, target, cell, &material, span)?;
                eprintln!(
                    "round {round} {:<10} {:<10} {:>8.0}/s {:>7.3} CPU s per 100k, {} errors",
                    cell.name(),
                    target.name,
                    sample.per_second(),
                    sample.cpu_per_100k(),
                    sample.errors
                );
                if round > 0 {
                    samples.push((cell, target.name, sample));
                }
            }
        }
    }
    drop(targets);
    let report = report::Report::of(&samples, rounds);
    std::fs::write(
        "benches/RESULTS.md",
        report.markdown(&std::fs::read_to_string("benches/RESULTS.md").unwrap_or_default()),
    )?;
    println!("{}", report.json());
    Ok(())
}

fn number<T: std::str::FromStr>(name: &str, default: T) -> Result<T> {
    match std::env::var(name) {
        Ok(text) => text.parse().ok().with_context(|| format!("{name} is not a number")),
        Err(_) => Ok(default),
    }
}
