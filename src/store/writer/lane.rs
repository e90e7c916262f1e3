//! A thread of its own for the commits of a database that takes one at a time. Between the database's thread
//! and the program's tasks there are several hand-overs a commit; on a shared runtime each of them waits
//! for whoever computes there, and everybody waits for the commit.

use std::io;
use std::sync::mpsc;

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
    /// When the system gives no thread, or nothing to wait by.
    pub(super) fn start() -> io::Result<Self> {
        let (open, closed) = oneshot::channel::<()>();
        let (ready, built) = mpsc::sync_channel(1);
        std::thread::Builder::new().name("store-writer".to_owned()).spawn(move || {
            // Here, because a runtime may not be dropped where tasks run.
            let runtime = match Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => return drop(ready.send(Err(error))),
            };
            let _ = ready.send(Ok(runtime.handle().clone()));
            // Nothing is ever sent: it is over when the other end is dropped.
            let _ = runtime.block_on(closed);
        })?;
        let runtime = built.recv().unwrap_or_else(|_| Err(io::ErrorKind::BrokenPipe.into()))?;
        Ok(Self { runtime, _open: open })
    }

    /// Runs `task` there.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(task);
    }
}
