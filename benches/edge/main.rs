//! `make bench-edge`: our edge beside nginx, haproxy and caddy from Debian and a bare hyper server, all with
//! mutual TLS 1.3, policy, access log, metrics and identity headers; one core for the proxy, one for visitors
//! and backend. Alternating rounds, medians; figures go into `benches/RESULTS.md`, and the last line on stdout
//! is one JSON object.
//!
//! `BENCH_ROUNDS` (default 5), `BENCH_SECONDS` (default 3, for each measurement) and `BENCH_IDLE` (idle
//! connections, default 10,000) make it shorter or longer. `BENCH_ONLY` names scenarios (`h1_1k,handshakes`);
//! such a part of the whole goes to stderr and leaves the results file alone.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "this program's job is to report")]

mod backend;
mod bounds;
mod certificates;
mod echo;
mod load;
mod peers;
mod process;
mod report;
mod rounds;
mod scenario;
mod server;

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use report::Report;
use rounds::Stage;
use scenario::Scenario;

/// Like the product.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Which part a process of this program plays.
const ROLE: &str = "WICKETGATE_BENCH_ROLE";
/// The proxy's core.
const PROXY_CORE: &str = "0";
/// The core of visitors and backend.
const LOAD_CORE: &str = "1";
/// Files that visitors and proxies may open, if the machine lets us.
const OPEN_FILES: u64 = 32_768;

/// How much is measured.
struct Plan {
    rounds: usize,
    span: Duration,
    idle: usize,
    scenarios: Vec<Scenario>,
    is_whole: bool,
}

fn main() -> Result<()> {
    match std::env::var(ROLE).as_deref() {
        Ok("server") => server::run(),
        Ok("echo") => echo::run(),
        Ok("load") => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            tokio::task::LocalSet::new().block_on(&runtime, Box::pin(measure()))
        }
        _ => pin(),
    }
}

/// Starts over on the core of the visitors, with as many open files as they need.
fn pin() -> Result<()> {
    if std::thread::available_parallelism()?.get() < 2 {
        bail!("this bench pins a proxy and its visitors to two cores, and there is one");
    }
    let program = std::env::current_exe()?;
    let files = process::open_files()?.1.min(OPEN_FILES);
    let status = Command::new("prlimit")
        .arg(format!("--nofile={files}:"))
        .args(["taskset", "-c", LOAD_CORE])
        .arg(program)
        .env(ROLE, "load")
        .status()
        .context("prlimit and taskset (util-linux) are needed")?;
    if !status.success() {
        bail!("the measurement failed");
    }
    Ok(())
}

async fn measure() -> Result<()> {
    let began = Instant::now();
    let plan = Plan::from_environment()?;
    let folder = tempfile::tempdir()?;
    let material = certificates::make(folder.path())?;
    let backend = backend::start().await?;
    let stage = Stage { folder: folder.path(), material: &material, backend, plan: &plan };
    let mut report = Report::new(plan.rounds);
    for scenario in &plan.scenarios {
        stage.play(scenario, &mut report).await?;
    }
    let seconds = began.elapsed().as_secs();
    if plan.is_whole {
        let before = std::fs::read_to_string("benches/RESULTS.md").unwrap_or_default();
        std::fs::write("benches/RESULTS.md", report.merged(&before, &plan.scenarios))?;
    } else {
        eprintln!("{}", report.section(&plan.scenarios));
    }
    eprintln!("took {seconds} s");
    if let Some(proofs) = std::env::var_os("PROVE_DIR") {
        std::fs::create_dir_all(&proofs)?;
        std::fs::write(
            std::path::Path::new(&proofs).join("bench.json"),
            report.proof(&plan.scenarios, seconds).to_string(),
        )?;
    }
    println!("{}", report.json(&plan.scenarios));
    Ok(())
}

impl Plan {
    fn from_environment() -> Result<Self> {
        let mut scenarios = scenario::all();
        let only = std::env::var("BENCH_ONLY").unwrap_or_default();
        let only: Vec<&str> = only.split([',', ' ']).filter(|name| !name.is_empty()).collect();
        if let Some(unknown) = only.iter().find(|name| scenarios.iter().all(|known| known.name != **name)) {
            let known: Vec<&str> = scenarios.iter().map(|scenario| scenario.name).collect();
            bail!("BENCH_ONLY: there is no scenario {unknown}, but {}", known.join(", "));
        }
        scenarios.retain(|scenario| only.is_empty() || only.contains(&scenario.name));
        let plan = Self {
            rounds: number("BENCH_ROUNDS", 5)?,
            span: Duration::from_secs(number("BENCH_SECONDS", 3)?),
            idle: number("BENCH_IDLE", 10_000)?,
            scenarios,
            is_whole: only.is_empty(),
        };
        if plan.rounds == 0 || plan.span.is_zero() || plan.idle == 0 {
            bail!("BENCH_ROUNDS, BENCH_SECONDS and BENCH_IDLE begin at 1");
        }
        Ok(plan)
    }
}

fn number<T: std::str::FromStr>(name: &str, default: T) -> Result<T> {
    match std::env::var(name) {
        Ok(text) => text.parse().ok().with_context(|| format!("{name} is not a number")),
        Err(_) => Ok(default),
    }
}
