//! From what was written to what can be used. A value that does not do becomes a fault and its
//! default takes its place, so that one pass finds every fault.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use super::checked::{
    ADMIN_SOCKET, Acme, Admin, Config, Database, DatabaseUrl, Dns, Door, Edge, EdgeLimits, Health, KeySource,
    Keys, Limits, Otlp, Pki, SQLITE_FILE, Server, Smtp, Telemetry, Tls,
};
use super::choices::{SmtpEncryption, Suite, SuiteChoice, SuiteList};
use super::environment::{Environment, Origins};
use super::fault::Fault;
use super::raw::{RawAcme, RawConfig, RawDatabase, RawDns, RawEdge, RawEdgeLimits, RawKeys, RawSmtp, RawTls};
use super::values;
use super::walk::origin;
use crate::domain::{Networks, Secret};

/// Longest path of a Unix socket on Linux, without the closing zero byte (`sun_path`).
const SOCKET_PATH_BYTES: usize = 107;

const MIB: u64 = 1024 * 1024;

/// Name servers that may be named; two are asked at a time.
const MOST_NAME_SERVERS: usize = 8;

/// Turns `raw` into a [`Config`] and appends what is wrong to `faults`. The result may be used only
/// when nothing was appended.
pub(super) fn check(
    raw: RawConfig,
    environment: &Environment,
    origins: &Origins,
    faults: &mut Vec<Fault>,
) -> Config {
    let mut checker = Checker { faults, origins };
    let data_dir = checker.data_dir(&raw.server.data_dir);
    Config {
        file: None,
        database: checker.database(raw.database, data_dir.join(SQLITE_FILE)),
        server: Server { name: checker.value("server.name", raw.server.name, values::label), data_dir },
        keys: checker.keys(raw.keys, environment),
        smtp: checker.smtp(raw.smtp),
        acme: checker.acme(raw.acme),
        admin: Admin {
            listen: checker.or("admin.listen", &raw.admin.listen, values::address, loopback),
            host: checker.or("admin.host", &raw.admin.host, values::hostname, localhost),
            uid: raw.admin.uid,
        },
        pki: Pki {
            listen: checker.some("pki.listen", raw.pki.listen, values::address),
            base_url: checker.some("pki.base_url", raw.pki.base_url, values::plain_base_url),
            ocsp_per_second: raw.pki.ocsp_per_second,
        },
        health: Health { listen: checker.or("health.listen", &raw.health.listen, values::address, loopback) },
        door: Door { host: checker.some("door.host", raw.door.host, values::hostname) },
        telemetry: Telemetry {
            format: raw.telemetry.format,
            filter: checker.value("telemetry.filter", raw.telemetry.filter, filter),
            otlp: Otlp {
                endpoint: checker.some(
                    "telemetry.otlp.endpoint",
                    raw.telemetry.otlp.endpoint,
                    values::plain_base_url,
                ),
                sample_ratio: raw.telemetry.otlp.sample_ratio,
            },
        },
        limits: Limits { memory_bytes: raw.limits.memory_mib.map(|mib| mib * MIB) },
        edge: checker.edge(raw.edge),
    }
    .without_collisions(&mut checker)
}

struct Checker<'a> {
    faults: &'a mut Vec<Fault>,
    origins: &'a Origins,
}

impl Checker<'_> {
    fn refuse(&mut self, mut fault: Fault) {
        fault.from = origin(self.origins, &fault.key);
        self.faults.push(fault);
    }

    /// The parsed value, or the fault and `otherwise`.
    fn or<T>(
        &mut self,
        key: &str,
        text: &str,
        parse: impl Fn(&str) -> Result<T, String>,
        otherwise: impl Fn() -> T,
    ) -> T {
        parse(text).unwrap_or_else(|reason| {
            self.refuse(Fault::of_value(key, text, reason));
            otherwise()
        })
    }

    /// The text itself when it parses.
    fn value(&mut self, key: &str, text: String, parse: impl Fn(&str) -> Result<String, String>) -> String {
        self.or(key, &text, parse, || text.clone())
    }

    /// The parsed value of an optional key.
    fn some<T>(
        &mut self,
        key: &str,
        text: Option<String>,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let text = text?;
        self.or(key, &text, |text| parse(text).map(Some), || None)
    }

    fn addresses(&mut self, key: &str, texts: &[String]) -> Vec<SocketAddr> {
        let mut found = Vec::new();
        for (index, text) in texts.iter().enumerate() {
            let address = self.some(&format!("{key}[{index}]"), Some(text.clone()), values::address);
            found.extend(address);
        }
        found
    }

    fn networks(&mut self, key: &str, texts: &[String]) -> Networks {
        let mut found = Vec::new();
        for (index, text) in texts.iter().enumerate() {
            found.extend(self.some(&format!("{key}[{index}]"), Some(text.clone()), values::network));
        }
        found.into_iter().collect()
    }

    fn data_dir(&mut self, text: &str) -> PathBuf {
        let data_dir = self.or("server.data_dir", text, values::path, || PathBuf::from("."));
        let socket = data_dir.join(ADMIN_SOCKET).as_os_str().len();
        if socket > SOCKET_PATH_BYTES {
            let most = SOCKET_PATH_BYTES - ADMIN_SOCKET.len() - 1;
            let reason = format!("must be at most {most} bytes, or the admin socket in it has no valid path");
            self.refuse(Fault::of_value("server.data_dir", text, reason));
        }
        data_dir
    }

    fn database(&mut self, raw: RawDatabase, default: PathBuf) -> Database {
        let from_file = raw.url_file.is_some();
        let key = if from_file { "database.url_file" } else { "database.url" };
        let url = match self.secret("database.url", raw.url, raw.url_file) {
            None => DatabaseUrl::Sqlite(default),
            Some(text) => values::database_url(text.expose()).unwrap_or_else(|reason| {
                // What a file holds is a secret as a whole.
                self.refuse(if from_file {
                    Fault::of_key(key, reason)
                } else {
                    Fault::of_value(key, text.expose(), reason)
                });
                DatabaseUrl::Sqlite(default)
            }),
        };
        Database { url, max_connections: raw.max_connections }
    }

    fn keys(&mut self, raw: RawKeys, environment: &Environment) -> Keys {
        let mut source = |name: &str, inline: Option<String>, file: Option<String>| {
            let key = format!("keys.{}_key", name);
            if inline.is_some() && file.is_some() {
                self.refuse(Fault::of_key(&key, format!("set either this or {key}_file, not both")));
            }
            if let Some(text) = inline {
                if text.trim().is_empty() {
                    self.refuse(Fault::of_key(&key, "is empty"));
                }
                return KeySource::Inline(Secret::new(text));
            }
            if let Some(file) = self.some(&format!("{key}_file"), file, values::path) {
                return KeySource::File(file);
            }
            // Read here and now: systemd guards these files with an access list, whose mask shows as
            // mode 0440, so the rule for key files ("only its owner") must not be applied to them.
            let credential = environment.get("CREDENTIALS_DIRECTORY").map(PathBuf::from);
            match credential.map(|directory| directory.join(format!("{name}-key"))) {
                Some(path) if path.exists() => match std::fs::read_to_string(&path) {
                    Ok(text) => KeySource::Inline(Secret::new(text)),
                    Err(error) => {
                        let reason = format!("the credential cannot be read: {error}");
                        self.refuse(Fault::of_value(&key, &path.display().to_string(), reason));
                        KeySource::File(path)
                    }
                },
                _ => KeySource::File(PathBuf::from(format!("/etc/wicketgate/{name}.key"))),
            }
        };
        Keys {
            server: source("server", raw.server_key, raw.server_key_file),
            authority: source("authority", raw.authority_key, raw.authority_key_file),
        }
    }

    fn edge(&mut self, raw: RawEdge) -> Edge {
        if raw.https.is_empty() {
            self.refuse(Fault::of_key("edge.https", "must name at least one address"));
        }
        Edge {
            https: self.addresses("edge.https", &raw.https),
            http: self.addresses("edge.http", &raw.http),
            proxy_protocol_from: self.networks("edge.proxy_protocol_from", &raw.proxy_protocol_from),
            trusted_proxies: self.networks("edge.trusted_proxies", &raw.trusted_proxies),
            threads: raw.threads,
            max_stale: Duration::from_secs(raw.max_stale_seconds),
            self_check_every: (raw.self_check_seconds > 0)
                .then(|| Duration::from_secs(raw.self_check_seconds)),
            handshake_timeout: Duration::from_millis(raw.handshake_timeout_ms),
            header_timeout: Duration::from_millis(raw.header_timeout_ms),
            body_timeout: Duration::from_millis(raw.body_timeout_ms),
            min_rate: (raw.min_rate_bytes > 0).then_some(raw.min_rate_bytes),
            idle_timeout: Duration::from_millis(raw.idle_timeout_ms),
            total_timeout: Duration::from_millis(raw.total_timeout_ms),
            drain_timeout: Duration::from_millis(raw.drain_timeout_ms),
            max_connections: raw.max_connections,
            max_body_bytes: raw.max_body_mib * MIB,
            max_header_bytes: raw.max_header_kib * 1024,
            tls: self.tls(&raw.tls),
            limits: self.edge_limits(&raw.limits),
            dns: self.dns(&raw.dns),
        }
    }

    fn edge_limits(&mut self, raw: &RawEdgeLimits) -> EdgeLimits {
        EdgeLimits {
            handshakes_per_second: NonZeroU32::new(raw.handshakes_per_second),
            handshakes_per_second_per_source: NonZeroU32::new(raw.handshakes_per_second_per_source),
            connections_per_source: NonZeroU32::new(raw.connections_per_source),
            requests_per_second_per_source: NonZeroU32::new(raw.requests_per_second_per_source),
            requests_per_second_per_device: NonZeroU32::new(raw.requests_per_second_per_device),
            requests_per_second_per_person: NonZeroU32::new(raw.requests_per_second_per_person),
            exempt: self.networks("edge.limits.exempt", &raw.exempt),
        }
    }

    fn dns(&mut self, raw: &RawDns) -> Dns {
        let servers = self.addresses("edge.dns.servers", &raw.servers);
        if servers.iter().any(|server| server.port() == 0 || server.ip().is_unspecified()) {
            let reason = "must name addresses that can be asked, with their ports, such as 10.0.0.2:53";
            self.refuse(Fault::of_key("edge.dns.servers", reason));
        }
        if servers.len() > MOST_NAME_SERVERS {
            let reason = format!("must name at most {MOST_NAME_SERVERS} servers");
            self.refuse(Fault::of_key("edge.dns.servers", reason));
        }
        Dns { servers }
    }

    fn tls(&mut self, raw: &RawTls) -> Tls {
        let mut versions = Vec::new();
        for version in &raw.versions {
            if !versions.contains(version) {
                versions.push(*version);
            }
        }
        let mut suites = Vec::new();
        let (mut named, mut maintained) = (Vec::new(), false);
        for choice in &raw.suites {
            match choice {
                SuiteChoice::Named(SuiteList::Modern) => {
                    maintained = true;
                    suites.extend(Suite::MODERN);
                }
                SuiteChoice::One(suite) => {
                    named.push(suite.version());
                    suites.push(*suite);
                }
            }
        }
        let mut seen = Vec::new();
        suites.retain(|suite| {
            versions.contains(&suite.version()) && !seen.contains(suite) && {
                seen.push(*suite);
                true
            }
        });
        if versions.is_empty() {
            self.refuse(Fault::of_key("edge.tls.versions", "must name at least one version"));
        }
        for version in &versions {
            if !suites.iter().any(|suite| suite.version() == *version) {
                let reason = format!("must name a suite of every version; none is of {}", name(version));
                self.refuse(Fault::of_key("edge.tls.suites", reason));
            }
        }
        if !maintained && named.iter().any(|version| !versions.contains(version)) && !versions.is_empty() {
            let reason = "names a suite of a version that edge.tls.versions leaves out";
            self.refuse(Fault::of_key("edge.tls.suites", reason));
        }
        Tls { suites, versions }
    }

    fn acme(&mut self, raw: RawAcme) -> Acme {
        if raw.enabled && !raw.terms_agreed {
            let reason =
                "must be true for certificates to be ordered: read the terms of the ACME server first";
            self.refuse(Fault::of_value("acme.terms_agreed", "false", reason));
        }
        Acme {
            enabled: raw.enabled,
            directory_url: self.or("acme.directory_url", &raw.directory_url, values::https_url, no_url),
            contact: self.some("acme.contact", raw.contact, values::mail_address),
            terms_agreed: raw.terms_agreed,
            root_ca_file: self.some("acme.root_ca_file", raw.root_ca_file, values::path),
            challenge: raw.challenge,
            profile: self.some("acme.profile", raw.profile, values::label),
        }
    }

    fn smtp(&mut self, raw: RawSmtp) -> Option<Smtp> {
        let has_password = raw.password.is_some() || raw.password_file.is_some();
        let password = self.secret("smtp.password", raw.password, raw.password_file);
        let from = self.some("smtp.from", raw.from, |text| values::mailbox(text).map(|_| text.to_owned()));
        let Some(host) = raw.host else {
            for (key, set) in [("smtp.username", raw.username.is_some()), ("smtp.password", has_password)] {
                if set {
                    self.refuse(Fault::of_key(key, "needs smtp.host"));
                }
            }
            return None;
        };
        let host = self.value("smtp.host", host, values::host_or_ip);
        if from.is_none() && !self.faults.iter().any(|fault| fault.key == "smtp.from") {
            self.refuse(Fault::of_key("smtp.from", "must be set when smtp.host is"));
        }
        if raw.username.is_some() != has_password {
            let (key, other) = if has_password {
                ("smtp.username", "smtp.password")
            } else {
                ("smtp.password", "smtp.username")
            };
            self.refuse(Fault::of_key(key, format!("must be set when {other} is")));
        }
        if has_password && raw.encryption == SmtpEncryption::None && !values::is_loopback(&host) {
            let reason = "must be starttls or implicit: the password would travel in the clear";
            self.refuse(Fault::of_value("smtp.encryption", "none", reason));
        }
        Some(Smtp {
            root_ca_file: self.some("smtp.root_ca_file", raw.root_ca_file, values::path),
            port: raw.port.unwrap_or(raw.encryption.default_port()),
            encryption: raw.encryption,
            login: raw.username.zip(password),
            from: from.unwrap_or_default(),
            host,
        })
    }

    /// A secret given as text or as a file; its value appears in no fault.
    fn secret(&mut self, key: &str, text: Option<String>, file: Option<String>) -> Option<Secret<String>> {
        let file_key = format!("{key}_file");
        match (text, file) {
            (Some(_), Some(_)) => {
                self.refuse(Fault::of_key(key, format!("set either this or {file_key}, not both")));
                None
            }
            (Some(text), None) if text.is_empty() => {
                self.refuse(Fault::of_key(key, "is empty"));
                None
            }
            (Some(text), None) => Some(Secret::new(text)),
            (None, Some(file)) => match std::fs::read_to_string(&file) {
                Ok(text) if text.trim_end().is_empty() => {
                    self.refuse(Fault::of_value(&file_key, &file, "the file is empty"));
                    None
                }
                Ok(text) => Some(Secret::new(text.trim_end_matches(['\r', '\n']).to_owned())),
                Err(error) => {
                    self.refuse(Fault::of_value(&file_key, &file, format!("cannot be read: {error}")));
                    None
                }
            },
            (None, None) => None,
        }
    }
}

impl Config {
    /// Refuses two listeners on one address; port 0 is a different one each time.
    fn without_collisions(self, checker: &mut Checker<'_>) -> Self {
        let mut taken: BTreeMap<SocketAddr, String> = BTreeMap::new();
        for (key, address) in self.listeners() {
            if address.port() == 0 {
                continue;
            }
            if let Some(first) = taken.get(&address) {
                let reason = format!("is the address of {first} already");
                checker.refuse(Fault::of_value(key, &address.to_string(), reason));
            } else {
                taken.insert(address, key);
            }
        }
        self
    }
}

fn filter(text: &str) -> Result<String, String> {
    match tracing_subscriber::EnvFilter::try_new(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err("must be a filter such as info or info,wicketgate::edge=debug".to_owned()),
    }
}

fn name(version: &super::choices::TlsVersion) -> &'static str {
    match version {
        super::choices::TlsVersion::V13 => "1.3",
        super::choices::TlsVersion::V12 => "1.2",
    }
}

// Stand-ins for faulty values; never seen outside, because a fault was recorded with them.

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

#[expect(clippy::expect_used, reason = "a constant that the tests parse")]
fn localhost() -> crate::domain::Hostname {
    crate::domain::Hostname::normalize("localhost").expect("localhost is a host name")
}

#[expect(clippy::expect_used, reason = "a constant that the tests parse")]
fn no_url() -> Url {
    Url::parse("https://localhost/").expect("a constant URL parses")
}
