//! The three ways in: the console's own TLS listener, the door (finished TLS streams from an edge), and
//! the Unix socket of this host. All end in one channel that poem takes connections from; each
//! connection is marked with its entrance, which caps what anyone can do there.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use parking_lot::Mutex;
use poem::Addr;
use poem::Request;
use poem::http::uri::Scheme;
use poem::listener::Acceptor;
use poem::web::{LocalAddr, RemoteAddr};
use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::auth::limits::{Key, source_key};
use super::patience::{Patience, Patient};
use super::presented::{Kept, Presented};

/// Connections of the console served at one time. Each entrance has its own places, so that a crowd at
/// the door locks no administrator out.
const CONSOLE_PLACES: usize = 256;
/// Connections of the door served at one time.
const DOOR_PLACES: usize = 1024;
/// Connections of the socket served at one time.
const SOCKET_PLACES: usize = 64;
/// Connections that have been accepted and wait for poem.
const WAITING: usize = 64;
/// For the whole TLS handshake of the console.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long to wait after the system refused to accept (out of file descriptors).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where a request came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entrance {
    /// The admin listener.
    Console,
    /// The door, through an edge: everyone is a member at most.
    Door,
    /// The Unix socket of this host.
    Socket,
}

impl Entrance {
    const fn name(self) -> &'static str {
        match self {
            Self::Console => "console",
            Self::Door => "door",
            Self::Socket => "socket",
        }
    }
}

/// What a connection says about a request's origin.
#[derive(Clone, Copy, Debug)]
pub struct Visitor {
    /// The way in.
    pub entrance: Entrance,
    /// The peer's address.
    pub source: Option<IpAddr>,
    /// The peer's user id, at the socket.
    pub uid: Option<u32>,
    /// The connection, if it presented a client certificate.
    pub connection: Option<u64>,
}

impl Visitor {
    /// The visitor behind a request; none if it did not come through one of our entrances.
    pub fn of(request: &Request) -> Option<Self> {
        let Addr::Custom(MARK, name) = &request.local_addr().0 else { return None };
        let (name, connection) = match name.split_once(' ') {
            Some((name, connection)) => (name, Some(connection.parse().ok()?)),
            None => (name.as_ref(), None),
        };
        let entrance = [Entrance::Console, Entrance::Door, Entrance::Socket]
            .into_iter()
            .find(|entrance| entrance.name() == name)?;
        match (&request.remote_addr().0, entrance) {
            (Addr::SocketAddr(peer), Entrance::Console | Entrance::Door) => {
                Some(Self { entrance, source: Some(peer.ip()), uid: None, connection })
            }
            (Addr::Custom(MARK, uid), Entrance::Socket) => {
                Some(Self { entrance, source: None, uid: Some(uid.parse().ok()?), connection })
            }
            _ => None,
        }
    }
}

const MARK: &str = "wicketgate";

/// Anything that bytes go through.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Stream for T {}

/// A finished TLS connection to the door, handed over by an edge.
pub struct DoorStream {
    /// The decrypted bytes.
    pub stream: Box<dyn Stream>,
    /// Who is at the other end.
    pub peer: SocketAddr,
    /// The certificate whose key the peer has proven to hold. Says nothing yet of who they are.
    pub leaf: Option<CertificateDer<'static>>,
}

/// Where the server listens.
#[derive(Default)]
pub struct Listeners {
    /// The console: a bound listener and its TLS side.
    pub console: Option<(TcpListener, Arc<rustls::ServerConfig>)>,
    /// The door: connections from the edges of this process.
    pub door: Option<mpsc::Receiver<DoorStream>>,
    /// The socket of this host.
    pub socket: Option<AdminSocket>,
}

/// The bound Unix socket. Removed from the file system when dropped.
pub struct AdminSocket {
    listener: UnixListener,
    path: PathBuf,
    /// The user id that may use it, beside root.
    uid: Option<u32>,
}

impl AdminSocket {
    /// Binds the socket; one left behind by a crash is replaced. Only its owner and, if `uid` is
    /// another's, its group may connect; who they are is checked again by SO_PEERCRED.
    ///
    /// # Errors
    /// When it cannot be bound: the path is longer than 107 bytes, another process serves it, or the
    /// directory does not let us.
    pub async fn bind(path: &Path, uid: Option<u32>) -> io::Result<Self> {
        match tokio::net::UnixStream::connect(path).await {
            Err(error)
                if matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound) => {}
            // Anything else, such as a full queue, is somebody's.
            _ => {
                let taken = format!("{} is served by another process", path.display());
                return Err(io::Error::new(io::ErrorKind::AddrInUse, taken));
            }
        }
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(path)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
        // Between bind and chmod the directory's own mode (0700 or 0750) keeps others out.
        let mode = if uid.is_some() { 0o660 } else { 0o600 };
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
        Ok(Self { listener, path: path.to_owned(), uid })
    }
}

impl Drop for AdminSocket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// A connection on its way to poem. It gives its place back when it ends.
pub struct Connection {
    stream: Patient,
    entrance: Entrance,
    remote: Addr,
    kept: Option<Kept>,
    _place: OwnedSemaphorePermit,
    _share: Option<Share>,
}

/// The connections that each source has at the door.
#[derive(Clone, Default)]
struct Shares(Arc<Mutex<HashMap<Key, usize>>>);

/// One source's share of the places, given back when dropped.
struct Share(Shares, Key);

impl Shares {
    /// A share for this source; none when it has `most` of them.
    fn take(&self, source: IpAddr, most: usize) -> Option<Share> {
        let key = source_key(source);
        let mut taken = self.0.lock();
        let count = taken.entry(key).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Share(self.clone(), key))
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut taken = self.0.0.lock();
        if let Some(count) = taken.get_mut(&self.1) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.1);
            }
        }
    }
}

/// The receiving end: poem's acceptor.
pub struct Arrivals(mpsc::Receiver<Connection>);

impl Listeners {
    /// Starts listening. The tasks end with `stop`; connections then still waiting are dropped.
    pub fn start(self, patience: Patience, presented: Presented, stop: &CancellationToken) -> Arrivals {
        let (sender, receiver) = mpsc::channel(WAITING);
        let places = |count| Arc::new(Semaphore::new(count));
        if let Some((listener, tls)) = self.console {
            let tls = TlsAcceptor::from(tls);
            let task = accept_console(listener, tls, patience, sender.clone(), places(CONSOLE_PLACES));
            spawn_until(stop, task);
        }
        if let Some(door) = self.door {
            let task = accept_door(door, patience, presented, sender.clone(), places(DOOR_PLACES));
            spawn_until(stop, task);
        }
        if let Some(socket) = self.socket {
            spawn_until(stop, accept_socket(socket, patience, sender, places(SOCKET_PLACES)));
        }
        Arrivals(receiver)
    }
}

fn spawn_until(stop: &CancellationToken, work: impl Future<Output = ()> + Send + 'static) {
    let stop = stop.clone();
    tokio::spawn(async move { stop.run_until_cancelled(work).await });
}

async fn accept_console(
    listener: TcpListener,
    tls: TlsAcceptor,
    patience: Patience,
    sender: mpsc::Sender<Connection>,
    places: Arc<Semaphore>,
) {
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let (tcp, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(error = %error, "The console could not accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let _ = tcp.set_nodelay(true);
        let (tls, sender) = (tls.clone(), sender.clone());
        // A task each, so that one slow handshake keeps nobody waiting.
        tokio::spawn(async move {
            let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE, tls.accept(tcp)).await else { return };
            let connection = Connection {
                stream: Patient::new(Box::new(stream), patience),
                entrance: Entrance::Console,
                remote: peer.into(),
                kept: None,
                _place: place,
                _share: None,
            };
            let _ = sender.send(connection).await;
        });
    }
}

async fn accept_door(
    mut door: mpsc::Receiver<DoorStream>,
    patience: Patience,
    presented: Presented,
    sender: mpsc::Sender<Connection>,
    places: Arc<Semaphore>,
) {
    let shares = Shares::default();
    while let Some(DoorStream { stream, peer, leaf }) = door.recv().await {
        // One source cannot take every place: what is beyond its share is closed at once.
        let Some(share) = shares.take(peer.ip(), patience.places_by_source) else { continue };
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let connection = Connection {
            stream: Patient::new(stream, patience),
            entrance: Entrance::Door,
            remote: peer.into(),
            kept: leaf.map(|leaf| presented.keep(leaf)),
            _place: place,
            _share: Some(share),
        };
        if sender.send(connection).await.is_err() {
            return;
        }
    }
}

async fn accept_socket(
    socket: AdminSocket,
    patience: Patience,
    sender: mpsc::Sender<Connection>,
    places: Arc<Semaphore>,
) {
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let stream = match socket.listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(error = %error, "The admin socket could not accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(peer) = stream.peer_cred() else { continue };
        let uid = peer.uid();
        if uid != 0 && socket.uid != Some(uid) {
            tracing::warn!(uid, "A process was turned away at the admin socket");
            continue;
        }
        let remote = Addr::Custom(MARK, uid.to_string().into());
        let connection = Connection {
            stream: Patient::new(Box::new(stream), patience),
            entrance: Entrance::Socket,
            remote,
            kept: None,
            _place: place,
            _share: None,
        };
        if sender.send(connection).await.is_err() {
            return;
        }
    }
}

impl Acceptor for Arrivals {
    type Io = Connection;

    fn local_addr(&self) -> Vec<LocalAddr> {
        Vec::new()
    }

    async fn accept(&mut self) -> io::Result<(Connection, LocalAddr, RemoteAddr, Scheme)> {
        let Some(connection) = self.0.recv().await else {
            // Every entrance is shut; the server ends by its signal.
            return std::future::pending().await;
        };
        let name = connection.entrance.name();
        let name = match &connection.kept {
            Some(kept) => format!("{name} {}", kept.connection()).into(),
            None => name.into(),
        };
        let local = LocalAddr(Addr::Custom(MARK, name));
        let remote = RemoteAddr(connection.remote.clone());
        Ok((connection, local, remote, Scheme::HTTPS))
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, octets)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
