//! The shared connections of one thread: no lock, and no task for a request.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashMap;
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;

use super::line::Refused;
use super::trunk::{Strand, Trunk};
use super::wire::Key;

/// A connection without streams is closed after this. Its target says when it closes it sooner.
const IDLE_FOR: Duration = Duration::from_secs(30);

/// The connections that take streams, and those that will.
#[derive(Default)]
pub(super) struct Trunks {
    standing: RefCell<HashMap<Key, Vec<Rc<Trunk>>>>,
    coming: RefCell<HashMap<Key, Rc<Coming>>>,
    laid: Cell<u64>,
}

/// A connection that is being made, for all who wait for it.
#[derive(Default)]
pub(super) struct Coming {
    outcome: OnceCell<Result<(), Refused>>,
    done: Notify,
}

impl Trunks {
    /// A stream of a connection with a number above `after`, if one has room; whether it is not its first.
    pub(super) fn board(&self, key: Key, after: u64) -> Option<(Strand, bool)> {
        let mut standing = self.standing.borrow_mut();
        let trunks = standing.get_mut(&key)?;
        // Exchanges that are under way keep their connection.
        trunks.retain(|trunk| trunk.is_open());
        // The oldest first, so that those that are not needed any more become idle.
        trunks.iter().filter(|trunk| trunk.number > after).find_map(|trunk| trunk.board())
    }

    /// The number of the next connection.
    pub(super) fn next_number(&self) -> u64 {
        self.laid.set(self.laid.get() + 1);
        self.laid.get()
    }

    /// The connection that is being made, by `lay` if there is none. It is made to its end whoever leaves meanwhile.
    pub(super) fn coming(
        self: &Rc<Self>,
        key: Key,
        lay: impl Future<Output = Result<Rc<Trunk>, Refused>> + 'static,
    ) -> Rc<Coming> {
        if let Some(coming) = self.coming.borrow().get(&key) {
            return coming.clone();
        }
        let coming = Rc::<Coming>::default();
        self.coming.borrow_mut().insert(key, coming.clone());
        let (trunks, own) = (self.clone(), coming.clone());
        tokio::task::spawn_local(async move {
            let outcome = lay.await.map(|trunk| trunks.stand(key, trunk));
            trunks.coming.borrow_mut().remove(&key);
            let _ = own.outcome.set(outcome);
            own.done.notify_waiters();
        });
        coming
    }

    fn stand(&self, key: Key, trunk: Rc<Trunk>) {
        self.standing.borrow_mut().entry(key).or_default().push(trunk);
    }

    /// Lets go of connections that are idle, closed, or not made as `is_current` wants them.
    pub(super) fn sweep(&self, is_current: impl Fn(&Key) -> bool) {
        self.standing.borrow_mut().retain(|key, trunks| {
            trunks.retain(|trunk| is_current(key) && trunk.is_open() && !trunk.is_idle_for(IDLE_FOR));
            !trunks.is_empty()
        });
    }
}

impl Coming {
    /// Waits until the connection stands.
    ///
    /// # Errors
    /// Why it does not.
    pub(super) async fn stands(&self) -> Result<(), Refused> {
        // Listening before looking.
        let done = self.done.notified();
        if self.outcome.get().is_none() {
            done.await;
        }
        self.outcome.get().cloned().unwrap_or(Ok(()))
    }
}
