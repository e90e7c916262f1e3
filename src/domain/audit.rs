//! The shape of an audit event. Two events an act, never an update.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::actor::Actor;
use super::id::AuditEventId;
use super::serial::Serial;
use super::time::UtcTime;

/// How an act ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was done.
    Succeeded,
    /// It was refused or failed, and nothing of it stands.
    Failed,
    /// The process ended between the two events; a job closed it.
    Unknown,
}

impl Outcome {
    /// The name in rows and JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
        }
    }
}

/// An act that has begun. Whoever holds it owes the audit a `finished` event; a job closes
/// what a crash left open as [`Outcome::Unknown`].
#[derive(Clone, Debug)]
#[must_use = "an act that was opened in the audit must be finished there"]
pub struct Act {
    /// The `started` event.
    pub started: AuditEventId,
    /// Who acts.
    pub actor: Actor,
    /// What is done, for example `certificate.issue`.
    pub action: &'static str,
    /// Kind and id of what it is done to, for example `device` and its id. No names, no addresses.
    pub object: Option<(&'static str, String)>,
    /// The request that asked for it, equal to the trace id.
    pub request_id: Option<String>,
    /// Set while its `started` event may not be on record: it is committed together with the first thing
    /// that is done under the act.
    pub unopened: Option<Unopened>,
}

/// When an act began whose `started` event is still to be written. Clones of the act share it.
#[derive(Clone, Debug)]
pub struct Unopened {
    began: UtcTime,
    is_on_record: Arc<AtomicBool>,
}

impl Unopened {
    /// It began then, and nothing of it is on record.
    pub fn new(began: UtcTime) -> Self {
        Self { began, is_on_record: Arc::default() }
    }
}

impl Act {
    /// When it began, if its `started` event is not known to be on record.
    pub fn owes_start(&self) -> Option<UtcTime> {
        let unopened = self.unopened.as_ref()?;
        (!unopened.is_on_record.load(Ordering::Acquire)).then_some(unopened.began)
    }

    /// Notes that its `started` event is durable.
    pub fn is_on_record(&self) {
        if let Some(unopened) = &self.unopened {
            unopened.is_on_record.store(true, Ordering::Release);
        }
    }
}

/// What the audit says of an act that issued a certificate.
pub fn issued(serial: Serial) -> String {
    format!("{ISSUED}{serial}")
}

/// The serial in a detail that [`issued`] wrote.
pub fn issued_serial(detail: &str) -> Option<Serial> {
    detail.strip_prefix(ISSUED)?.split([' ', ',', ';']).next()?.parse().ok()
}

const ISSUED: &str = "serial ";
