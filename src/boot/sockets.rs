//! The process's listening sockets: opened here, or handed to it. A copy of each is kept for whoever comes next,
//! so that the queue in which connections wait belongs to both.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};

use listenfd::ListenFd;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use socket2::SockRef;
use tokio::net::TcpListener;

use crate::edge::{BindError, EdgeSettings, EdgeSockets, Inherited};

/// What is listened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Service {
    Https,
    Http,
    Health,
    Pki,
    Console,
}

impl Service {
    pub(super) const fn in_words(self) -> &'static str {
        match self {
            Self::Https => "https",
            Self::Http => "plain HTTP",
            Self::Health => "health and metrics",
            Self::Pki => "/pki/",
            Self::Console => "the console",
        }
    }
}

/// Sockets that listen on one address.
pub struct Given {
    /// Unknown of those that a service manager holds.
    pub(super) purpose: Option<Service>,
    /// As the configuration has it, where a port may be 0.
    pub(super) configured: SocketAddr,
    pub(super) sockets: Vec<StdListener>,
}

impl Given {
    /// What a service manager holds open for this process (`LISTEN_FDS`). Changes the environment, so it is to be
    /// asked before there is a second thread.
    ///
    /// # Errors
    /// One of them is not a listening TCP socket.
    pub fn by_service_manager() -> io::Result<Vec<Self>> {
        let mut found = ListenFd::from_env();
        let mut given: Vec<Self> = Vec::new();
        for number in 0..found.len() {
            let Some(socket) = found.take_tcp_listener(number)? else { continue };
            let configured = socket.local_addr()?;
            if !SockRef::from(&socket).is_listener()? {
                return Err(io::Error::other(format!("the socket given for {configured} does not listen")));
            }
            match given.iter_mut().find(|known| known.configured == configured) {
                Some(known) => known.sockets.push(socket),
                None => given.push(Self { purpose: None, configured, sockets: vec![socket] }),
            }
        }
        Ok(given)
    }

    fn copy(&self) -> io::Result<Self> {
        let sockets = self.sockets.iter().map(StdListener::try_clone).collect::<io::Result<_>>()?;
        Ok(Self { purpose: self.purpose, configured: self.configured, sockets })
    }

    /// Whether it is what `purpose` listens to at `address`. An address may change its purpose; with port 0 it says
    /// too little.
    fn fits(&self, purpose: Service, address: SocketAddr) -> bool {
        self.configured == address && (address.port() != 0 || self.purpose == Some(purpose))
    }
}

/// Every listening socket of the process.
#[derive(Default)]
pub(super) struct Sockets {
    unclaimed: Mutex<Vec<Given>>,
    kept: Mutex<Vec<Given>>,
}

impl Sockets {
    pub(super) fn new(given: Vec<Given>) -> Self {
        Self { unclaimed: Mutex::new(given), kept: Mutex::default() }
    }

    /// Those of the edge.
    pub(super) fn of_edge(&self, settings: &EdgeSettings) -> Result<EdgeSockets, BindError> {
        let claim = |purpose, addresses: &[SocketAddr]| {
            addresses.iter().map(|address| self.claim(purpose, *address)).collect()
        };
        let inherited = Inherited {
            https: claim(Service::Https, &settings.https),
            http: claim(Service::Http, &settings.http),
        };
        let sockets = EdgeSockets::open(settings, inherited)?;
        for (purpose, addresses) in [(Service::Https, sockets.https()), (Service::Http, sockets.http())] {
            for one in addresses {
                let address = one.configured();
                self.keep(purpose, address, one.sockets())
                    .map_err(|cause| BindError::Listen { address, cause })?;
            }
        }
        Ok(sockets)
    }

    /// One of which there is one: as it was before, as it was given, or a new one.
    pub(super) fn listener(&self, purpose: Service, address: SocketAddr) -> io::Result<TcpListener> {
        let before = |given: &Given| given.purpose == Some(purpose) && given.configured == address;
        let again = match self.kept.lock().iter().find(|given| before(given)) {
            Some(given) => given.sockets.first().map(StdListener::try_clone).transpose()?,
            None => None,
        };
        if let Some(again) = again {
            return TcpListener::from_std(again);
        }
        let socket = match self.claim(purpose, address).into_iter().next() {
            Some(given) => given,
            None => StdListener::bind(address)?,
        };
        socket.set_nonblocking(true)?;
        self.keep(purpose, address, std::slice::from_ref(&socket))?;
        TcpListener::from_std(socket)
    }

    fn claim(&self, purpose: Service, address: SocketAddr) -> Vec<StdListener> {
        let mut unclaimed = self.unclaimed.lock();
        let found = unclaimed.iter().position(|given| given.fits(purpose, address));
        found.map(|at| unclaimed.remove(at).sockets).unwrap_or_default()
    }

    fn keep(&self, purpose: Service, configured: SocketAddr, sockets: &[StdListener]) -> io::Result<()> {
        let sockets = sockets.iter().map(StdListener::try_clone).collect::<io::Result<_>>()?;
        self.kept.lock().push(Given { purpose: Some(purpose), configured, sockets });
        Ok(())
    }

    /// Copies of all, for another process.
    pub(super) fn copies(&self) -> io::Result<Vec<Given>> {
        self.kept.lock().iter().map(Given::copy).collect()
    }

    /// Gives up what nobody here listens to. Whoever else has a copy serves who waits there, and closes it.
    pub(super) fn close_unclaimed(&self) {
        for given in self.unclaimed.lock().drain(..) {
            tracing::warn!(
                address = %given.configured,
                "A listening socket was handed over for an address that is not configured; it is not served here"
            );
        }
    }

    /// Gives up the copies: a socket closes with whoever listens to it.
    pub(super) fn close(&self) {
        self.kept.lock().clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 0))
    }

    fn given(purpose: Option<Service>, by_port: bool) -> (Given, SocketAddr) {
        let socket = StdListener::bind(any()).unwrap();
        let address = socket.local_addr().unwrap();
        let configured = if by_port { address } else { any() };
        (Given { purpose, configured, sockets: vec![socket] }, address)
    }

    #[tokio::test]
    async fn what_is_given_is_taken_by_its_address_and_with_port_0_by_its_purpose() {
        let (by_port, at) = given(None, true);
        let (health, at_health) = given(Some(Service::Health), false);
        let (pki, at_pki) = given(Some(Service::Pki), false);
        let sockets = Sockets::new(vec![by_port, health, pki]);
        let address = |purpose, configured| {
            sockets.listener(purpose, configured).map(|listener| listener.local_addr().unwrap()).unwrap()
        };
        assert_eq!(address(Service::Pki, any()), at_pki);
        assert_eq!(address(Service::Health, any()), at_health);
        assert_eq!(address(Service::Console, at), at);
        assert!(sockets.unclaimed.lock().is_empty());
        // Whoever comes back finds the same socket.
        assert_eq!(address(Service::Pki, any()), at_pki);
        assert_eq!(sockets.copies().unwrap().len(), 3);
    }

    #[tokio::test]
    async fn a_socket_listens_until_every_copy_is_given_up() {
        let sockets = Sockets::default();
        let listener = sockets.listener(Service::Console, any()).unwrap();
        let address = listener.local_addr().unwrap();
        let copies = sockets.copies().unwrap();
        drop(listener);
        sockets.close();
        assert!(std::net::TcpStream::connect(address).is_ok(), "it waits for whoever has the copy");
        drop(copies);
        assert!(std::net::TcpStream::connect(address).is_err());
    }
}
