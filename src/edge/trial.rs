//! Tries a configuration before it is published: strangers ask for its protected routes, through the very code
//! that would serve them, over a pipe in memory. And asks the edge itself, on its real sockets, ever after.
//!
//! Nothing here reaches an upstream: a trial has none, and a stranger who gets as far is the finding.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio::task::LocalSet;
use tokio::time::{sleep, timeout};
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
use crate::live::{Configuration, Holder, SiteKind};
use crate::telemetry::metrics::SelfCheck;

/// Sites that are tried, at most: those that change first. Two strangers ask for two routes of each.
const MOST_SITES: usize = 32;
/// For the whole trial. Nothing but other configurations waits for it.
const WITHIN: Duration = Duration::from_secs(2);
/// Routes that are asked for on the real sockets after a publication.
const MOST_AT_ONCE: usize = 8;
/// For one question on a real socket.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// What the pipe holds.
const PIPE: usize = 64 * 1024;
/// Where a stranger calls from, as far as anybody asks.
const NOWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

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
        let questions = questions(&candidate);
        if questions.is_empty() {
            return Ok(());
        }
        let holder = Holder::of(candidate.snapshot, self.clock.clone());
        let shared = Shared::aside(self.settings.clone(), holder, self.clock.clone());
        let (ids, strangers) = (Ids::seeded(&*self.entropy), self.strangers.clone());
        // A thread of its own, and nothing of it in the log: nobody has visited.
        let trial = tokio::task::spawn_blocking(move || {
            dispatcher::with_default(&Dispatch::none(), || in_private(shared, ids, &strangers, &questions))
        });
        trial.await.map_err(|panicked| ProbeFault::Impossible(panicked.to_string()))?
    }
}

fn in_private(
    shared: Arc<Shared>,
    ids: Ids,
    strangers: &Strangers,
    questions: &[Question],
) -> Result<(), ProbeFault> {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|cause| ProbeFault::Impossible(cause.to_string()))?;
    let worker = Worker::without_upstreams(shared, ids);
    let ask_all = async {
        for question in questions {
            for who in [Stranger::Anonymous, Stranger::Foreign] {
                ask(&worker, strangers, question, who).await?;
            }
        }
        Ok(())
    };
    let local = LocalSet::new();
    local.block_on(&runtime, async { timeout(WITHIN, ask_all).await.unwrap_or(Err(ProbeFault::Late)) })
}

async fn ask(
    worker: &Rc<Worker>,
    strangers: &Strangers,
    question: &Question,
    who: Stranger,
) -> Result<(), ProbeFault> {
    let (theirs, ours) = tokio::io::duplex(PIPE);
    let serving =
        tokio::task::spawn_local(super::connection::serve(worker.clone(), Carrier::Pipe(ours), NOWHERE));
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

/// What is asked of a candidate: by what it was made of, not by what was made of it.
fn questions(candidate: &Candidate) -> Vec<Question> {
    let mut protected = HashMap::<&Hostname, BTreeSet<&str>>::new();
    for route in &candidate.data.routes {
        if matches!(route.policy, AccessPolicy::Known(_)) {
            protected.entry(&route.host).or_default().insert(&route.path_prefix);
        }
    }
    let apps = candidate.data.sites.iter().filter(|site| site.kind == SiteKind::App);
    let mut sites: Vec<_> =
        apps.filter_map(|site| protected.remove(&site.host).map(|paths| (&site.host, paths))).collect();
    sites.sort_by_key(|(host, _)| is_as_before(candidate, host));
    sites.truncate(MOST_SITES);
    let ends = |paths: BTreeSet<&str>| {
        let (first, last) = (paths.first().copied(), paths.last().copied());
        first.into_iter().chain(last.filter(|_| first != last)).map(str::to_owned).collect::<Vec<_>>()
    };
    let of = |(host, paths): (&Hostname, BTreeSet<&str>)| {
        let host = host.clone();
        ends(paths).into_iter().map(move |path| Question { host: host.clone(), path })
    };
    sites.into_iter().flat_map(of).collect()
}

/// Whether nothing of the site is another's than in the configuration in force.
fn is_as_before(candidate: &Candidate, host: &Hostname) -> bool {
    fn site<'a>(data: &'a ConfigurationData, host: &Hostname) -> Option<impl PartialEq + use<'a>> {
        let site = data.sites.iter().find(|site| site.host == *host)?;
        Some((site.kind, site.client_auth, &site.chain))
    }
    let routes = |data: &ConfigurationData| {
        data.routes.iter().filter(|route| route.host == *host).cloned().collect::<Vec<_>>()
    };
    candidate.previous.as_ref().is_some_and(|previous| {
        site(previous, host) == site(&candidate.data, host) && routes(previous) == routes(&candidate.data)
    })
}

/// Asks on the real sockets, until the edge stops: after every publication, and now and then.
///
/// If somebody is let through there, the edge refuses everybody on protected routes until the next publication:
/// what it answers meanwhile tells nothing about the routes themselves.
pub(super) async fn keep_asking(worker: Rc<Worker>, addresses: Vec<SocketAddr>, strangers: Strangers) {
    let shared = &worker.shared;
    let Some(pause) = shared.settings.self_check_every else { return };
    let mut turn = 0;
    loop {
        let count = tokio::select! {
            () = shared.stop.cancelled() => return,
            () = sleep(pause) => 1,
            () = shared.published.notified() => {
                shared.is_sealed.store(false, Ordering::Release);
                MOST_AT_ONCE
            }
        };
        let Some(snapshot) = shared.holder.snapshot() else { continue };
        let questions = protected(&snapshot.configuration);
        for _ in 0..count.min(questions.len()) {
            if let (Some(question), Some(address)) = (in_turn(&questions, turn), in_turn(&addresses, turn)) {
                ask_both(shared, *address, &strangers, question).await;
            }
            turn += 1;
        }
    }
}

/// Has both strangers ask, and closes all protected routes if one of them gets in.
async fn ask_both(shared: &Shared, address: SocketAddr, strangers: &Strangers, question: &Question) {
    for who in [Stranger::Anonymous, Stranger::Foreign] {
        let answer = timeout(ANSWER_WITHIN, ask_here(address, strangers, question, who)).await;
        let result = match answer {
            Ok(Ok(Seen::Refused)) => SelfCheck::Refused,
            Ok(Ok(Seen::LetThrough)) => SelfCheck::LetThrough,
            Ok(Ok(Seen::Unclear(_)) | Err(_)) | Err(_) => SelfCheck::Unclear,
        };
        if result == SelfCheck::LetThrough {
            shared.is_sealed.store(true, Ordering::Release);
            shared.index.doubt_all();
            let fault = question.let_through(who);
            tracing::error!(error = %fault, "Protected routes are closed to everybody until the next change");
        }
        shared.metrics.self_checks.count(result);
    }
}

fn in_turn<T>(all: &[T], turn: usize) -> Option<&T> {
    all.get(turn.checked_rem(all.len())?)
}

async fn ask_here(
    address: SocketAddr,
    strangers: &Strangers,
    question: &Question,
    who: Stranger,
) -> std::io::Result<Seen> {
    let stream = TcpStream::connect(address).await?;
    Ok(strangers.ask(stream, question, who).await)
}

/// The protected routes in force.
fn protected(configuration: &Configuration) -> Vec<Question> {
    let apps = configuration.sites.values().filter(|site| site.kind == SiteKind::App);
    let routes = apps.flat_map(|site| site.routes.iter().map(move |route| (site, route)));
    let mut questions: Vec<_> = routes
        .filter(|(_, route)| matches!(route.policy, AccessPolicy::Known(_)))
        .map(|(site, route)| Question { host: site.host.clone(), path: route.path_prefix.clone() })
        .collect();
    questions.sort();
    questions
}
