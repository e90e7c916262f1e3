//! What the admin server works with. Handles only; whoever composes the process makes them.

use std::sync::Arc;

use rustls_pki_types::CertificateDer;

use super::auth::limits::Limits;
use super::auth::password::Passwords;
use super::listener::Visitor;
use super::presented::Presented;
use super::settings::AdminSettings;
use crate::activate::Enforce;
use crate::ca::Ca;
use crate::ca::health::Health;
use crate::clock::SharedClock;
use crate::domain::{Entropy, UtcTime};
use crate::jobs::Jobs;
use crate::live::{Classified, Register, classify};
use crate::mail::Mailer;
use crate::store::Store;
use crate::telemetry::metrics::EdgeMetrics;

/// The rooms behind the server.
#[derive(Clone)]
pub struct Rooms {
    /// Rows.
    pub store: Store,
    /// What time it is.
    pub clock: SharedClock,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
    /// The authority.
    pub ca: Ca,
    /// Tells edges what was committed.
    pub enforce: Arc<dyn Enforce>,
    /// What happens by itself.
    pub jobs: Jobs,
    /// Mail.
    pub mailer: Mailer,
    /// What is looked at when someone asks whether all is well.
    pub health: Health,
    /// Which client certificates are known, as edges know it.
    pub register: Arc<Register>,
    /// The time by which the edge lets people in.
    pub edge_clock: SharedClock,
    /// What the edge counts and sees.
    pub edge: Arc<EdgeMetrics>,
}

/// What every resource holds. Cheap to clone.
#[derive(Clone)]
pub struct Services(Arc<Inner>);

struct Inner {
    rooms: Rooms,
    settings: AdminSettings,
    limits: Limits,
    passwords: Passwords,
    presented: Presented,
}

impl Services {
    /// Services over these rooms.
    pub fn new(rooms: Rooms, settings: AdminSettings, presented: Presented) -> Self {
        let limits = Limits::new(&settings.allowances);
        Self(Arc::new(Inner { rooms, settings, limits, passwords: Passwords::default(), presented }))
    }

    pub(super) fn store(&self) -> &Store {
        &self.0.rooms.store
    }

    pub(super) fn now(&self) -> UtcTime {
        self.0.rooms.clock.now()
    }

    pub(super) fn entropy(&self) -> &dyn Entropy {
        &*self.0.rooms.entropy
    }

    pub(super) fn ca(&self) -> &Ca {
        &self.0.rooms.ca
    }

    pub(super) fn enforce(&self) -> &dyn Enforce {
        &*self.0.rooms.enforce
    }

    pub(super) fn edge(&self) -> &EdgeMetrics {
        &self.0.rooms.edge
    }

    pub(super) fn jobs(&self) -> &Jobs {
        &self.0.rooms.jobs
    }

    pub(super) fn mailer(&self) -> &Mailer {
        &self.0.rooms.mailer
    }

    pub(super) fn health(&self) -> &Health {
        &self.0.rooms.health
    }

    /// Who is behind the visitor's client certificate at `now`. Asked for every request, so that a
    /// certificate that was revoked on an open connection is no proof any more.
    pub(super) fn classify(&self, visitor: &Visitor, now: UtcTime) -> Classified {
        let leaf = visitor.connection.and_then(|connection| self.0.presented.leaf(connection));
        let chain: Vec<_> = leaf.as_deref().cloned().into_iter().collect();
        classify(&chain, self.edge_time(now), &self.0.rooms.register)
    }

    /// What an edge would make of whoever presented this certificate at `now`.
    pub(super) fn classify_leaf(&self, der: &[u8], now: UtcTime) -> Classified {
        classify(&[CertificateDer::from(der)], self.edge_time(now), &self.0.rooms.register)
    }

    /// What has ended at the edge has ended here.
    pub(super) fn edge_time(&self, now: UtcTime) -> UtcTime {
        now.max(self.0.rooms.edge_clock.now())
    }

    pub(super) fn settings(&self) -> &AdminSettings {
        &self.0.settings
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.0.limits
    }

    pub(super) fn passwords(&self) -> &Passwords {
        &self.0.passwords
    }
}
