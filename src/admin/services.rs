//! What the admin server works with. Handles only; whoever composes the process makes them.

use std::sync::Arc;

use async_trait::async_trait;

use super::auth::limits::Limits;
use super::auth::password::Passwords;
use super::settings::AdminSettings;
use crate::activate::Enforce;
use crate::ca::Ca;
use crate::clock::SharedClock;
use crate::domain::{Entropy, Hostname, Secret, UtcTime};
use crate::store::people::Person;
use crate::store::{Store, StoreError};

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
    /// Jobs, alerts and renewals.
    pub automation: Arc<dyn Automation>,
    /// Mail.
    pub post: Arc<dyn Post>,
}

/// What every resource holds. Cheap to clone.
#[derive(Clone)]
pub struct Services(Arc<Inner>);

struct Inner {
    rooms: Rooms,
    settings: AdminSettings,
    limits: Limits,
    passwords: Passwords,
}

impl Services {
    /// Services over these rooms.
    pub fn new(rooms: Rooms, settings: AdminSettings) -> Self {
        let limits = Limits::new(&settings.allowances);
        Self(Arc::new(Inner { rooms, settings, limits, passwords: Passwords::default() }))
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

    pub(super) fn automation(&self) -> &dyn Automation {
        &*self.0.rooms.automation
    }

    pub(super) fn post(&self) -> &dyn Post {
        &*self.0.rooms.post
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

/// A run of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobRun {
    /// Its identity; runs sort by it, newest last.
    pub id: String,
    /// When it began.
    pub started_at: UtcTime,
    /// When it ended.
    pub finished_at: Option<UtcTime>,
    /// How it ended, for example `succeeded`.
    pub outcome: Option<String>,
    /// What it has to say.
    pub detail: Option<String>,
}

/// A job as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobStatus {
    /// Its name.
    pub name: String,
    /// Its cron expression.
    pub schedule: String,
    /// What it does.
    pub description: String,
    /// Whether it runs at this moment, on any replica.
    pub running: bool,
    /// Its newest run.
    pub last_run: Option<JobRun>,
    /// When it is due.
    pub next_run_at: Option<UtcTime>,
}

/// Something an administrator should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlertRecord {
    /// Its identity; alerts sort by it, newest last.
    pub id: String,
    /// What kind, for example `renewal_failing`.
    pub kind: String,
    /// What it is about.
    pub object: String,
    /// What to tell people.
    pub message: String,
    /// How bad, for example `warning`.
    pub severity: String,
    /// Since when.
    pub raised_at: UtcTime,
    /// When someone took note.
    pub acknowledged_at: Option<UtcTime>,
    /// When it was over.
    pub closed_at: Option<UtcTime>,
}

/// Where the renewal of a site's certificate stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renewal {
    /// In a word, for example `waiting`.
    pub state: String,
    /// When it is tried again.
    pub next_attempt_at: Option<UtcTime>,
    /// Why it did not work the last time.
    pub last_error: Option<String>,
}

/// Jobs, alerts and renewals, as the server shows and wakes them.
#[async_trait]
pub trait Automation: Send + Sync {
    /// Every job.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn jobs(&self) -> Result<Vec<JobStatus>, StoreError>;

    /// Asks a job to run soon. Returns whether there is one of this name.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn wake(&self, job: &str) -> Result<bool, StoreError>;

    /// The runs of a job, newest first, before `before`; none if there is no such job.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn runs(
        &self,
        job: &str,
        before: Option<String>,
        limit: u64,
    ) -> Result<Option<Vec<JobRun>>, StoreError>;

    /// Alerts, newest first, before `before`.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn alerts(&self, before: Option<String>, limit: u64) -> Result<Vec<AlertRecord>, StoreError>;

    /// Notes that someone knows of an alert; none if there is no such alert.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn acknowledge(&self, alert: &str, now: UtcTime) -> Result<Option<AlertRecord>, StoreError>;

    /// Where the renewal of a site's certificate stands; none when nothing is to be said.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn renewal(&self, host: &Hostname) -> Result<Option<Renewal>, StoreError>;

    /// Asks for a new certificate for a site now, due or not.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn renew(&self, host: &Hostname) -> Result<(), StoreError>;
}

/// An invitation on its way to a mail.
#[derive(Clone, Debug)]
pub struct InvitationMail {
    /// To whom.
    pub person: Person,
    /// The one-time link.
    pub link: Secret<String>,
    /// Until when it opens.
    pub expires_at: UtcTime,
}

/// Puts mails into the outbox.
#[async_trait]
pub trait Post: Send + Sync {
    /// Whether mail is sent at all.
    fn is_configured(&self) -> bool;

    /// Puts an invitation into the outbox.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn invitation(&self, mail: InvitationMail) -> Result<(), StoreError>;
}
