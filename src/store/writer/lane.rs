//! A thread of its own for the commits of a database that takes one at a time. Between the database's thread
//! and the program's tasks there are several hand-overs a commit; on a shared runtime each of them waits
//! for whoever computes there, and everybody waits for the commit.

use std::io;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// The thread. Ends when it is dropped; what runs there then is dropped, too.
#[derive(Debug)]
pub(super) struct Lane {
    runtime: Handle,
    _open: oneshot::Sender<()>,
}

impl Lane {
    /// Starts it.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(super) fn start() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (open, closed) = oneshot::channel::<()>();
        std::thread::Builder::new().name("store-writer".to_owned()).spawn(move || {
            // Nothing is ever sent: it is over when the other end is dropped.
            let _ = runtime.block_on(closed);
        })?;
        Ok(Self { runtime: handle, _open: open })
    }

    /// Runs `task` there.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(task);
    }
}
