//! `wicketgate serve`: everything, until SIGTERM or SIGINT, or until another process has taken over.

use std::sync::Arc;

use clap::{Args, ValueEnum};
use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::boot::{self, Given, Legacy, Predecessor, Running, Start};
use crate::clock::SystemClock;
use crate::config::Config;
use crate::keys::SystemEntropy;
use crate::telemetry::{self, Destination};

/// What a successor is started with.
const TAKE_OVER: &str = "--take-over";

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Which part to run
    #[arg(long, value_enum, default_value_t = Role::All)]
    role: Role,
    /// Take over from the process that serves from the same data directory, without a dropped request; start as
    /// ever if there is none
    #[arg(long)]
    take_over: bool,
}

/// The roles of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Role {
    /// Edge and admin in one process. A taken process then has everything; split roles will not.
    All,
}

/// What happens to a process that serves.
enum Event {
    Stop,
    /// A new process is to take over (SIGUSR2).
    Replace,
    /// One has.
    Replaced,
}

pub(super) async fn run(arguments: Arguments, config: Config, given: Vec<Given>) -> anyhow::Result<()> {
    let Role::All = arguments.role;
    telemetry::init(config.telemetry.format, &config.telemetry.filter, Destination::Stdout)?;
    let mut stop = StopSignal::listen()?;
    let mut replace = signal(SignalKind::user_defined2())?;
    let starting = Box::pin(start(&arguments, config, given));
    let running = tokio::select! { started = starting => started?, () = stop.received() => return Ok(()) };
    loop {
        let event = tokio::select! {
            () = stop.received() => Event::Stop,
            () = running.succeeded() => Event::Replaced,
            _ = replace.recv() => Event::Replace,
        };
        match event {
            Event::Replace => start_successor(),
            Event::Replaced => {
                // The service manager has heard from the other process already.
                tracing::info!("Another process serves; letting connections go");
                running.retire().await;
                break;
            }
            Event::Stop => {
                let _ = sd_notify::notify(&[NotifyState::Stopping]);
                tracing::info!("Draining");
                running.drain().await;
                break;
            }
        }
    }
    tracing::info!("Stopped");
    Ok(())
}

/// Starts, and begins to serve.
async fn start(arguments: &Arguments, config: Config, mut given: Vec<Given>) -> anyhow::Result<Running> {
    let mut predecessor = None;
    if arguments.take_over {
        match Predecessor::find(&config.handover_socket()).await? {
            Some((found, its)) => {
                given.extend(its);
                predecessor = Some(Arc::new(found));
            }
            None => tracing::info!("No process serves from this data directory; starting as ever"),
        }
    }
    let takes_over = predecessor.is_some();
    let legacy = Legacy { given, predecessor };
    let (clock, entropy) = (Arc::new(SystemClock), Arc::new(SystemEntropy));
    let mut running = Box::pin(boot::start_from(config, clock, entropy, Start::Existing, legacy)).await?;
    running.open().await?;
    tracing::info!(
        https = ?running.edge().https_addresses(), http = ?running.edge().http_addresses(),
        health = %running.health_address(), took_over = takes_over, "Serving"
    );
    // Without systemd there is nobody to notify. Whoever was replaced has said that this process is the service now.
    let _ = sd_notify::notify(&[NotifyState::Ready]);
    Ok(running)
}

/// Starts the program that lies at our place by now, with our own arguments, to take over.
fn start_successor() {
    let mut words = std::env::args_os();
    let Some(program) = words.next() else { return };
    let mut command = tokio::process::Command::new(program);
    command.args(words.filter(|word| word != TAKE_OVER)).arg(TAKE_OVER);
    match command.spawn() {
        Ok(mut successor) => {
            tracing::info!("Started a process that is to take over");
            tokio::spawn(async move {
                if let Ok(status) = successor.wait().await {
                    tracing::warn!(%status, "The process that was to take over has ended");
                }
            });
        }
        Err(error) => tracing::error!(%error, "No process could be started to take over"),
    }
}

/// SIGTERM and SIGINT, from the moment of its making: whoever asks a starting process to stop is heard, too.
pub(super) struct StopSignal {
    term: Signal,
    int: Signal,
}

impl StopSignal {
    /// From now on neither signal ends the process by itself.
    pub(super) fn listen() -> std::io::Result<Self> {
        Ok(Self { term: signal(SignalKind::terminate())?, int: signal(SignalKind::interrupt())? })
    }

    /// Returns at the first of them, be it an earlier one.
    pub(super) async fn received(&mut self) {
        tokio::select! { _ = self.term.recv() => {} _ = self.int.recv() => {} }
    }
}
