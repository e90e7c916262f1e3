//! Tries a configuration before it is published: strangers ask for its protected routes, through the very code
//! that would serve them, over a pipe in memory. And asks the edge itself, on its real sockets, ever after.
//!
//! Nothing here reaches an upstream: a trial has none, and a stranger who gets as far is the finding.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use tokio::net::{TcpSocket, TcpStream};
use tokio::runtime::Builder;
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep, timeout};
use tracing::dispatcher::{self, Dispatch};

use super::carrier::Carrier;
use super::settings::EdgeSettings;
use super::stranger::{Question, Seen, Strangers};
use super::trace::Ids;
use super::worker::{Shared, Worker};
use crate::clock::SharedClock;
use crate::domain::{AccessPolicy, Entropy, Hostname};
use crate::live::configuration::ConfigurationData;
use crate::live::probe::{Candidate, Probe, ProbeFault, Stranger};
use crate::live::{Holder, RouteData, SiteData, SiteKind, witness};
use crate::telemetry::metrics::SelfCheck;

/// For one question. Nothing but other configurations waits for it.
const QUESTION_WITHIN: Duration = Duration::from_secs(2);
/// After this, sites that are as before are left out: they are asked for on the real sockets.
const LONG: Duration = Duration::from_millis(500);
/// Sites that are as before and asked for nevertheless, at most.
const MOST_AS_BEFORE: usize = 32;
/// Routes that are asked for on the real sockets after a publication.
const MOST_AT_ONCE: usize = 8;
/// Answers in a row that tell nothing after which that is said.
const WORTH_SAYING: u32 = 6;
/// For one question on a real socket.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// What the pipe holds.
const PIPE: usize = 64 * 1024;
/// Where a stranger calls from, as far as anybody asks.
const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// What trials are made with.
pub(super) struct Trial {
    pub(super) settings: EdgeSettings,
    pub(super) clock: SharedClock,
    pub(super) entropy: Arc<dyn Entropy>,
    pub(super) strangers: Strangers,
}

#[async_trait]
impl Probe for Trial {
    async fn probe(&self, candidate: Candidate) -> Result<(), ProbeFault> {
        let Candidate { data, previous, .. } = candidate.clone();
        let holder = Holder::of(candidate.snapshot, self.clock.clone());
        let shared = Shared::aside(self.settings.clone(), holder, self.clock.clone());
        let (ids, strangers) = (Ids::seeded(&*self.entropy), self.strangers.clone());
        // A thread of its own, and nothing of it in the log: nobody has visited.
        let trial = tokio::task::spawn_blocking(move || {
            let questions = questions(&data, previous.as_deref());
            dispatcher::with_default(&Dispatch::none(), || in_private(shared, ids, &strangers, &questions))
        });
        trial.await.map_err(|panicked| ProbeFault::Impossible(panicked.to_string()))?
    }
}

fn in_private(
    shared: Arc<Shared>,
    ids: Ids,
    strangers: &Strangers,
    questions: &Questions,
) -> Result<(), ProbeFault> {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|cause| ProbeFault::Impossible(cause.to_string()))?;
    let worker = Worker::without_upstreams(shared, ids);
    let ask_all = async {
        let began = Instant::now();
        let as_before = questions.as_before.iter().take_while(|_| began.elapsed() < LONG);
        for question in questions.of_changed.iter().chain(as_before) {
            for who in [Stranger::Anonymous, Stranger::Foreign] {
                let asked = timeout(QUESTION_WITHIN, ask(&worker, strangers, question, who)).await;
                asked.unwrap_or(Err(ProbeFault::Late))?;
            }
        }
        Ok(())
    };
    LocalSet::new().block_on(&runtime, ask_all)
}

async fn ask(
    worker: &Rc<Worker>,
    strangers: &Strangers,
    question: &Question,
    who: Stranger,
) -> Result<(), ProbeFault> {
    let (theirs, ours) = tokio::io::duplex(PIPE);
    let serving = tokio::task::spawn_local(super::connection::serve(
        worker.clone(),
        Carrier::from(ours),
        NOWHERE,
        None,
    ));
    let seen = strangers.ask(theirs, question, who).await;
    serving.abort();
    if worker.pool.was_asked() {
        return Err(question.let_through(who));
    }
    match seen {
        Seen::Refused => Ok(()),
        Seen::LetThrough => Err(question.let_through(who)),
        Seen::Unclear(answer) => Err(question.unclear(who, answer)),
    }
}

/// What is asked of a candidate.
#[derive(Default)]
struct Questions {
    /// For sites that are new or others than in the configuration in force.
    of_changed: Vec<Question>,
    as_before: Vec<Question>,
}

/// What is asked of a candidate: by what it was made of, not by what was made of it.
fn questions(data: &ConfigurationData, previous: Option<&ConfigurationData>) -> Questions {
    let (own, before) = (by_host(data), previous.map(by_host).unwrap_or_default());
    let mut questions = Questions::default();
    for site in data.sites.iter().filter(|site| site.kind == SiteKind::App) {
        let Some(routes) = own.get(&site.host) else { continue };
        let protected = routes.iter().filter(|route| matches!(route.policy, AccessPolicy::Known(_)));
        let paths: BTreeSet<_> = protected.map(|route| route.path_prefix.as_str()).collect();
        let is_as_before = before.get(&site.host).is_some_and(|before| before == routes)
            && previous.is_some_and(|previous| previous.sites.iter().any(|before| is_same(before, site)));
        let of_this = match is_as_before {
            true if questions.as_before.len() >= 2 * MOST_AS_BEFORE => continue,
            true => &mut questions.as_before,
            false => &mut questions.of_changed,
        };
        // The first and the last: one lies above the others, if any does.
        let ends = paths.first().into_iter().chain(paths.last().filter(|last| paths.first() != Some(*last)));
        of_this.extend(ends.map(|path| Question { host: site.host.clone(), path: (*path).to_owned() }));
    }
    questions
}

fn by_host(data: &ConfigurationData) -> HashMap<&Hostname, Vec<&RouteData>> {
    let mut routes = HashMap::<_, Vec<_>>::new();
    for route in &data.routes {
        routes.entry(&route.host).or_default().push(route);
    }
    routes
}

fn is_same(before: &SiteData, site: &SiteData) -> bool {
    let of = |site: &SiteData| (site.host.clone(), site.kind, site.client_auth);
    of(before) == of(site) && before.chain == site.chain
}

/// Asks on the real sockets, until the edge stops: at once, after every publication, and now and then.
///
/// If somebody is let through there, the edge refuses everybody on protected routes until the next publication:
/// what it answers meanwhile tells nothing about the routes themselves. What was found is then asked first.
pub(super) async fn keep_asking(worker: Rc<Worker>, addresses: Vec<SocketAddr>, strangers: Strangers) {
    let shared = &worker.shared;
    let Some(pause) = shared.settings.self_check_every else { return };
    tokio::select! {
        () = shared.stop.cancelled() => return,
        // Before, somebody else may answer on the same sockets.
        _ = shared.open.wait() => {}
    }
    let mut asking = Asking { shared, addresses, strangers, turn: 0, found: None, unclear: 0 };
    loop {
        let count = tokio::select! {
            () = shared.stop.cancelled() => return,
            () = sleep(pause) => 1,
            () = shared.published.notified() => {
                asking.unseal();
                MOST_AT_ONCE
            }
        };
        asking.ask(count).await;
    }
}

/// The asking so far.
struct Asking<'a> {
    shared: &'a Shared,
    addresses: Vec<SocketAddr>,
    strangers: Strangers,
    turn: usize,
    /// Where a stranger was let through, and by which version.
    found: Option<(Question, u64)>,
    /// Answers in a row that told nothing.
    unclear: u32,
}

impl Asking<'_> {
    /// Opens again, if another version is in force than the one that let a stranger in.
    fn unseal(&self) {
        let version = self.shared.holder.data().map(|data| data.version);
        if self.found.as_ref().is_none_or(|(_, found)| Some(*found) != version) {
            self.shared.seal(false);
        }
    }

    /// Has both strangers ask for as many routes as that.
    async fn ask(&mut self, count: usize) {
        let Some(data) = self.shared.holder.data() else { return };
        let questions = protected(&data);
        let found = self.found.take_if(|_| !self.shared.is_sealed.load(Ordering::Acquire));
        let first = found.map(|(question, _)| question).filter(|found| questions.contains(found));
        let turns = self.turn..self.turn + count.min(questions.len());
        self.turn = turns.end;
        let in_turn = turns.filter_map(|turn| in_turn(&questions, turn).cloned());
        for (at, question) in first.into_iter().chain(in_turn).enumerate() {
            let Some(address) = in_turn_of(&self.addresses, self.turn + at) else { return };
            for who in [Stranger::Anonymous, Stranger::Foreign] {
                let result = self.ask_once(address, &question, who).await;
                // A route may have become public meanwhile.
                let is_meant = || self.shared.holder.data().is_some_and(|now| Arc::ptr_eq(&now, &data));
                if result == SelfCheck::LetThrough && is_meant() {
                    self.shared.seal(true);
                    self.found = Some((question.clone(), data.version));
                    let fault = question.let_through(who);
                    tracing::error!(error = %fault, "Protected routes are closed to everybody until the next change");
                }
                self.shared.metrics.self_checks.count(result);
            }
        }
    }

    async fn ask_once(&mut self, address: SocketAddr, question: &Question, who: Stranger) -> SelfCheck {
        let answer = timeout(ANSWER_WITHIN, self.ask_here(address, question, who)).await;
        let why = match answer {
            Ok(Ok(Seen::Refused)) => None,
            Ok(Ok(Seen::LetThrough)) => {
                self.unclear = 0;
                return SelfCheck::LetThrough;
            }
            Ok(Ok(Seen::Unclear(answer))) => Some(answer),
            Ok(Err(error)) => Some(error.to_string()),
            Err(_late) => Some("nothing in time".to_owned()),
        };
        let Some(why) = why else {
            self.unclear = 0;
            return SelfCheck::Refused;
        };
        self.unclear += 1;
        if self.unclear == WORTH_SAYING {
            tracing::warn!(%address, why, "The edge cannot ask itself whether strangers are refused");
        }
        SelfCheck::Unclear
    }

    async fn ask_here(&self, address: SocketAddr, question: &Question, who: Stranger) -> io::Result<Seen> {
        let (mut stream, _own) = match self.call(address).await {
            // `[::]` takes IPv4, too, also where the host has no IPv6.
            Err(_) if address.is_ipv6() => self.call((Ipv4Addr::LOCALHOST, address.port()).into()).await?,
            called => called?,
        };
        witness::introduce(&mut stream, &self.shared.settings.proxy_protocol_from).await?;
        Ok(self.strangers.ask(stream, question, who).await)
    }

    /// Calls an address of ours from this same address: who calls is known before anybody can have accepted it.
    async fn call(&self, address: SocketAddr) -> io::Result<(TcpStream, OwnCall<'_>)> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        let mut from = address;
        from.set_port(0);
        socket.bind(from)?;
        let own = OwnCall::of(self.shared, socket.local_addr()?);
        Ok((socket.connect(address).await?, own))
    }
}

/// A connection of the edge to itself, while it lasts.
struct OwnCall<'a> {
    shared: &'a Shared,
    from: [SocketAddr; 2],
}

impl<'a> OwnCall<'a> {
    fn of(shared: &'a Shared, from: SocketAddr) -> Self {
        // As a listener for both protocols sees IPv4.
        let mapped = match from.ip() {
            IpAddr::V4(ip) => SocketAddr::new(ip.to_ipv6_mapped().into(), from.port()),
            IpAddr::V6(_) => from,
        };
        shared.own_calls.lock().extend([from, mapped]);
        Self { shared, from: [from, mapped] }
    }
}

impl Drop for OwnCall<'_> {
    fn drop(&mut self) {
        let mut calls = self.shared.own_calls.lock();
        calls.retain(|from| !self.from.contains(from));
    }
}

fn in_turn_of(all: &[SocketAddr], turn: usize) -> Option<SocketAddr> {
    in_turn(all, turn).copied()
}

fn in_turn<T>(all: &[T], turn: usize) -> Option<&T> {
    all.get(turn.checked_rem(all.len())?)
}

/// The routes that have to be protected.
fn protected(data: &ConfigurationData) -> Vec<Question> {
    let apps: HashSet<_> =
        data.sites.iter().filter(|site| site.kind == SiteKind::App).map(|site| &site.host).collect();
    let protected = data.routes.iter().filter(|route| matches!(route.policy, AccessPolicy::Known(_)));
    let of_apps = protected.filter(|route| apps.contains(&route.host));
    let question = |route: &RouteData| Question { host: route.host.clone(), path: route.path_prefix.clone() };
    of_apps.map(question).collect()
}
