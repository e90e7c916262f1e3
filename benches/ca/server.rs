//! Inside a house: our authority as production has it (durable commits, audit, lint, an edge whose
//! journal is on disk), its API behind TLS, and the commands of whoever measures.

use std::collections::BTreeSet;
use std::io::{BufRead, Write};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use wicketgate::activate::{Activation, Enforce};
use wicketgate::admin::{
    AdminServer, AdminSettings, Allowances, Listeners, NewAdminToken, OcspDesk, OcspLimits, Rooms,
    create_token_for, sweeps,
};
use wicketgate::ca::health::{Health, of_authorities};
use wicketgate::ca::{Ca, DeviceChoice, IssueRequest};
use wicketgate::clock::{Clock, SharedClock, SystemClock};
use wicketgate::config::LogFormat;
use wicketgate::domain::{Actor, AuthorityKind, PersonId, Role, Serial, UtcTime};
use wicketgate::edge::{Edge, EdgeSettings};
use wicketgate::jobs::clean_up::CleanUp;
use wicketgate::jobs::refresh_live::RefreshLive;
use wicketgate::jobs::{Job, Jobs};
use wicketgate::keys::{Kek, Purpose, SystemEntropy, Vault, Vaults};
use wicketgate::live::journal::Journal;
use wicketgate::live::{Feed, Holder, TlsPolicy};
use wicketgate::mail::Mailer;
use wicketgate::store::Store;
use wicketgate::store::certificates::CertificateFilter;
use wicketgate::store::leases::ReplicaId;
use wicketgate::store::outbox::Outbox;
use wicketgate::store::people::Person;
use wicketgate::telemetry::metrics::EdgeMetrics;
use wicketgate::telemetry::{Destination, Metrics};

use super::house::{FOLDER, Ready, URL};
use super::load::{self, Sample};
use super::material::name_of;
use super::{fill, material, ocsp};

/// Like the default of `database.max_connections`.
const CONNECTIONS: u32 = 10;

/// What the commands work with.
#[derive(Clone)]
pub(crate) struct Inside {
    pub(crate) store: Store,
    pub(crate) ca: Ca,
    pub(crate) person: PersonId,
    folder: PathBuf,
    publish_crls: Activation,
    marks: Arc<AtomicU32>,
    /// Answers OCSP.
    edge: Arc<Edge>,
}

impl Inside {
    /// A number that was not there before.
    pub(crate) fn mark(&self) -> u32 {
        self.marks.fetch_add(1, Ordering::Relaxed)
    }
}

pub(crate) fn run() -> Result<()> {
    wicketgate::telemetry::init(LogFormat::Json, "info", Destination::Stderr)?;
    let (folder, url) = (std::env::var(FOLDER)?, std::env::var(URL)?);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let (inside, ready) = runtime.block_on(Box::pin(open(&url, Path::new(&folder))))?;
    say(&serde_json::to_value(ready)?)?;
    for line in std::io::stdin().lock().lines() {
        let answer = runtime.block_on(Box::pin(obey(&inside, &line?)))?;
        say(&answer)?;
    }
    Ok(())
}

fn say(value: &Value) -> Result<()> {
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{value}")?;
    Ok(stdout.flush()?)
}

/// Everything that production composes, over a fresh database.
async fn open(url: &str, folder: &Path) -> Result<(Inside, Ready)> {
    let clock: SharedClock = Arc::new(SystemClock);
    let store = Store::create(url, CONNECTIONS).await?;
    store.migrate(None).await?;
    let key = Kek::fresh_text(&SystemEntropy);
    let kek = |purpose| Kek::from_text(purpose, &key, "bench");
    let vaults = Arc::new(Vaults {
        server: Vault::new(kek(Purpose::Server)?),
        authority: Vault::new(kek(Purpose::Authority)?),
    });
    store.open_vaults(&vaults, &SystemEntropy, clock.now()).await?;
    let journal = Journal::at(folder, "local", Arc::new(kek(Purpose::Server)?));
    let holder = Holder::restore(TlsPolicy::modern(), clock.clone(), journal)?;
    let feed = Feed::new();
    let register = holder.register().clone();
    feed.connect(holder.clone());
    let refresh = RefreshLive::new(store.clone(), vaults.clone(), feed, clock.clone(), None, 0);
    let publish_crls = Activation::new("publish_crls");
    let enforce: Arc<dyn Enforce> = refresh.clone();
    let place = "http://pki.example.com".to_owned();
    let ca = Ca::new(
        store.clone(),
        vaults.clone(),
        Arc::new(SystemEntropy),
        enforce.clone(),
        publish_crls.clone(),
        place,
    );
    ca.init("Bench", clock.now()).await?;
    tokio::spawn(refresh.run());
    let limit = NonZeroU32::new(1_000_000).context("a limit")?;
    let limits = OcspLimits { per_source: limit, in_all: limit };
    holder.ocsp().connect(Arc::new(OcspDesk::new(ca.clone(), clock.clone(), limits)));
    let settings = EdgeSettings { http: vec!["127.0.0.1:0".parse()?], ..EdgeSettings::default() };
    let metrics = Arc::new(EdgeMetrics::default());
    let entropy = Arc::new(SystemEntropy);
    let edge = Edge::bind(settings, holder, clock.clone(), entropy, None, metrics).await?;
    let person = administrator(&store, &ca, clock.now()).await?;
    let act = store.begin_act(Actor::System("bench"), "token.make", None, None, clock.now()).await?;
    let lasts = Duration::from_secs(86_400);
    let new = NewAdminToken { person, name: "bench".to_owned(), role: Role::Administrator, lasts };
    let token = create_token_for(&store, &SystemEntropy, new, &act, clock.now()).await?;

    let metrics = Metrics::new(clock.now())?;
    let outbox = Outbox::new(store.clone(), vaults);
    let wake = Activation::new("send_mail");
    let mailer = Mailer::new(outbox, None, "Bench".to_owned(), None, wake, metrics.jobs.clone());
    let clean_up: Arc<dyn Job> = Arc::new(CleanUp::new(store.clone(), sweeps(&store)));
    let jobs = Jobs::idle(
        store.clone(),
        clock.clone(),
        ReplicaId::new(),
        metrics.jobs.clone(),
        vec![(Activation::new("clean_up"), clean_up)],
    );
    let rooms = Rooms {
        store: store.clone(),
        clock: clock.clone(),
        entropy: Arc::new(SystemEntropy),
        ca: ca.clone(),
        enforce,
        jobs,
        mailer,
        health: Health::new(of_authorities(&store, &ca)),
        register,
        edge_clock: clock.clone(),
        edge: metrics.edge.clone(),
    };
    let settings = AdminSettings {
        console_origin: "https://localhost".to_owned(),
        door_origin: None,
        name: "Bench".to_owned(),
        allowances: Allowances::default(),
    };
    let (tls, root) = tls(&ca, clock.now()).await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    let listeners = Listeners { console: Some((listener, tls)), door: None, socket: None };
    tokio::spawn(AdminServer::new(rooms, settings).serve(
        listeners,
        CancellationToken::new(),
        Duration::from_secs(1),
    ));
    let token = token.expose().clone();
    let ready = Ready { port, root, token };
    let marks = Arc::default();
    let folder = folder.to_owned();
    Ok((Inside { store, ca, person, folder, publish_crls, marks, edge: Arc::new(edge) }, ready))
}

async fn administrator(store: &Store, ca: &Ca, now: UtcTime) -> Result<PersonId> {
    let person = Person {
        id: PersonId::new(),
        email: "ada@example.com".to_owned(),
        name: "Ada Example".to_owned(),
        role: Role::Administrator,
        groups: ["staff".parse()?].into(),
        disabled: false,
        has_password: false,
        created_at: now,
        version: 1,
    };
    let act = store.begin_act(Actor::System("bench"), "person.add", None, None, now).await?;
    ca.create_person(&person, &act, now).await?;
    Ok(person.id)
}

async fn tls(ca: &Ca, now: UtcTime) -> Result<(Arc<rustls::ServerConfig>, Vec<u8>)> {
    let leaf = ca.local_leaf(&["localhost"], now).await?;
    let chain: Vec<rustls_pki_types::CertificateDer<'static>> =
        leaf.chain.iter().map(|der| der.clone().into()).collect();
    let key = rustls_pki_types::PrivateKeyDer::Pkcs8(leaf.key.expose().clone().into());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    Ok((Arc::new(config), leaf.chain.last().context("a root")?.clone()))
}

async fn obey(inside: &Inside, command: &str) -> Result<Value> {
    let words: Vec<&str> = command.split(' ').collect();
    let number = |at: usize| -> Result<usize> { Ok(words.get(at).context("a number")?.parse()?) };
    Ok(match words.first().copied() {
        Some("issue") => serde_json::to_value(issue(inside, number(1)?, number(2)?).await?.0)?,
        Some("fill-revoked") => {
            fill::revoked(inside, number(1)?).await?;
            Value::Null
        }
        Some("fill") => json!(fill::inventory(inside, number(1)?).await?),
        Some("revoke") => serde_json::to_value(revoke(inside, number(1)?, number(2)?).await?)?,
        Some("issued") => serde_json::to_value(issued(inside, number(1)?).await?)?,
        Some("crl") => json!(crl(inside).await?),
        other => bail!("{other:?} is no command"),
    })
}

/// Sixteen callers of the authority as a library, each act opened in the audit with its intent, as the admin
/// server does it.
async fn issue(inside: &Inside, from: usize, count: usize) -> Result<(Sample, Vec<Serial>)> {
    let file = material::requests_file(inside.folder.parent().context("a folder")?);
    let requests: Vec<String> = serde_json::from_slice(&std::fs::read(file)?)?;
    let requests: Arc<[String]> = requests.get(from..from + count).context("requests")?.into();
    let serials = Arc::new(parking_lot::Mutex::new(Vec::with_capacity(count)));
    let workers = load::clients(|_| {
        let (inside, requests, serials) = (inside.clone(), requests.clone(), serials.clone());
        move |index: usize| {
            let (inside, requests, serials) = (inside.clone(), requests.clone(), serials.clone());
            async move {
                let now = SystemClock.now();
                let actor = Actor::Person(inside.person);
                let act = Store::act_on_commit(actor, "certificate.issue", None, None, now);
                let request = IssueRequest {
                    person: inside.person,
                    device: DeviceChoice::New { name: name_of(index) },
                    profile: "device".parse()?,
                    csr_pem: requests[index].clone(),
                    dns_names: BTreeSet::new(),
                };
                let issued = Box::pin(inside.ca.issue(&request, &act, now)).await?;
                if issued.enforced.acknowledged != 1 {
                    bail!("the edge does not know it");
                }
                serials.lock().push(issued.certificate.serial);
                Ok(())
            }
        }
    });
    let sample = load::run(count, workers).await;
    let serials = std::mem::take(&mut *serials.lock());
    Ok((sample, serials))
}

/// Revokes that many fresh certificates, while the job publishes lists as in production.
async fn revoke(inside: &Inside, from: usize, count: usize) -> Result<Sample> {
    let (_, serials) = issue(inside, from, count).await?;
    let (ca, woken) = (inside.ca.clone(), inside.publish_crls.clone());
    let publishing = tokio::spawn(async move {
        loop {
            woken.woken().await;
            if let Err(error) = ca.publish_crls(SystemClock.now()).await {
                eprintln!("no list: {error}");
            }
        }
    });
    let serials: Arc<[Serial]> = serials.into();
    let workers = load::clients(|_| {
        let (inside, serials) = (inside.clone(), serials.clone());
        move |index: usize| {
            let (inside, serial) = (inside.clone(), serials.get(index).copied());
            async move {
                let now = SystemClock.now();
                let serial = serial.ok_or_else(|| anyhow!("was not issued"))?;
                let actor = Actor::Person(inside.person);
                let act = Store::act_on_commit(actor, "certificate.revoke", None, None, now);
                inside.ca.revoke(serial, "superseded".parse()?, &act, now).await?;
                Ok(())
            }
        }
    });
    let sample = load::run(count, workers).await;
    publishing.abort();
    Ok(sample)
}

/// Some of what was issued.
async fn issued(inside: &Inside, count: usize) -> Result<ocsp::Issued> {
    let (filter, now) = (CertificateFilter::default(), SystemClock.now());
    let certificates = inside.store.certificates(&filter, u64::try_from(count)?, now).await?;
    let issuer = inside.store.signing_authority(AuthorityKind::Issuing).await?.context("an authority")?;
    Ok(ocsp::Issued {
        edge: inside.edge.http_addresses().first().context("a listener")?.port(),
        issuer: issuer.certificate.context("its certificate")?,
        serials: certificates.iter().map(|one| one.serial.to_string()).collect(),
    })
}

/// How long a list takes, from the rows to its publication, in milliseconds.
async fn crl(inside: &Inside) -> Result<Vec<f64>> {
    let mut took = Vec::new();
    for time in 1..=5_u32 {
        // Past half of the lifetime of the one before, so that it is due.
        let now = SystemClock.now().plus(Duration::from_secs(10 * 86_400) * time);
        let began = Instant::now();
        if inside.ca.publish_crls(now).await? == 0 {
            bail!("no list was due");
        }
        took.push(load::milliseconds(began.elapsed()));
    }
    Ok(took)
}
