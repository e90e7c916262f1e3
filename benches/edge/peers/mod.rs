//! The proxies under test, each one process on one core, configured alike: TLS 1.3 with
//! TLS_AES_128_GCM_SHA256 and X25519, client certificate required, no tickets, HTTP/2, an access log in a
//! file, the client's certificate in headers, as many kept connections to the backend as there can be requests.

mod caddy;
mod haproxy;
mod nginx;

use std::fs::{File, OpenOptions};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;
use tokio::net::TcpStream;

use super::{PROXY_CORE, ROLE};

/// Where our own processes find the certificates.
pub(crate) const CERTIFICATES: &str = "WICKETGATE_BENCH_CERTIFICATES";
/// Where they listen.
pub(crate) const LISTEN: &str = "WICKETGATE_BENCH_LISTEN";
/// Where their backend is.
pub(crate) const BACKEND: &str = "WICKETGATE_BENCH_BACKEND";
/// How many routes they have.
pub(crate) const ROUTES: &str = "WICKETGATE_BENCH_ROUTES";
/// How many certificates are on record beside the visitor's.
pub(crate) const REGISTER: &str = "WICKETGATE_BENCH_REGISTER";

/// How long a proxy may take to come up; ours may have a million certificates to read.
const PATIENCE: Duration = Duration::from_secs(60);

/// Which proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Our edge.
    Ours(Size),
    /// nginx.
    Nginx(Buffers),
    /// HAProxy.
    Haproxy(Buffers),
    /// Caddy.
    Caddy,
    /// A bare hyper server that answers by itself.
    Echo,
}

/// How much an edge of ours has to look up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) routes: usize,
    pub(crate) certificates: u32,
}

/// How a peer buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Buffers {
    /// As it comes.
    Default,
    /// Room for a large answer.
    Large,
}

impl Kind {
    /// What must reach the backend.
    pub(crate) fn identity_headers(self) -> &'static [&'static str] {
        match self {
            Self::Ours(_) => &["client-cert", "wicketgate-assertion", "x-webauth-user"],
            Self::Nginx(_) | Self::Haproxy(_) | Self::Caddy => &["client-cert", "x-webauth-user"],
            Self::Echo => &[],
        }
    }

    /// Whether it writes an access log.
    pub(crate) fn logs(self) -> bool {
        self != Self::Echo
    }

    fn command(self, place: &Place) -> Result<Command> {
        match self {
            Self::Ours(size) => ours("server", place).map(|mut command| {
                command.env(ROUTES, size.routes.to_string()).env(REGISTER, size.certificates.to_string());
                command
            }),
            Self::Nginx(buffers) => nginx::command(place, buffers),
            Self::Haproxy(buffers) => haproxy::command(place, buffers),
            Self::Caddy => caddy::command(place),
            Self::Echo => ours("echo", place),
        }
    }
}

/// What a proxy is given: files, an address, a backend.
pub(crate) struct Place {
    certificates: PathBuf,
    own: TempDir,
    address: SocketAddr,
    backend: SocketAddr,
}

impl Place {
    /// * `own` — the folder of this one proxy.
    pub(crate) fn new(certificates: &Path, own: TempDir, backend: SocketAddr) -> Result<Self> {
        // Free a moment ago.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        Ok(Self { certificates: certificates.to_owned(), own, address, backend })
    }

    /// Where the access log is.
    fn log(&self) -> PathBuf {
        self.own.path().join("access.log")
    }

    /// What it says beside that.
    fn complaints(&self) -> PathBuf {
        self.own.path().join("complaints")
    }

    /// Writes a file of the proxy's.
    fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.own.path().join(name);
        std::fs::write(&path, text)?;
        Ok(path)
    }
}

/// A running proxy; killed when dropped, and with us.
pub(crate) struct Target {
    process: Child,
    place: Place,
}

impl Target {
    pub(crate) async fn start(kind: Kind, place: Place) -> Result<Self> {
        File::create(place.log())?;
        let append = |path: PathBuf| OpenOptions::new().create(true).append(true).open(path);
        let process = kind
            .command(&place)?
            .stdin(Stdio::null())
            .stdout(append(place.log())?)
            .stderr(append(place.complaints())?)
            .spawn()
            .context("setpriv and taskset (util-linux) are needed")?;
        let mut target = Self { process, place };
        let began = Instant::now();
        while TcpStream::connect(target.place.address).await.is_err() {
            if target.process.try_wait()?.is_some() || began.elapsed() > PATIENCE {
                bail!("it does not listen: {}", std::fs::read_to_string(target.place.complaints())?);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(target)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.place.address
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Empties the access log. Returns how many octets it had.
    pub(crate) fn forget_log(&self) -> Result<u64> {
        let log = OpenOptions::new().write(true).open(self.place.log())?;
        let octets = log.metadata()?.len();
        log.set_len(0)?;
        Ok(octets)
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A program on the proxies' core that does not outlive us.
fn pinned(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    // Each becomes the next, so the process id is the program's.
    command.args(["--pdeathsig", "KILL", "taskset", "-c", PROXY_CORE]).arg(program);
    command
}

/// This program in another role.
fn ours(role: &str, place: &Place) -> Result<Command> {
    let mut command = pinned(&std::env::current_exe()?);
    command
        .env(ROLE, role)
        .env(CERTIFICATES, &place.certificates)
        .env(LISTEN, place.address.to_string())
        .env(BACKEND, place.backend.to_string());
    Ok(command)
}

/// A peer's program. Debian keeps some where a user's PATH does not lead.
fn installed(name: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/bin".into()]);
    folders
        .map(|folder| folder.join(name))
        .find(|program| program.is_file())
        .with_context(|| format!("{name} is missing: `packaging/dev/set-up bench` installs it"))
}

/// The builds of the peers, and which TLS each stands on.
pub(crate) fn versions() -> String {
    [
        said("nginx", &["-V"], &["nginx version:", "built with"]),
        said("haproxy", &["-vv"], &["HAProxy version", "Running on OpenSSL version"]),
        said("caddy", &["version"], &[""]).map(|version| format!("Caddy {version}")),
        said("caddy", &["build-info"], &["go\t"]).map(|go| go.replace('\t', " ")),
    ]
    .map(|version| version.unwrap_or_else(|| "unknown".to_owned()))
    .join("; ")
}

/// The first line that begins with each of these, of what a program says.
fn said(program: &str, arguments: &[&str], beginnings: &[&str]) -> Option<String> {
    let output = Command::new(installed(program).ok()?).args(arguments).output().ok()?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let line = |beginning: &&str| text.lines().find(|line| line.starts_with(*beginning)).map(str::trim);
    Some(beginnings.iter().filter_map(line).collect::<Vec<_>>().join(", "))
}
