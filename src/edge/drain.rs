//! The end of an edge: nothing new, what is in flight may finish, the rest is cut.

use std::time::Duration;

use tracing::info;

use super::index::Ending;
use super::worker::Shared;
use crate::telemetry::line;

/// How long a cut connection may take to notice.
const CUT_WITHIN: Duration = Duration::from_secs(1);

/// How a drain went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Connections that were open when it began, but for the door's.
    pub open: usize,
    /// Those that had to be cut.
    pub cut: usize,
}

/// Ends what is open: `how` at first, by force in the end.
pub(super) async fn drain(shared: &Shared, how: Ending) -> Drained {
    line::end();
    shared.stop.cancel();
    shared.tasks.close();
    let open = shared.index.end_all(how);
    let mut cut = 0;
    if tokio::time::timeout(shared.settings.drain_timeout, shared.tasks.wait()).await.is_err() {
        cut = shared.index.end_all(Ending::Cut);
        let _ = tokio::time::timeout(CUT_WITHIN, shared.tasks.wait()).await;
    }
    info!(open, cut, "edge drained");
    Drained { open, cut }
}
