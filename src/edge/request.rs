//! One request, station by station (design, section 3). Every station may refuse; what comes out
//! of the last one is an answer either way.

use std::rc::Rc;

use http::header::HOST;
use http::{Method, Request, Response};
use hyper::body::Incoming;

use super::access_log::Entry;
use super::answer::AnswerBody;
use super::connection::Visit;
use super::forward::{self, forward};
use super::host;
use super::permit::{Freshness, permit};
use super::respond::{self, Code, Problem};
use super::route_table;
use super::trace::Trace;
use crate::live::{Classified, SiteKind, Snapshot};

/// Answers one request.
pub(super) async fn serve(visit: Rc<Visit>, request: Request<Incoming>) -> Response<AnswerBody> {
    let shared = visit.worker.shared.clone();
    let in_flight = visit.activity.begin();
    let gauge = Gauge::new(&visit);
    let trace = Trace::of(request.headers(), &visit.worker.ids);
    let mut entry = Entry::new(request.method().clone(), request.uri().clone(), trace.id);
    let (version, accept) = (request.version(), accept_of(&request));
    let snapshot = shared.holder.snapshot();
    let outcome = match &snapshot {
        Some(snapshot) => walk(&visit, snapshot, request, &mut entry, trace).await,
        // Handshakes need a configuration, and configurations are never taken away.
        None => Err(Problem::new(Code::Overloaded)),
    };
    let mut response = match outcome {
        Ok(response) => response,
        Err(problem) => {
            let door = snapshot.as_ref().and_then(|snapshot| snapshot.configuration.door_url.as_deref());
            entry.code = Some(problem.code());
            count_refusal(&visit, &problem);
            if problem.ends_connection() {
                visit.say_last_word();
            }
            respond::refuse(&problem, version, &accept, door).map(AnswerBody::page)
        }
    };
    let site = entry.host.as_ref().zip(snapshot.as_ref());
    if let Some(site) = site.and_then(|(host, snapshot)| snapshot.configuration.site(host.as_str())) {
        forward::put_hsts(response.headers_mut(), site);
    }
    entry.status = response.status();
    shared.counters.answered(response.status());
    drop(gauge);
    response.map(|body| body.with_tail(entry, in_flight))
}

/// From the named host to the upstream's answer.
async fn walk(
    visit: &Rc<Visit>,
    snapshot: &Snapshot,
    request: Request<Incoming>,
    entry: &mut Entry,
    trace: Trace,
) -> Result<Response<AnswerBody>, Problem> {
    let shared = &visit.worker.shared;
    let named = host::named(request.version(), request.uri(), request.headers())?;
    let site =
        snapshot.configuration.site(named.host.as_str()).ok_or(Problem::new(Code::MisdirectedRequest))?;
    entry.host = Some(named.host.clone());
    // Another class would have been asked another question in the handshake.
    if site.handshake_class() != visit.class {
        return Err(Problem::new(Code::MisdirectedRequest));
    }
    if site.kind == SiteKind::Door {
        return Err(Problem::new(Code::Overloaded));
    }
    // CONNECT asks for a proxy of another kind, TRACE would show our headers to the visitor.
    if [Method::CONNECT, Method::TRACE].contains(request.method()) {
        return Err(Problem::bad_request("the method is not for here"));
    }
    if request.uri().scheme_str().is_some_and(|scheme| scheme != "https") {
        return Err(Problem::bad_request("the scheme is not https"));
    }
    let route = route_table::select(site, request.uri().path())?.ok_or(Problem::new(Code::NotFound))?;
    entry.route = Some(route.id);
    let now = shared.clock.now();
    let who = visit.who(now);
    match &*who {
        Classified::Known(identity) => {
            entry.serial = Some(identity.serial());
            entry.person = Some(identity.person().id);
        }
        Classified::Refused(refusal) => entry.serial = refusal.serial,
        Classified::None => {}
    }
    let freshness = match snapshot.register.is_fresh(now, shared.settings.max_stale) {
        true => Freshness::Fresh,
        false => Freshness::Stale,
    };
    let permit = permit(route, &who, freshness)?;
    let derived = visit.worker.derived(&snapshot.configuration);
    let context =
        forward::Context { visit, derived: &derived, named: &named, trace, started: entry.started, now };
    let (mut parts, body) = request.into_parts();
    parts.headers.remove(HOST);
    forward(context, permit, parts, body).await
}

/// The one field that a refusal looks at, kept because the request is consumed on the way.
fn accept_of(request: &Request<Incoming>) -> http::HeaderMap {
    let mut accept = http::HeaderMap::new();
    if let Some(value) = request.headers().get(http::header::ACCEPT) {
        accept.insert(http::header::ACCEPT, value.clone());
    }
    accept
}

fn count_refusal(visit: &Visit, problem: &Problem) {
    let counters = &visit.worker.shared.counters;
    match problem.code() {
        Code::PolicyStale => counters.stale.add(),
        code if code.status() == http::StatusCode::FORBIDDEN => counters.refused.add(),
        _ => {}
    }
}

/// A request between its head and the head of its answer.
struct Gauge(Rc<Visit>);

impl Gauge {
    fn new(visit: &Rc<Visit>) -> Self {
        visit.worker.shared.counters.requests_in_flight.add();
        Self(visit.clone())
    }
}

impl Drop for Gauge {
    fn drop(&mut self) {
        self.0.worker.shared.counters.requests_in_flight.sub();
    }
}
