//! Which target a request goes to, who waits, who is left alone, and whose fault it was.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use socket2::{Domain, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use wicketgate::domain::upstream::{
    Balance, BreakerState, CheckKind, Forced, Health, HealthCheck, TargetStatus, UpstreamOptions,
};
use wicketgate::edge::EdgeSettings;

use super::client::{Http, PATIENCE, Visitor, connect, until};
use super::fixture::{APP, World};

/// A target whose manners change.
struct Target {
    address: SocketAddr,
    requests: AtomicU64,
    is_up: watch::Sender<bool>,
    /// Whether requests are answered.
    is_free: watch::Sender<bool>,
    says: watch::Sender<StatusCode>,
    /// To checks.
    says_it_is: watch::Sender<StatusCode>,
    late: watch::Sender<Duration>,
    /// Holds the port while nobody listens on it.
    _port: Socket,
}

fn bound(address: SocketAddr) -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_reuse_port(true).unwrap();
    socket.bind(&address.into()).unwrap();
    socket
}

async fn becomes(what: &watch::Sender<bool>, wanted: bool) {
    // Whoever sends is still there.
    let _ = what.subscribe().wait_for(|is| *is == wanted).await;
}

impl Target {
    fn start() -> Arc<Self> {
        let port = bound((Ipv4Addr::LOCALHOST, 0).into());
        let target = Arc::new(Self {
            address: port.local_addr().unwrap().as_socket().unwrap(),
            requests: AtomicU64::new(0),
            is_up: watch::Sender::new(true),
            is_free: watch::Sender::new(true),
            says: watch::Sender::new(StatusCode::OK),
            says_it_is: watch::Sender::new(StatusCode::OK),
            late: watch::Sender::new(Duration::ZERO),
            _port: port,
        });
        tokio::spawn(target.clone().listen());
        target
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn requests(&self) -> u64 {
        self.requests.load(Ordering::SeqCst)
    }

    /// Returns when nobody can connect any more.
    async fn goes_down(&self) {
        self.is_up.send_replace(false);
        while TcpStream::connect(self.address).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn listen(self: Arc<Self>) {
        loop {
            becomes(&self.is_up, true).await;
            let socket = bound(self.address);
            socket.listen(64).unwrap();
            socket.set_nonblocking(true).unwrap();
            let listener = TcpListener::from_std(socket.into()).unwrap();
            let accepting = async {
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(self.clone().serve(stream));
                }
            };
            tokio::select! {
                () = accepting => {}
                () = becomes(&self.is_up, false) => {}
            }
        }
    }

    async fn serve(self: Arc<Self>, stream: TcpStream) {
        let service = service_fn(|request| self.answer(request));
        tokio::select! {
            _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service) => {}
            () = becomes(&self.is_up, false) => {}
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let mut answer = Response::new(Full::new(Bytes::from_static(b"said")));
        if request.uri().path() == "/check" {
            *answer.status_mut() = *self.says_it_is.borrow();
            return Ok(answer);
        }
        self.requests.fetch_add(1, Ordering::SeqCst);
        // Whole or not.
        let _ = request.into_body().collect().await;
        let late = *self.late.borrow();
        tokio::time::sleep(late).await;
        becomes(&self.is_free, true).await;
        *answer.status_mut() = *self.says.borrow();
        Ok(answer)
    }
}

fn targets(count: usize) -> Vec<Arc<Target>> {
    (0..count).map(|_| Target::start()).collect()
}

/// A world whose routes lead to these targets.
async fn world(targets: &[Arc<Target>], options: UpstreamOptions) -> World {
    strict_world(targets, options, |_| {}).await
}

async fn strict_world(
    targets: &[Arc<Target>],
    options: UpstreamOptions,
    adjust: impl FnOnce(&mut EdgeSettings),
) -> World {
    let adjust = |settings: &mut EdgeSettings| {
        settings.threads = 1;
        adjust(settings);
    };
    World::with(adjust, |data| {
        data.upstreams[0].targets = targets.iter().map(|target| target.url()).collect();
        data.upstreams[0].options = options;
    })
    .await
}

fn requests(targets: &[Arc<Target>]) -> Vec<u64> {
    targets.iter().map(|target| target.requests()).collect()
}

/// Asks so often; every answer is good.
async fn ask(visitor: &mut Visitor, times: usize) {
    for _ in 0..times {
        assert_eq!(visitor.get(APP, "/public").await.status, 200);
    }
}

/// Asks until `condition` holds; every answer is good.
async fn ask_until(visitor: &mut Visitor, what: &str, condition: impl Fn() -> bool) {
    let asking = async {
        while !condition() {
            ask(visitor, 1).await;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(2 * PATIENCE, asking).await.unwrap_or_else(|_| panic!("in vain: {what}"));
}

/// How the edge sees a target.
fn seen(world: &World, target: &Target) -> Option<TargetStatus> {
    let seen = world.metrics.targets.seen();
    seen.iter().find(|status| status.target == target.url()).cloned()
}

#[tokio::test]
async fn requests_go_round() {
    let targets = targets(3);
    let options = UpstreamOptions { balance: Balance::RoundRobin, ..UpstreamOptions::default() };
    let world = world(&targets, options).await;
    ask(&mut connect(&world, APP, None, Http::One).await, 6).await;
    ask(&mut connect(&world, APP, None, Http::Two).await, 6).await;
    assert_eq!(requests(&targets), [4, 4, 4]);
}

#[tokio::test]
async fn a_person_stays_at_a_target_as_long_as_it_is_there() {
    let targets = targets(3);
    let options = UpstreamOptions { balance: Balance::ConsistentHash, ..UpstreamOptions::default() };
    let world = world(&targets, options).await;
    let mut visitors = Vec::new();
    for http in [Http::One, Http::Two] {
        // Two devices of one person.
        visitors.push(connect(&world, APP, Some(&world.enrol().await), http).await);
        ask(visitors.last_mut().unwrap(), 10).await;
    }
    let home = targets.iter().position(|target| target.requests() == 20).unwrap();
    targets[home].goes_down().await;
    ask(&mut visitors[0], 10).await;
    ask(&mut visitors[1], 10).await;
    let mut all = requests(&targets);
    all.sort_unstable();
    assert_eq!(all, [0, 20, 20], "all to one other");
    targets[home].is_up.send_replace(true);
    ask_until(&mut visitors[0], "home again", || targets[home].requests() > 20).await;
}

#[tokio::test]
async fn a_slow_target_is_spared() {
    let targets = targets(2);
    targets[0].late.send_replace(Duration::from_millis(300));
    let world = world(&targets, UpstreamOptions::default()).await;
    ask(&mut connect(&world, APP, None, Http::Two).await, 30).await;
    assert!(targets[0].requests() < 5, "{:?}", requests(&targets));
}

#[tokio::test]
async fn an_administrator_decides_which_targets_are_used() {
    let targets = targets(3);
    targets[1].says.send_replace(StatusCode::INTERNAL_SERVER_ERROR);
    let forced = [(targets[0].url(), Forced::Open), (targets[1].url(), Forced::Closed)].into();
    let balance = Balance::RoundRobin;
    let options = UpstreamOptions { forced, balance, failures_to_open: 1, ..UpstreamOptions::default() };
    let world = world(&targets, options).await;
    ask(&mut connect(&world, APP, None, Http::One).await, 16).await;
    assert_eq!(requests(&targets), [0, 8, 16], "every second one is tried again");
    let states = || [0, 1].map(|number| seen(&world, &targets[number]).map(|status| status.breaker));
    let expected = [BreakerState::ForcedOpen, BreakerState::ForcedClosed].map(Some);
    until("both are said to be forced", || states() == expected).await;
}

/// Checks of this kind, often.
fn checked(kind: CheckKind) -> UpstreamOptions {
    let check =
        HealthCheck { kind, interval_ms: 100, timeout_ms: 1_000, healthy_after: 2, unhealthy_after: 2 };
    UpstreamOptions { balance: Balance::RoundRobin, health_check: Some(check), ..UpstreamOptions::default() }
}

#[tokio::test]
async fn a_check_takes_a_target_out_and_brings_it_back() {
    for kind in [CheckKind::Tcp, CheckKind::Http { path: "/check".into() }] {
        let (is_tcp, targets) = (kind == CheckKind::Tcp, targets(2));
        let world = world(&targets, checked(kind)).await;
        let is = |health: Health| seen(&world, &targets[0]).is_some_and(|status| status.health == health);
        let mut visitor = connect(&world, APP, None, Http::One).await;
        ask_until(&mut visitor, "well", || is(Health::Healthy)).await;
        if is_tcp {
            targets[0].goes_down().await;
        } else {
            targets[0].says_it_is.send_replace(StatusCode::INTERNAL_SERVER_ERROR);
        }
        ask_until(&mut visitor, "not well", || is(Health::Unhealthy)).await;
        let before = targets[0].requests();
        ask(&mut visitor, 10).await;
        assert_eq!(targets[0].requests(), before, "not used, tcp: {is_tcp}");
        targets[0].is_up.send_replace(true);
        targets[0].says_it_is.send_replace(StatusCode::OK);
        ask_until(&mut visitor, "used again", || targets[0].requests() > before).await;
    }
}

#[tokio::test]
async fn a_target_that_was_not_well_is_used_again_when_nobody_checks_any_more() {
    let targets = targets(2);
    targets[0].says_it_is.send_replace(StatusCode::INTERNAL_SERVER_ERROR);
    let world = world(&targets, checked(CheckKind::Http { path: "/check".into() })).await;
    let is_unhealthy = || seen(&world, &targets[0]).is_some_and(|status| status.health == Health::Unhealthy);
    until("it is not well", is_unhealthy).await;
    let before = targets[0].requests();
    let mut data = world.data.clone();
    data.upstreams[0].options.health_check = None;
    world.publish(data).await;
    let mut visitor = connect(&world, APP, None, Http::One).await;
    ask_until(&mut visitor, "used again", || targets[0].requests() > before).await;
}

#[tokio::test]
async fn who_finds_no_room_waits_and_further_ones_are_refused() {
    let targets = targets(1);
    let (max_in_flight, max_queue, queue_timeout_ms) = (Some(1), 1, 5_000);
    let options =
        UpstreamOptions { max_in_flight, max_queue, queue_timeout_ms, ..UpstreamOptions::default() };
    let world = world(&targets, options).await;
    targets[0].is_free.send_replace(false);
    let mut asking = JoinSet::new();
    for _ in 0..3 {
        let mut visitor = connect(&world, APP, None, Http::One).await;
        asking.spawn(async move { visitor.get(APP, "/public").await });
        until("the first is there", || targets[0].requests() == 1).await;
    }
    let refused = asking.join_next().await.unwrap().unwrap();
    assert_eq!((refused.status, refused.code().as_str()), (503, "overloaded"));
    assert_eq!(refused.headers["retry-after"], "1");
    assert_eq!(targets[0].requests(), 1);
    targets[0].is_free.send_replace(true);
    while let Some(served) = asking.join_next().await {
        assert_eq!(served.unwrap().status, 200);
    }
    assert_eq!(targets[0].requests(), 2);
}

#[tokio::test]
async fn a_retry_finds_room_beside_its_first_answer() {
    let targets = targets(2);
    targets[0].says.send_replace(StatusCode::SERVICE_UNAVAILABLE);
    let (balance, max_in_flight) = (Balance::RoundRobin, Some(1));
    let options = UpstreamOptions { balance, max_in_flight, ..UpstreamOptions::default() };
    let world = world(&targets, options).await;
    let mut asking = JoinSet::new();
    for _ in 0..4 {
        let mut visitor = connect(&world, APP, None, Http::Two).await;
        asking.spawn(async move { ask(&mut visitor, 4).await });
    }
    while let Some(asked) = asking.join_next().await {
        asked.unwrap();
    }
}

#[tokio::test]
async fn an_upstream_may_be_less_patient_than_the_edge() {
    let targets = targets(1);
    targets[0].is_free.send_replace(false);
    let options = UpstreamOptions { answer_timeout_ms: Some(200), ..UpstreamOptions::default() };
    let world = world(&targets, options).await;
    let answer = connect(&world, APP, None, Http::One).await.get(APP, "/public").await;
    assert_eq!((answer.status, answer.code().as_str()), (504, "upstream_timeout"));
}

#[tokio::test]
async fn what_a_visitor_does_wrong_is_no_fault_of_a_target() {
    let targets = targets(2);
    let options = UpstreamOptions { failures_to_open: 1, ..UpstreamOptions::default() };
    let world = strict_world(&targets, options, |settings| settings.max_body = Some(10)).await;
    for http in [Http::One, Http::Two] {
        let mut visitor = connect(&world, APP, None, http).await;
        let pieces = [Ok::<_, hyper::Error>(Frame::data(Bytes::from_static(b"too much for it")))];
        let body = StreamBody::new(stream::iter(pieces)).boxed();
        let request = visitor.request(Method::POST, APP, "/public").map(|_| body);
        assert_eq!(visitor.ask(request).await.status, 413, "{http:?}");
    }
    let all = || targets.iter().filter_map(|target| seen(&world, target)).collect::<Vec<_>>();
    let is_over = || all().iter().map(|one| one.requests).sum::<u64>() == 2;
    until("both are counted", || is_over() && all().iter().all(|one| one.in_flight == 0)).await;
    assert!(all().iter().all(|one| one.failures == 0 && one.breaker == BreakerState::Closed), "{:?}", all());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_closes_at_once_is_not_waited_for() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { while listener.accept().await.is_ok() {} });
    let configure = |data: &mut wicketgate::live::ConfigurationData| {
        data.upstreams[0].targets = vec![format!("http://{address}")];
    };
    let world = World::with(|settings| settings.threads = 1, configure).await;
    let Visitor::Two(sender) = connect(&world, APP, None, Http::Two).await else { panic!("not HTTP/2") };
    let mut asking = JoinSet::new();
    for _ in 0..100 {
        let mut visitor = Visitor::Two(sender.clone());
        asking.spawn(async move { visitor.get(APP, "/public").await.status });
    }
    while let Some(status) = asking.join_next().await {
        assert_eq!(status.unwrap(), 502, "and not when the answer is due");
    }
}
