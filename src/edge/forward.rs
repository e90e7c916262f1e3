//! A permitted request on its way to an upstream and back. Takes the [`Permit`] by value: without
//! one there is no way through here.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hash};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HeaderMap, HeaderValue, TRANSFER_ENCODING};
use http::uri::{self, PathAndQuery};
use http::{Method, Request, Response, StatusCode, Uri, Version, request};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::answer::{AnswerBody, Flow};
use super::connection::Visit;
use super::forwarded::Origin;
use super::headers::{self, ASSERTION, Announced, CLIENT_CERT, CLIENT_CERT_CHAIN};
use super::host::Named;
use super::introduce;
use super::limits::{BodyFault, RequestBody, Upload};
use super::permit::Permit;
use super::respond::{Code, Problem};
use super::trace;
use super::tunnel::Tunnel;
use super::upstream::{Broken, Group, Wire, Wish};
use super::websocket::{Wanted, put_upgrade};
use super::worker::Derived;
use crate::domain::UtcTime;
use crate::domain::upstream::{Balance, Protocol};
use crate::telemetry::TraceContext;

/// Fields of ours in a request, as a rule.
const OURS: usize = 10;

/// Everything about a request that is not in its head.
pub(super) struct Context<'a> {
    pub(super) visit: &'a Rc<Visit>,
    pub(super) derived: &'a Rc<Derived>,
    pub(super) named: &'a Named,
    pub(super) origin: &'a Origin,
    pub(super) trace: TraceContext,
    pub(super) started: Instant,
    /// As the host's clock shows it, for backends to compare with theirs.
    pub(super) now: UtcTime,
}

/// The head of an answer, and what is in its body.
pub(super) struct Forwarded {
    pub(super) response: Response<AnswerBody>,
    /// Instead of a body.
    pub(super) tunnel: Option<Tunnel>,
}

/// Sends the request on and brings the head of the answer back; the body follows by itself.
///
/// # Errors
/// `upstream_unavailable`, `upstream_timeout`, or what was wrong with the visitor's body.
pub(super) async fn forward(
    context: Context<'_>,
    permit: Permit,
    wanted: Wanted,
    parts: request::Parts,
    body: Incoming,
) -> Result<Forwarded, Problem> {
    let settings = &context.visit.worker.shared.settings;
    let group = context.derived.groups.get(&permit.route().upstream.name);
    let group = group.ok_or(Problem::new(Code::UpstreamUnavailable))?;
    let protocol = group.upstream().options.protocol;
    let wanted = match (protocol, wanted) {
        // HTTP/2 knows no upgrade (RFC 9113 §8.6), and who does not take one may answer all the same.
        (Protocol::Http2, Wanted::Connection) => Wanted::Answer,
        (Protocol::Http2, Wanted::Stream(_)) => {
            return Err(Problem::bad_request("the app takes no WebSockets over HTTP/2"));
        }
        (_, wanted) => wanted,
    };
    let max_body = permit.route().options.max_body().or(settings.max_body);
    if max_body.is_some_and(|max| hyper::body::Body::size_hint(&body).lower() > max) {
        return Err(Problem::new(Code::PayloadTooLarge));
    }
    let is_http_2 = parts.version == Version::HTTP_2;
    // Where both sides speak HTTP/2.
    let announced = (is_http_2 && protocol == Protocol::Http2)
        .then(|| Announced::of(&parts.headers, &context.derived.aliases));
    let trailers = announced.is_some().then(|| context.derived.clone());
    let mut request = outgoing(&context, &permit, &wanted, parts);
    if let Some(announced) = announced {
        announced.put(request.headers_mut());
    }
    let body = RequestBody::new(body, (max_body, trailers), settings, is_http_2);
    let has_body = !hyper::body::Body::is_end_stream(&body);
    if wanted.is_websocket() && has_body {
        return Err(Problem::bad_request("an upgrade has no body"));
    }
    if has_body && protocol == Protocol::Http1 && !request.headers().contains_key(CONTENT_LENGTH) {
        // Said by us: for some methods hyper would rather send none of a body whose length it does not know.
        request.headers_mut().insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    // RFC 9110 §9.2.2; a body is streamed and cannot be sent twice.
    let repeatable = !has_body && matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    let (wish, end) = (context.wish(&permit, group, repeatable), context.end(group));
    let upload = body.upload();
    let preamble = introduce::visitor(context.visit, context.origin, &permit, group);
    // Over HTTP/2, a target may say that it has not begun with a request, whatever that asks for.
    let may_be_refused = protocol == Protocol::Http2 && !has_body;
    let spare = (repeatable || may_be_refused).then(|| request.clone());
    // In one place until it is sent: it is large.
    let mut request = Some(request.map(|()| body));
    let sending = Sending { request: &mut request, spare: spare.as_ref(), upload: &upload };
    let answer = exchange(&context, group, wish, preamble.as_deref(), sending).await?;
    let Answer { head: mut response, first, wire } = answer;
    upload.set_answered();
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return switch(wanted, response, wire);
    }
    if response.status().is_success() && matches!(wanted, Wanted::Stream(_)) {
        // RFC 9113 §8.5: any success opens the stream to the visitor, and the app has opened nothing.
        return Err(Problem::new(Code::UpstreamUnavailable));
    }
    headers::clean_response(response.headers_mut());
    *response.version_mut() = Version::HTTP_11;
    let (parts, incoming) = response.into_parts();
    let flow = Flow { first, incoming, wire, upload };
    let body = AnswerBody::download(flow, &context.visit.worker, context.derived, end).await;
    Ok(Forwarded { response: Response::from_parts(parts, body), tunnel: None })
}

/// The app has switched to a WebSocket, if that was asked of it.
///
/// # Errors
/// `upstream_unavailable` if not, or if its answer is one to another request.
fn switch(wanted: Wanted, mut response: Response<Incoming>, wire: Wire) -> Result<Forwarded, Problem> {
    if !wanted.is_met_by(response.headers()) {
        return Err(Problem::new(Code::UpstreamUnavailable));
    }
    headers::clean_response(response.headers_mut());
    let upgrade = match wanted {
        Wanted::Stream(opening) => {
            *response.status_mut() = StatusCode::OK;
            Some(opening.settle(response.headers_mut()))
        }
        Wanted::Connection | Wanted::Answer => {
            put_upgrade(response.headers_mut());
            None
        }
    };
    let response = response.map(|_| AnswerBody::page(Bytes::new()));
    Ok(Forwarded { response, tunnel: Some(Tunnel::new(wire, upgrade)) })
}

/// The head for the upstream: what may go on of the visitor's, and ours.
fn outgoing(context: &Context<'_>, permit: &Permit, wanted: &Wanted, parts: request::Parts) -> Request<()> {
    let request::Parts { method, uri, mut headers, .. } = parts;
    headers::clean_request(&mut headers, &context.derived.aliases);
    // Once, and not each time that a few more find no room.
    headers.reserve(OURS);
    if wanted.is_websocket() {
        put_upgrade(&mut headers);
    }
    context.visit.put_forwarded(context.named, context.origin, &mut headers);
    trace::inject(&context.trace, &mut headers);
    put_identity(context, permit, &mut headers);
    let mut request = Request::new(());
    *request.uri_mut() = origin_form(&method, uri);
    *request.method_mut() = method;
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

/// RFC 9112 §3.2.1: path and query only, and what begins with the path; §3.2.4: or `*`.
fn origin_form(method: &Method, uri: Uri) -> Uri {
    let mut parts = uri::Parts::default();
    let path = uri.into_parts().path_and_query.unwrap_or_else(|| PathAndQuery::from_static("/"));
    let text = path.as_str();
    let is_whole = text.starts_with('/') || (text == "*" && method == Method::OPTIONS);
    parts.path_and_query = if is_whole { Some(path) } else { format!("/{text}").parse().ok() };
    Uri::from_parts(parts).unwrap_or_default()
}

/// An answer that has begun.
struct Answer {
    head: Response<Incoming>,
    /// The first piece of the body, if it was waited for.
    first: Option<Bytes>,
    wire: Wire,
}

/// A request on its way.
struct Sending<'a> {
    /// Where it is until it is sent.
    request: &'a mut Option<Request<RequestBody>>,
    /// The same request, if it has no body.
    spare: Option<&'a Request<()>>,
    upload: &'a Upload,
}

/// Sends a request to a target, and to others if that one fails and nothing can happen twice.
async fn exchange(
    context: &Context<'_>,
    group: &Arc<Group>,
    mut wish: Wish,
    preamble: Option<&[u8]>,
    sending: Sending<'_>,
) -> Result<Answer, Problem> {
    let Sending { request, spare, upload } = sending;
    let (worker, end, repeatable) = (&context.visit.worker, context.end(group), wish.repeatable);
    let mut bad = None;
    group.count_request();
    loop {
        let wire = match worker.pool.take(group, &mut wish, (preamble, end)).await {
            Ok(wire) => wire,
            // Better a bad answer than none.
            Err(none) => return bad.ok_or_else(|| none.into()),
        };
        let attempt = Attempt { context, group, spare, repeatable, upload, end };
        let broken = match attempt.make(wire, request).await {
            _ if upload.fault().is_some() => return Err(problem(None, upload)),
            Ok(answer) if !is_bad(answer.head.status()) => return Ok(answer),
            Ok(mut answer) => {
                // Its place is for others.
                answer.wire.lease = None;
                bad = Some(answer);
                wish.has_answer = true;
                None
            }
            Err(broken) => Some(broken),
        };
        let has_another = Instant::now() < end && group.has_another(&wish);
        match (broken, spare) {
            // Nothing of it has been seen by anybody.
            (Some(Broken::Unsent), _) if has_another => {}
            (_, Some(spare)) if repeatable && has_another && group.may_try_again() => {
                worker.shared.metrics.upstream_retries.count();
                *request = Some(spare.clone().map(|()| RequestBody::empty()));
            }
            (broken, _) => return bad.ok_or_else(|| problem(broken.as_ref(), upload)),
        }
    }
}

/// A request at one target.
struct Attempt<'a> {
    context: &'a Context<'a>,
    group: &'a Arc<Group>,
    /// The same request, if it has no body.
    spare: Option<&'a Request<()>>,
    /// Whether it can happen twice.
    repeatable: bool,
    upload: &'a Upload,
    end: Instant,
}

impl Attempt<'_> {
    /// A kept connection that has died is replaced by a newer one, and so at last by one that nobody used before, if
    /// nothing is lost with it.
    async fn make(&self, wire: Wire, request: &mut Option<Request<RequestBody>>) -> Result<Answer, Broken> {
        let mut wire = wire;
        let (worker, began) = (&self.context.visit.worker, Instant::now());
        let timeout = timeout(self.context, self.group);
        // An upload that moves on buys time.
        let due = || self.end.min(began.max(self.upload.moved_at()) + timeout);
        let outcome = loop {
            match wire.exchange(request, self.spare, due).await {
                Err(broken) if wire.was_stale(&broken) => {
                    if let Err(broken) = self.again(broken, request) {
                        break Err(broken);
                    }
                    wire = match worker.pool.replace(self.group, wire).await {
                        Some(newer) => newer,
                        // The target knows already; nothing of this has been sent.
                        None => return Err(Broken::Unsent),
                    };
                }
                outcome => break outcome,
            }
        };
        let settled = match outcome {
            Ok(head) => first_piece(self.group, head, self.repeatable, &mut wire, due()).await,
            Err(broken) => Err(broken),
        };
        self.tell(&settled, &mut wire, began);
        settled.map(|(head, first)| Answer { head, first, wire })
    }

    /// Puts the request back, if nothing can happen twice.
    fn again(&self, broken: Broken, request: &mut Option<Request<RequestBody>>) -> Result<(), Broken> {
        match (broken, self.spare) {
            (Broken::Unsent, _) => Ok(()),
            (Broken::Sent(_), Some(spare)) if self.repeatable && self.group.may_try_again() => {
                self.context.visit.worker.shared.metrics.upstream_retries.count();
                *request = Some(spare.clone().map(|()| RequestBody::empty()));
                Ok(())
            }
            (broken, _) => Err(broken),
        }
    }

    /// Notes how the target has done. What the visitor has broken off says nothing of it.
    fn tell(
        &self,
        settled: &Result<(Response<Incoming>, Option<Bytes>), Broken>,
        wire: &mut Wire,
        began: Instant,
    ) {
        let worker = &self.context.visit.worker;
        let Some(lease) = &mut wire.lease else { return };
        match settled {
            Ok((head, _)) if is_bad(head.status()) => lease.failed("status", worker.pool.chance()),
            Ok(_) => lease.answered(began.elapsed()),
            Err(broken) => {
                let is_visitors = self.upload.fault().is_some()
                    || (matches!(broken, Broken::Late) && self.upload.waits_for_visitor());
                if is_visitors {
                    return;
                }
                let fault = broken.fault();
                lease.failed(fault.word(), worker.pool.chance());
                worker.shared.metrics.upstream_faults.count(fault);
                if let Broken::Sent(error) = broken {
                    tracing::warn!(error = %error, "an upstream broke off");
                }
            }
        }
    }
}

/// Waits for the first piece of a body whose length is known, where another target could be asked if it does not
/// come. Streams say nothing of their length, and go out as they come.
async fn first_piece(
    group: &Group,
    head: Response<Incoming>,
    repeatable: bool,
    wire: &mut Wire,
    due: Instant,
) -> Result<(Response<Incoming>, Option<Bytes>), Broken> {
    let is_awaited = repeatable
        && group.is_plural()
        && head.status() != StatusCode::SWITCHING_PROTOCOLS
        && hyper::body::Body::size_hint(head.body()).exact().is_some_and(|length| length > 0);
    if !is_awaited {
        return Ok((head, None));
    }
    let (parts, mut incoming) = head.into_parts();
    let first = wire.first_piece(&mut incoming, due).await?;
    Ok((Response::from_parts(parts, incoming), first))
}

/// Whether a target that says so is not well, or not here.
fn is_bad(status: StatusCode) -> bool {
    // The method or the version is not to its taste.
    let is_refusal = [StatusCode::NOT_IMPLEMENTED, StatusCode::HTTP_VERSION_NOT_SUPPORTED].contains(&status);
    status.is_server_error() && !is_refusal
}

fn timeout(context: &Context<'_>, group: &Group) -> Duration {
    let own = group.upstream().options.answer_timeout_ms;
    own.map_or(context.visit.worker.shared.settings.answer_timeout, |ms| Duration::from_millis(ms.into()))
}

impl Context<'_> {
    /// When the whole exchange has to be over.
    fn end(&self, group: &Group) -> Instant {
        let own = group.upstream().options.total_timeout_ms;
        let total = own
            .map_or(self.visit.worker.shared.settings.total_timeout, |ms| Duration::from_millis(ms.into()));
        self.started + total
    }

    /// What a request wishes of its target.
    fn wish(&self, permit: &Permit, group: &Group, repeatable: bool) -> Wish {
        let key = match group.upstream().options.balance {
            Balance::ConsistentHash => match permit.identity() {
                Some(identity) => hash(&identity.person().id),
                None => hash(&self.origin.visitor),
            },
            Balance::LeastLoaded | Balance::RoundRobin => 0,
        };
        Wish { key, repeatable, ..Wish::default() }
    }
}

/// The same in every process.
pub(super) fn hash(value: &impl Hash) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(value)
}

/// Says whose fault it was.
fn problem(broken: Option<&Broken>, upload: &Upload) -> Problem {
    Problem::new(match (upload.fault(), broken) {
        (Some(BodyFault::TimedOut), _) => Code::RequestTimeout,
        (Some(BodyFault::TooLarge), _) => Code::PayloadTooLarge,
        (Some(BodyFault::Broken), _) => Code::BadRequest,
        (None, Some(Broken::Late)) if upload.waits_for_visitor() => Code::RequestTimeout,
        (None, Some(Broken::Late)) => Code::UpstreamTimeout,
        (None, _) => Code::UpstreamUnavailable,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_on_begins_with_the_path() {
        for (method, uri, expected) in [
            (Method::GET, "https://app.test/a?b", "/a?b"),
            (Method::GET, "https://app.test?b", "/?b"),
            (Method::GET, "https://app.test", "/"),
            (Method::GET, "/a", "/a"),
            (Method::OPTIONS, "*", "*"),
            (Method::GET, "*", "/*"),
        ] {
            let form = origin_form(&method, uri.parse().unwrap());
            assert_eq!(form.path_and_query().unwrap().as_str(), expected, "{method} {uri}");
        }
    }
}
