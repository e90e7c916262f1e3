//! The command line: one file a subcommand. Speaks to people in sentences, and with `--output json` to
//! programs in objects. Exit codes: 0 done, 1 failed, 2 wrong usage, 78 bad configuration.

mod agent;
mod audit;
mod backup;
mod ceremony;
mod check;
mod config_schema;
mod demo;
mod init;
mod migrate;
mod output;
mod papers;
mod remote;
mod rewrap;
mod serve;
mod setup_link;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::boot::Given;
use crate::config::{Config, ConfigFaults, environment};
use output::Output;

/// Exit code for a configuration that cannot be used (`EX_CONFIG` of sysexits).
const EXIT_CONFIGURATION: u8 = 78;

/// Client certificates for your people's devices, and the door that asks for them.
#[derive(Debug, Parser)]
#[command(name = "wicketgate", version, propagate_version = true, max_term_width = 100)]
pub(crate) struct Cli {
    /// The configuration file [default: $WICKETGATE_CONFIG, ./wicketgate.toml, /etc/wicketgate/wicketgate.toml]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// How answers are printed
    #[arg(long, global = true, value_enum, default_value_t = Output::Text)]
    output: Output,
    #[command(flatten)]
    reach: remote::Reach,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run everything on loopback in a throw-away directory, with one enrolled device
    Demo(demo::Arguments),
    /// Make an installation: keys, database, authorities
    Init(init::Arguments),
    /// Serve until told to stop (SIGTERM drains, SIGUSR2 has a new process take over)
    Serve(serve::Arguments),
    /// Bring the database's schema up to this program's
    Migrate,
    /// Write a backup to a new directory, also while serving; the key files are not in it
    Backup(backup::BackupArguments),
    /// Put a backup back, while nothing serves
    Restore(backup::RestoreArguments),
    /// Look for everything that would keep `serve` from starting
    Check,
    /// Print the one-time link for the first administrator; an earlier one no longer opens
    SetupLink,
    /// Print the OpenAPI document of the admin API
    Openapi,
    /// Wrap all data keys under the newest key-encryption keys, while running
    Rewrap,
    /// The audit: who did what, chained and signed
    Audit {
        #[command(subcommand)]
        act: audit::Act,
    },
    /// Enrol this machine and keep its key and certificate fresh
    #[command(subcommand)]
    Agent(agent::Agent),
    #[command(flatten)]
    Remote(remote::Command),
    /// About the configuration file
    #[command(subcommand)]
    Config(config_schema::Subcommand),
    /// Print a completion script
    Completions(papers::Completions),
    /// Print the manual page
    Man,
}

/// Parses the command line and runs it.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    // While there is one thread.
    let given = match &cli.command {
        Command::Serve(_) => Given::by_service_manager(),
        _ => Ok(Vec::new()),
    };
    let given = match given {
        Ok(given) => given,
        Err(error) => {
            output::complain(&format!("LISTEN_FDS: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            output::complain(&format!("the runtime cannot start: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(run(cli, given));
    // Nothing may keep the process from ending: what had to be waited for was.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let code = if error.is::<ConfigFaults>() { EXIT_CONFIGURATION } else { 1 };
            output::complain(&sentence(&error));
            ExitCode::from(code)
        }
    }
}

async fn run(cli: Cli, given: Vec<Given>) -> anyhow::Result<()> {
    let load = || Config::load(cli.config.as_deref(), &environment());
    match cli.command {
        Command::Demo(arguments) => Box::pin(demo::run(arguments, cli.output)).await,
        Command::Init(arguments) => Box::pin(init::run(arguments, load()?, cli.output)).await,
        Command::Serve(arguments) => Box::pin(serve::run(arguments, load()?, given)).await,
        Command::Migrate => migrate::run(&load()?, cli.output).await,
        Command::Backup(arguments) => backup::take(arguments, &load()?, cli.output).await,
        Command::Restore(arguments) => Box::pin(backup::put_back(arguments, &load()?, cli.output)).await,
        Command::Check => check::run(load()?, cli.output).await,
        Command::SetupLink => setup_link::run(&load()?, cli.output).await,
        Command::Openapi => output::print(&crate::admin::openapi_document()),
        Command::Rewrap => rewrap::run(&load()?, cli.output).await,
        // Neither asks the server, and two of its steps have no configuration either.
        Command::Remote(remote::Command::Ca { act: remote::CaAct::Ceremony { act } }) => {
            ceremony::run(act, || Ok(load()?), cli.output).await
        }
        Command::Audit { act } => {
            let client = || remote::Client::new(&cli.reach, || Ok(load()?));
            audit::run(act, client, cli.output).await
        }
        Command::Agent(agent) => Box::pin(agent::run(agent, cli.output)).await,
        Command::Remote(command) => {
            let client = remote::Client::new(&cli.reach, || Ok(load()?))?;
            remote::run(command, &client, cli.output).await
        }
        Command::Config(subcommand) => config_schema::run(&subcommand, load),
        Command::Completions(arguments) => papers::completions(&arguments),
        Command::Man => papers::manual(),
    }
}

/// The error and its causes in one line, none said twice.
fn sentence(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        if !text.contains(&cause) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&cause);
        }
    }
    text
}
