//! Named wake-up handles without payload: a tick, a signal or a button says *look again*, never *what to do*.
//!
//! Whoever is woken reads the database to learn what is due, so a lost or doubled wake-up changes nothing.

use std::sync::Arc;

use tokio::sync::Notify;

/// Wakes one named activity. Cloning gives another handle to the same activity.
#[derive(Clone, Debug)]
pub struct Activation {
    name: &'static str,
    notify: Arc<Notify>,
}

impl Activation {
    /// A handle for the activity of this name.
    pub fn new(name: &'static str) -> Self {
        Self { name, notify: Arc::new(Notify::new()) }
    }

    /// The activity's name, for example `renew_server_certificates`.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Asks the activity to run soon. Wake-ups that arrive before it runs become one.
    pub fn wake(&self) {
        self.notify.notify_one();
    }

    /// Waits for the next wake-up; one that came earlier counts.
    pub async fn woken(&self) {
        self.notify.notified().await;
    }
}

/// Brings every edge up to date with what was just committed, and waits for their acknowledgements.
///
/// Those who commit (the authority, renewals, the admin server) hold this handle; the room that
/// reads rows and feeds edges implements it, so that neither knows the other.
#[async_trait::async_trait]
pub trait Enforce: Send + Sync {
    /// Returns how many edges are connected and how many have taken everything over. Never fails:
    /// an edge that cannot be told is one that did not acknowledge, and will be told again.
    async fn bring_up_to_date(&self) -> crate::domain::Enforced;

    /// The same of the register alone: revocations and whatever else concerns certificates, people and
    /// authorities wait for no configuration.
    async fn bring_register_up_to_date(&self) -> crate::domain::Enforced {
        self.bring_up_to_date().await
    }

    /// Gives every edge the authority certificates and revocation lists that are new, and waits for their
    /// acknowledgements. They follow by themselves; this is for whoever says that they are there.
    ///
    /// Nothing where there are no edges.
    async fn publish_documents(&self) {}
}
