//! `wicketgate serve`: everything, until SIGTERM or SIGINT.

use std::sync::Arc;

use clap::{Args, ValueEnum};

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
    let running =
        Box::pin(boot::start(config, Arc::new(SystemClock), Arc::new(SystemEntropy), Start::Existing))
            .await?;
    tracing::info!(
        https = ?running.edge().https_addresses(), http = ?running.edge().http_addresses(),
        health = %running.health_address(), "Serving"
    );
    // Without systemd there is nobody to notify.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    stop_signal().await?;
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    tracing::info!("Draining");
    running.drain().await;
    tracing::info!("Stopped");
    Ok(())
}

/// Returns at the first SIGTERM or SIGINT.
pub(super) async fn stop_signal() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! { _ = term.recv() => {} _ = int.recv() => {} }
    Ok(())
}
