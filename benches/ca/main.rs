//! `make bench-ca`: our authority beside step-ca on the same signing requests, with durable writes and
//! the audit on, 16 clients at once; then revocation, revocation lists and listings at full size.
//! Alternating rounds, medians; figures go into `benches/RESULTS.md`, and the last line on stdout is one
//! JSON object.
//!
//! `BENCH_ROUNDS` (default 5), `BENCH_COUNT` (certificates a round, default 2,000), `BENCH_REVOKED`
//! (default 100,000) and `BENCH_ROWS` (certificates listed, default 1,000,000) make it shorter or longer.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "this program's job is to report")]

mod client;
mod fill;
mod harness;
mod house;
mod inventory;
mod load;
mod material;
mod ocsp;
mod peers;
mod report;
mod revocation;
mod server;

use anyhow::{Context, Result};

use house::House;
use load::Sample;
use report::{Measured, Report};

/// Like the product.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Which part a process of this program plays.
const ROLE: &str = "WICKETGATE_BENCH_ROLE";
/// How many ask at once.
const CLIENTS: usize = 16;

fn main() -> Result<()> {
    match std::env::var(ROLE).as_deref() {
        Ok("house") => server::run(),
        _ => measure(),
    }
}

fn measure() -> Result<()> {
    let rounds: usize = number("BENCH_ROUNDS", 5)?;
    let count: usize = number("BENCH_COUNT", 2_000)?;
    let folder = tempfile::tempdir()?;
    // Round 0 warms up; the last ones are for revocation.
    eprintln!("making {} signing requests", (rounds + 2) * count);
    let requests = material::requests(folder.path(), (rounds + 2) * count)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let postgres = harness::postgres::Server::start(harness::postgres::Durability::Full);
    let mut report = Report::new(rounds, count);

    // A key is certified once in a house, so each way in has a house of its own.
    let mut databases = Vec::new();
    let mut houses = Vec::new();
    for (name, by_api) in [("SQLite", "SQLite by API"), ("PostgreSQL", "PostgreSQL by API")] {
        for name in [name, by_api] {
            if name.starts_with("SQLite") {
                houses.push(House::start(folder.path(), name, None)?);
            } else if let Some(postgres) = &postgres {
                let database = postgres.database();
                // A process of the server's, to find the first one by.
                let process = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'";
                let process = database.sql(process).parse()?;
                houses.push(House::start(folder.path(), name, Some((&database.url(), process)))?);
                databases.push(database);
            }
        }
    }
    let step = peers::StepCa::start(folder.path(), &requests)?;
    issue(&runtime, &mut report, &houses, &step, &requests, rounds, count)?;
    drop(step);
    for house in houses.iter().filter(|house| !house.is_by_api()) {
        ocsp::measure(&runtime, &mut report, house)?;
        revocation::measure(&mut report, house, (rounds + 1) * count, count)?;
        inventory::measure(&runtime, &mut report, house)?;
    }
    drop(houses);
    std::fs::write(
        "benches/RESULTS.md",
        report.markdown(&std::fs::read_to_string("benches/RESULTS.md").unwrap_or_default()),
    )?;
    println!("{}", report.json());
    Ok(())
}

/// Certificates a second: called as a library and through the whole API, and step-ca through its own.
fn issue(
    runtime: &tokio::runtime::Runtime,
    report: &mut Report,
    houses: &[House],
    step: &peers::StepCa,
    requests: &[String],
    rounds: usize,
    count: usize,
) -> Result<()> {
    for (round, requests) in requests.chunks(count).take(rounds + 1).enumerate() {
        let mut turns: Vec<Turn<'_>> = Vec::new();
        for house in houses {
            turns.push(if house.is_by_api() { Turn::Api(house) } else { Turn::Library(house) });
        }
        turns.push(Turn::StepCa(step));
        // Neighbours on the machine drift; alternating and reversing spreads that evenly.
        if round % 2 == 1 {
            turns.reverse();
        }
        for turn in turns {
            let (name, sample) = turn.run(runtime, round * count, requests)?;
            eprintln!(
                "round {round} {name:<22} {:>7.0}/s {:>7.3} CPU s per 1,000, p99 {:>6.1} ms, {} errors",
                sample.per_second(),
                sample.cpu_per_1000(),
                sample.percentile(99.0),
                sample.errors,
            );
            if round > 0 {
                report.add(Measured::Issued(name), sample);
            }
        }
    }
    Ok(())
}

/// One target's part of a round.
enum Turn<'a> {
    Library(&'a House),
    Api(&'a House),
    StepCa(&'a peers::StepCa),
}

impl Turn<'_> {
    fn run(
        &self,
        runtime: &tokio::runtime::Runtime,
        from: usize,
        requests: &[String],
    ) -> Result<(String, Sample)> {
        Ok(match self {
            Self::Library(house) => {
                let before = house.cpu_seconds()?;
                let mut sample: Sample = house.ask(&format!("issue {from} {}", requests.len()))?;
                sample.cpu_seconds = house.cpu_seconds()? - before;
                (house.name.clone(), sample)
            }
            Self::Api(house) => {
                let before = house.cpu_seconds()?;
                let mut sample = runtime.block_on(client::issue_by_api(house, requests))?;
                sample.cpu_seconds = house.cpu_seconds()? - before;
                (house.name.clone(), sample)
            }
            Self::StepCa(step) => {
                let before = step.cpu_seconds()?;
                let mut sample = runtime.block_on(step.issue(from, requests))?;
                sample.cpu_seconds = step.cpu_seconds()? - before;
                ("step-ca".to_owned(), sample)
            }
        })
    }
}

fn number<T: std::str::FromStr>(name: &str, default: T) -> Result<T> {
    match std::env::var(name) {
        Ok(text) => text.parse().ok().with_context(|| format!("{name} is not a number")),
        Err(_) => Ok(default),
    }
}
