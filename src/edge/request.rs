//! One request, station by station (design, section 3). Every station may refuse; what comes out
//! of the last one is an answer either way.

use std::pin::pin;
use std::rc::Rc;

use http::header::{CONNECTION, COOKIE, HOST, STRICT_TRANSPORT_SECURITY};
use http::{HeaderValue, Method, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::access_log::Entry;
use super::answer::AnswerBody;
use super::connection::Visit;
use super::facts::Approach;
use super::finish::{Finish, Own};
use super::forward::{self, Forwarded, forward};
use super::forwarded::Origin;
use super::headers;
use super::host;
use super::io::InFlight;
use super::ongoing::Permitted;
use super::permit::{Deciding, Denied};
use super::rate;
use super::respond::{self, Code, Problem};
use super::spans::ServerSpan;
use super::stream::Delivery;
use super::trace;
use super::websocket::Wanted;
use super::worker::Derived;
use crate::live::{Classified, Snapshot, route_table};
use crate::telemetry::TraceContext;
use crate::telemetry::metrics::RefusalCode;

/// Answers one request.
pub(super) async fn serve(visit: Rc<Visit>, request: Request<Incoming>) -> Response<AnswerBody> {
    let shared = &visit.worker.shared;
    let mut exchange = Exchange::begin(&visit);
    let spans = &shared.settings.spans;
    let (trace, parent) = trace::of(request.headers(), &visit.worker.ids, spans, visit.is_believed);
    let origin = Origin::of(&visit, request.headers());
    let mut entry = Entry::new(request.method().clone(), request.uri().clone(), trace.trace_id, visit.is_own);
    entry.source = Some(origin.visitor);
    if !visit.is_own {
        entry.span = ServerSpan::begin(spans, trace, parent, request.version());
    }
    let (version, wants_page) = (request.version(), respond::wants_page(request.headers()));
    let snapshot = shared.holder.snapshot();
    // Once, and before anything is waited for: what is in force may be another version afterwards.
    let derived = snapshot.as_ref().map(|snapshot| visit.worker.derived(&snapshot.configuration));
    let outcome = match snapshot.as_ref().zip(derived.as_ref()) {
        Some(ground) => walk(&mut exchange, ground, request, &mut entry, &origin, trace).await,
        // Handshakes need a configuration, and configurations are never taken away.
        None => Err(Problem::new(Code::Overloaded)),
    };
    let (mut response, tunnel) = match outcome {
        Ok(Forwarded { response, tunnel }) => (response, tunnel),
        Err(mut problem) => {
            let door = snapshot.as_ref().and_then(|snapshot| snapshot.configuration.door_url.as_deref());
            entry.code = Some(problem.code());
            entry.cause = problem.cause();
            if !visit.is_own {
                shared.metrics.refused.count(RefusalCode::from_code(problem.code().name()));
            }
            if let Some(limit) = problem.limit() {
                shared.metrics.limited.count(limit);
                problem.set_last(visit.insists());
            }
            if problem.ends_connection(version) {
                visit.say_last_word();
            }
            (respond::refuse(&problem, version, wants_page, door).map(AnswerBody::page), None)
        }
    };
    if let Some(of_route) = exchange.hsts.take() {
        of_route.put(response.headers_mut());
    } else if let Some((host, derived)) = entry.host.as_ref().zip(derived.as_ref())
        && let Some(hsts) = derived.hsts.get(host)
    {
        response.headers_mut().insert(STRICT_TRANSPORT_SECURITY, hsts.clone());
    }
    // HTTP/2 has a frame for it.
    let may_say_so = version < Version::HTTP_2 && response.status() != StatusCode::SWITCHING_PROTOCOLS;
    if may_say_so && visit.is_leaving() {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    entry.status = response.status();
    match tunnel {
        Some(tunnel) => {
            tunnel.open(entry, exchange);
            response
        }
        None => response.map(|body| body.with_tail(entry, exchange)),
    }
}

/// From the named host to the upstream's answer.
async fn walk(
    exchange: &mut Exchange,
    (snapshot, derived): (&Snapshot, &Rc<Derived>),
    mut request: Request<Incoming>,
    entry: &mut Entry,
    origin: &Origin,
    trace: TraceContext,
) -> Result<Forwarded, Problem> {
    origin.check()?;
    let visit = exchange.visit.clone();
    let shared = &visit.worker.shared;
    let source = shared.rate.counted(origin.visitor).filter(|_| !visit.is_own);
    if let Some(source) = source {
        shared.rate.request_from(source)?;
    }
    // HTTP/1 is held to it before; HTTP/2 knows a size only, and breaks cookies into crumbs.
    let fields = || request.headers().len() - request.headers().get_all(COOKIE).iter().count();
    if request.headers().len() > shared.settings.max_headers && fields() > shared.settings.max_headers {
        return Err(Problem::new(Code::HeadersTooLarge));
    }
    let named = host::named(request.version(), request.uri(), request.headers())?;
    let site = snapshot.configuration.site(named.host.as_str());
    // Only names of ours: visitors may write anything.
    entry.host = site.map(|_| named.host.clone());
    let site = visit.admitted(site)?;
    // CONNECT asks for a proxy of another kind, unless it is for a WebSocket.
    let wanted = Wanted::of(&mut request)?;
    // It would show our headers to the visitor.
    if request.method() == Method::TRACE {
        return Err(Problem::bad_request("the method is not for here"));
    }
    if request.uri().scheme_str().is_some_and(|scheme| scheme != "https") {
        return Err(Problem::bad_request("the scheme is not https"));
    }
    let route = route_table::select(site, request.uri().path())?.ok_or(Problem::new(Code::NotFound))?;
    entry.route = Some(route.id);
    let finish = derived.finish(route);
    exchange.hsts = finish.and_then(Finish::hsts).cloned();
    let now = shared.clock.now();
    let who = visit.who(now);
    match &*who {
        Classified::Known(identity) => {
            entry.serial = Some(identity.serial());
            entry.person = Some(identity.person().id);
            shared.rate.request_by(identity)?;
        }
        Classified::Refused(refusal) => entry.serial = refusal.serial,
        Classified::None => {}
    }
    let (method, uri) = (request.method(), request.uri());
    let approach = Approach { method, path: uri.path(), source: origin.visitor };
    let asked = visit.permit(route, &who, approach, now);
    visit.was_seen(route.id, &who, approach, asked.is_ok(), now);
    entry.rule = match asked.as_ref().map_or_else(Denied::deciding, |permit| Some(permit.deciding())) {
        Some(Deciding::Rule(at)) => route.rules.name(at).cloned(),
        _ => None,
    };
    let permit = asked?;
    if let Some(maintenance) = &route.options.maintenance
        && maintenance.keeps_out(permit.identity().map(|identity| &**identity.person()))
    {
        return Err(Problem::from(maintenance));
    }
    // Not before: a stranger must not use up what is for those who may pass.
    if let Some(rules) = derived.rules.get(&route.id).filter(|_| !visit.is_own) {
        rate::draw(rules, permit.identity(), source)?;
    }
    let ongoing = Permitted::begin(&visit, named.host.clone(), (method.clone(), uri.clone()), origin.visitor);
    let permitted = exchange.permitted.insert(ongoing);
    let passed_on = entry.span.as_ref().map(|span| span.pass_on(&visit.worker.ids, request.method(), route));
    let context = forward::Context {
        visit: &visit,
        derived,
        named: &named,
        origin,
        trace: passed_on.as_ref().map_or(trace, |span| span.context()),
        started: entry.started,
        now: shared.clock.wall(),
    };
    let finish = finish.map(|finish| (finish, finish.asked(&request)));
    let (mut parts, body) = request.into_parts();
    parts.headers.remove(HOST);
    headers::settle_framing(&mut parts.headers)?;
    // Large: it stays where it is.
    let forwarding = pin!(forward(context, permit, wanted, parts, body));
    let answer = permitted.over(forwarding).await;
    if let Some(span) = passed_on {
        let status = answer.as_ref().map(|forwarded| forwarded.response.status());
        span.end(status.map_err(Problem::code));
    }
    match &answer {
        Ok(_) => permitted.answers(),
        Err(_) => exchange.permitted = None,
    }
    match finish {
        Some((finish, asked)) => answer.map(|forwarded| match forwarded.tunnel {
            Some(_) => forwarded,
            None => {
                let response = finish.apply(forwarded.response, asked, &shared.packing);
                Forwarded { response, tunnel: None }
            }
        }),
        None => answer,
    }
}

/// A request between its head and the end of its answer.
pub(super) struct Exchange {
    visit: Rc<Visit>,
    permitted: Option<Permitted>,
    in_flight: InFlight,
    /// What takes the place of the site's, whatever the answer is.
    hsts: Option<Own>,
}

impl Exchange {
    fn begin(visit: &Rc<Visit>) -> Self {
        visit.worker.shared.metrics.http.active.rise();
        Self { visit: visit.clone(), permitted: None, in_flight: visit.activity.begin(), hsts: None }
    }

    /// How its stream takes the answer (HTTP/2).
    pub(super) fn delivery(&self) -> Option<&Rc<Delivery>> {
        self.in_flight.delivery()
    }

    /// The connection that it came over.
    pub(super) fn visit(&self) -> &Rc<Visit> {
        &self.visit
    }

    /// It lasts as long as its tunnel.
    pub(super) fn set_tunnel(&self) {
        self.permitted.as_ref().inspect(|permitted| permitted.set_tunnel());
    }

    /// Whether what was permitted is so now.
    pub(super) fn is_permitted(&self) -> bool {
        self.permitted.as_ref().is_some_and(Permitted::holds)
    }

    /// The answer has gone out to its end.
    pub(super) fn went_through(&self) {
        self.visit.activity.answered();
    }

    /// The answer has gone out, or as much of it as could.
    pub(super) fn answered(&self, status: StatusCode, started: Instant) {
        self.visit.worker.shared.metrics.http.answered(status.as_u16(), started.elapsed());
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.visit.worker.shared.metrics.http.active.fall();
    }
}
