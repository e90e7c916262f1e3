//! The edge that is attacked, in a process of its own: what it takes is nobody else's.

use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use wicketgate::domain::Slug;
use wicketgate::domain::upstream::UpstreamOptions;
use wicketgate::live::UpstreamData;

use super::kernel;
use super::origin::Ports;
use super::process::{Part, Process};
use crate::edge::fixture::{APP, World};
use crate::prove::edge::crowd::{Gate, Pass};

/// Deadlines, in seconds: short, yet long enough for whoever means well.
pub(super) const HANDSHAKE: u64 = 2;
pub(super) const HEADER: u64 = 2;
pub(super) const BODY: u64 = 2;
pub(super) const IDLE: u64 = 5;
pub(super) const ANSWER: u64 = 3;
/// What an idle peer has who was told to go (`protocol::LEAVE_WITHIN`).
pub(super) const LEAVE: u64 = 5;
/// One whole exchange.
const TOTAL: u64 = 60;
/// More than any attack here has.
const CONNECTIONS: usize = 2_000;
/// How often is looked whether everybody has gone.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Not a test of its own: the process that is attacked.
#[tokio::test]
async fn victim() {
    let Some(mut orders) = Part::Victim.orders() else { return };
    let order = orders.next().await.unwrap();
    let world = World::with(
        |settings| {
            // One thread: who is attacked and who is not share it.
            settings.threads = 1;
            settings.handshake_timeout = Duration::from_secs(HANDSHAKE);
            settings.header_timeout = Duration::from_secs(HEADER);
            settings.body_timeout = Duration::from_secs(BODY);
            settings.idle_timeout = Duration::from_secs(IDLE);
            settings.answer_timeout = Duration::from_secs(ANSWER);
            settings.total_timeout = Duration::from_secs(TOTAL);
            settings.max_connections = CONNECTIONS;
        },
        |data| {
            let targets = |name: &str| vec![format!("http://127.0.0.1:{}", order[name])];
            data.upstreams[0].targets = targets("regular");
            let name: Slug = "public".parse().unwrap();
            let options = UpstreamOptions::default();
            data.upstreams.push(UpstreamData { name: name.clone(), targets: targets("public"), options });
            let open = data.routes.iter_mut().find(|route| route.path_prefix == "/public").unwrap();
            open.upstream = name;
        },
    )
    .await;
    let device = world.enrol().await;
    orders.say(&json!({
        "port": world.edge.https_addresses()[0].port(),
        "root": STANDARD.encode(&world.server_ca),
        "chain": device.chain.iter().map(|der| STANDARD.encode(der)).collect::<Vec<_>>(),
        "key": STANDARD.encode(device.key.secret_der()),
    }));
    orders.end().await;
}

/// The edge as others see it.
pub(super) struct Victim {
    process: Process,
    pub(super) gate: Gate,
    chain: Vec<Vec<u8>>,
    key: Vec<u8>,
}

impl Victim {
    /// One in front of the apps at these ports.
    pub(super) async fn start(ports: Ports) -> Self {
        let mut process = Process::start(Part::Victim);
        process.tell(&json!({ "regular": ports.regular, "public": ports.public })).await;
        let said = process.hear().await;
        let octets = |value: &Value| STANDARD.decode(value.as_str().unwrap()).unwrap();
        let port = said["port"].as_u64().unwrap().try_into().unwrap();
        Self {
            gate: Gate { port, host: APP, root: octets(&said["root"]) },
            chain: said["chain"].as_array().unwrap().iter().map(octets).collect(),
            key: octets(&said["key"]),
            process,
        }
    }

    /// What the one who may come in shows.
    pub(super) fn pass(&self) -> Pass {
        Pass {
            chain: self.chain.iter().cloned().map(CertificateDer::from).collect(),
            key: PrivateKeyDer::Pkcs8(self.key.clone().into()),
        }
    }

    /// From here on, only new peaks of memory count.
    pub(super) fn forget_peak(&self) {
        kernel::forget_peak(self.process.pid);
    }

    /// The highest resident memory since then, in KiB.
    pub(super) fn peak_kib(&self) -> u64 {
        kernel::peak_kib(self.process.pid)
    }

    /// Time on the processor so far.
    pub(super) fn processor_seconds(&self) -> f64 {
        kernel::processor_seconds(self.process.pid)
    }

    /// Waits until nobody is connected any more: how long that took.
    ///
    /// # Errors
    /// How many are left after `deadline`.
    pub(super) async fn is_left(&self, deadline: Duration) -> Result<Duration, usize> {
        let since = Instant::now();
        loop {
            match kernel::connections(self.gate.port) {
                0 => return Ok(since.elapsed()),
                left if since.elapsed() > deadline => return Err(left),
                _ => tokio::time::sleep(LOOK_EVERY).await,
            }
        }
    }

    /// Ends it.
    pub(super) async fn end(self) {
        self.process.end().await;
    }
}
