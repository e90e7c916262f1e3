//! The file as it is written: sections, keys, defaults and bounds. Everything else about keys (what is
//! known, which type, which range, what is secret) is read from the schema of these types, so that
//! there is one place to add a key. Never used outside `config`.

use std::num::NonZeroU32;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::choices::{AcmeChallenge, LogFormat, SmtpEncryption, SuiteChoice, SuiteList, TlsVersion};

/// What a process needs to boot. Sites, routes, people and all else that an administrator edits lives
/// in the database.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(title = "wicketgate.toml")]
pub struct RawConfig {
    /// The installation.
    pub server: RawServer,
    /// Where rows live.
    pub database: RawDatabase,
    /// The two keys that open sealed data. Neither belongs in the data directory or a backup.
    pub keys: RawKeys,
    /// The public side.
    pub edge: RawEdge,
    /// Console and API.
    pub admin: RawAdmin,
    /// Where certificates and revocation lists are published.
    pub pki: RawPki,
    /// Probes and metrics.
    pub health: RawHealth,
    /// Portal, invitations and EST.
    pub door: RawDoor,
    /// Public certificates for the sites.
    pub acme: RawAcme,
    /// The mail server. Without a host no mail is sent.
    pub smtp: RawSmtp,
    /// Logs.
    pub telemetry: RawTelemetry,
    /// Ceilings.
    pub limits: RawLimits,
}

/// The installation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawServer {
    /// Directory for everything the process writes; mode 0700.
    pub data_dir: String,
    /// Name of the installation, part of its authorities' names. Read once, by `init`.
    pub name: String,
}

impl Default for RawServer {
    fn default() -> Self {
        Self { data_dir: "/var/lib/wicketgate".into(), name: "Wicketgate".into() }
    }
}

/// Where rows live.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawDatabase {
    /// `sqlite:<path>` or `postgres://user:password@host/name`. Default: SQLite in the data directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// File with the URL, instead of `url`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url_file: Option<String>,
    /// Connections kept at most.
    #[schemars(range(min = 1, max = 1000))]
    pub max_connections: u32,
}

impl Default for RawDatabase {
    fn default() -> Self {
        Self { url: None, url_file: None, max_connections: 10 }
    }
}

/// The two keys that open sealed data.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawKeys {
    /// The server key itself. Better in a file or an environment variable than here.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("writeOnly" = true))]
    pub server_key: Option<String>,
    /// File with the server key; mode 0600. Default: `$CREDENTIALS_DIRECTORY/server-key` when it is
    /// there, else `/etc/wicketgate/server.key`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_key_file: Option<String>,
    /// The authority key itself. Better in a file or an environment variable than here.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("writeOnly" = true))]
    pub authority_key: Option<String>,
    /// File with the authority key; mode 0600. Default: `$CREDENTIALS_DIRECTORY/authority-key` when it
    /// is there, else `/etc/wicketgate/authority.key`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authority_key_file: Option<String>,
}

/// The public side.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawEdge {
    /// Addresses for HTTPS.
    pub https: Vec<String>,
    /// Addresses for plain HTTP: redirects, ACME challenges and `/pki/`. May be empty.
    pub http: Vec<String>,
    /// Networks of load balancers that begin every connection with a PROXY header (version 1 or 2), which says who
    /// visits: connections from there must have one, from everywhere else they must not.
    pub proxy_protocol_from: Vec<String>,
    /// Networks of proxies whose `Forwarded`, or else `X-Forwarded-For`, is believed. A proxy there must write one
    /// of them itself and not pass on what it was sent; where both are there, they must agree. Requests with a chain
    /// that cannot be read up to the visitor, or that names two, are answered 400.
    pub trusted_proxies: Vec<String>,
    /// Worker threads. Default: one a processor.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 256))]
    pub threads: Option<u32>,
    /// How long an edge that hears nothing goes on letting known devices in.
    #[schemars(range(min = 60, max = 2_592_000))]
    pub max_stale_seconds: u64,
    /// How often the edge asks itself, as a stranger would, whether protected routes are closed; it does after
    /// every change, too. 0: never.
    #[schemars(range(min = 0, max = 86_400))]
    pub self_check_seconds: u64,
    /// For the whole TLS handshake.
    #[schemars(range(min = 100, max = 60_000))]
    pub handshake_timeout_ms: u64,
    /// From the first byte of a request to the end of its headers; for HTTP/2, of any frame but a body's.
    #[schemars(range(min = 100, max = 300_000))]
    pub header_timeout_ms: u64,
    /// Longest pause inside a body, in either direction. Over HTTP/2, each frame of an upload has to be whole within
    /// it, whatever `min_rate_bytes` says.
    #[schemars(range(min = 100, max = 3_600_000))]
    pub body_timeout_ms: u64,
    /// Bytes a second that a visitor has to send or take on average, over every `body_timeout_ms` that was spent
    /// waiting for nothing but them. Uploads count until the app begins to answer. 0: no bound.
    #[schemars(range(min = 0, max = 1_048_576))]
    pub min_rate_bytes: u64,
    /// How long a connection is kept between requests.
    #[schemars(range(min = 100, max = 3_600_000))]
    pub idle_timeout_ms: u64,
    /// For one request and its answer. Upgraded connections are exempt.
    #[schemars(range(min = 1_000, max = 86_400_000))]
    pub total_timeout_ms: u64,
    /// How long requests under way may go on after SIGTERM.
    #[schemars(range(min = 0, max = 3_600_000))]
    pub drain_timeout_ms: u64,
    /// Connections open at one time; further ones wait in the kernel.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_connections: u32,
    /// Largest request body.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub max_body_mib: u64,
    /// Largest head of a request.
    #[schemars(range(min = 4, max = 256))]
    pub max_header_kib: u32,
    /// Protocol versions and cipher suites.
    pub tls: RawTls,
    /// How often, and with how many connections, somebody may come.
    pub limits: RawEdgeLimits,
    /// How upstreams are found by their names.
    pub dns: RawDns,
}

impl Default for RawEdge {
    fn default() -> Self {
        Self {
            https: vec!["[::]:443".into()],
            http: vec!["[::]:80".into()],
            proxy_protocol_from: Vec::new(),
            trusted_proxies: Vec::new(),
            threads: None,
            max_stale_seconds: 86_400,
            self_check_seconds: 60,
            handshake_timeout_ms: 10_000,
            header_timeout_ms: 10_000,
            body_timeout_ms: 60_000,
            min_rate_bytes: 16,
            idle_timeout_ms: 75_000,
            total_timeout_ms: 3_600_000,
            drain_timeout_ms: 30_000,
            max_connections: 20_000,
            max_body_mib: 1_024,
            max_header_kib: 32,
            tls: RawTls::default(),
            limits: RawEdgeLimits::default(),
            dns: RawDns::default(),
        }
    }
}

/// How often, and with how many connections, somebody may come. After a pause, twice as many come through at once.
/// A source is an IPv4 address or an IPv6 /64. Who is refused a request reads 429 and when to come again; a connection
/// that is too much is closed without an answer. Routes may have rules of their own.
///
/// The defaults leave room for some hundred people behind one address. They stop scripts that run wild and floods
/// from one place; 0 turns a limit off.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawEdgeLimits {
    /// TLS handshakes a second, all sources together; judged before anything is read or signed. Set it to what the
    /// host can sign and still serve. By default, about half of what two processors do.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub handshakes_per_second: u32,
    /// TLS handshakes a second of one source.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub handshakes_per_second_per_source: u32,
    /// Connections of one source open at one time, HTTP and HTTPS together.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub connections_per_source: u32,
    /// Requests a second from one source, whoever asks.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub requests_per_second_per_source: u32,
    /// Requests a second of one known device.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub requests_per_second_per_device: u32,
    /// Requests a second of one known person, all devices together. Off by default: a service account may have many.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub requests_per_second_per_person: u32,
    /// Networks that no limit by source applies to, those of routes included, such as `192.0.2.0/24`: this host, and
    /// load balancers or other addresses that stand for many.
    pub exempt: Vec<String>,
}

impl Default for RawEdgeLimits {
    fn default() -> Self {
        Self {
            handshakes_per_second: 4_000,
            handshakes_per_second_per_source: 200,
            connections_per_source: 2_000,
            requests_per_second_per_source: 2_000,
            requests_per_second_per_device: 1_000,
            requests_per_second_per_person: 0,
            exempt: vec!["127.0.0.0/8".into(), "::1/128".into()],
        }
    }
}

/// How upstreams with `discovery` are found by their names.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawDns {
    /// Name servers that are asked, with their ports. Default: those of `/etc/resolv.conf`, after `/etc/hosts`.
    pub servers: Vec<String>,
}

/// Protocol versions and cipher suites.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawTls {
    /// Suites in order of preference, by IANA name; `modern` stands for the maintained list.
    pub suites: Vec<SuiteChoice>,
    /// Versions that are spoken.
    pub versions: Vec<TlsVersion>,
}

impl Default for RawTls {
    fn default() -> Self {
        Self {
            suites: vec![SuiteChoice::Named(SuiteList::Modern)],
            versions: vec![TlsVersion::V13, TlsVersion::V12],
        }
    }
}

/// Console and API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawAdmin {
    /// Address of console and API.
    pub listen: String,
    /// Name under which browsers reach it; part of the exact Origin check.
    pub host: String,
    /// User id that may use the local socket, beside root.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
}

impl Default for RawAdmin {
    fn default() -> Self {
        Self { listen: "127.0.0.1:8443".into(), host: "localhost".into(), uid: None }
    }
}

/// Where certificates and revocation lists are published.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawPki {
    /// Address of a plain HTTP listener for `/pki/` alone. Default: none, `edge.http` serves it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<String>,
    /// Scheme and host (and port) in front of `/pki/` in issued certificates.
    /// Default: `http://` and `door.host`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base_url: Option<String>,
    /// OCSP answers signed a second for one source address, twice as many at once. Answers that an edge
    /// keeps are not counted; those with a nonce are never kept.
    #[schemars(range(min = 1, max = 100_000))]
    pub ocsp_per_second: NonZeroU32,
}

impl Default for RawPki {
    fn default() -> Self {
        Self { listen: None, base_url: None, ocsp_per_second: NonZeroU32::MIN.saturating_add(49) }
    }
}

/// Probes and metrics.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawHealth {
    /// Address of `/livez`, `/readyz`, `/metrics` and `/jwks.json`, without authentication.
    pub listen: String,
}

impl Default for RawHealth {
    fn default() -> Self {
        Self { listen: "127.0.0.1:8081".into() }
    }
}

/// Portal, invitations and EST.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawDoor {
    /// Public host name of the door. Without it there is no self-service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
}

/// Public certificates for the sites.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawAcme {
    /// Whether certificates are ordered at all.
    pub enabled: bool,
    /// The ACME server (RFC 8555 §7.1.1).
    pub directory_url: String,
    /// Mail address that is given to the ACME server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contact: Option<String>,
    /// Whether you agree to the terms of the ACME server.
    pub terms_agreed: bool,
    /// PEM file with the root under which the ACME server itself is verified. Default: the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root_ca_file: Option<String>,
    /// How control of a host name is proven.
    pub challenge: AcmeChallenge,
    /// Certificate profile to ask for, if the ACME server has some.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
}

impl Default for RawAcme {
    fn default() -> Self {
        Self {
            enabled: false,
            directory_url: "https://acme-v02.api.letsencrypt.org/directory".into(),
            contact: None,
            terms_agreed: false,
            root_ca_file: None,
            challenge: AcmeChallenge::default(),
            profile: None,
        }
    }
}

/// The mail server.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawSmtp {
    /// Host name or address of the mail server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Port. Default: 587 for `starttls`, 465 for `implicit`, 25 for `none`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65_535))]
    pub port: Option<u16>,
    /// How the connection is protected.
    pub encryption: SmtpEncryption,
    /// PEM file with the root under which the mail server is verified, beside the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root_ca_file: Option<String>,
    /// User name, if the server wants one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// Password of that user.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("writeOnly" = true))]
    pub password: Option<String>,
    /// File with the password, instead of `password`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_file: Option<String>,
    /// Sender, for example `Wicketgate <gate@example.com>`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
}

/// Logs and spans.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawTelemetry {
    /// How log lines look.
    pub format: LogFormat,
    /// What is logged, for example `info,wicketgate::edge=debug`.
    pub filter: String,
    /// Spans of the edge's requests, for an OpenTelemetry collector.
    pub otlp: RawOtlp,
}

/// Spans for a collector.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawOtlp {
    /// Collector that takes OTLP over HTTP, for example `http://127.0.0.1:4318`: one on this host or network, since
    /// what is sent is not encrypted. Default: none, and no spans.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Share of the traces to record; one that a trusted proxy brings along says itself whether it is.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub sample_ratio: f64,
}

impl Default for RawOtlp {
    fn default() -> Self {
        Self { endpoint: None, sample_ratio: 0.1 }
    }
}

impl Default for RawTelemetry {
    fn default() -> Self {
        Self { format: LogFormat::default(), filter: "info".into(), otlp: RawOtlp::default() }
    }
}

/// Ceilings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawLimits {
    /// Memory at which new connections are turned away. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 64, max = 1_048_576))]
    pub memory_mib: Option<u64>,
}
