//! The configuration as values that cannot be wrong. Plain fields, so that `demo` and tests build one
//! in code: [`Config::for_data_dir`].

use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use url::Url;

use super::check::check;
use super::choices::{AcmeChallenge, LogFormat, SmtpEncryption, Suite, TlsVersion};
use super::environment::{Environment, Origins};
use super::fault::masked_url;
use super::raw::RawConfig;
use crate::domain::{Hostname, Networks, Secret};

/// Everything a process needs to boot.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file it was read from, if there was one.
    pub file: Option<PathBuf>,
    /// The installation.
    pub server: Server,
    /// Where rows live.
    pub database: Database,
    /// The two key-encryption keys.
    pub keys: Keys,
    /// The public side.
    pub edge: Edge,
    /// Console and API.
    pub admin: Admin,
    /// Where certificates and revocation lists are published.
    pub pki: Pki,
    /// Probes and metrics.
    pub health: Health,
    /// Portal and invitations.
    pub door: Door,
    /// Public certificates for the sites.
    pub acme: Acme,
    /// The mail server; none means that no mail is sent.
    pub smtp: Option<Smtp>,
    /// Logs.
    pub telemetry: Telemetry,
    /// Ceilings.
    pub limits: Limits,
}

/// The installation.
#[derive(Clone, Debug)]
pub struct Server {
    /// Directory for everything the process writes.
    pub data_dir: PathBuf,
    /// Name of the installation: 1 to 64 characters.
    pub name: String,
}

/// Where rows live.
#[derive(Clone, Debug)]
pub struct Database {
    /// Which database.
    pub url: DatabaseUrl,
    /// Connections kept at most, >= 1.
    pub max_connections: u32,
}

/// Which database.
#[derive(Clone, Debug)]
pub enum DatabaseUrl {
    /// A file of this host.
    Sqlite(PathBuf),
    /// A PostgreSQL server; `postgres://…`, with its password.
    Postgres(Secret<String>),
}

impl DatabaseUrl {
    /// As `store::Store::open` takes it.
    pub fn to_text(&self) -> Secret<String> {
        match self {
            Self::Sqlite(path) => Secret::new(format!("sqlite:{}", path.display())),
            Self::Postgres(url) => url.clone(),
        }
    }
}

impl fmt::Display for DatabaseUrl {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::Postgres(url) => f.write_str(&masked_url(url.expose())),
        }
    }
}

/// The two key-encryption keys.
#[derive(Clone, Debug)]
pub struct Keys {
    /// Opens site keys, the assertion key and the edge's snapshot.
    pub server: KeySource,
    /// Opens authority keys, account keys and the outbox; only the admin role needs it.
    pub authority: KeySource,
}

/// Where a key-encryption key comes from.
#[derive(Clone, Debug)]
pub enum KeySource {
    /// Given as text: from the environment, a credential of systemd, or the file.
    Inline(Secret<String>),
    /// In a file that only its owner may read.
    File(PathBuf),
}

/// The public side.
#[derive(Clone, Debug)]
pub struct Edge {
    /// HTTPS listeners, at least one.
    pub https: Vec<SocketAddr>,
    /// Plain HTTP listeners; may be empty.
    pub http: Vec<SocketAddr>,
    /// From where connections begin with a PROXY header.
    pub proxy_protocol_from: Networks,
    /// Proxies whose chain of addresses is believed.
    pub trusted_proxies: Networks,
    /// Worker threads; none means one a processor.
    pub threads: Option<u32>,
    /// How long an edge that hears nothing goes on letting known devices in.
    pub max_stale: Duration,
    /// How often the edge asks itself whether strangers are refused; `None`: never.
    pub self_check_every: Option<Duration>,
    /// For the whole TLS handshake.
    pub handshake_timeout: Duration,
    /// From the first byte of a request to the end of its headers.
    pub header_timeout: Duration,
    /// Longest pause inside a body, in either direction.
    pub body_timeout: Duration,
    /// Bytes a second that a visitor who is waited for has to move; `None` is no bound.
    pub min_rate: Option<u64>,
    /// How long a connection is kept between requests.
    pub idle_timeout: Duration,
    /// For one request and its answer.
    pub total_timeout: Duration,
    /// How long requests under way may go on after SIGTERM.
    pub drain_timeout: Duration,
    /// Connections open at one time.
    pub max_connections: u32,
    /// Largest request body, in bytes.
    pub max_body_bytes: u64,
    /// Largest head of a request, in bytes.
    pub max_header_bytes: u32,
    /// Protocol versions and cipher suites.
    pub tls: Tls,
    /// How often, and with how many connections, somebody may come.
    pub limits: EdgeLimits,
    /// How upstreams are found by their names.
    pub dns: Dns,
}

/// How often, and with how many connections, somebody may come; what is none is not limited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EdgeLimits {
    /// TLS handshakes a second, all sources together.
    pub handshakes_per_second: Option<NonZeroU32>,
    /// TLS handshakes a second of one source.
    pub handshakes_per_second_per_source: Option<NonZeroU32>,
    /// Connections of one source open at one time.
    pub connections_per_source: Option<NonZeroU32>,
    /// Requests a second from one source.
    pub requests_per_second_per_source: Option<NonZeroU32>,
    /// Requests a second of one known device.
    pub requests_per_second_per_device: Option<NonZeroU32>,
    /// Requests a second of one known person.
    pub requests_per_second_per_person: Option<NonZeroU32>,
    /// Networks that no limit by source applies to.
    pub exempt: Networks,
}

/// How upstreams are found by their names.
#[derive(Clone, Debug)]
pub struct Dns {
    /// Name servers that are asked, at most eight; empty: those of `/etc/resolv.conf`.
    pub servers: Vec<SocketAddr>,
}

/// Protocol versions and cipher suites; every version has at least one suite.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// In order of preference, without repetition, only of the versions below.
    pub suites: Vec<Suite>,
    /// At least one.
    pub versions: Vec<TlsVersion>,
}

/// Console and API.
#[derive(Clone, Debug)]
pub struct Admin {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Under which name browsers reach it.
    pub host: Hostname,
    /// User id that may use the local socket, beside root.
    pub uid: Option<u32>,
}

/// Where certificates and revocation lists are published.
#[derive(Clone, Debug)]
pub struct Pki {
    /// An own listener for `/pki/`; none means that the edge's HTTP listeners serve it alone.
    pub listen: Option<SocketAddr>,
    /// `http://host[:port]` in front of `/pki/`, as configured. Ask [`Config::pki_base_url`].
    pub base_url: Option<Url>,
    /// OCSP answers signed a second for one source address.
    pub ocsp_per_second: NonZeroU32,
}

/// Probes and metrics.
#[derive(Clone, Debug)]
pub struct Health {
    /// Where it listens.
    pub listen: SocketAddr,
}

/// Portal and invitations.
#[derive(Clone, Debug)]
pub struct Door {
    /// Its public host name.
    pub host: Option<Hostname>,
}

/// Public certificates for the sites.
#[derive(Clone, Debug)]
pub struct Acme {
    /// Whether certificates are ordered. If so, the terms are agreed to.
    pub enabled: bool,
    /// The ACME server's directory; https.
    pub directory_url: Url,
    /// Mail address for the account.
    pub contact: Option<String>,
    /// Whether the terms are agreed to.
    pub terms_agreed: bool,
    /// PEM file with the root of the ACME server's own certificate.
    pub root_ca_file: Option<PathBuf>,
    /// How control of a host name is proven.
    pub challenge: AcmeChallenge,
    /// Certificate profile to ask for.
    pub profile: Option<String>,
}

/// The mail server.
#[derive(Clone, Debug)]
pub struct Smtp {
    /// Host name or IP address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// How the connection is protected.
    pub encryption: SmtpEncryption,
    /// PEM file with a root to verify the server with, beside the system's.
    pub root_ca_file: Option<PathBuf>,
    /// User name and password, if the server wants them.
    pub login: Option<(String, Secret<String>)>,
    /// Sender: an address, or a name and an address in angle brackets.
    pub from: String,
}

/// Logs and spans.
#[derive(Clone, Debug)]
pub struct Telemetry {
    /// How lines look.
    pub format: LogFormat,
    /// What is logged; a valid filter of `tracing_subscriber`.
    pub filter: String,
    /// Where spans go.
    pub otlp: Otlp,
}

/// Spans for a collector.
#[derive(Clone, Debug)]
pub struct Otlp {
    /// The collector: `http://host` or `http://host:port`. `None`: no spans.
    pub endpoint: Option<Url>,
    /// Share of the traces to record, 0 to 1, but for those that a trusted proxy brings along.
    pub sample_ratio: f64,
}

/// Ceilings.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Memory at which new connections are turned away, in bytes.
    pub memory_bytes: Option<u64>,
}

impl Config {
    /// The defaults for a process that keeps everything below `data_dir` and talks to loopback only:
    /// SQLite, free ports (0) everywhere, key files in `<data_dir>/keys/`. For `demo` and tests.
    pub fn for_data_dir(data_dir: &Path) -> Self {
        let free = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut config = check(RawConfig::default(), &Environment::new(), &Origins::new(), &mut Vec::new());
        config.database.url = DatabaseUrl::Sqlite(data_dir.join(SQLITE_FILE));
        config.keys = Keys {
            server: KeySource::File(data_dir.join("keys/server.key")),
            authority: KeySource::File(data_dir.join("keys/authority.key")),
        };
        config.server.data_dir = data_dir.to_owned();
        config.edge.https = vec![free];
        config.edge.http = vec![free];
        config.admin.listen = free;
        config.health.listen = free;
        config
    }

    /// Every TCP listener with the key that names it, port 0 included.
    pub fn listeners(&self) -> Vec<(String, SocketAddr)> {
        let mut found = Vec::new();
        for (key, list) in [("edge.https", &self.edge.https), ("edge.http", &self.edge.http)] {
            found.extend(
                list.iter().enumerate().map(|(index, address)| (format!("{key}[{index}]"), *address)),
            );
        }
        found.push(("admin.listen".to_owned(), self.admin.listen));
        found.push(("health.listen".to_owned(), self.health.listen));
        found.extend(self.pki.listen.map(|address| ("pki.listen".to_owned(), address)));
        found
    }

    /// The Unix socket of the admin role.
    pub fn admin_socket(&self) -> PathBuf {
        self.server.data_dir.join(ADMIN_SOCKET)
    }

    /// The Unix socket by which another process takes over.
    pub fn handover_socket(&self) -> PathBuf {
        self.server.data_dir.join(HANDOVER_SOCKET)
    }

    /// What stands in front of `/pki/…` in issued certificates, without a slash at its end:
    /// `pki.base_url`, else `http://` and the door, else `http://localhost`.
    pub fn pki_base_url(&self) -> String {
        match (&self.pki.base_url, &self.door.host) {
            (Some(url), _) => url.as_str().trim_end_matches('/').to_owned(),
            (None, Some(door)) => format!("http://{door}"),
            (None, None) => "http://localhost".to_owned(),
        }
    }
}

/// Name of the default database below the data directory.
pub(super) const SQLITE_FILE: &str = "wicketgate.db";

/// Name of the admin role's socket below the data directory.
pub(super) const ADMIN_SOCKET: &str = "admin.sock";

/// Name of the hand-over's socket below the data directory.
const HANDOVER_SOCKET: &str = "handover.sock";
