//! The control plane as it comes and goes: started at boot, awaited while the database is away, stopped for a
//! successor, and started again if that one does not make it. At most one at a time.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::Start;
use super::control::{self, Control, ControlError, Parts};
use crate::edge::DoorConnection;

/// Between two tries to reach a database that is away.
const RETRY_EVERY: Duration = Duration::from_secs(2);

/// The door's connections, for the control plane of the moment.
pub(super) type Door = Arc<tokio::sync::Mutex<mpsc::Receiver<DoorConnection>>>;

/// See the module.
pub(super) struct Plane {
    parts: Parts,
    start: Start,
    door: Door,
    control: Arc<ArcSwapOption<Control>>,
    /// Whoever stops it has this until it is stopped.
    turn: tokio::sync::Mutex<()>,
    trying: Mutex<Trying>,
}

#[derive(Default)]
struct Trying {
    task: Option<(CancellationToken, JoinHandle<()>)>,
    /// The process ends: nothing is begun any more.
    has_ended: bool,
}

impl Plane {
    pub(super) fn new(
        parts: Parts,
        start: Start,
        door: mpsc::Receiver<DoorConnection>,
        control: Arc<ArcSwapOption<Control>>,
    ) -> Arc<Self> {
        let door = Arc::new(tokio::sync::Mutex::new(door));
        Arc::new(Self {
            parts,
            start,
            door,
            control,
            turn: tokio::sync::Mutex::default(),
            trying: Mutex::default(),
        })
    }

    /// The control plane, while there is one.
    pub(super) fn control(&self) -> Option<Arc<Control>> {
        self.control.load_full()
    }

    /// Starts it. While the database is away, an edge that has a snapshot serves without, and it is tried again.
    ///
    /// # Errors
    /// [`ControlError`]; then nothing runs.
    pub(super) async fn begin(self: &Arc<Self>) -> Result<(), ControlError> {
        match self.attempt().await {
            Err(error) if error.is_database_away() && self.parts.holder.snapshot().is_some() => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "The database is away: serving from the snapshot, without console, portal and renewals"
                );
                self.keep_trying(RETRY_EVERY);
                Ok(())
            }
            outcome => outcome,
        }
    }

    /// Starts it again after [`Plane::stop`], as soon as that goes.
    pub(super) fn resume(self: &Arc<Self>) {
        self.keep_trying(Duration::ZERO);
    }

    /// Stops it, or the tries to start it: when this returns, nobody here uses the database.
    pub(super) async fn stop(&self) {
        let _turn = self.turn.lock().await;
        let task = self.trying.lock().task.take();
        if let Some((stop, task)) = task {
            // A try under way comes to its end: half a control plane could not be stopped.
            stop.cancel();
            let _ = task.await;
        }
        if let Some(control) = self.control.swap(None) {
            control.drain().await;
        }
    }

    /// Stops it for good.
    pub(super) async fn end(&self) {
        self.trying.lock().has_ended = true;
        self.stop().await;
    }

    fn keep_trying(self: &Arc<Self>, after: Duration) {
        let mut trying = self.trying.lock();
        if trying.has_ended {
            return;
        }
        let stop = CancellationToken::new();
        let task = tokio::spawn(self.clone().try_until(stop.clone(), after));
        trying.task = Some((stop, task));
    }

    async fn try_until(self: Arc<Self>, stop: CancellationToken, mut pause: Duration) {
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
            pause = RETRY_EVERY;
            match self.attempt().await {
                Ok(()) => {
                    tracing::info!("Console, portal and renewals are back");
                    return;
                }
                Err(error) if error.is_database_away() => {}
                Err(error) => {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "The control plane cannot start"
                    );
                }
            }
        }
    }

    async fn attempt(&self) -> Result<(), ControlError> {
        let started = Box::pin(control::start(&self.parts, self.start, &self.door)).await?;
        self.control.store(Some(Arc::new(started)));
        Ok(())
    }
}
