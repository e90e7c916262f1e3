//! An edge, rows, a site whose certificate names a responder, and that responder.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::LOCATION;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rcgen::{
    CertificateParams, CustomExtension, ExtendedKeyUsagePurpose, Issuer as RcgenIssuer, KeyPair, SerialNumber,
};
use rustls::ClientConfig;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use wicketgate::acme::staples::Staples;
use wicketgate::activate::Activation;
use wicketgate::ca::Ca;
use wicketgate::clock::{Clock, ManualClock, SharedClock, SystemClock};
use wicketgate::domain::{ClientAuth, Fingerprint, Hostname, RevocationReason, Secret, Serial};
use wicketgate::edge::{Edge, EdgeSettings};
use wicketgate::jobs::refresh_live::RefreshLive;
use wicketgate::jobs::refresh_ocsp_staples::RefreshOcspStaples;
use wicketgate::jobs::{Job, JobReport, Jobs};
use wicketgate::keys::{Kek, SystemEntropy};
use wicketgate::live::{Feed, Holder, TlsPolicy};
use wicketgate::pki::ocsp::{
    CertStatus, OcspRequest, OcspSigner, SignerTemplate, prepare_response, prepare_signer,
};
use wicketgate::pki::{AuthorityCertificate, KeyPolicy, PublicKey, keygen, pem};
use wicketgate::store::Store;
use wicketgate::store::alerts::Severity;
use wicketgate::store::configuration::{CertificateSource, ServerCertificate, Site, SiteKind};
use wicketgate::store::leases::ReplicaId;
use wicketgate::store::staples::Staple;
use wicketgate::telemetry::metrics::{EdgeMetrics, JobMetrics};

use crate::ca::fixture::vaults;
use crate::edge::fixture::Authority;
use crate::harness::database::TestDatabase;
use crate::harness::ocsp::{question, tlv};

pub(super) const HOST: &str = "app.example.test";
/// How long answers count.
pub(super) const LASTS: Duration = Duration::from_secs(4 * 3600);
const JOB: &str = "refresh_ocsp_staples";

/// What the responder says.
#[derive(Clone, Copy, Debug)]
pub(super) enum Says {
    Good,
    Revoked,
    Unknown,
    /// `good`, of another certificate.
    OtherSerial,
    /// `good`, of and by a namesake of the issuer.
    OtherIssuer,
    /// `good`, until a moment ago.
    OldGood,
    Garbage,
    /// More than anybody should read.
    Long,
    /// To itself.
    Redirect,
    Error,
}

/// Who may answer in the name of one authority.
struct Voice {
    issuer: AuthorityCertificate,
    signer: OcspSigner,
    key: Secret<Vec<u8>>,
}

impl Voice {
    fn of(authority: &Authority, clock: &ManualClock) -> Self {
        let issuer = AuthorityCertificate::from_der(&authority.der).unwrap();
        let (key, spki) = keygen::generate_p256();
        let public_key = PublicKey::from_spki_der(&spki, &KeyPolicy::default()).unwrap();
        let template = SignerTemplate {
            serial: Serial::random(&SystemEntropy),
            public_key: &public_key,
            common_name: "Test OCSP",
            not_before: clock.now().minus(Duration::from_secs(86_400)),
            not_after: clock.now().plus(Duration::from_secs(10 * 86_400)),
        };
        let prepared = prepare_signer(&issuer, &template).unwrap();
        let signature = keygen::sign_p256(&authority.key.serialize_der(), prepared.tbs()).unwrap();
        let certificate = prepared.assemble(&signature).unwrap();
        let signer = OcspSigner::from_der(certificate.der(), &issuer).unwrap();
        Self { issuer, signer, key }
    }

    fn answer(&self, request: &[u8], status: CertStatus, clock: &ManualClock, age: Duration) -> Vec<u8> {
        let asked = OcspRequest::from_der(request).unwrap();
        let id = asked.plain().unwrap();
        let since = clock.now().minus(age);
        let prepared =
            prepare_response(&self.signer, &[(id, status)], None, since, since.plus(LASTS)).unwrap();
        let signature = keygen::sign_p256(self.key.expose(), prepared.tbs()).unwrap();
        prepared.assemble(&signature).unwrap().der().to_vec()
    }
}

/// The responder.
struct Desk {
    own: Voice,
    namesake: Voice,
    clock: Arc<ManualClock>,
    says: Mutex<Says>,
    asked: AtomicU64,
}

impl Desk {
    fn answer(&self, request: &[u8]) -> Response<Full<Bytes>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let asked = OcspRequest::from_der(request).unwrap();
        let serial = asked.plain().unwrap().serial().unwrap();
        let own = |request: &[u8], status| self.own.answer(request, status, &self.clock, Duration::ZERO);
        let at = self.clock.now();
        let mut response = Response::new(Full::default());
        let body = match *self.says.lock() {
            Says::Good => own(request, CertStatus::Good),
            Says::Revoked => {
                own(request, CertStatus::Revoked { at, reason: RevocationReason::KeyCompromise })
            }
            Says::Unknown => own(request, CertStatus::Unknown),
            Says::OtherSerial => {
                let other = question(&self.own.issuer, Serial::random(&SystemEntropy), None);
                own(&other, CertStatus::Good)
            }
            Says::OtherIssuer => {
                let other = question(&self.namesake.issuer, serial, None);
                self.namesake.answer(&other, CertStatus::Good, &self.clock, Duration::ZERO)
            }
            Says::OldGood => self.own.answer(request, CertStatus::Good, &self.clock, LASTS),
            Says::Garbage => b"<html>Welcome</html>".to_vec(),
            Says::Long => vec![0x30; 100_000],
            Says::Redirect => {
                *response.status_mut() = StatusCode::TEMPORARY_REDIRECT;
                response.headers_mut().insert(LOCATION, http::HeaderValue::from_static("/"));
                Vec::new()
            }
            Says::Error => {
                *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
                Vec::new()
            }
        };
        *response.body_mut() = Full::from(body);
        response
    }

    async fn serve(self: Arc<Self>, listener: TcpListener) {
        while let Ok((stream, _)) = listener.accept().await {
            let desk = self.clone();
            let service = service_fn(move |request: Request<Incoming>| {
                let desk = desk.clone();
                async move {
                    let body = request.into_body().collect().await.unwrap().to_bytes();
                    Ok::<_, Infallible>(desk.answer(&body))
                }
            });
            let connection = hyper::server::conn::http1::Builder::new();
            tokio::spawn(connection.serve_connection(TokioIo::new(stream), service));
        }
    }
}

pub(super) struct World {
    pub(super) clock: Arc<ManualClock>,
    pub(super) edge: Edge,
    store: Store,
    jobs: Jobs,
    desk: Arc<Desk>,
}

impl World {
    /// A site without a staple, and a responder that says the truth.
    pub(super) async fn over(database: &TestDatabase) -> Self {
        let store = Store::create(&database.url(), 5).await.unwrap();
        store.migrate(None).await.unwrap();
        let clock = ManualClock::at(SystemClock.now());
        let shared: SharedClock = clock.clone();
        let vaults = vaults(&Kek::fresh_text(&SystemEntropy));
        store.open_vaults(&vaults, &SystemEntropy, clock.now()).await.unwrap();
        let holder = Holder::in_memory(TlsPolicy::modern(), shared.clone());
        let feed = Feed::new();
        feed.connect(holder.clone());
        let refresh = RefreshLive::new(store.clone(), vaults.clone(), feed, shared.clone(), None, 0);
        let ca = Ca::new(
            store.clone(),
            vaults.clone(),
            Arc::new(SystemEntropy),
            refresh.clone(),
            Activation::new("publish_crls"),
            "http://door.example.test".to_owned(),
        );
        ca.init("Test", clock.now()).await.unwrap();
        let loopback = "127.0.0.1:0".parse().unwrap();
        let settings = EdgeSettings {
            https: vec![loopback],
            http: vec![loopback],
            threads: 1,
            ..EdgeSettings::default()
        };
        let metrics = Arc::new(EdgeMetrics::default());
        let edge =
            Edge::bind(settings, holder, shared, Arc::new(SystemEntropy), None, metrics).await.unwrap();
        let authority = Authority::new("public", "Public CA");
        let namesake = Authority::new("public", "Public CA");
        let desk = Arc::new(Desk {
            own: Voice::of(&authority, &clock),
            namesake: Voice::of(&namesake, &clock),
            clock: clock.clone(),
            says: Mutex::new(Says::Good),
            asked: AtomicU64::new(0),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/ocsp", listener.local_addr().unwrap());
        tokio::spawn(desk.clone().serve(listener));
        let (chain, key) = site_leaf(&authority, &url);
        let id = "0192f0c1-0000-7000-8000-000000000001".to_owned();
        let certificate = ServerCertificate {
            sealed_key: vaults.server.seal(ServerCertificate::place(&id), &key).unwrap(),
            id,
            host: host(),
            source: CertificateSource::Acme,
            chain_pem: chain.iter().map(|der| pem::block("CERTIFICATE", der)).collect(),
            serial: "01".to_owned(),
            issuer: "Public CA".to_owned(),
            fingerprint: Fingerprint::of(&chain[0]),
            not_before: clock.now(),
            not_after: clock.now().plus(Duration::from_secs(90 * 86_400)),
            created_at: clock.now(),
            staple: None,
        };
        add_site(&store, &certificate).await;
        refresh.refresh().await.unwrap();
        let job: Arc<dyn Job> = Arc::new(RefreshOcspStaples::new(Staples::new(store.clone(), refresh)));
        let jobs = Jobs::idle(
            store.clone(),
            clock.clone(),
            ReplicaId::new(),
            Arc::new(JobMetrics::default()),
            vec![(Activation::new(JOB), job)],
        );
        Self { clock, edge, store, jobs, desk }
    }

    /// The job, once.
    pub(super) async fn run(&self) -> JobReport {
        self.jobs.run_now(JOB).await.unwrap()
    }

    pub(super) fn say(&self, says: Says) {
        *self.desk.says.lock() = says;
    }

    /// How often the responder was asked.
    pub(super) fn asked(&self) -> u64 {
        self.desk.asked.load(Ordering::SeqCst)
    }

    pub(super) async fn kept(&self) -> Option<Staple> {
        self.store.site(&host()).await.unwrap().unwrap().server_certificate.unwrap().staple
    }

    /// The open alert of this kind.
    pub(super) async fn alert(&self, kind: &str) -> Option<Severity> {
        let open = self.store.alerts(false, None, 10).await.unwrap();
        open.iter().find(|alert| alert.kind == kind && alert.object == HOST).map(|alert| alert.severity)
    }

    /// The staple that a visitor is shown; empty when there is none.
    pub(super) async fn shown(&self) -> Vec<u8> {
        let eyes = Arc::new(Eyes::default());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(eyes.clone())
            .with_no_client_auth();
        let stream = TcpStream::connect(self.edge.https_addresses()[0]).await.unwrap();
        let name = ServerName::try_from(HOST).unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
        let staple = eyes.0.lock().take();
        staple.unwrap()
    }
}

fn host() -> Hostname {
    HOST.parse().unwrap()
}

/// A chain whose leaf names the responder at `url`, and the leaf's key.
fn site_leaf(authority: &Authority, url: &str) -> (Vec<Vec<u8>>, Vec<u8>) {
    // id-ad-ocsp, and a URI (RFC 5280 §4.2.2.1).
    let responder = [tlv(6, &[0x2b, 6, 1, 5, 5, 7, 0x30, 1]), tlv(0x86, url.as_bytes())].concat();
    let access = tlv(0x30, &tlv(0x30, &responder));
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![HOST.to_owned()]).unwrap();
    params.serial_number = Some(SerialNumber::from_slice(Serial::random(&SystemEntropy).as_octets()));
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    params.custom_extensions = vec![CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 1, 1], access)];
    let issuer = RcgenIssuer::from_params(&authority.params, &authority.key);
    let leaf = params.signed_by(&key, &issuer).unwrap().der().to_vec();
    (vec![leaf, authority.der.clone()], key.serialize_der())
}

async fn add_site(store: &Store, certificate: &ServerCertificate) {
    let transaction = store.begin().await.unwrap();
    let site = Site {
        host: host(),
        upstream: None,
        kind: SiteKind::App,
        client_auth: ClientAuth::Request,
        hsts_max_age_seconds: 0,
        source: CertificateSource::Acme,
        enabled: true,
        server_certificate: None,
        created_at: certificate.created_at,
        version: 1,
    };
    transaction.insert_site(&site).await.unwrap();
    transaction.insert_server_certificate(certificate).await.unwrap();
    transaction.serve_certificate(&host(), &certificate.id).await.unwrap();
    transaction.commit().await.unwrap();
}

/// Believes everything, and remembers the staple.
#[derive(Debug, Default)]
struct Eyes(Mutex<Option<Vec<u8>>>);

impl ServerCertVerifier for Eyes {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        staple: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        *self.0.lock() = Some(staple.to_vec());
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        provider.signature_verification_algorithms.supported_schemes()
    }
}
