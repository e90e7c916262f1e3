//! Asks DNS what the names of upstreams stand for, where an administrator wants that, and again whenever an answer
//! ends. One task an edge. What cannot be resolved stays what it was.
//!
//! `found` says what follows from an answer, `resolver` brings answers, `name` keeps what is known.

mod found;
mod name;
mod resolver;

use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until};

use self::found::Found;
use self::resolver::Resolver;
use super::group::Group;
use crate::domain::Slug;
use crate::domain::upstream::Discovery;
use crate::edge::worker::Worker;
use crate::live::Target;

#[cfg(test)]
pub(super) use found::{Answer, Part, Server};
pub(super) use found::{Endpoint, is_allowed};
pub(super) use name::{Name, Names};

/// Names that are asked for at one time.
const AT_ONCE: usize = 32;

/// Keeps the names of the configuration in force resolved until the edge stops.
pub(in crate::edge) async fn watch(worker: Rc<Worker>) {
    let stop = worker.shared.stop.clone();
    let resolver = Resolver::asking(worker.shared.settings.dns_servers.clone());
    let asking = Rc::new(Asking { worker, resolver, places: Semaphore::new(AT_ONCE) });
    loop {
        let next = asking.ask_due();
        let due = async {
            match next {
                Some(due) => sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = asking.worker.shared.upstreams.changed() => {}
            () = due => {}
        }
    }
}

struct Asking {
    worker: Rc<Worker>,
    resolver: Resolver,
    places: Semaphore,
}

impl Asking {
    /// Asks for all names that are due, and says when the next one is.
    fn ask_due(self: &Rc<Self>) -> Option<Instant> {
        let shared = &self.worker.shared;
        let snapshot = shared.holder.snapshot()?;
        let derived = self.worker.derived(&snapshot.configuration);
        let (now, mut next) = (shared.upstreams.now(), None::<u64>);
        for group in derived.groups.values() {
            let Some(discovery) = &group.upstream().options.discovery else { continue };
            for name in group.names() {
                match name.begin(now, discovery) {
                    Ok(()) => {
                        let one = self.clone().ask(group.clone(), name.clone(), discovery.clone());
                        tokio::task::spawn_local(one);
                    }
                    Err(due) => next = next.into_iter().chain(due).min(),
                }
            }
        }
        next.map(|due| shared.upstreams.at(due))
    }

    async fn ask(self: Rc<Self>, group: Arc<Group>, name: Arc<Name>, discovery: Discovery) {
        let shared = &self.worker.shared;
        // Never closed.
        let Ok(_place) = self.places.acquire().await else { return };
        let answer = Box::pin(self.resolver.ask(&name.target, discovery.kind)).await;
        let (now, chance) = (shared.upstreams.now(), self.worker.pool.chance());
        let (before, after) = name.learn(now, answer, &shared.settings.own_listeners, chance);
        match after.fault() {
            None => shared.metrics.name_answers.count(),
            Some(fault) => shared.metrics.name_faults.count(fault),
        }
        let upstream = &group.upstream().name;
        tell(upstream, &name.target, &before, &after);
        if before.is_unheard() || before.endpoints() != after.endpoints() {
            shared.upstreams.renew(upstream);
        }
        shared.upstreams.changes();
    }
}

/// Says what is another than before; what stays as it is, good or bad, is said once.
fn tell(upstream: &Slug, target: &Target, before: &Found, after: &Found) {
    let addresses = after.endpoints().len();
    match (before.fault(), after.fault()) {
        (None, Some(fault)) => tracing::warn!(
            %upstream, host = target.host(), cause = fault.word(), addresses,
            "A name cannot be resolved; what was known of it stays"
        ),
        (Some(_), None) => {
            tracing::info!(%upstream, host = target.host(), addresses, "A name is resolved again");
        }
        (None, None) if before.is_unheard() => {
            tracing::info!(%upstream, host = target.host(), addresses, "A name is resolved");
        }
        (None, None) if before.endpoints() != after.endpoints() => {
            tracing::debug!(%upstream, host = target.host(), addresses, "A name has other addresses");
        }
        _ => {}
    }
    if after.left_out() > 0 && before.left_out() == 0 {
        let left_out = after.left_out();
        tracing::warn!(%upstream, host = target.host(), addresses, left_out, "A name has too many addresses");
    }
    if after.refused() > 0 && before.refused() == 0 {
        let refused = after.refused();
        tracing::warn!(
            %upstream, host = target.host(), refused,
            "A name has addresses that are not used: link-local, unspecified, multicast, or a listener of our own"
        );
    }
}
