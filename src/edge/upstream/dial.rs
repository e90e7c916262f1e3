//! A bare connection to a target, for what is passed through unread: host and port of the target are all that
//! counts of it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::group::{ABSENT, Group, Lease, Wish};
use super::pool::is_ours;
use crate::edge::worker::Worker;
use crate::live::Target;
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
) -> Option<(TcpStream, Lease)> {
    let own = group.upstream().options.connect_timeout_ms;
    let patience = own.map_or(worker.shared.settings.connect_timeout, |ms| Duration::from_millis(ms.into()));
    let mut wish = Wish { key, repeatable: true, ..Wish::default() };
    group.count_request();
    loop {
        wish.chance = worker.pool.chance();
        let mut lease = group.lease(&wish).await.ok()?;
        wish.tried.add(lease.state.id);
        let (state, began) = (lease.state.clone(), Instant::now());
        let connected = timeout(patience, connect(&state.target, header)).await;
        let error = match connected.unwrap_or_else(|late| Err(late.into())) {
            Ok(stream) => {
                lease.answered(began.elapsed());
                return Some((stream, lease));
            }
            Err(error) => error,
        };
        if !is_ours(&error) {
            lease.failed(ABSENT, worker.pool.chance());
        }
        worker.shared.metrics.upstream_faults.count(UpstreamFault::Connect);
        let name = &group.upstream().name;
        tracing::warn!(upstream = %name, target = state.target.text, cause = %error, "upstream refused");
        if !group.has_another(&wish) {
            return None;
        }
    }
}

async fn connect(target: &Target, header: Option<&[u8]>) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect((target.host.as_str(), target.port)).await?;
    stream.set_nodelay(true)?;
    if let Some(header) = header {
        stream.write_all(header).await?;
    }
    Ok(stream)
}
