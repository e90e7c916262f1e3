//! `wicketgate demo`: all roles on loopback in a throw-away directory, with a small upstream, two
//! routes, the door and one enrolled device. Only configuration differs from `serve`.

mod story;
mod upstream;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use serde::Serialize;

use super::output::Output;
use super::serve::StopSignal;
use crate::boot::{self, Control, Running, Start};
use crate::clock::{Clock, SystemClock};
use crate::config::{Config, LogFormat};
use crate::domain::Entropy;
use crate::keys::{Kek, Purpose, SystemEntropy};
use crate::telemetry::{self, Destination};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Port of the console and API [default: a free one]
    #[arg(long, default_value_t = 0)]
    admin_port: u16,
    /// Port of the sites and the door [default: a free one]
    #[arg(long, default_value_t = 0)]
    edge_port: u16,
    /// Port for plain HTTP [default: a free one]
    #[arg(long, default_value_t = 0)]
    http_port: u16,
    /// Port for probes and metrics [default: a free one]
    #[arg(long, default_value_t = 0)]
    health_port: u16,
    /// Address to listen on; only loopback is accepted
    #[arg(long, default_value = "127.0.0.1")]
    bind: std::net::IpAddr,
}

/// What `--output json` prints, once everything answers.
#[derive(Debug, Serialize)]
struct Ready {
    admin_url: String,
    admin_token: String,
    edge_url: String,
    door_url: String,
    http_url: String,
    health_url: String,
    ca_file: PathBuf,
    client_cert_file: PathBuf,
    client_key_file: PathBuf,
    client_p12_file: PathBuf,
    client_p12_password: String,
    data_dir: PathBuf,
}

pub(super) async fn run(arguments: Arguments, output: Output) -> anyhow::Result<()> {
    anyhow::ensure!(
        arguments.bind.is_loopback(),
        "the demo listens on loopback only; {} is not",
        arguments.bind
    );
    let filter = std::env::var("WICKETGATE_TELEMETRY__FILTER").unwrap_or_else(|_| "warn".to_owned());
    telemetry::init(LogFormat::Auto, &filter, Destination::Stderr)?;
    let directory = ThrowAway::create()?;
    let outcome = Box::pin(serve(&arguments, output, directory.path())).await;
    drop(directory);
    outcome
}

async fn serve(arguments: &Arguments, output: Output, directory: &Path) -> anyhow::Result<()> {
    let upstream = upstream::start().await.context("the demo's own upstream cannot start")?;
    let config = configuration(arguments, directory)?;
    let clock = Arc::new(SystemClock);
    let mut stop = StopSignal::listen()?;
    let starting =
        Box::pin(boot::start(config, clock.clone(), Arc::new(SystemEntropy), Start::CreateIfMissing));
    let running = tokio::select! { started = starting => started?, () = stop.received() => return Ok(()) };
    let ready = story::prepare(&running, upstream, directory, clock.now()).await?;
    output.answer(&greeting(&ready), &ready)?;
    stop.received().await;
    running.drain().await;
    Ok(())
}

fn configuration(arguments: &Arguments, directory: &Path) -> anyhow::Result<Config> {
    let at = |port| SocketAddr::new(arguments.bind, port);
    let mut config = Config::for_data_dir(directory);
    config.server.name = "Wicketgate Demo".to_owned();
    config.edge.https = vec![at(arguments.edge_port)];
    config.edge.http = vec![at(arguments.http_port)];
    config.edge.drain_timeout = std::time::Duration::from_secs(5);
    config.admin.listen = at(arguments.admin_port);
    config.health.listen = at(arguments.health_port);
    config.door.host = Some("door.localhost".parse()?);
    config.acme.enabled = false;
    // In a real installation the keys lie elsewhere; here everything is thrown away together.
    let keys = directory.join("keys");
    std::fs::create_dir(&keys)?;
    for (purpose, name) in [(Purpose::Server, "server.key"), (Purpose::Authority, "authority.key")] {
        Kek::create_file(purpose, &keys.join(name), &SystemEntropy)?;
    }
    Ok(config)
}

fn greeting(ready: &Ready) -> String {
    let Ready { admin_url, edge_url, door_url, ca_file, client_cert_file, client_key_file, .. } = ready;
    format!(
        "The demo runs, on this computer only, until Ctrl-C. Everything in it is thrown away then.\n\n\
         Protected  {edge_url}/        (with the device's certificate)\n\
         Public     {edge_url}/public\n\
         Door       {door_url}\n\
         Console    {admin_url}       (token {})\n\
         .p12       {}  password {}\n\n\
         Try:\n  curl --cacert {} --cert {} --key {} {edge_url}/\n  curl --cacert {} {edge_url}/\n",
        ready.admin_token,
        ready.client_p12_file.display(),
        ready.client_p12_password,
        ca_file.display(),
        client_cert_file.display(),
        client_key_file.display(),
        ca_file.display(),
    )
}

/// A 0700 directory that is removed when this value goes.
struct ThrowAway(PathBuf);

impl ThrowAway {
    fn create() -> anyhow::Result<Self> {
        use std::os::unix::fs::DirBuilderExt;
        let mut tail = [0; 8];
        SystemEntropy.fill(&mut tail);
        // Short: the admin socket's path inside must fit into 108 octets.
        let path = std::env::temp_dir().join(format!("wicketgate-demo-{:016x}", u64::from_be_bytes(tail)));
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self(path))
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for ThrowAway {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What the story needs of a running process.
fn control(running: &Running) -> anyhow::Result<Arc<Control>> {
    running.control().context("the control plane is not there")
}
