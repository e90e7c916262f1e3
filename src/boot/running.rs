//! A process that was built: begins to accept, may be replaced, and ends.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::SetOnce;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::handover::{self, Predecessor, TakeOverError};
use super::plain::Listening;
use super::plane::Plane;
use super::sockets::Sockets;
use super::{BootError, Control};
use crate::config::Config;
use crate::edge::Edge;
use crate::live::Holder;

/// A process that serves.
pub struct Running {
    pub(super) config: Arc<Config>,
    pub(super) holder: Arc<Holder>,
    pub(super) edge: Arc<Edge>,
    pub(super) plane: Arc<Plane>,
    pub(super) sockets: Arc<Sockets>,
    pub(super) listening: Listening,
    /// Whose connections this one's control plane looks after until they have gone.
    pub(super) predecessor: Option<Arc<Predecessor>>,
    /// Set when another process serves.
    pub(super) is_given: Arc<SetOnce<()>>,
    /// The process ends without anybody who takes over.
    pub(super) no_successor: CancellationToken,
    pub(super) health: SocketAddr,
    pub(super) stop: CancellationToken,
    pub(super) tasks: JoinSet<()>,
}

impl Running {
    /// The edge.
    pub fn edge(&self) -> &Edge {
        &self.edge
    }

    /// The control plane; `None` while the database is away.
    pub fn control(&self) -> Option<Arc<Control>> {
        self.plane.control()
    }

    /// Where probes and metrics are answered.
    pub fn health_address(&self) -> SocketAddr {
        self.health
    }

    /// What the process was started with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Begins to accept, when whoever did until now has stopped to; from then on a successor may come.
    ///
    /// # Errors
    /// [`BootError::TakeOver`]: it goes on, and this process is to end.
    pub async fn open(&mut self) -> Result<(), BootError> {
        if let Some(predecessor) = &self.predecessor
            && let Err(error) = self.replace(predecessor).await
        {
            // Before it hears that we have ended, and starts its own again.
            self.plane.end().await;
            return Err(error.into());
        }
        self.edge.open();
        self.listening.open();
        let path = self.config.handover_socket();
        let place = match &self.predecessor {
            Some(_) => handover::Place::replace(&path),
            None => handover::Place::bind(&path).await,
        };
        match place {
            Ok(place) => self.wait_for_successor(place),
            Err(error) => tracing::warn!(
                %error, path = %path.display(),
                "No other process will be able to take over: restarts drop what waits to be accepted"
            ),
        }
        Ok(())
    }

    async fn replace(&self, predecessor: &Predecessor) -> Result<(), TakeOverError> {
        let data = self.holder.data().ok_or(TakeOverError::NothingInForce)?;
        predecessor.ready(data.version).await
    }

    fn wait_for_successor(&mut self, place: handover::Place) {
        let estate = handover::Estate {
            edge: self.edge.clone(),
            holder: self.holder.clone(),
            plane: self.plane.clone(),
            sockets: self.sockets.clone(),
            listening: self.listening.clone(),
            is_given: self.is_given.clone(),
            following: Arc::default(),
            predecessor: self.predecessor.clone(),
        };
        let (ends, stop) = (self.no_successor.clone(), self.stop.clone());
        self.tasks.spawn(handover::give(estate, place, ends, stop));
    }

    /// Returns when another process serves and nothing new comes here.
    pub async fn succeeded(&self) {
        self.is_given.wait().await;
    }

    /// Lets every connection go, in peace: the successor serves who comes again. Returns when nothing is left.
    pub async fn retire(self) {
        self.edge.leave().await;
        self.end().await;
    }

    /// Stops in order: no new connections, requests in flight finish, jobs finish their step, rows
    /// are closed. Returns when nothing is left.
    pub async fn drain(self) {
        self.no_successor.cancel();
        // So that sockets close with whoever accepts from them.
        self.sockets.close();
        // Together, so that their deadlines do not add up; the door's sockets live until both are done.
        tokio::join!(self.edge.drain(), self.plane.end());
        self.end().await;
    }

    async fn end(mut self) {
        self.plane.end().await;
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
    }
}
