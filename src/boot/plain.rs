//! Small plain-HTTP listeners: health, and the public documents of the authorities.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::BootError;
use crate::clock::SharedClock;
use crate::edge::ocsp;
use crate::live::Holder;

/// A whole head must arrive within this.
const HEAD_WITHIN: Duration = Duration::from_secs(5);

/// An answer of these listeners.
pub(super) type Answer = Response<Full<Bytes>>;

/// Serves `answer` on `address` until `stop`. Returns the address with its real port.
pub(super) async fn serve<F, A>(
    address: SocketAddr,
    purpose: &'static str,
    answer: F,
    tasks: &mut JoinSet<()>,
    stop: &CancellationToken,
) -> Result<SocketAddr, BootError>
where
    F: Fn(Request<Incoming>, SocketAddr) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Answer> + Send,
{
    let fault = |cause| BootError::Listen { address: address.to_string(), purpose, cause };
    let listener = TcpListener::bind(address).await.map_err(fault)?;
    let bound = listener.local_addr().map_err(fault)?;
    let stop = stop.clone();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = connections.join_next(), if !connections.is_empty() => continue,
                () = stop.cancelled() => return, // what is in flight ends with the set
            };
            let Ok((stream, peer)) = accepted else {
                // Out of descriptors: let others finish first.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let answer = answer.clone();
            connections.spawn(async move {
                let service = service_fn(|request| {
                    let answer = answer(request, peer);
                    async move { Ok::<_, Infallible>(answer.await) }
                });
                let mut http = hyper::server::conn::http1::Builder::new();
                http.timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN);
                // A client that breaks off is no news.
                let _ = http.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    Ok(bound)
}

/// Serves `/pki/…` from what edges serve too, OCSP included.
pub(super) async fn serve_documents(
    address: SocketAddr,
    holder: Arc<Holder>,
    clock: SharedClock,
    tasks: &mut JoinSet<()>,
    stop: &CancellationToken,
) -> Result<SocketAddr, BootError> {
    let answer = move |request: Request<Incoming>, peer: SocketAddr| {
        let (holder, clock) = (holder.clone(), clock.clone());
        async move {
            if ocsp::is_asked(request.uri().path()) {
                return ocsp::answer(holder.ocsp(), request, peer.ip(), clock.now()).await.map(Full::new);
            }
            let found = request.uri().path().strip_prefix("/pki/").and_then(|name| holder.document(name));
            let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
            match found {
                Some(document) if is_read => reply(StatusCode::OK, document.content_type, document.body),
                Some(_) => reply(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "only GET\n"),
                None => reply(StatusCode::NOT_FOUND, "text/plain", "no such document\n"),
            }
        }
    };
    serve(address, "/pki/", answer, tasks, stop).await
}

/// One answer.
pub(super) fn reply(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(content_type));
    answer.headers_mut().insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    answer
}
