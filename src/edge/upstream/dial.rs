//! A bare connection to a target, for what is passed through unread: host and port of the target are all that
//! counts of it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::group::{ABSENT, Group, Lease, Wish};
use super::line::{Line, Refused, connect};
use crate::edge::worker::Worker;
use crate::telemetry::metrics::UpstreamFault;

/// A connection to one of the targets, which counts as a request there as long as the lease lives. Targets that do
/// not take one are passed over: nothing was sent yet that could happen twice.
///
/// * `key` — whoever has the same is served by the same target, where that is wanted.
/// * `header` — what is said first.
pub(in crate::edge) async fn dial(
    worker: &Worker,
    group: &Arc<Group>,
    key: u64,
    header: Option<&[u8]>,
) -> Option<(Line, Lease)> {
    let own = group.upstream().options.connect_timeout_ms;
    let patience = own.map_or(worker.shared.settings.connect_timeout, |ms| Duration::from_millis(ms.into()));
    let own_listeners = &worker.shared.settings.own_listeners;
    let mut wish = Wish { key, repeatable: true, ..Wish::default() };
    group.count_request();
    loop {
        wish.chance = worker.pool.chance();
        let mut lease = group.lease(&wish).await.ok()?;
        wish.tried.add(lease.state.id);
        let (state, began) = (lease.state.clone(), Instant::now());
        let connected = timeout(patience, connect(&state.target, own_listeners, header)).await;
        let refused = match connected.unwrap_or_else(|_late| Err(Refused::theirs("timeout"))) {
            Ok(line) => {
                lease.answered(began.elapsed());
                return Some((line, lease));
            }
            Err(refused) => refused,
        };
        if !refused.is_ours {
            lease.failed(ABSENT, worker.pool.chance());
        }
        worker.shared.metrics.upstream_faults.count(UpstreamFault::Connect);
        let name = &group.upstream().name;
        tracing::warn!(upstream = %name, target = %state.target, cause = refused.cause, "upstream refused");
        if !group.has_another(&wish) {
            return None;
        }
    }
}
