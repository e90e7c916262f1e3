//! Asks targets now and then whether they are well, where an administrator wants that. One task an edge.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::{Request, header};
use tokio::time::{Instant, timeout};

use super::group::Group;
use super::target::State;
use crate::domain::upstream::{CheckKind, HealthCheck};
use crate::edge::limits::RequestBody;
use crate::edge::worker::Worker;
use crate::live::witness::LOCAL_HEADER;

/// How often it is looked who is due.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Checks the targets of the configuration in force until the edge stops.
pub(in crate::edge) async fn watch(worker: Rc<Worker>) {
    let shared = &worker.shared;
    let mut last = HashMap::<u64, Instant>::new();
    loop {
        tokio::select! {
            () = shared.stop.cancelled() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        let Some(snapshot) = shared.holder.snapshot() else { continue };
        let derived = worker.derived(&snapshot.configuration);
        let groups = || derived.groups.values().filter_map(|group| Some((group, group.check()?)));
        let used: HashSet<_> = groups().flat_map(|(group, _)| group.states()).map(|state| state.id).collect();
        last.retain(|id, _| used.contains(id));
        for (group, check) in groups() {
            let interval = Duration::from_millis(check.interval_ms.into());
            for state in group.states() {
                let is_due = last.get(&state.id).is_none_or(|since| since.elapsed() >= interval);
                if is_due && !state.is_checked.swap(true, Ordering::AcqRel) {
                    last.insert(state.id, Instant::now());
                    let look = look(worker.clone(), group.clone(), state.clone(), check.clone());
                    tokio::task::spawn_local(look);
                }
            }
        }
    }
}

impl Group {
    fn check(&self) -> Option<&HealthCheck> {
        self.upstream.options.health_check.as_ref()
    }
}

async fn look(worker: Rc<Worker>, group: Arc<Group>, state: Arc<State>, check: HealthCheck) {
    let patience = Duration::from_millis(check.timeout_ms.into());
    let answers = answers(&worker, &group, &state, &check.kind);
    let is_well = timeout(patience, answers).await.unwrap_or(Some(false));
    state.is_checked.store(false, Ordering::Release);
    let Some(is_well) = is_well else { return };
    if state.checked(is_well, check.healthy_after, check.unhealthy_after) {
        let (upstream, target) = (&group.upstream.name, &state.target);
        match is_well {
            true => tracing::info!(%upstream, %target, "A target is well"),
            false => tracing::warn!(%upstream, %target, "A target is not well and not used"),
        }
    }
}

/// Over a connection of its own, made as those of requests are. `None`: what is missing for that is ours.
async fn answers(worker: &Worker, group: &Arc<Group>, state: &Arc<State>, kind: &CheckKind) -> Option<bool> {
    // Who wants to hear who visits is told that nobody does.
    let preamble = group.upstream.options.proxy_protocol.map(|_| LOCAL_HEADER);
    let mut wire = match worker.pool.alone(group, state, preamble).await {
        Ok(wire) => wire,
        Err(refused) => return (!refused.is_ours).then_some(false),
    };
    let CheckKind::Http { path } = kind else { return Some(true) };
    let request = Request::get(path.as_str())
        .header(header::HOST, state.target.authority.clone())
        .header(header::USER_AGENT, "wicketgate-health-check")
        .header(header::CONNECTION, "close")
        .body(RequestBody::empty());
    let Ok(request) = request else { return Some(false) };
    let mut request = Some(request);
    // The caller's deadline is the only one.
    let never = || Instant::now() + Duration::from_secs(3_600);
    let answer = wire.exchange(&mut request, None, never).await;
    let status = answer.map(|answer| answer.status());
    Some(status.is_ok_and(|status| status.is_success() || status.is_redirection()))
}
