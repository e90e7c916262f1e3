//! Our edge as a process of its own: one thread, a protected route on a site in mode `request`, ten
//! thousand certificates on record. Prints its port and serves until it is killed.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use rcgen::KeyPair;
use wicketgate::clock::{Clock, SystemClock};
use wicketgate::domain::{
    AccessPolicy, AccessRules, AuthorityKind, AuthorityState, ClientAuth, DeviceId, Entropy, Fingerprint,
    Hostname, PersonId, RouteId, Secret, Serial, UtcTime,
};
use wicketgate::edge::{Edge, EdgeSettings};
use wicketgate::live::configuration::{AssertionKeyData, DerData, KeyData};
use wicketgate::live::{
    AuthorityRecord, CertificateRecord, Change, ConfigurationData, Delta, EdgeLink, Holder, PersonRecord,
    RouteData, SiteData, SiteKind, TlsPolicy, Update, UpstreamData,
};
use wicketgate::pki::authority::AuthorityCertificate;

use super::certificates::HOST;

/// Certificates on record beside the visitor's.
const OTHERS: u32 = 10_000;

struct Random;
impl Entropy for Random {
    fn fill(&self, buffer: &mut [u8]) {
        if aws_lc_rs::rand::fill(buffer).is_err() {
            std::process::abort();
        }
    }
}

pub(crate) fn run() -> Result<()> {
    let folder = std::env::var("WICKETGATE_BENCH_FOLDER")?;
    let backend = std::env::var("WICKETGATE_BENCH_BACKEND")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let clock = Arc::new(SystemClock);
        let holder = Holder::in_memory(TlsPolicy::modern(), clock.clone());
        let now = clock.now();
        let folder = Path::new(&folder);
        let changes = register(folder, now)?;
        let configuration = Some(Arc::new(configuration(folder, &backend)?));
        let update = Update { configuration, changes, as_of: Some(now), ..Update::default() };
        holder.apply(&update).await?;
        let settings =
            EdgeSettings { https: vec!["127.0.0.1:0".parse()?], threads: 1, ..EdgeSettings::default() };
        let edge = Edge::bind(settings, holder, clock, Arc::new(Random), None, Arc::default()).await?;
        let address = edge.https_addresses().first().context("an address")?;
        writeln!(std::io::stdout(), "{}", address.port())?;
        std::io::stdout().flush()?;
        std::future::pending().await
    })
}

fn register(folder: &Path, now: UtcTime) -> Result<Arc<[Change]>> {
    let der = std::fs::read(folder.join("ca.der"))?;
    let parsed = AuthorityCertificate::from_der(&der).map_err(|cause| anyhow!("{cause}"))?;
    let authority = AuthorityRecord {
        name: "issuing-g1".parse()?,
        kind: AuthorityKind::Issuing,
        state: AuthorityState::Issuing,
        subject: parsed.subject_der().to_vec(),
        spki: parsed.spki_der().to_vec(),
        certificate: der,
        not_after: now.plus(Duration::from_secs(86_400)),
    };
    let person = PersonRecord {
        id: PersonId::new(),
        email: "anna@example.test".into(),
        name: "Anna".into(),
        groups: BTreeSet::new(),
        disabled: false,
    };
    let record = |fingerprint| -> Result<Delta> {
        Ok(Delta::Certificate(CertificateRecord {
            fingerprint,
            serial: Serial::random(&Random),
            authority: "issuing-g1".parse()?,
            profile: "device".parse()?,
            person: person.id,
            device: DeviceId::new(),
            not_before: now.minus(Duration::from_secs(300)),
            not_after: now.plus(Duration::from_secs(86_400)),
            revoked: None,
        }))
    };
    let own = Fingerprint::of(&std::fs::read(folder.join("client.der"))?);
    let mut deltas = vec![Delta::Authority(authority), Delta::Person(person.clone()), record(own)?];
    for other in 0..OTHERS {
        deltas.push(record(Fingerprint::of(&other.to_be_bytes()))?);
    }
    Ok((1..).zip(deltas).map(|(epoch, delta)| Change { epoch, delta }).collect())
}

fn configuration(folder: &Path, backend: &str) -> Result<ConfigurationData> {
    let host = Hostname::normalize(HOST)?;
    let route = |prefix: &str, policy| -> Result<RouteData> {
        Ok(RouteData {
            id: RouteId::new(),
            host: host.clone(),
            path_prefix: prefix.to_owned(),
            upstream: "backend".parse()?,
            policy,
            plain_header: Some("X-WEBAUTH-USER".into()),
            audience: None,
        })
    };
    Ok(ConfigurationData {
        version: 1,
        installation: "bench".into(),
        door_url: None,
        sites: vec![SiteData {
            host: host.clone(),
            kind: SiteKind::App,
            client_auth: ClientAuth::Request,
            hsts_max_age_seconds: 3600,
            chain: vec![DerData(std::fs::read(folder.join("server.der"))?)],
            key: KeyData(Secret::new(std::fs::read(folder.join("server.key"))?)),
            is_local: false,
        }],
        upstreams: vec![UpstreamData {
            name: "backend".parse()?,
            targets: vec![format!("http://{backend}")],
        }],
        routes: vec![
            route("/", AccessPolicy::Known(AccessRules::default()))?,
            route("/public", AccessPolicy::Public)?,
        ],
        challenges: Vec::new(),
        assertion: Some(AssertionKeyData {
            kid: "bench".into(),
            key: KeyData(Secret::new(KeyPair::generate()?.serialize_der())),
        }),
    })
}
