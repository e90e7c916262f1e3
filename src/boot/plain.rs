//! Small plain-HTTP listeners: health, and the public documents of the authorities.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::SetOnce;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::clock::SharedClock;
use crate::edge::ocsp;
use crate::live::Holder;

/// A whole head must arrive within this.
const HEAD_WITHIN: Duration = Duration::from_secs(5);
/// How long answers under way may take at the end.
const LEAVE_WITHIN: Duration = Duration::from_secs(1);

/// An answer of these listeners.
pub(super) type Answer = Response<Full<Bytes>>;

/// From when to when these listeners accept.
#[derive(Clone)]
pub(super) struct Listening {
    opened: Arc<SetOnce<()>>,
    ended: CancellationToken,
}

impl Listening {
    /// Ends with `stop` at the latest.
    pub(super) fn until(stop: &CancellationToken) -> Self {
        Self { opened: Arc::default(), ended: stop.child_token() }
    }

    pub(super) fn open(&self) {
        let _ = self.opened.set(());
    }

    pub(super) fn end(&self) {
        self.ended.cancel();
    }
}

/// Serves `answer` on `listener`. Returns its address with the real port.
pub(super) fn serve<F, A>(
    listener: TcpListener,
    answer: F,
    tasks: &mut JoinSet<()>,
    listening: &Listening,
) -> io::Result<SocketAddr>
where
    F: Fn(Request<Incoming>, SocketAddr) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Answer> + Send + 'static,
{
    let bound = listener.local_addr()?;
    let Listening { opened, ended } = listening.clone();
    tasks.spawn(async move {
        tokio::select! {
            _ = opened.wait() => {}
            () = ended.cancelled() => return,
        }
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = connections.join_next(), if !connections.is_empty() => continue,
                () = ended.cancelled() => break,
            };
            let Ok((stream, peer)) = accepted else {
                // Out of descriptors: let others finish first.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            connections.spawn(converse(stream, peer, answer.clone(), ended.clone()));
        }
        drop(listener);
        let finished = async { while connections.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(LEAVE_WITHIN, finished).await;
    });
    Ok(bound)
}

/// One connection; the answer under way when `ended` comes is its last.
async fn converse<F, A>(stream: TcpStream, peer: SocketAddr, answer: F, ended: CancellationToken)
where
    F: Fn(Request<Incoming>, SocketAddr) -> A,
    A: Future<Output = Answer>,
{
    let service = service_fn(|request| {
        let answer = answer(request, peer);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN);
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service));
    // A client that breaks off is no news.
    tokio::select! {
        _ = connection.as_mut() => return,
        () = ended.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

/// Serves `/pki/…` from what edges serve too, OCSP included.
pub(super) fn serve_documents(
    listener: TcpListener,
    holder: Arc<Holder>,
    clock: SharedClock,
    tasks: &mut JoinSet<()>,
    listening: &Listening,
) -> io::Result<SocketAddr> {
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
    serve(listener, answer, tasks, listening)
}

/// One answer.
pub(super) fn reply(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(content_type));
    answer.headers_mut().insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    answer
}
