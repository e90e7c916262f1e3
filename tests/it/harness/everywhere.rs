//! An app that listens on one port of every address of loopback, and knows at which of them it was asked.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};

/// What came to one address.
#[derive(Clone, Copy, Debug)]
pub struct Arrivals {
    pub count: u64,
    pub last: Instant,
}

/// The app. Answers with the address at which it was asked.
#[derive(Clone)]
pub struct Everywhere {
    pub port: u16,
    arrivals: Arc<Mutex<HashMap<IpAddr, Arrivals>>>,
    down: Arc<Mutex<HashSet<IpAddr>>>,
}

impl Everywhere {
    pub async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let app = Self { port, arrivals: Arc::default(), down: Arc::default() };
        tokio::spawn({
            let app = app.clone();
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(app.clone().serve(stream));
                }
            }
        });
        app
    }

    /// What came to this address.
    pub fn arrivals(&self, address: IpAddr) -> Option<Arrivals> {
        self.arrivals.lock().get(&address).copied()
    }

    /// How much that was.
    pub fn count(&self, address: IpAddr) -> u64 {
        self.arrivals(address).map_or(0, |arrivals| arrivals.count)
    }

    /// From now on connections to this address are closed without an answer.
    pub fn goes_down(&self, address: IpAddr) {
        self.down.lock().insert(address);
    }

    pub fn comes_up(&self, address: IpAddr) {
        self.down.lock().remove(&address);
    }

    fn is_down(&self, address: IpAddr) -> bool {
        self.down.lock().contains(&address)
    }

    async fn serve(self, stream: TcpStream) {
        let Ok(at) = stream.local_addr().map(|address| address.ip()) else { return };
        if self.is_down(at) {
            return;
        }
        let app = &self;
        let service = service_fn(move |_: Request<Incoming>| async move { app.answer(at).ok_or("down") });
        let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
    }

    fn answer(&self, at: IpAddr) -> Option<Response<Full<Bytes>>> {
        if self.is_down(at) {
            return None;
        }
        let mut arrivals = self.arrivals.lock();
        let count = arrivals.get(&at).map_or(0, |arrivals| arrivals.count) + 1;
        arrivals.insert(at, Arrivals { count, last: Instant::now() });
        Some(Response::new(Full::new(Bytes::from(at.to_string()))))
    }
}
