//! An admin server over a fresh database, with the real authority behind it, reached through its three
//! entrances by a small HTTP client.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::DuplexStream;
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use wicketgate::activate::{Activation, Enforce};
use wicketgate::admin::{
    AdminServer, AdminSettings, AdminSocket, Allowance, Allowances, DoorStream, Listeners, NewAdminToken,
    Patience, Rooms, Stream, create_setup_token, create_token_for,
};
use wicketgate::ca::Ca;
use wicketgate::ca::health::{Health, of_authorities};
use wicketgate::clock::{Clock, ManualClock, SharedClock};
use wicketgate::domain::{Actor, PersonId, Role, Secret};
use wicketgate::jobs::clean_up::CleanUp;
use wicketgate::jobs::refresh_live::RefreshLive;
use wicketgate::jobs::{Job, Jobs};
use wicketgate::keys::{Kek, Purpose, SystemEntropy, Vault, Vaults};
use wicketgate::live::{Feed, Holder, TlsPolicy};
use wicketgate::mail::Mailer;
use wicketgate::pki::keygen;
use wicketgate::store::Store;
use wicketgate::store::leases::ReplicaId;
use wicketgate::store::outbox::Outbox;
use wicketgate::store::people::Person;
use wicketgate::telemetry::Metrics;
use wicketgate::telemetry::metrics::EdgeMetrics;

use crate::harness::database::TestDatabase;

/// The console's origin as the tests configure it.
pub const CONSOLE: &str = "https://console.example.com";
/// The door's.
pub const DOOR: &str = "https://door.example.com";
/// A password that is taken.
pub const PASSWORD: &str = "seven quiet otters";

pub struct App {
    pub store: Store,
    pub ca: Ca,
    pub clock: Arc<ManualClock>,
    pub holder: Arc<Holder>,
    /// What an edge would have counted and seen.
    pub edge: Arc<EdgeMetrics>,
    console: SocketAddr,
    roots: Arc<rustls::RootCertStore>,
    door: mpsc::Sender<DoorStream>,
    socket: std::path::PathBuf,
    stop: CancellationToken,
    directory: TempDir,
}

/// How a request gets in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Console,
    Door,
    Socket,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: http::HeaderMap,
    pub body: Value,
    pub text: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The session cookie that the answer sets, as a client sends it back.
    pub fn cookie(&self) -> String {
        let set = self.header("set-cookie").expect("a cookie");
        set.split(';').next().unwrap().to_owned()
    }

    pub fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or_default()
    }

    /// The pointers of the faults.
    pub fn pointers(&self) -> Vec<&str> {
        let errors = self.body["errors"].as_array().map(Vec::as_slice).unwrap_or_default();
        errors.iter().filter_map(|error| error["pointer"].as_str()).collect()
    }

    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text);
        self
    }

    /// A problem is a problem in every respect.
    #[track_caller]
    pub fn expect_problem(self, status: u16, code: &str) -> Self {
        let answer = self.expect(status);
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
        assert_eq!(answer.code(), code, "{}", answer.text);
        assert_eq!(answer.body["status"], status);
        assert!(answer.body["title"].is_string() && answer.body["type"].is_string());
        answer
    }
}

/// A request in the making.
pub struct Call<'a> {
    app: &'a App,
    way: Way,
    leaf: Option<Vec<u8>>,
    request: http::request::Builder,
    body: Vec<u8>,
}

impl Call<'_> {
    pub fn through(mut self, way: Way) -> Self {
        self.way = way;
        self
    }

    /// At the door, with this client certificate in the handshake.
    pub fn certificate(mut self, der: &[u8]) -> Self {
        (self.way, self.leaf) = (Way::Door, Some(der.to_vec()));
        self
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.request = self.request.header(name, value);
        self
    }

    pub fn token(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    /// As a page of ours at this entrance sends it.
    pub fn cookie(self, cookie: &str) -> Self {
        let origin = if self.way == Way::Door { DOOR } else { CONSOLE };
        self.header("cookie", cookie).header("origin", origin)
    }

    pub fn json(self, body: &Value) -> Self {
        self.bytes("application/json", body.to_string().as_bytes())
    }

    pub fn bytes(mut self, content_type: &str, body: &[u8]) -> Self {
        self.body = body.to_vec();
        self.header("content-type", content_type)
    }

    pub async fn send(self) -> Answer {
        let stream = match self.leaf {
            Some(leaf) => Box::new(self.app.knock_with(leaf).await),
            None => self.app.connect(self.way).await,
        };
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let request = self.request.body(Full::new(Bytes::from(self.body))).unwrap();
        let response = sender.send_request(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body: serde_json::from_slice(&bytes).unwrap_or_default(),
            text,
        }
    }
}

/// Allowances that no test runs into by accident.
pub fn generous() -> Allowances {
    let much = Allowance { burst: 100_000.try_into().unwrap(), refill: Duration::from_millis(1) };
    Allowances {
        sign_in_by_source: much,
        sign_in_by_account: much,
        setup: much,
        acceptance: much,
        renewal: much,
        bad_tokens: much,
    }
}

/// That many at once, and no more within a test.
pub fn allowance(burst: u32) -> Allowance {
    Allowance { burst: burst.try_into().unwrap(), refill: Duration::from_secs(3600) }
}

impl App {
    pub async fn new() -> Self {
        Self::over(&TestDatabase::sqlite()).await
    }

    pub async fn over(database: &TestDatabase) -> Self {
        Self::with(database, generous()).await
    }

    pub async fn with(database: &TestDatabase, allowances: Allowances) -> Self {
        Self::built(database, allowances, Patience::default()).await
    }

    /// With other deadlines for connections.
    pub async fn patient(patience: Patience) -> Self {
        Self::built(&TestDatabase::sqlite(), generous(), patience).await
    }

    async fn built(database: &TestDatabase, allowances: Allowances, patience: Patience) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let url = match database {
            // The fixture outlives the database that `new` makes for it.
            TestDatabase::Sqlite(_) => format!("sqlite:{}", directory.path().join("test.db").display()),
            TestDatabase::Postgres(_) => database.url(),
        };
        let store = Store::create(&url, 5).await.unwrap();
        store.migrate(None).await.unwrap();
        let clock = ManualClock::at("2026-11-23T12:00:00Z".parse().unwrap());
        let shared: SharedClock = clock.clone();
        let key = Kek::fresh_text(&SystemEntropy);
        let vault = |purpose| Vault::new(Kek::from_text(purpose, &key, "test").unwrap());
        let vaults =
            Arc::new(Vaults { server: vault(Purpose::Server), authority: vault(Purpose::Authority) });
        store.open_vaults(&vaults, &SystemEntropy, clock.now()).await.unwrap();
        let holder = Holder::in_memory(TlsPolicy::modern(), shared.clone());
        let feed = Feed::new();
        feed.connect(holder.clone());
        let refresh: Arc<dyn Enforce> =
            RefreshLive::new(store.clone(), vaults.clone(), feed, shared.clone(), None, 0);
        let ca = Ca::new(
            store.clone(),
            vaults.clone(),
            Arc::new(SystemEntropy),
            refresh.clone(),
            Activation::new("publish_crls"),
            "http://door.example.com".to_owned(),
        );
        ca.init("Test", clock.now()).await.unwrap();
        let metrics = Metrics::new(clock.now()).unwrap();
        let health = Health::new(of_authorities(&store, &ca));
        let mailer = Mailer::new(
            Outbox::new(store.clone(), vaults),
            None,
            "Test".to_owned(),
            None,
            Activation::new("send_mail"),
            metrics.jobs.clone(),
        );
        let clean_up: Arc<dyn Job> = Arc::new(CleanUp::new(store.clone(), wicketgate::admin::sweeps(&store)));
        let jobs = Jobs::idle(
            store.clone(),
            shared.clone(),
            ReplicaId::new(),
            metrics.jobs.clone(),
            vec![(Activation::new("clean_up"), clean_up)],
        );
        let server = AdminServer::new(
            Rooms {
                store: store.clone(),
                clock: shared.clone(),
                edge_clock: shared,
                edge: metrics.edge.clone(),
                entropy: Arc::new(SystemEntropy),
                ca: ca.clone(),
                enforce: refresh,
                jobs,
                mailer,
                health,
                register: holder.register().clone(),
            },
            AdminSettings {
                console_origin: CONSOLE.to_owned(),
                door_origin: Some(DOOR.to_owned()),
                name: "Test".to_owned(),
                allowances,
            },
        )
        .patience(patience);
        let (tls, roots) = tls_of(&ca).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let console = listener.local_addr().unwrap();
        let (door, connections) = mpsc::channel(8);
        let socket = directory.path().join("admin.sock");
        let listeners = Listeners {
            console: Some((listener, tls)),
            door: Some(connections),
            socket: Some(AdminSocket::bind(&socket, Some(own_uid())).await.unwrap()),
        };
        let stop = CancellationToken::new();
        tokio::spawn(server.serve(listeners, stop.clone(), Duration::from_secs(5)));
        let edge = metrics.edge.clone();
        Self { store, ca, clock, holder, edge, console, roots, door, socket, stop, directory }
    }

    /// Where the database and the socket are.
    pub fn directory(&self) -> &std::path::Path {
        self.directory.path()
    }

    pub fn clock_now(&self) -> wicketgate::domain::UtcTime {
        self.clock.now()
    }

    pub fn call(&self, method: &str, path: &str) -> Call<'_> {
        let request = http::Request::builder().method(method).uri(path).header("host", "test");
        Call { app: self, way: Way::Console, leaf: None, request, body: Vec::new() }
    }

    pub fn get(&self, path: &str) -> Call<'_> {
        self.call("GET", path)
    }

    pub fn post(&self, path: &str, body: &Value) -> Call<'_> {
        self.call("POST", path).json(body)
    }

    /// A connection to the door from `peer`, with a small buffer on the way.
    pub async fn knock(&self, peer: &str) -> DuplexStream {
        let (ours, theirs) = tokio::io::duplex(512);
        let peer = SocketAddr::new(peer.parse().unwrap(), 4711);
        self.door.send(DoorStream { stream: Box::new(theirs), peer, leaf: None }).await.unwrap();
        ours
    }

    /// A connection to the door that presented this client certificate.
    pub async fn knock_with(&self, leaf: Vec<u8>) -> DuplexStream {
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        let peer = "192.0.2.8:4711".parse().unwrap();
        let leaf = Some(leaf.into());
        self.door.send(DoorStream { stream: Box::new(theirs), peer, leaf }).await.unwrap();
        ours
    }

    pub async fn connect(&self, way: Way) -> Box<dyn Stream> {
        match way {
            Way::Socket => Box::new(UnixStream::connect(&self.socket).await.unwrap()),
            Way::Door => {
                let (ours, theirs) = tokio::io::duplex(64 * 1024);
                let peer = "192.0.2.7:4711".parse().unwrap();
                self.door.send(DoorStream { stream: Box::new(theirs), peer, leaf: None }).await.unwrap();
                Box::new(ours)
            }
            Way::Console => {
                let tcp = TcpStream::connect(self.console).await.unwrap();
                let config = rustls::ClientConfig::builder_with_provider(
                    rustls::crypto::aws_lc_rs::default_provider().into(),
                )
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(self.roots.clone())
                .with_no_client_auth();
                let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
                Box::new(connector.connect("localhost".try_into().unwrap(), tcp).await.unwrap())
            }
        }
    }

    pub async fn person(&self, name: &str, role: Role) -> PersonId {
        let now = self.clock.now();
        let person = Person {
            id: PersonId::new(),
            email: format!("{}@example.com", name.to_lowercase().replace(' ', ".")),
            name: name.to_owned(),
            role,
            groups: Default::default(),
            disabled: false,
            has_password: false,
            created_at: now,
            version: 1,
        };
        let act = self.store.begin_act(Actor::System("test"), "person.add", None, None, now).await.unwrap();
        self.ca.create_person(&person, &act, now).await.unwrap();
        person.id
    }

    pub async fn token(&self, person: PersonId, role: Role) -> String {
        let now = self.clock.now();
        let act = self.store.begin_act(Actor::System("test"), "token.make", None, None, now).await.unwrap();
        let lasts = Duration::from_secs(90 * 86_400);
        let new = NewAdminToken { person, name: "test".to_owned(), role, lasts };
        create_token_for(&self.store, &SystemEntropy, new, &act, now).await.unwrap().expose().clone()
    }

    /// A member with a token.
    pub async fn member(&self, name: &str) -> (PersonId, String) {
        let id = self.person(name, Role::Member).await;
        (id, self.token(id, Role::Member).await)
    }

    /// An administrator with a token.
    pub async fn administrator(&self) -> (PersonId, String) {
        let id = self.person("Ada Root", Role::Administrator).await;
        (id, self.token(id, Role::Administrator).await)
    }

    pub async fn setup_token(&self) -> Secret<String> {
        create_setup_token(&self.store, &SystemEntropy, self.clock.now()).await.unwrap()
    }

    /// Sets the installation up; answers with the cookie of its administrator.
    pub async fn set_up(&self) -> String {
        let token = self.setup_token().await;
        let body = json!({
            "token": token.expose(), "email": "olga@example.com", "name": "Olga Ops", "password": PASSWORD,
        });
        self.post("/api/v1/setup", &body).send().await.expect(201).cookie()
    }

    pub async fn sign_in(&self, email: &str, password: &str) -> Answer {
        self.post("/api/v1/sessions", &json!({ "email": email, "password": password })).send().await
    }

    /// Invites someone with a token that may; answers with the token of the link.
    pub async fn invite(&self, administrator: &str, person: PersonId) -> (String, String) {
        let body = json!({ "person_id": person.to_string(), "send_mail": false });
        let answer = self.post("/api/v1/invitations", &body).token(administrator).send().await.expect(201);
        let link = answer.body["link"].as_str().unwrap();
        let token = link.strip_prefix(&format!("{DOOR}/#/invitation/")).unwrap().to_owned();
        (answer.body["id"].as_str().unwrap().to_owned(), token)
    }

    /// Issues a certificate for whoever the token is.
    pub async fn issue(&self, token: &str, device: &str) -> Answer {
        let body = json!({ "csr": csr(), "device_name": device });
        self.post("/api/v1/certificates", &body).token(token).send().await
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// A signing request with a fresh key.
pub fn csr() -> String {
    let (key, _) = keygen::generate_p256();
    keygen::client_csr_pem(key.expose(), "a device").unwrap()
}

fn own_uid() -> u32 {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").unwrap().uid()
}

async fn tls_of(ca: &Ca) -> (Arc<rustls::ServerConfig>, Arc<rustls::RootCertStore>) {
    // Clients read the system's clock, not the test's.
    let now = wicketgate::clock::SystemClock.now();
    let leaf = ca.local_leaf(&["localhost"], now).await.unwrap();
    let chain: Vec<_> =
        leaf.chain.iter().map(|der| rustls_pki_types::CertificateDer::from(der.clone())).collect();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(chain[1].clone()).unwrap();
    let key = rustls_pki_types::PrivateKeyDer::Pkcs8(leaf.key.expose().clone().into());
    let config =
        rustls::ServerConfig::builder_with_provider(rustls::crypto::aws_lc_rs::default_provider().into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
    (Arc::new(config), Arc::new(roots))
}
