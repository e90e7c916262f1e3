//! Starting the admin server: its certificate, its three entrances.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::control::{ControlError, Parts, origin};
use super::plane::Door;
use super::sockets::Service;
use crate::activate::Enforce;
use crate::admin::{
    AdminServer, AdminSettings, AdminSocket, Allowances, DoorStream, Listeners, Rooms, of_host,
};
use crate::ca::Ca;
use crate::ca::health::{Health, of_authorities};
use crate::domain::UtcTime;
use crate::jobs::Jobs;
use crate::live::configuration::DerData;
use crate::live::tls::certified_key;
use crate::mail::Mailer;
use crate::store::Store;

/// How long requests under way may go on.
const DRAIN: Duration = Duration::from_secs(3);
/// How long the admin socket may still be another process's.
const FREE_WITHIN: Duration = Duration::from_secs(2);
/// How often the console's own certificate is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(3600);
/// It is replaced when less than this is left: a third of its 90 days.
const RENEW_BELOW: Duration = Duration::from_secs(30 * 86_400);

/// What the console stands on.
pub(super) struct Ground<'a> {
    pub(super) parts: &'a Parts,
    pub(super) store: &'a Store,
    pub(super) ca: &'a Ca,
    pub(super) enforce: Arc<dyn Enforce>,
    pub(super) jobs: &'a Jobs,
    pub(super) mailer: &'a Mailer,
    pub(super) door_url: Option<String>,
}

/// The console's sockets and certificate, before anything runs behind them.
pub(super) struct Bound {
    listener: TcpListener,
    address: SocketAddr,
    key: Arc<OwnKey>,
    tls: Arc<ServerConfig>,
    socket: AdminSocket,
}

/// Takes the console's sockets. Everything that can fail happens here, so that a taken port leaves no
/// job running.
pub(super) async fn bind(parts: &Parts, ca: &Ca) -> Result<Bound, ControlError> {
    let config = &parts.config;
    let listen = |cause| ControlError::Listen { address: config.admin.listen.to_string(), cause };
    let listener = parts.sockets.listener(Service::Console, config.admin.listen).map_err(listen)?;
    let address = listener.local_addr().map_err(listen)?;
    let key = Arc::new(OwnKey {
        names: config.admin.host.to_string(),
        current: ArcSwap::from(own_key(parts, ca).await?.0),
    });
    let tls = server_config(parts, key.clone())?;
    let socket_path = config.admin_socket();
    let socket = admin_socket(parts, &socket_path).await;
    let socket =
        socket.map_err(|cause| ControlError::Listen { address: socket_path.display().to_string(), cause })?;
    Ok(Bound { listener, address, key, tls, socket })
}

/// A process that stands back is not quite done with its own when it says so.
async fn admin_socket(parts: &Parts, path: &Path) -> io::Result<AdminSocket> {
    let began = Instant::now();
    loop {
        match AdminSocket::bind(path, parts.config.admin.uid).await {
            Err(error)
                if error.kind() == io::ErrorKind::AddrInUse
                    && parts.predecessor.is_some()
                    && began.elapsed() < FREE_WITHIN => {}
            bound => return bound,
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

impl Bound {
    /// Serves until `stop`. Returns the console's origin.
    pub(super) fn serve(
        self,
        ground: Ground<'_>,
        door: &Door,
        tasks: &mut JoinSet<()>,
        stop: &CancellationToken,
    ) -> String {
        let Ground { parts, store, ca, enforce, jobs, mailer, door_url } = ground;
        let config = &parts.config;
        tasks.spawn(keep_fresh(self.key, ca.clone(), parts.clock.clone(), parts.tls.clone(), stop.clone()));
        let rooms = Rooms {
            store: store.clone(),
            clock: parts.clock.clone(),
            entropy: parts.entropy.clone(),
            ca: ca.clone(),
            enforce,
            jobs: jobs.clone(),
            mailer: mailer.clone(),
            health: Health::new(of_authorities(store, ca).into_iter().chain(of_host(config)).collect()),
            register: parts.holder.register().clone(),
            edge_clock: parts.edge_clock.clone(),
            edge: parts.metrics.edge.clone(),
        };
        let console_origin = origin(config.admin.host.as_str(), self.address.port());
        let settings = AdminSettings {
            console_origin: console_origin.clone(),
            door_origin: door_url,
            name: config.server.name.clone(),
            allowances: Allowances::default(),
        };
        let server = AdminServer::new(rooms, settings).counting(parts.metrics.admin.clone());
        let door = Some(hand_over(door.clone(), tasks));
        let listeners =
            Listeners { console: Some((self.listener, self.tls)), door, socket: Some(self.socket) };
        let stop = stop.clone();
        tasks.spawn(async move {
            if let Err(error) = server.serve(listeners, stop, DRAIN).await {
                tracing::error!(error = &error as &dyn std::error::Error, "The admin server ended");
            }
        });
        console_origin
    }
}

/// The edge's finished connections in the admin room's own words.
fn hand_over(from: Door, tasks: &mut JoinSet<()>) -> mpsc::Receiver<DoorStream> {
    let (sender, receiver) = mpsc::channel(1);
    tasks.spawn(async move {
        let mut from = from.lock().await;
        loop {
            // The edge keeps its end of the queue while it drains, so the server's end says when to stop.
            let arrived = tokio::select! { arrived = from.recv() => arrived, () = sender.closed() => return };
            let Some(connection) = arrived else { return };
            let (peer, leaf) = (connection.peer, connection.leaf());
            let door = DoorStream { stream: Box::new(connection.stream), peer, leaf };
            if sender.send(door).await.is_err() {
                return;
            }
        }
    });
    receiver
}

/// The console's certificate: a leaf of the local server authority, replaced while serving.
#[derive(Debug)]
struct OwnKey {
    names: String,
    current: ArcSwap<CertifiedKey>,
}

impl ResolvesServerCert for OwnKey {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}

async fn own_key(parts: &Parts, ca: &Ca) -> Result<(Arc<CertifiedKey>, UtcTime), ControlError> {
    make_key(parts.config.admin.host.as_str(), ca, parts.clock.now(), &parts.tls).await
}

async fn make_key(
    host: &str,
    ca: &Ca,
    now: UtcTime,
    tls: &crate::live::TlsPolicy,
) -> Result<(Arc<CertifiedKey>, UtcTime), ControlError> {
    // Loopback by address, too: a tunnel often ends there.
    let leaf = ca.local_leaf(&[host, "127.0.0.1", "::1"], now).await?;
    let chain: Vec<_> = leaf.chain.into_iter().map(DerData).collect();
    let key = certified_key(&chain, leaf.key.expose(), tls).map_err(ControlError::Tls)?;
    Ok((key, leaf.not_after))
}

async fn keep_fresh(
    key: Arc<OwnKey>,
    ca: Ca,
    clock: crate::clock::SharedClock,
    tls: crate::live::TlsPolicy,
    stop: CancellationToken,
) {
    let mut ends = clock.now().plus(RENEW_BELOW * 3);
    loop {
        tokio::select! { () = tokio::time::sleep(LOOK_EVERY) => {} () = stop.cancelled() => return }
        if ends.since(clock.now()) > RENEW_BELOW {
            continue;
        }
        match make_key(&key.names, &ca, clock.now(), &tls).await {
            Ok((fresh, until)) => {
                key.current.store(fresh);
                ends = until;
            }
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "The console's certificate was not renewed"
                );
            }
        }
    }
}

fn server_config(parts: &Parts, key: Arc<OwnKey>) -> Result<Arc<ServerConfig>, ControlError> {
    let tls = &parts.tls;
    let fault = |error| ControlError::Tls(crate::live::tls::TlsFault::Settings(error));
    let builder =
        ServerConfig::builder_with_provider(tls.provider().clone()).with_protocol_versions(tls.versions());
    let mut config = builder.map_err(fault)?.with_no_client_auth().with_cert_resolver(key);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(Arc::new(config))
}
