//! The shape of an audit event. Two events an act, never an update.

use super::actor::Actor;
use super::id::AuditEventId;
use super::serial::Serial;

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
