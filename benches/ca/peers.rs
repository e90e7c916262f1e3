//! step-ca with its default database, a JWK provisioner, and one-time tokens that were made beforehand.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::json;
use wicketgate::clock::{Clock, SystemClock};

use super::client::{self, Place};
use super::harness::{accepts, free_port, peers};
use super::load::{self, Sample};
use super::material::{self, name_of};

/// A running step-ca; killed when dropped.
pub(crate) struct StepCa {
    place: Place,
    tokens: Arc<[String]>,
    process: Child,
}

impl Drop for StepCa {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl StepCa {
    pub(crate) fn start(folder: &Path, requests: &[String]) -> Result<Self> {
        let folder = folder.join("step");
        std::fs::create_dir(&folder)?;
        material::step_authorities(&folder)?;
        let provisioner = material::Provisioner::fresh()?;
        let port = free_port();
        let path = |name: &str| folder.join(name).display().to_string();
        let config = json!({
            "root": path("root.pem"), "crt": path("issuing.pem"), "key": path("issuing.key"),
            "address": format!("127.0.0.1:{port}"), "dnsNames": ["localhost"],
            "logger": { "format": "json" },
            "db": { "type": "badgerv2", "dataSource": path("db") },
            "authority": { "provisioners": [{ "type": "JWK", "name": "bench", "key": provisioner.jwk()? }] },
        });
        let file = folder.join("ca.json");
        std::fs::write(&file, config.to_string())?;
        let mut process = Command::new(program()?)
            .arg(&file)
            .env("STEPPATH", &folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(folder.join("log"))?)
            .spawn()?;
        let began = Instant::now();
        while !accepts(port) {
            if began.elapsed() > Duration::from_secs(30) || process.try_wait()?.is_some() {
                bail!("step-ca does not listen: {}", std::fs::read_to_string(folder.join("log"))?);
            }
            std::thread::park_timeout(Duration::from_millis(50));
        }
        // Not before it started, or it takes them for tokens of an earlier life.
        let now = SystemClock.now().as_unix();
        let audience = format!("https://localhost:{port}/1.0/sign");
        let tokens: Result<Vec<_>> =
            (0..requests.len()).map(|index| provisioner.token(&name_of(index), &audience, now)).collect();
        let root = std::fs::read_to_string(folder.join("root.pem"))?;
        let root = wicketgate::pki::pem::blocks(&root, "CERTIFICATE").pop().context("a root")?;
        let place = Place { address: ([127, 0, 0, 1], port).into(), root };
        Ok(Self { place, tokens: tokens?.into(), process })
    }

    pub(crate) fn cpu_seconds(&self) -> Result<f64> {
        load::cpu_seconds(self.process.id())
    }

    /// Each request with its token; the first is number `from`.
    pub(crate) async fn issue(&self, from: usize, requests: &[String]) -> Result<Sample> {
        let (requests, tokens): (Arc<[String]>, _) = (requests.into(), self.tokens.clone());
        let count = requests.len();
        client::send_all(&self.place, 201, count, move |index| {
            let body = json!({ "csr": requests[index], "ott": tokens[from + index] });
            client::post("/1.0/sign", None, &body)
        })
        .await
    }
}

fn program() -> Result<PathBuf> {
    peers::find("step-ca").context("step-ca is missing: `packaging/dev/set-up bench` installs it")
}

/// What it says of itself.
pub(crate) fn step_version() -> String {
    let output = program().ok().and_then(|program| Command::new(program).arg("version").output().ok());
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.lines().next().unwrap_or("step-ca").to_owned()
}
