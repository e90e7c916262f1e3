//! `wicketgate serve`: everything, until SIGTERM or SIGINT.

use std::sync::Arc;

use clap::{Args, ValueEnum};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::boot::{self, Start};
use crate::clock::SystemClock;
use crate::config::Config;
use crate::keys::SystemEntropy;
use crate::telemetry::{self, Destination};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Which part to run
    #[arg(long, value_enum, default_value_t = Role::All)]
    role: Role,
}

/// The roles of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Role {
    /// Edge and admin in one process. A taken process then has everything; split roles will not.
    All,
}

pub(super) async fn run(arguments: Arguments, config: Config) -> anyhow::Result<()> {
    let Role::All = arguments.role;
    telemetry::init(config.telemetry.format, &config.telemetry.filter, Destination::Stdout)?;
    let mut stop = StopSignal::listen()?;
    let starting =
        Box::pin(boot::start(config, Arc::new(SystemClock), Arc::new(SystemEntropy), Start::Existing));
    let running = tokio::select! { started = starting => started?, () = stop.received() => return Ok(()) };
    tracing::info!(
        https = ?running.edge().https_addresses(), http = ?running.edge().http_addresses(),
        health = %running.health_address(), "Serving"
    );
    // Without systemd there is nobody to notify.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    stop.received().await;
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    tracing::info!("Draining");
    running.drain().await;
    tracing::info!("Stopped");
    Ok(())
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
