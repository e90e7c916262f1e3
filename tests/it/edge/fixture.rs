//! A small world: an authority, people with devices, sites, a backend, and an edge in front of it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyIdMethod, KeyPair, KeyUsagePurpose, SerialNumber,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::mpsc;
use wicketgate::clock::{Clock, ManualClock, SharedClock};
use wicketgate::domain::route::RouteOptions;
use wicketgate::domain::upstream::UpstreamOptions;
use wicketgate::domain::{
    AccessPolicy, AccessRules, AuthorityKind, AuthorityState, ClientAuth, DeviceId, Entropy, Fingerprint,
    Hostname, PersonId, RevocationReason, RouteId, Secret, Serial, Slug, UtcTime,
};
use wicketgate::edge::{DoorConnection, Edge, EdgeSettings};
use wicketgate::live::configuration::{AssertionKeyData, DerData, KeyData};
use wicketgate::live::feed::Documents;
use wicketgate::live::{
    AuthorityRecord, CertificateRecord, ChallengeData, Change, ConfigurationData, Delta, EdgeLink, Holder,
    PersonRecord, RouteData, SiteData, SiteKind, TlsPolicy, Update, UpstreamData,
};

use wicketgate::telemetry::metrics::EdgeMetrics;

use super::upstream::Backend;

/// The site that most tests visit: `request`, several routes.
pub const APP: &str = "app.test";
/// Another site of the same handshake class.
pub const SIBLING: &str = "sibling.test";
/// A site in mode `require`.
pub const STRICT: &str = "strict.test";
/// A site that never asks.
pub const OPEN: &str = "open.test";
/// The door.
pub const DOOR: &str = "door.test";

/// System randomness.
pub struct Random;
impl Entropy for Random {
    fn fill(&self, buffer: &mut [u8]) {
        aws_lc_rs::rand::fill(buffer).unwrap();
    }
}

/// A key, and a certificate for it.
#[derive(Clone)]
pub struct Device {
    pub chain: Vec<CertificateDer<'static>>,
    pub key: Arc<PrivateKeyDer<'static>>,
    pub fingerprint: Fingerprint,
    pub serial: Serial,
    pub person: PersonId,
    pub device: DeviceId,
}

/// A certificate authority made by rcgen.
pub struct Authority {
    pub name: Slug,
    pub params: CertificateParams,
    pub key: KeyPair,
    pub der: Vec<u8>,
}

impl Authority {
    pub fn new(name: &str, common_name: &str) -> Self {
        Self::with_key_id(name, common_name, None)
    }

    pub fn with_key_id(name: &str, common_name: &str, key_id: Option<Vec<u8>>) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        if let Some(id) = key_id {
            params.key_identifier_method = KeyIdMethod::PreSpecified(id);
        }
        let der = params.self_signed(&key).unwrap().der().to_vec();
        Self { name: name.parse().unwrap(), params, key, der }
    }

    pub fn key_id(&self) -> Vec<u8> {
        self.params.key_identifier(&self.key)
    }

    /// A leaf with these usages and this serial.
    pub fn leaf(&self, serial: Serial, usages: Vec<ExtendedKeyUsagePurpose>, names: &[&str]) -> Device {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "<b>Anna</b>");
        params.serial_number = Some(SerialNumber::from_slice(serial.as_octets()));
        params.extended_key_usages = usages;
        params.use_authority_key_identifier_extension = true;
        let issuer = Issuer::from_params(&self.params, &self.key);
        let der = params.signed_by(&key, &issuer).unwrap().der().to_vec();
        Device {
            fingerprint: Fingerprint::of(&der),
            chain: vec![der.into()],
            key: Arc::new(PrivateKeyDer::Pkcs8(key.serialize_der().into())),
            serial,
            person: PersonId::new(),
            device: DeviceId::new(),
        }
    }

    pub fn client_leaf(&self, serial: Serial) -> Device {
        self.leaf(serial, vec![ExtendedKeyUsagePurpose::ClientAuth], &[])
    }

    pub fn record(&self, kind: AuthorityKind, state: AuthorityState, not_after: UtcTime) -> AuthorityRecord {
        let parsed = wicketgate::pki::authority::AuthorityCertificate::from_der(&self.der);
        let (subject, spki) = match parsed {
            Ok(parsed) => (parsed.subject_der().to_vec(), parsed.spki_der().to_vec()),
            Err(error) => panic!("the authority of the fixture is refused: {error}"),
        };
        AuthorityRecord {
            name: self.name.clone(),
            kind,
            state,
            certificate: self.der.clone(),
            subject,
            spki,
            not_after,
        }
    }
}

/// Everything a test needs.
pub struct World {
    pub clock: Arc<ManualClock>,
    pub holder: Arc<Holder>,
    pub edge: Edge,
    pub metrics: Arc<EdgeMetrics>,
    pub authority: Authority,
    pub local_server: Authority,
    pub backend: Backend,
    pub anna: PersonRecord,
    pub door: mpsc::Receiver<DoorConnection>,
    pub data: ConfigurationData,
    pub server_ca: Vec<u8>,
    epoch: AtomicU64,
}

/// What a world begins with.
pub struct Parts {
    pub clock: Arc<ManualClock>,
    /// What the edge reads the time from.
    pub edge_clock: SharedClock,
    pub holder: Arc<Holder>,
}

impl Default for Parts {
    fn default() -> Self {
        let clock = ManualClock::at("2026-11-23T12:00:00Z".parse().unwrap());
        Self {
            holder: Holder::in_memory(TlsPolicy::modern(), clock.clone()),
            edge_clock: clock.clone(),
            clock,
        }
    }
}

impl World {
    pub async fn start() -> Self {
        Self::with(|_| {}, |_| {}).await
    }

    pub async fn with_settings(adjust: impl FnOnce(&mut EdgeSettings)) -> Self {
        Self::with(adjust, |_| {}).await
    }

    pub async fn with(
        adjust: impl FnOnce(&mut EdgeSettings),
        configure: impl FnOnce(&mut ConfigurationData),
    ) -> Self {
        Self::of(Parts::default(), adjust, configure).await
    }

    pub async fn of(
        parts: Parts,
        adjust: impl FnOnce(&mut EdgeSettings),
        configure: impl FnOnce(&mut ConfigurationData),
    ) -> Self {
        let world = Self::knowing_nothing(parts, adjust, configure).await;
        world.apply(world.trust()).await;
        world.publish(world.data.clone()).await;
        world
    }

    /// One whose edge has neither register nor configuration yet.
    pub async fn knowing_nothing(
        parts: Parts,
        adjust: impl FnOnce(&mut EdgeSettings),
        configure: impl FnOnce(&mut ConfigurationData),
    ) -> Self {
        let Parts { clock, edge_clock, holder } = parts;
        let backend = Backend::start().await;
        let server_ca = Authority::new("server-ca", "Server CA");
        let mut data = configuration(&server_ca, &backend);
        configure(&mut data);
        let loopback = "127.0.0.1:0".parse().unwrap();
        let mut settings = EdgeSettings {
            https: vec![loopback],
            http: vec![loopback],
            threads: 2,
            drain_timeout: Duration::from_secs(2),
            ..EdgeSettings::default()
        };
        adjust(&mut settings);
        let (door_in, door) = mpsc::channel(4);
        let metrics = Arc::new(EdgeMetrics::default());
        let door_in = Some(door_in);
        let edge =
            Edge::bind(settings, holder.clone(), edge_clock, Arc::new(Random), door_in, metrics.clone())
                .await
                .unwrap();
        let authority = Authority::new("issuing-g1", "Test Client Issuing G1");
        let local_server = Authority::new("local-server-g1", "Test Local Server Authority G1");
        let anna = PersonRecord {
            id: PersonId::new(),
            email: "anna@example.test".into(),
            name: "Anna".into(),
            groups: BTreeSet::from(["team".parse().unwrap()]),
            disabled: false,
        };
        Self {
            clock,
            holder,
            edge,
            metrics,
            authority,
            local_server,
            backend,
            anna,
            door,
            data,
            server_ca: server_ca.der,
            epoch: AtomicU64::new(0),
        }
    }

    /// The authorities and Anna.
    pub fn trust(&self) -> Vec<Delta> {
        let ends = self.clock.now().plus(Duration::from_secs(10 * 365 * 86_400));
        let issuing = self.authority.record(AuthorityKind::Issuing, AuthorityState::Issuing, ends);
        let local = self.local_server.record(AuthorityKind::LocalServer, AuthorityState::Issuing, ends);
        vec![Delta::Authority(issuing), Delta::Authority(local), Delta::Person(self.anna.clone())]
    }

    /// Register changes, confirmed as of now.
    pub async fn apply(&self, deltas: Vec<Delta>) {
        let changes = deltas
            .into_iter()
            .map(|delta| Change { epoch: self.epoch.fetch_add(1, Ordering::SeqCst) + 1, delta })
            .collect();
        let update = Update { changes, as_of: Some(self.clock.now()), ..Update::default() };
        let trust_moves = update.changes.iter().any(|change| matches!(change.delta, Delta::Authority(_)));
        self.holder.apply(&update).await.unwrap();
        // As whoever feeds edges does.
        if trust_moves && self.holder.snapshot().is_some() {
            self.publish(self.data.clone()).await;
        }
    }

    /// A new configuration version.
    pub async fn publish(&self, mut data: ConfigurationData) {
        data.version = self.holder.snapshot().map_or(1, |s| s.configuration.version + 1);
        let update = Update { configuration: Some(Arc::new(data)), ..Update::default() };
        self.holder.apply(&update).await.unwrap();
    }

    pub async fn publish_documents(&self, documents: Documents) {
        let update = Update { documents: Some(Arc::new(documents)), ..Update::default() };
        self.holder.apply(&update).await.unwrap();
    }

    /// A device of Anna's, on record for 90 days.
    pub async fn enrol(&self) -> Device {
        self.enrol_for(self.anna.id, Duration::from_secs(90 * 86_400)).await
    }

    pub async fn enrol_for(&self, person: PersonId, lifetime: Duration) -> Device {
        let mut device = self.authority.client_leaf(Serial::random(&Random));
        device.person = person;
        self.apply(vec![Delta::Certificate(self.record_of(&device, lifetime))]).await;
        device
    }

    pub fn record_of(&self, device: &Device, lifetime: Duration) -> CertificateRecord {
        CertificateRecord {
            fingerprint: device.fingerprint,
            serial: device.serial,
            authority: self.authority.name.clone(),
            profile: "device".parse().unwrap(),
            person: device.person,
            device: device.device,
            not_before: self.clock.now().minus(Duration::from_secs(300)),
            not_after: self.clock.now().plus(lifetime),
            revoked: None,
        }
    }

    pub async fn revoke(&self, device: &Device) {
        self.apply(vec![Delta::Revoked {
            fingerprint: device.fingerprint,
            at: self.clock.now(),
            reason: RevocationReason::KeyCompromise,
        }])
        .await;
    }
}

/// A route of [`APP`] to the echo backend.
pub fn route(host: &str, prefix: &str, policy: AccessPolicy) -> RouteData {
    RouteData {
        id: RouteId::new(),
        host: Hostname::normalize(host).unwrap(),
        path_prefix: prefix.to_owned(),
        upstream: "echo".parse().unwrap(),
        policy,
        plain_header: None,
        audience: None,
        options: RouteOptions::default(),
    }
}

/// Everyone known.
pub fn known() -> AccessPolicy {
    AccessPolicy::Known(AccessRules::default())
}

fn site(host: &str, kind: SiteKind, client_auth: ClientAuth, server_ca: &Authority) -> SiteData {
    let usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let leaf = server_ca.leaf(Serial::random(&Random), usages, &[host]);
    SiteData {
        host: Hostname::normalize(host).unwrap(),
        kind,
        upstream: None,
        client_auth,
        hsts_max_age_seconds: 3600,
        chain: vec![DerData(leaf.chain[0].to_vec())],
        key: KeyData(Secret::new(leaf.key.secret_der().to_vec())),
        is_local: false,
        ocsp: None,
    }
}

/// The sites, routes and upstreams above, with server certificates of `server_ca`.
pub fn configuration(server_ca: &Authority, backend: &Backend) -> ConfigurationData {
    let assertion = KeyPair::generate().unwrap();
    let group = AccessRules { groups: BTreeSet::from(["board".parse().unwrap()]), ..AccessRules::default() };
    let mut with_header = route(APP, "/grafana", known());
    with_header.plain_header = Some("X-WEBAUTH-USER".into());
    let mut dead = route(APP, "/dead", AccessPolicy::Public);
    dead.upstream = "dead".parse().unwrap();
    ConfigurationData {
        version: 1,
        installation: "installation-1".into(),
        door_url: Some(format!("https://{DOOR}")),
        sites: vec![
            site(APP, SiteKind::App, ClientAuth::Request, server_ca),
            site(SIBLING, SiteKind::App, ClientAuth::Request, server_ca),
            site(STRICT, SiteKind::App, ClientAuth::Require, server_ca),
            site(OPEN, SiteKind::App, ClientAuth::None, server_ca),
            site(DOOR, SiteKind::Door, ClientAuth::Request, server_ca),
        ],
        upstreams: vec![
            UpstreamData {
                name: "echo".parse().unwrap(),
                targets: vec![format!("http://{}", backend.address)],
                options: UpstreamOptions::default(),
            },
            // Port 1 on loopback refuses.
            UpstreamData {
                name: "dead".parse().unwrap(),
                targets: vec!["http://127.0.0.1:1".into()],
                options: UpstreamOptions::default(),
            },
        ],
        routes: vec![
            route(APP, "/", known()),
            route(APP, "/public", AccessPolicy::Public),
            route(APP, "/board", AccessPolicy::Known(group)),
            with_header,
            dead,
            route(SIBLING, "/", known()),
            route(STRICT, "/", known()),
            route(OPEN, "/", AccessPolicy::Public),
        ],
        challenges: Vec::<ChallengeData>::new(),
        assertion: Some(AssertionKeyData {
            kid: "key-1".into(),
            key: KeyData(Secret::new(assertion.serialize_der())),
        }),
        upstream_identity: None,
    }
}
