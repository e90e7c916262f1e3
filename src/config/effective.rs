//! What is in force, in the shape of the file, for `wicketgate config show`. Secrets are redacted.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::Path;
use std::time::Duration;

use toml::{Table, Value};

use super::checked::{Config, EdgeLimits, KeySource};
use super::choices::SuiteChoice;
use super::raw::{
    RawAcme, RawAdmin, RawConfig, RawDatabase, RawDns, RawDoor, RawEdge, RawEdgeLimits, RawHealth, RawKeys,
    RawLimits, RawOtlp, RawPki, RawServer, RawSmtp, RawTelemetry, RawTls,
};
use crate::domain::Networks;

const REDACTED: &str = "[redacted]";

/// The configuration as a TOML table, with every default written out and every secret replaced.
pub fn effective(config: &Config) -> Table {
    match Value::try_from(raw(config)) {
        Ok(Value::Table(table)) => table,
        _ => Table::new(),
    }
}

fn raw(config: &Config) -> RawConfig {
    let (server_key, server_key_file) = key(&config.keys.server);
    let (authority_key, authority_key_file) = key(&config.keys.authority);
    RawConfig {
        server: RawServer { data_dir: text(&config.server.data_dir), name: config.server.name.clone() },
        database: RawDatabase {
            url: Some(config.database.url.to_string()),
            url_file: None,
            max_connections: config.database.max_connections,
        },
        keys: RawKeys { server_key, server_key_file, authority_key, authority_key_file },
        edge: edge(config),
        admin: RawAdmin {
            listen: config.admin.listen.to_string(),
            host: config.admin.host.to_string(),
            uid: config.admin.uid,
        },
        pki: RawPki {
            listen: config.pki.listen.map(|address| address.to_string()),
            base_url: Some(config.pki_base_url()),
            ocsp_per_second: config.pki.ocsp_per_second,
        },
        health: RawHealth { listen: config.health.listen.to_string() },
        door: RawDoor { host: config.door.host.as_ref().map(ToString::to_string) },
        acme: RawAcme {
            enabled: config.acme.enabled,
            directory_url: config.acme.directory_url.to_string(),
            contact: config.acme.contact.clone(),
            terms_agreed: config.acme.terms_agreed,
            root_ca_file: config.acme.root_ca_file.as_deref().map(text),
            challenge: config.acme.challenge,
            profile: config.acme.profile.clone(),
        },
        smtp: smtp(config),
        telemetry: RawTelemetry {
            format: config.telemetry.format,
            filter: config.telemetry.filter.clone(),
            otlp: RawOtlp {
                endpoint: config.telemetry.otlp.endpoint.as_ref().map(ToString::to_string),
                sample_ratio: config.telemetry.otlp.sample_ratio,
            },
        },
        limits: RawLimits { memory_mib: config.limits.memory_bytes.map(|bytes| bytes / (1024 * 1024)) },
    }
}

fn edge(config: &Config) -> RawEdge {
    let edge = &config.edge;
    RawEdge {
        https: addresses(&edge.https),
        http: addresses(&edge.http),
        proxy_protocol_from: networks(&edge.proxy_protocol_from),
        trusted_proxies: networks(&edge.trusted_proxies),
        threads: edge.threads,
        max_stale_seconds: edge.max_stale.as_secs(),
        self_check_seconds: edge.self_check_every.map_or(0, |pause| pause.as_secs()),
        handshake_timeout_ms: millis(edge.handshake_timeout),
        header_timeout_ms: millis(edge.header_timeout),
        body_timeout_ms: millis(edge.body_timeout),
        min_rate_bytes: edge.min_rate.unwrap_or(0),
        idle_timeout_ms: millis(edge.idle_timeout),
        total_timeout_ms: millis(edge.total_timeout),
        drain_timeout_ms: millis(edge.drain_timeout),
        max_connections: edge.max_connections,
        max_body_mib: edge.max_body_bytes / (1024 * 1024),
        max_header_kib: edge.max_header_bytes / 1024,
        tls: RawTls {
            suites: edge.tls.suites.iter().map(|suite| SuiteChoice::One(*suite)).collect(),
            versions: edge.tls.versions.clone(),
        },
        limits: edge_limits(&edge.limits),
        dns: RawDns { servers: addresses(&edge.dns.servers) },
    }
}

fn edge_limits(limits: &EdgeLimits) -> RawEdgeLimits {
    let count = |limit: Option<NonZeroU32>| limit.map_or(0, NonZeroU32::get);
    RawEdgeLimits {
        handshakes_per_second: count(limits.handshakes_per_second),
        handshakes_per_second_per_source: count(limits.handshakes_per_second_per_source),
        connections_per_source: count(limits.connections_per_source),
        requests_per_second_per_source: count(limits.requests_per_second_per_source),
        requests_per_second_per_device: count(limits.requests_per_second_per_device),
        requests_per_second_per_person: count(limits.requests_per_second_per_person),
        exempt: networks(&limits.exempt),
    }
}

fn smtp(config: &Config) -> RawSmtp {
    let Some(smtp) = &config.smtp else { return RawSmtp::default() };
    RawSmtp {
        host: Some(smtp.host.clone()),
        port: Some(smtp.port),
        encryption: smtp.encryption,
        root_ca_file: smtp.root_ca_file.as_deref().map(text),
        username: smtp.login.as_ref().map(|(name, _)| name.clone()),
        password: smtp.login.as_ref().map(|_| REDACTED.to_owned()),
        password_file: None,
        from: Some(smtp.from.clone()),
    }
}

fn key(source: &KeySource) -> (Option<String>, Option<String>) {
    match source {
        KeySource::Inline(_) => (Some(REDACTED.to_owned()), None),
        KeySource::File(path) => (None, Some(text(path))),
    }
}

fn addresses(list: &[SocketAddr]) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}

fn networks(list: &Networks) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

fn text(path: &Path) -> String {
    path.display().to_string()
}
