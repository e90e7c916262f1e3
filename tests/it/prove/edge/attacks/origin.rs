//! The apps behind the edge: each answers shortly, without end, or not at all. What those who attack ask for is of an
//! app of its own, in a process as low as theirs: it is the edge that is attacked, and an app that has to begin with
//! thousands of answers at once is slow for everybody.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::json;
use socket2::SockRef;
use tokio::net::TcpListener;

use super::process::{Part, Process};

/// A path that everybody may ask for, whose answer has no end.
pub(super) const ENDLESS: &str = "/public/endless";
/// A path that everybody may ask for, and is not answered.
pub(super) const SILENT: &str = "/public/silent";
/// A path that everybody may ask for.
pub(super) const SHORT: &str = "/public/short";
/// Octets of a piece of an endless answer.
const PIECE: usize = 16 * 1024;
/// What its kernel takes of an answer: one that had to fill megabytes for each who reads slowly would be busy with
/// nothing else.
const SEND_BUFFER: usize = 64 * 1024;
/// When there are no files left, some have to be closed first.
const AFTER_FAILURE: Duration = Duration::from_millis(10);
/// Fields of a request; the edge has its own bound.
const FIELDS: usize = 2_000;

/// Not a test of its own: the process behind the edge.
#[tokio::test]
async fn origin() {
    let Some(mut orders) = Part::Origin.orders() else { return };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    SockRef::from(&listener).set_send_buffer_size(SEND_BUFFER).unwrap();
    orders.say(&json!({ "port": listener.local_addr().unwrap().port() }));
    tokio::select! {
        () = serve(listener) => {}
        () = orders.end() => {}
    }
}

async fn serve(listener: TcpListener) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(AFTER_FAILURE).await;
            continue;
        };
        tokio::spawn(async move {
            let _ = http1::Builder::new()
                .max_headers(FIELDS)
                .serve_connection(TokioIo::new(stream), service_fn(answer))
                .await;
        });
    }
}

async fn answer(
    request: Request<Incoming>,
) -> Result<Response<UnsyncBoxBody<Bytes, Infallible>>, Infallible> {
    let body = match request.uri().path() {
        SILENT => std::future::pending().await,
        ENDLESS => {
            let piece = || Ok::<_, Infallible>(Frame::data(Bytes::from_static(&[b'x'; PIECE])));
            StreamBody::new(stream::repeat_with(piece)).boxed_unsync()
        }
        _ => Full::new(Bytes::from_static(&[b'x'; 256])).boxed_unsync(),
    };
    Ok(Response::new(body))
}

/// The apps as others see them.
pub(super) struct Origins {
    processes: [Process; 2],
    pub(super) ports: Ports,
}

/// Where the apps listen.
#[derive(Clone, Copy)]
pub(super) struct Ports {
    /// Of those who may come in.
    pub(super) regular: u16,
    /// Of everybody.
    pub(super) public: u16,
}

impl Origins {
    pub(super) async fn start() -> Self {
        let mut processes = [Process::start(Part::Origin), Process::start_behind_others(Part::Origin)];
        let mut ports = [0; 2];
        for (process, port) in processes.iter_mut().zip(&mut ports) {
            *port = process.hear().await["port"].as_u64().unwrap().try_into().unwrap();
        }
        let [regular, public] = ports;
        Self { processes, ports: Ports { regular, public } }
    }

    /// Ends them.
    pub(super) async fn end(self) {
        for process in self.processes {
            process.end().await;
        }
    }
}
