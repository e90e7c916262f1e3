//! Our edge as a process of its own, with what the product has on: one thread, protected routes on a site in
//! mode `request`, certificates on record, the access log on standard output, metrics, identity headers.
//! Serves until it is killed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use rcgen::KeyPair;
use wicketgate::clock::{Clock, ForwardOnly, SystemClock};
use wicketgate::config::LogFormat;
use wicketgate::domain::route::RouteOptions;
use wicketgate::domain::upstream::UpstreamOptions;
use wicketgate::domain::{
    AccessPolicy, AccessRules, AuthorityKind, AuthorityState, ClientAuth, DeviceId, Fingerprint, Hostname,
    PersonId, RouteId, Secret, Serial, UtcTime,
};
use wicketgate::edge::{Edge, EdgeSettings};
use wicketgate::keys::SystemEntropy;
use wicketgate::live::configuration::{AssertionKeyData, DerData, KeyData};
use wicketgate::live::{
    AuthorityRecord, CertificateRecord, Change, ConfigurationData, Delta, EdgeLink, Holder, PersonRecord,
    RouteData, SiteData, SiteKind, TlsPolicy, Update, UpstreamData,
};
use wicketgate::pki::authority::AuthorityCertificate;
use wicketgate::telemetry::{self, Destination, Metrics};

use super::certificates::HOST;
use super::peers::{BACKEND, CERTIFICATES, LISTEN, REGISTER, ROUTES};

/// Certificates that are put on record at one time.
const AT_ONCE: usize = 10_000;

pub(crate) fn run() -> Result<()> {
    telemetry::init(LogFormat::default(), "info", Destination::Stdout)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(Box::pin(serve()))
}

async fn serve() -> Result<()> {
    let folder = PathBuf::from(text(CERTIFICATES)?);
    let clock = ForwardOnly::over(Arc::new(SystemClock));
    let now = clock.now();
    let holder = Holder::in_memory(TlsPolicy::modern(), clock.clone());
    let mut register = Register { holder: holder.clone(), epoch: 0, person: PersonId::new(), now };
    register.begin(&folder).await?;
    register.fill(text(REGISTER)?.parse()?).await?;
    let configuration = configuration(&folder, &text(BACKEND)?, text(ROUTES)?.parse()?)?;
    let update = Update { configuration: Some(Arc::new(configuration)), ..Update::default() };
    holder.apply(&update).await?;
    let metrics = Metrics::new(now)?;
    let settings = settings(text(LISTEN)?.parse()?);
    let entropy = Arc::new(SystemEntropy);
    let _edge = Edge::bind(settings, holder, clock, entropy, None, metrics.edge.clone()).await?;
    std::future::pending().await
}

fn text(name: &str) -> Result<String> {
    std::env::var(name).with_context(|| format!("{name} is missing"))
}

/// What an installation has that sets nothing, in one thread.
fn settings(address: std::net::SocketAddr) -> EdgeSettings {
    EdgeSettings {
        https: vec![address],
        threads: 1,
        idle_timeout: Duration::from_secs(75),
        total_timeout: Duration::from_secs(600),
        max_connections: 20_000,
        max_header_bytes: 32 * 1024,
        max_body: Some(1 << 30),
        ..EdgeSettings::default()
    }
}

/// Puts on record who may pass.
struct Register {
    holder: Arc<Holder>,
    epoch: u64,
    person: PersonId,
    now: UtcTime,
}

impl Register {
    /// The authority, the visitor, and the visitor's certificate.
    async fn begin(&mut self, folder: &Path) -> Result<()> {
        let der = std::fs::read(folder.join("ca.der"))?;
        let parsed = AuthorityCertificate::from_der(&der).map_err(|cause| anyhow!("{cause}"))?;
        let authority = AuthorityRecord {
            name: "issuing-g1".parse()?,
            kind: AuthorityKind::Issuing,
            state: AuthorityState::Issuing,
            subject: parsed.subject_der().to_vec(),
            spki: parsed.spki_der().to_vec(),
            certificate: der,
            not_after: self.now.plus(Duration::from_secs(86_400)),
        };
        let person = PersonRecord {
            id: self.person,
            email: "anna@example.test".into(),
            name: "Anna".into(),
            groups: BTreeSet::new(),
            disabled: false,
        };
        let own = self.record(Fingerprint::of(&std::fs::read(folder.join("client.der"))?))?;
        self.apply(vec![Delta::Authority(authority), Delta::Person(person), own]).await
    }

    /// Certificates of which nobody has the key.
    async fn fill(&mut self, count: u32) -> Result<()> {
        let numbers: Vec<u32> = (0..count).collect();
        for numbers in numbers.chunks(AT_ONCE) {
            let records = numbers.iter().map(|number| self.record(Fingerprint::of(&number.to_be_bytes())));
            let records = records.collect::<Result<Vec<_>>>()?;
            self.apply(records).await?;
        }
        Ok(())
    }

    fn record(&self, fingerprint: Fingerprint) -> Result<Delta> {
        Ok(Delta::Certificate(CertificateRecord {
            fingerprint,
            serial: Serial::random(&SystemEntropy),
            authority: "issuing-g1".parse()?,
            profile: "device".parse()?,
            person: self.person,
            device: DeviceId::new(),
            not_before: self.now.minus(Duration::from_secs(300)),
            not_after: self.now.plus(Duration::from_secs(86_400)),
            revoked: None,
        }))
    }

    async fn apply(&mut self, deltas: Vec<Delta>) -> Result<()> {
        let first = self.epoch + 1;
        self.epoch += deltas.len() as u64;
        let changes = (first..).zip(deltas).map(|(epoch, delta)| Change { epoch, delta }).collect();
        self.holder.apply(&Update { changes, as_of: Some(self.now), ..Update::default() }).await?;
        Ok(())
    }
}

/// One site with so many protected routes; the visitors' path belongs to the last resort among them.
fn configuration(folder: &Path, backend: &str, routes: usize) -> Result<ConfigurationData> {
    let host = Hostname::normalize(HOST)?;
    let route = |path_prefix: String| -> Result<RouteData> {
        Ok(RouteData {
            id: RouteId::new(),
            host: host.clone(),
            path_prefix,
            upstream: "backend".parse()?,
            policy: AccessPolicy::Known(AccessRules::default()),
            plain_header: Some("X-WEBAUTH-USER".into()),
            audience: None,
            options: RouteOptions::default(),
        })
    };
    let prefixes = std::iter::once("/".to_owned()).chain((1..routes).map(|number| format!("/app-{number}")));
    Ok(ConfigurationData {
        version: 1,
        installation: "bench".into(),
        door_url: None,
        sites: vec![SiteData {
            host: host.clone(),
            kind: SiteKind::App,
            upstream: None,
            client_auth: ClientAuth::Request,
            hsts_max_age_seconds: 3600,
            chain: vec![DerData(std::fs::read(folder.join("server.der"))?)],
            key: KeyData(Secret::new(std::fs::read(folder.join("server.key"))?)),
            is_local: false,
            ocsp: None,
        }],
        upstreams: vec![UpstreamData {
            name: "backend".parse()?,
            targets: vec![format!("http://{backend}")],
            options: UpstreamOptions::default(),
        }],
        routes: prefixes.map(route).collect::<Result<_>>()?,
        challenges: Vec::new(),
        assertion: Some(AssertionKeyData {
            kid: "bench".into(),
            key: KeyData(Secret::new(KeyPair::generate()?.serialize_der())),
        }),
        upstream_identity: None,
    })
}
