//! A permitted request on its way to an upstream and back. Takes the [`Permit`] by value: without
//! one there is no way through here.

use std::rc::Rc;
use std::sync::Arc;

use http::header::{CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderValue, TRANSFER_ENCODING, UPGRADE};
use http::uri::{self, PathAndQuery};
use http::{Method, Request, Response, StatusCode, Uri, Version, request};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::answer::AnswerBody;
use super::connection::Visit;
use super::headers::{self, ASSERTION, CLIENT_CERT, CLIENT_CERT_CHAIN};
use super::host::Named;
use super::limits::{BodyFault, RequestBody};
use super::permit::Permit;
use super::respond::{Code, Problem};
use super::trace;
use super::tunnel::Tunnel;
use super::upstream::{Broken, Wire};
use super::worker::Derived;
use crate::domain::UtcTime;
use crate::live::Upstream;
use crate::telemetry::TraceContext;
use crate::telemetry::metrics::UpstreamFault;

/// Everything about a request that is not in its head.
pub(super) struct Context<'a> {
    pub(super) visit: &'a Rc<Visit>,
    pub(super) derived: &'a Derived,
    pub(super) named: &'a Named,
    pub(super) trace: TraceContext,
    pub(super) started: Instant,
    pub(super) now: UtcTime,
}

/// Sends the request on and brings the head of the answer back; the body follows by itself.
///
/// # Errors
/// `upstream_unavailable`, `upstream_timeout`, or what was wrong with the visitor's body.
pub(super) async fn forward(
    context: Context<'_>,
    permit: Permit,
    parts: request::Parts,
    body: Incoming,
) -> Result<Response<AnswerBody>, Problem> {
    let settings = &context.visit.worker.shared.settings;
    let wants_websocket = parts.version == Version::HTTP_11
        && parts.method == Method::GET
        && headers::asks_for_websocket(&parts.headers);
    if settings.max_body.is_some_and(|max| hyper::body::Body::size_hint(&body).lower() > max) {
        return Err(Problem::new(Code::PayloadTooLarge));
    }
    let is_http_2 = parts.version == Version::HTTP_2;
    let path = if wants_websocket { parts.uri.path().to_owned() } else { String::new() };
    let mut request = outgoing(&context, &permit, parts, wants_websocket);
    let body = RequestBody::new(body, is_http_2, settings);
    let has_body = !hyper::body::Body::is_end_stream(&body);
    if wants_websocket && has_body {
        return Err(Problem::bad_request("an upgrade has no body"));
    }
    if has_body && !request.headers().contains_key(CONTENT_LENGTH) {
        // Said by us: for some methods hyper would rather send none of a body whose length it does not know.
        request.headers_mut().insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    let end = context.started + settings.total_timeout;
    let (mut response, wire) = exchange(&context, &permit.route().upstream, request, body, end).await?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        if !wants_websocket || !headers::asks_for_websocket(response.headers()) {
            return Err(Problem::new(Code::UpstreamUnavailable));
        }
        headers::clean_response(response.headers_mut());
        put_upgrade(response.headers_mut());
        context.visit.open_tunnel(Tunnel { wire, host: context.named.host.clone(), path });
        return Ok(response.map(|_| AnswerBody::page(bytes::Bytes::new())));
    }
    headers::clean_response(response.headers_mut());
    *response.version_mut() = Version::HTTP_11;
    let (parts, incoming) = response.into_parts();
    let body = AnswerBody::download(incoming, wire, &context.visit.worker, end).await;
    Ok(Response::from_parts(parts, body))
}

/// The head for the upstream: what may go on of the visitor's, and ours.
fn outgoing(
    context: &Context<'_>,
    permit: &Permit,
    parts: request::Parts,
    wants_websocket: bool,
) -> Request<()> {
    let request::Parts { method, uri, mut headers, .. } = parts;
    headers::clean_request(&mut headers, &context.derived.aliases);
    if wants_websocket {
        put_upgrade(&mut headers);
    }
    context.visit.put_forwarded(context.named, &mut headers);
    trace::inject(&context.trace, &mut headers);
    put_identity(context, permit, &mut headers);
    let mut request = Request::new(());
    *request.method_mut() = method;
    *request.uri_mut() = origin_form(uri);
    *request.headers_mut() = headers;
    request
}

fn put_identity(context: &Context<'_>, permit: &Permit, headers: &mut HeaderMap) {
    let Some(identity) = permit.identity() else { return };
    let visit = context.visit;
    if let Some(leaf) = visit.client_cert() {
        headers.insert(CLIENT_CERT, leaf);
    }
    if let Some(chain) = visit.client_cert_chain(identity) {
        headers.insert(CLIENT_CERT_CHAIN, chain);
    }
    let route = permit.route();
    if let Some(signer) = &context.derived.signer
        && let Some(assertion) = visit.assertion(signer, identity, &route.audience, context.now)
    {
        headers.insert(ASSERTION, assertion);
    }
    if let Some(name) = &route.plain_header
        && let Ok(value) = HeaderValue::from_bytes(identity.person().email.as_bytes())
    {
        headers.insert(name, value);
    }
}

fn put_upgrade(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
}

/// RFC 9112 §3.2.1: path and query only.
fn origin_form(uri: Uri) -> Uri {
    let mut parts = uri::Parts::default();
    let path = uri.into_parts().path_and_query;
    parts.path_and_query = Some(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
    Uri::from_parts(parts).unwrap_or_default()
}

/// One exchange, on a kept connection if there is one. Tried a second time, on a fresh connection,
/// only if the first time was on a kept one and nothing can happen twice.
async fn exchange(
    context: &Context<'_>,
    upstream: &Arc<Upstream>,
    request: Request<()>,
    body: RequestBody,
    end: Instant,
) -> Result<(Response<Incoming>, Wire), Problem> {
    let worker = &context.visit.worker;
    let unavailable = || Problem::new(Code::UpstreamUnavailable);
    let answer_timeout = worker.shared.settings.answer_timeout;
    // RFC 9110 §9.2.2; a body is streamed and cannot be sent twice.
    let repeatable = hyper::body::Body::is_end_stream(&body)
        && matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    let mut wire = worker.pool.take(upstream, false).await.ok_or_else(unavailable)?;
    let spare = (wire.reused() && repeatable).then(|| request.clone());
    let upload = body.upload();
    let sent = Instant::now();
    let due = || end.min(sent.max(upload.moved_at()) + answer_timeout);
    let mut outcome = wire.exchange(request.map(|()| body), due).await;
    if wire.reused() {
        let again = match outcome {
            Err(Broken::Unsent(request)) => Ok(*request),
            Err(Broken::Sent(error)) => {
                spare.map(|spare| spare.map(|()| RequestBody::empty())).ok_or(Broken::Sent(error))
            }
            other => {
                return finish(context, other, &upload).map(|response| (response, wire));
            }
        };
        outcome = match again {
            Ok(request) => {
                wire = worker.pool.take(upstream, true).await.ok_or_else(unavailable)?;
                wire.exchange(request, due).await
            }
            Err(broken) => Err(broken),
        };
    }
    finish(context, outcome, &upload).map(|response| (response, wire))
}

/// Says whose fault it was.
fn finish(
    context: &Context<'_>,
    outcome: Result<Response<Incoming>, Broken>,
    upload: &super::limits::Upload,
) -> Result<Response<Incoming>, Problem> {
    let broken = match outcome {
        Ok(response) => return Ok(response),
        Err(broken) => broken,
    };
    let code = match (upload.fault(), &broken) {
        (Some(BodyFault::TimedOut), _) => Code::RequestTimeout,
        (Some(BodyFault::TooLarge), _) => Code::PayloadTooLarge,
        (Some(BodyFault::Broken), _) => Code::BadRequest,
        (None, Broken::Late) => Code::UpstreamTimeout,
        (None, Broken::Unsent(_) | Broken::Sent(_)) => Code::UpstreamUnavailable,
    };
    if upload.fault().is_none() {
        let kind = match broken {
            Broken::Late => UpstreamFault::Timeout,
            Broken::Unsent(_) | Broken::Sent(_) => UpstreamFault::Protocol,
        };
        context.visit.worker.shared.metrics.upstream_faults.count(kind);
        if let Broken::Sent(error) = &broken {
            tracing::warn!(error = %error, "an upstream broke off");
        }
    }
    Err(Problem::new(code))
}
