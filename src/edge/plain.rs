//! The plain http listener: ACME challenges, public documents and OCSP under `/pki/`, and the way to https.
//! Nothing here looks at a certificate or reaches an upstream.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, LOCATION, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::host::{self, Named};
use super::index::Ending;
use super::ocsp;
use super::protocol::h1;
use super::respond::{self, Code, Problem};
use super::worker::{Shared, Worker};
use crate::live::Configuration;

/// RFC 8555 §8.3.
const CHALLENGES: &str = "/.well-known/acme-challenge/";
/// CRLs, authority certificates, assertion keys.
const DOCUMENTS: &str = "/pki/";
/// Public documents may be kept for a short while; CRLs carry their own dates.
const KEEP_DOCUMENTS: HeaderValue = HeaderValue::from_static("public, max-age=300");
/// One connection, however many requests: nothing here takes long.
const CONNECTION_LIFE: Duration = Duration::from_secs(60);

/// Serves one accepted socket to its end.
pub(super) async fn serve(worker: Rc<Worker>, stream: TcpStream, peer: SocketAddr) {
    let shared = &worker.shared;
    let place = shared.index.enter(None);
    let signal = place.signal();
    if shared.stop.is_cancelled() {
        // Out of the queue.
        signal.end(Ending::Leave);
    }
    let service = service_fn(|request: Request<Incoming>| async move {
        let mut answer = if ocsp::is_asked(request.uri().path()) {
            ocsp::answer(shared.holder.ocsp(), request, peer.ip(), shared.clock.now()).await
        } else {
            answer(shared, &request)
        };
        if signal.ending() != Ending::Not {
            answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Ok::<_, Infallible>(answer.map(Full::new))
    });
    let mut builder = h1(&shared.settings);
    builder.timer(TokioTimer::new()).header_read_timeout(shared.settings.header_timeout);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let mut life = pin!(tokio::time::sleep(CONNECTION_LIFE));
    loop {
        tokio::select! {
            biased;
            _ = connection.as_mut() => return,
            () = signal.woken() => match signal.ending() {
                Ending::Cut => return,
                Ending::Drain => connection.as_mut().graceful_shutdown(),
                // The next answer says that it is the last one.
                Ending::Leave => {
                    let end = life.deadline().min(Instant::now() + shared.grace());
                    life.as_mut().reset(end);
                }
                Ending::Not => {}
            },
            () = life.as_mut() => return,
        }
    }
}

fn answer(shared: &Shared, request: &Request<Incoming>) -> Response<Bytes> {
    match route(shared, request) {
        Ok(response) => response,
        Err(problem) => {
            let wants_page = respond::wants_page(request.headers());
            respond::refuse(&problem, request.version(), wants_page, None)
        }
    }
}

fn route(shared: &Shared, request: &Request<Incoming>) -> Result<Response<Bytes>, Problem> {
    let named = host::named(request.version(), request.uri(), request.headers());
    let path = request.uri().path();
    if let Some(name) = path.strip_prefix(DOCUMENTS) {
        // Whatever the Host: certificates name these URLs, and relying parties may use an address.
        read_only(request)?;
        return document(shared, name).ok_or(Problem::new(Code::NotFound));
    }
    let named = named?;
    let snapshot = shared.holder.snapshot().ok_or(Problem::new(Code::NotFound))?;
    if let Some(token) = path.strip_prefix(CHALLENGES) {
        read_only(request)?;
        return challenge(&snapshot.configuration, &named, token).ok_or(Problem::new(Code::NotFound));
    }
    // Only to our own sites: an open redirect would lend our name to others.
    let (host, configuration) = (named.host.as_str(), &snapshot.configuration);
    if configuration.site(host).is_none() && configuration.passthrough(host).is_none() {
        return Err(Problem::new(Code::NotFound));
    }
    redirect(shared, &named, request)
}

fn read_only(request: &Request<Incoming>) -> Result<(), Problem> {
    match *request.method() {
        Method::GET | Method::HEAD => Ok(()),
        _ => Err(Problem::bad_request("only GET and HEAD are answered here")),
    }
}

fn document(shared: &Shared, name: &str) -> Option<Response<Bytes>> {
    let document = shared.holder.document(name)?;
    let mut response = Response::new(document.body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(document.content_type));
    headers.insert(CACHE_CONTROL, KEEP_DOCUMENTS);
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    Some(response)
}

fn challenge(configuration: &Configuration, named: &Named, token: &str) -> Option<Response<Bytes>> {
    let answer = configuration.http_challenges.get(&(named.host.clone(), token.to_owned()))?;
    let mut response = Response::new(Bytes::from(answer.clone()));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Some(response)
}

/// RFC 9110 §15.4.9: the method stays what it was.
fn redirect(shared: &Shared, named: &Named, request: &Request<Incoming>) -> Result<Response<Bytes>, Problem> {
    let port = match shared.https_port {
        443 => String::new(),
        port => format!(":{port}"),
    };
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    if !path.starts_with('/') {
        return Err(Problem::bad_request("the path does not start with /"));
    }
    let location = HeaderValue::try_from(format!("https://{}{port}{path}", named.host))
        .map_err(|_| Problem::bad_request("the path cannot be repeated"))?;
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
    response.headers_mut().insert(LOCATION, location);
    Ok(response)
}
