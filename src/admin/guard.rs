//! Stands before every operation: finds it in the table, establishes who asks, checks role, origin
//! and budget, opens the act in the audit and closes it again. Handlers see only what got through.

use std::sync::Arc;

use poem::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use poem::{Endpoint, IntoResponse, Request, Response};

use super::auth::caller::{Call, CallData, Caller, OpenAct, Proof};
use super::auth::{certificate, cookie, secret, session, token};
use super::body::{discard, is_json, most_of};
use super::error::{Outcome, Problem};
use super::idempotency::{self, Claimed, Replay};
use super::listener::{Entrance, Visitor};
use super::operations::{Access, EST_OPERATIONS, Found, OPERATIONS, Operation, find};
use super::services::Services;
use crate::domain::audit::Outcome as ActOutcome;
use crate::domain::{Actor, Role, UtcTime};
use crate::store::Store;
use crate::store::tokens::Bearer;
use crate::telemetry::TraceContext;

/// The header that names the request, in answers and in the audit.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Who acts before anyone has signed in.
const VISITOR: Actor = Actor::System("visitor");

/// What differs between the surfaces that the guard stands before.
#[derive(Clone, Copy)]
pub struct Surface {
    /// Everything there is.
    table: &'static [Operation],
    /// How callers may prove who they are.
    proofs: Proofs,
    /// How a problem leaves.
    refuse: fn(Problem) -> Response,
}

/// How callers may prove who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Proofs {
    /// With tokens, cookies, and certificates where the operation takes them.
    All,
    /// With certificates, where the operation takes them.
    CertificateOnly,
}

/// The admin API.
pub const API: Surface =
    Surface { table: OPERATIONS, proofs: Proofs::All, refuse: IntoResponse::into_response };
/// Enrollment over Secure Transport.
pub const EST: Surface =
    Surface { table: EST_OPERATIONS, proofs: Proofs::CertificateOnly, refuse: Problem::into_text };

/// A surface behind its guard.
pub struct Guard<E> {
    inner: Arc<E>,
    services: Services,
    surface: Surface,
}

impl<E: Endpoint<Output = Response> + 'static> Guard<E> {
    /// Puts the guard before `inner`.
    pub fn new(inner: E, services: Services, surface: Surface) -> Self {
        Self { inner: Arc::new(inner), services, surface }
    }
}

impl<E: Endpoint<Output = Response> + 'static> Endpoint for Guard<E> {
    type Output = Response;

    async fn call(&self, request: Request) -> poem::Result<Response> {
        let trace = TraceContext::from_caller(request.header("traceparent"), self.services.entropy());
        let request_id = trace.trace_id.to_string();
        // In a task of its own: what was begun is finished though the caller hangs up.
        let (inner, services, surface) = (self.inner.clone(), self.services.clone(), self.surface);
        let id = request_id.clone();
        let work = async move { admit(&*inner, &services, surface, request, id).await };
        let mut response = match tokio::spawn(trace.scope(Box::pin(work))).await {
            Ok(response) => response,
            Err(_) => (surface.refuse)(Problem::internal("a handler panicked")),
        };
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Ok(id) = HeaderValue::try_from(request_id) {
            headers.insert(REQUEST_ID, id);
        }
        Ok(response)
    }
}

async fn admit<E: Endpoint<Output = Response>>(
    inner: &E,
    services: &Services,
    surface: Surface,
    mut request: Request,
    request_id: String,
) -> Response {
    match serve(inner, services, surface, &mut request, request_id).await {
        Ok(response) => response,
        Err(problem) => {
            // Answered while it is still sending, many a client takes the answer for a broken connection.
            discard(request.take_body()).await;
            (surface.refuse)(problem)
        }
    }
}

async fn serve<E: Endpoint<Output = Response>>(
    inner: &E,
    services: &Services,
    surface: Surface,
    request: &mut Request,
    request_id: String,
) -> Outcome<Response> {
    let (operation, parameter) = match find(surface.table, request.method(), request.uri().path()) {
        Found::Operation(operation, parameter) => (operation, parameter),
        Found::OtherMethods(allow) => return Err(Problem::method_not_allowed(allow)),
        Found::Nothing => return Err(Problem::not_found("resource")),
    };
    check_shape(request)?;
    let now = services.now();
    let visitor = Visitor::of(request).ok_or_else(|| Problem::internal("a request without an entrance"))?;
    let caller = match surface.proofs {
        Proofs::All => authenticate(services, request.headers(), &visitor, operation, now).await?,
        Proofs::CertificateOnly if operation.by_certificate => {
            let caller = certificate::by_certificate(services, &visitor, now).await?;
            Some(caller.ok_or_else(|| certificate::refusal(services, &visitor, now))?)
        }
        Proofs::CertificateOnly => None,
    };
    authorise(operation, caller.as_ref())?;
    check_origin(services, request, operation, caller.as_ref(), visitor.entrance)?;
    if let (Some(budget), Some(source)) = (operation.budget, visitor.source) {
        services.limits().draw(budget, source).map_err(Problem::rate_limited)?;
    }
    let actor = caller.as_ref().map_or(VISITOR, Caller::actor);
    let replay = match idempotency::begin(services, operation, caller.as_ref(), request, now).await? {
        Replay::Answer(response) => return Ok(response),
        Replay::Go(claim) => claim,
    };
    let act = match begin_act(services, operation, actor, parameter, request_id, replay.as_ref(), now).await {
        Ok(act) => act,
        Err(problem) => {
            if let Some(claim) = replay {
                claim.forget(services).await;
            }
            return Err(problem);
        }
    };
    let call = Call::new(CallData { now, entrance: visitor.entrance, caller, act });
    request.set_data(call.clone());
    let response = match inner.call(std::mem::take(request)).await {
        Ok(response) => response,
        Err(error) => (surface.refuse)(Problem::from_poem(error)),
    };
    let committed = call.act.as_ref().is_some_and(OpenAct::is_closed);
    close_act(services, &call, response.status()).await?;
    Ok(match replay {
        Some(claim) => claim.finish(services, operation, committed, response).await,
        None => response,
    })
}

/// What no operation takes: control characters in path or query, which databases choke on, and bodies
/// that say beforehand that they are too long.
fn check_shape(request: &Request) -> Outcome<()> {
    let uri = request.uri();
    let decoded = |text: &str| percent_encoding::percent_decode_str(text).collect::<Vec<u8>>();
    let text = [decoded(uri.path()), decoded(uri.query().unwrap_or_default())].concat();
    if std::str::from_utf8(&text).is_err() || text.iter().any(|octet| octet.is_ascii_control()) {
        return Err(Problem::bad_request("The URL contains characters that nothing here is named with."));
    }
    let length = request.header(header::CONTENT_LENGTH).and_then(|length| length.parse::<usize>().ok());
    if length.is_some_and(|length| length > most_of(uri.path())) {
        return Err(Problem::too_large());
    }
    Ok(())
}

async fn authenticate(
    services: &Services,
    headers: &HeaderMap,
    visitor: &Visitor,
    operation: &Operation,
    now: UtcTime,
) -> Outcome<Option<Caller>> {
    if let Some(uid) = visitor.uid {
        return Ok(Some(Caller { proof: Proof::Host { uid }, person: None, role: Role::Administrator }));
    }
    let found = match headers.get(header::AUTHORIZATION) {
        Some(value) => match by_token(services, value, now).await? {
            Some(caller) => Some(caller),
            None if operation.access == Access::Public => None,
            None => {
                if let Some(source) = visitor.source {
                    services.limits().draw_bad_token(source).map_err(Problem::rate_limited)?;
                }
                return Err(Problem::new(
                    StatusCode::UNAUTHORIZED,
                    "not_signed_in",
                    "The token is unknown, expired or revoked.",
                ));
            }
        },
        None => match by_cookie(services, headers, now).await? {
            None if operation.by_certificate => certificate::by_certificate(services, visitor, now).await?,
            found => found,
        },
    };
    Ok(found.map(|caller| Caller { role: caller.role.min(visitor.entrance.most()), ..caller }))
}

async fn by_token(services: &Services, value: &HeaderValue, now: UtcTime) -> Outcome<Option<Caller>> {
    let text = value.to_str().unwrap_or_default();
    let Some((scheme, credentials)) = text.split_once(' ') else { return Ok(None) };
    let credentials = credentials.trim();
    if !scheme.eq_ignore_ascii_case("bearer") || !token::is_well_formed(credentials) {
        return Ok(None);
    }
    let store = services.store();
    let bearer = store.bearer(secret::hash(credentials)).await?.filter(|bearer| !bearer.owner.disabled);
    let Some(Bearer { token, owner: person }) = bearer else { return Ok(None) };
    if token.expires_at <= now {
        return Ok(None);
    }
    if session::is_to_be_noted(token.last_used_at, now) {
        note(store.touch_token(token.id, now).await);
    }
    let role = token.role.min(person.role);
    Ok(Some(Caller { proof: Proof::Token(token), person: Some(person), role }))
}

async fn by_cookie(services: &Services, headers: &HeaderMap, now: UtcTime) -> Outcome<Option<Caller>> {
    let Some(value) = cookie::read(headers).filter(|value| secret::is_well_formed(value)) else {
        return Ok(None);
    };
    let store = services.store();
    let Some(mut found) = store.session_by_secret(secret::hash(&value)).await? else { return Ok(None) };
    if !session::holds(&found, now) {
        return Ok(None);
    }
    let Some(person) = store.person(found.person).await?.filter(|person| !person.disabled) else {
        return Ok(None);
    };
    if session::is_to_be_noted(Some(found.last_seen_at), now) {
        note(store.touch_session(found.id, now).await);
        found.last_seen_at = now;
    }
    let role = match found.invitation {
        None => person.role,
        // Whoever opened a mailed link has shown that they read the mail, not that they run the house.
        Some(_) => Role::Member,
    };
    Ok(Some(Caller { proof: Proof::Session(found), person: Some(person), role }))
}

/// A note of a use that could not be written changes nothing for the caller.
fn note(written: Result<(), crate::store::StoreError>) {
    if let Err(error) = written {
        tracing::warn!(error = %error, "A use of a session or token could not be noted");
    }
}

fn authorise(operation: &Operation, caller: Option<&Caller>) -> Outcome<()> {
    let allowed = match (operation.access, caller) {
        (Access::Public, _) => return Ok(()),
        (_, None) => return Err(Problem::not_signed_in()),
        (Access::Enrolment, Some(_)) => true,
        (Access::Member, Some(caller)) => caller.enrolment().is_none(),
        (Access::Administrator, Some(caller)) => caller.is_administrator(),
    };
    if allowed { Ok(()) } else { Err(Problem::not_allowed("You may not do this.")) }
}

/// Changes by cookie come only from our own pages: browsers name the page's origin on every such
/// request, and no form can send JSON. A client certificate is sent along like a cookie, so a browser
/// that renews by it must come from our own page as well; programs send no Origin and have no pages.
/// Without either nothing is done in anyone's name, but a foreign page shall not sign anyone in.
fn check_origin(
    services: &Services,
    request: &Request,
    operation: &Operation,
    caller: Option<&Caller>,
    entrance: Entrance,
) -> Outcome<()> {
    if operation.method == Method::GET {
        return Ok(());
    }
    let settings = services.settings();
    let own = match entrance {
        Entrance::Console => Some(settings.console_origin.as_str()),
        Entrance::Door => settings.door_origin.as_deref(),
        Entrance::Socket => None,
    };
    let origin = request.headers().get(header::ORIGIN).map(|value| value.to_str().unwrap_or_default());
    let by_cookie = matches!(caller, Some(Caller { proof: Proof::Session(_), .. }));
    let by_certificate = matches!(caller, Some(Caller { proof: Proof::Certificate(_), .. }));
    let foreign = match origin {
        Some(origin) => own != Some(origin) && (by_cookie || by_certificate || caller.is_none()),
        None => by_cookie,
    };
    if foreign {
        return Err(Problem::new(
            StatusCode::FORBIDDEN,
            "foreign_origin",
            "This change did not come from one of our own pages.",
        ));
    }
    if by_cookie && !request.content_type().is_some_and(is_json) {
        return Err(Problem::not_json());
    }
    Ok(())
}

/// Opens the act, and ties the claim of an idempotency key to it.
async fn begin_act(
    services: &Services,
    operation: &Operation,
    actor: Actor,
    parameter: Option<String>,
    request_id: String,
    claim: Option<&Claimed>,
    now: UtcTime,
) -> Outcome<Option<OpenAct>> {
    // A claim is taken up again by what the audit says of its act, so that act is begun beforehand.
    let on_commit = claim.is_none() && operation.audited.is_some_and(|audited| audited.on_commit);
    let act = open_act(services, operation, actor, parameter, request_id, on_commit, now).await?;
    if let (Some(claim), Some(open)) = (claim, &act) {
        claim.tie(services, open.act()).await?;
    }
    Ok(act)
}

async fn open_act(
    services: &Services,
    operation: &Operation,
    actor: Actor,
    parameter: Option<String>,
    request_id: String,
    on_commit: bool,
    now: UtcTime,
) -> Outcome<Option<OpenAct>> {
    let Some(audited) = operation.audited else { return Ok(None) };
    // What a caller wrote into the path is recorded only if it can be one of our names at all.
    let tidy = |id: &String| {
        id.len() <= 253 && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.')
    };
    let object = audited.object.and_then(|kind| parameter.filter(tidy).map(|id| (kind, id)));
    if on_commit {
        let act = Store::act_on_commit(actor, audited.action, object, Some(request_id), now);
        return Ok(Some(OpenAct::new(act)));
    }
    let begun = services.store().begin_act(actor, audited.action, object, Some(request_id), now).await;
    let act = begun.map_err(|error| Problem::unavailable(&error))?;
    Ok(Some(OpenAct::new(act)))
}

/// Closes the act, if that was not done with its effect. An error means that nothing of it is on record:
/// then nothing was done, and nothing may be answered but that.
async fn close_act(services: &Services, call: &Call, status: StatusCode) -> Outcome<()> {
    let Some(open) = call.act.as_ref().filter(|open| !open.is_closed()) else { return Ok(()) };
    let (outcome, detail) = match status.is_success() {
        true => (ActOutcome::Succeeded, open.note()),
        false => (ActOutcome::Failed, Some(format!("answered {}", status.as_u16()))),
    };
    let closed = services.store().finish_act(open.act(), outcome, detail.as_deref(), services.now()).await;
    if let Err(error) = closed {
        if open.act().owes_start().is_some() {
            return Err(Problem::unavailable(&error));
        }
        // A job will close it as unknown.
        tracing::error!(error = %error, act = %open.act().started, "An act could not be closed");
    }
    Ok(())
}

impl Entrance {
    /// The most that anyone may be who comes in here.
    fn most(self) -> Role {
        match self {
            Self::Door => Role::Member,
            Self::Console | Self::Socket => Role::Administrator,
        }
    }
}
