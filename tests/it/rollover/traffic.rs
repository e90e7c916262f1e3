//! Devices in front of a real edge, and visits of theirs that never stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use wicketgate::ca::{DeviceChoice, IssueRequest, Issued};
use wicketgate::domain::{Serial, Slug, UtcTime};
use wicketgate::edge::{Edge, EdgeSettings};
use wicketgate::pki::keygen;
use wicketgate::telemetry::metrics::EdgeMetrics;

use crate::ca::fixture::World;
use crate::edge::fixture::{APP, Authority, Random, STRICT, configuration};
use crate::edge::upstream::Backend;

/// How long one visit may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(10);

/// A certificate with its key, as a device holds it.
pub struct Member {
    pub serial: Serial,
    pub authority: Slug,
    pub not_after: UtcTime,
    tls: [Arc<ClientConfig>; 2],
    /// Cleared before it stops passing for a reason that we know.
    passes: AtomicBool,
}

/// What happened so far.
#[derive(Default)]
pub struct Tally {
    pub visits: AtomicU64,
    pub refusals: AtomicU64,
    /// Valid certificates that were not let through.
    pub failures: Mutex<Vec<String>>,
    /// Revoked or archived ones that were.
    pub passes: Mutex<Vec<String>>,
}

/// The edge, its devices and what they saw.
pub struct Gate {
    pub world: World,
    edge: Edge,
    server_ca: Vec<u8>,
    pub valid: Mutex<Vec<Arc<Member>>>,
    pub refused: Mutex<Vec<Arc<Member>>>,
    pub tally: Tally,
}

impl Gate {
    /// An edge with what the authority of `world` feeds it.
    pub async fn before(world: World) -> Arc<Self> {
        let backend = Backend::start().await;
        let server_ca = Authority::new("server-ca", "Server CA");
        let loopback = "127.0.0.1:0".parse().unwrap();
        let settings = EdgeSettings {
            https: vec![loopback],
            http: vec![loopback],
            threads: 2,
            // The clock leaps; the feed is as fresh as ever.
            max_stale: Duration::from_secs(100 * 365 * 86_400),
            ..EdgeSettings::default()
        };
        let (holder, clock) = (world.holder.clone(), world.clock.clone());
        let metrics = Arc::new(EdgeMetrics::default());
        let edge = Edge::bind(settings, holder, clock, Arc::new(Random), None, metrics).await.unwrap();
        world.stand_in.serve(configuration(&server_ca, &backend)).await;
        Arc::new(Self {
            world,
            edge,
            server_ca: server_ca.der,
            valid: Mutex::default(),
            refused: Mutex::default(),
            tally: Tally::default(),
        })
    }

    /// A new device with a certificate.
    pub async fn enrol(&self) -> Arc<Member> {
        let (key, _) = keygen::generate_p256();
        let request = IssueRequest {
            person: self.world.anna,
            device: DeviceChoice::New { name: "device".to_owned() },
            profile: "device".parse().unwrap(),
            csr_pem: keygen::client_csr_pem(key.expose(), "a device").unwrap(),
            dns_names: Default::default(),
        };
        let act = self.world.act("certificate.issue").await;
        let issued = self.world.ca.issue(&request, &act, self.world.now()).await.unwrap();
        self.admit(issued, key.expose())
    }

    /// The successor of a certificate, which passes beside it until that one ends.
    pub async fn renew(&self, member: &Member) -> Arc<Member> {
        let (key, _) = keygen::generate_p256();
        let csr = keygen::client_csr_pem(key.expose(), "a device").unwrap();
        let act = self.world.act("certificate.renew").await;
        let issued = self.world.ca.renew(member.serial, &csr, &act, self.world.now()).await.unwrap();
        self.admit(issued, key.expose())
    }

    fn admit(&self, issued: Issued, key: &[u8]) -> Arc<Member> {
        let leaf = &issued.certificate;
        let chain: Vec<CertificateDer<'static>> =
            std::iter::once(&leaf.der).chain(&issued.chain).map(|der| der.clone().into()).collect();
        let tls = || {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from(self.server_ca.clone())).unwrap();
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let mut config = ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(roots)
                .with_client_auth_cert(chain.clone(), PrivateKeyDer::Pkcs8(key.to_vec().into()))
                .unwrap();
            config.alpn_protocols = vec![b"http/1.1".to_vec()];
            Arc::new(config)
        };
        let member = Arc::new(Member {
            serial: leaf.serial,
            authority: leaf.authority.clone(),
            not_after: leaf.not_after,
            tls: [tls(), tls()],
            passes: AtomicBool::new(true),
        });
        self.valid.lock().push(member.clone());
        member
    }

    /// From here on nobody reckons that these pass. Call it before the act that makes it so.
    pub fn forget(&self, which: impl Fn(&Member) -> bool) -> Vec<Arc<Member>> {
        let mut valid = self.valid.lock();
        let (gone, kept) = valid.drain(..).partition::<Vec<_>, _>(|member| which(member));
        *valid = kept;
        gone.iter().for_each(|member| member.passes.store(false, Ordering::SeqCst));
        gone
    }

    /// From here on nobody reckons that these are refused with anything else. Call it after the act.
    pub fn shut_out(&self, members: Vec<Arc<Member>>) {
        self.refused.lock().extend(members);
    }

    /// Revokes a certificate; from the answer on it must not pass.
    pub async fn revoke(&self, member: &Member) {
        let gone = self.forget(|other| other.serial == member.serial);
        self.world.revoke(member.serial, "keyCompromise").await.unwrap();
        self.shut_out(gone);
    }

    /// One handshake and request. `None` is a pass, else what came instead.
    pub async fn visit(&self, member: &Member, strict: bool) -> Option<String> {
        let visiting = async {
            let host = if strict { STRICT } else { APP };
            let stream = TcpStream::connect(self.edge.https_addresses()[0]).await?;
            let name = ServerName::try_from(host).unwrap();
            let connector = TlsConnector::from(member.tls[usize::from(strict)].clone());
            let mut stream = connector.connect(name, stream).await?;
            let request = format!("GET / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await?;
            let mut head = vec![0; 12];
            stream.read_exact(&mut head).await?;
            Ok::<_, std::io::Error>(String::from_utf8_lossy(&head).into_owned())
        };
        match tokio::time::timeout(PATIENCE, visiting).await {
            Ok(Ok(head)) if head == "HTTP/1.1 200" => None,
            Ok(Ok(head)) => Some(head),
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("no answer in time".to_owned()),
        }
    }

    /// Visits at `rate` a second until dropped: of every four, three by valid certificates and one by one
    /// that is shut out; half of them in strict mode.
    pub fn visits(self: &Arc<Self>, rate: u32) -> JoinSet<()> {
        let gate = self.clone();
        let mut all = JoinSet::new();
        all.spawn(async move {
            let mut ticks = tokio::time::interval(Duration::from_secs(1) / rate);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            let mut running = JoinSet::new();
            for number in 0_usize.. {
                ticks.tick().await;
                while running.try_join_next().is_some() {}
                let gate = gate.clone();
                running.spawn(async move { gate.one_visit(number).await });
            }
        });
        all
    }

    async fn one_visit(&self, number: usize) {
        let pick = |list: &Mutex<Vec<Arc<Member>>>| {
            let list = list.lock();
            (!list.is_empty()).then(|| list[(number / 4) % list.len()].clone())
        };
        let strict = number % 8 < 4;
        if number % 4 == 3
            && let Some(member) = pick(&self.refused)
        {
            let passed = self.visit(&member, strict).await.is_none();
            self.tally.refusals.fetch_add(1, Ordering::Relaxed);
            if passed {
                self.tally.passes.lock().push(format!("{} of {}", member.serial, member.authority));
            }
        } else if let Some(member) = pick(&self.valid) {
            let failed = self.visit(&member, strict).await;
            self.tally.visits.fetch_add(1, Ordering::Relaxed);
            // What stopped passing while it was under way had a reason that the script knows.
            if let Some(reason) = failed.filter(|_| member.passes.load(Ordering::SeqCst)) {
                self.tally
                    .failures
                    .lock()
                    .push(format!("{} of {}: {reason}", member.serial, member.authority));
            }
        }
    }

    /// Lets `span` pass. Devices renew first what would end in it.
    pub async fn pass(&self, span: Duration) {
        let until = self.world.now().plus(span);
        let ending: Vec<_> =
            self.valid.lock().iter().filter(|member| member.not_after <= until).cloned().collect();
        for member in &ending {
            self.renew(member).await;
        }
        self.forget(|member| member.not_after <= until);
        self.world.clock.advance(span);
        self.world.ca.publish_crls(self.world.now()).await.unwrap();
    }
}
