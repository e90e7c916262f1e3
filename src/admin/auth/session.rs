//! Sessions: how they begin, how long they last, and when they are over.

use std::time::Duration;

use super::{cookie, secret};
use crate::domain::{Entropy, InvitationId, PersonId, Secret, SessionId, UtcTime};
use crate::store::sessions::{Session, SessionKind};

/// Longest a session lasts.
const ABSOLUTE: Duration = Duration::from_secs(7 * 86_400);
/// Longest a session lasts unused.
const IDLE: Duration = Duration::from_secs(12 * 3600);
/// How long an enrolment lasts.
const ENROLMENT: Duration = Duration::from_secs(3600);
/// A use is noted when the last note is older.
const NOTE_AFTER: Duration = Duration::from_secs(300);

/// A session and the value that opens it, on their way to row and cookie.
#[derive(Debug)]
pub struct Begun {
    /// The row.
    pub session: Session,
    /// The cookie's value.
    pub secret: Secret<String>,
}

impl Begun {
    /// The header that hands the session over.
    pub fn cookie(&self) -> String {
        cookie::set(&self.secret, self.session.expires_at.since(self.session.created_at).as_secs())
    }
}

/// A session of someone who knows their password.
pub fn begin(person: PersonId, entropy: &dyn Entropy, now: UtcTime) -> Begun {
    new(person, SessionKind::Password, None, ABSOLUTE, entropy, now)
}

/// A session of someone who opened an invitation.
pub fn begin_enrolment(
    person: PersonId,
    invitation: InvitationId,
    entropy: &dyn Entropy,
    now: UtcTime,
) -> Begun {
    new(person, SessionKind::Enrolment, Some(invitation), ENROLMENT, entropy, now)
}

fn new(
    person: PersonId,
    kind: SessionKind,
    invitation: Option<InvitationId>,
    lasts: Duration,
    entropy: &dyn Entropy,
    now: UtcTime,
) -> Begun {
    let secret = secret::fresh(entropy);
    let session = Session {
        id: SessionId::new(),
        secret: secret::hash(secret.expose()),
        person,
        kind,
        invitation,
        created_at: now,
        last_seen_at: now,
        expires_at: now.plus(lasts),
    };
    Begun { session, secret }
}

/// When a session is over if it is not used from now on.
pub fn ends_at(session: &Session) -> UtcTime {
    session.expires_at.min(session.last_seen_at.plus(IDLE))
}

/// Whether a session still holds.
pub fn holds(session: &Session, now: UtcTime) -> bool {
    now < ends_at(session)
}

/// Whether a use at `now` is to be noted.
pub fn is_to_be_noted(last: Option<UtcTime>, now: UtcTime) -> bool {
    last.is_none_or(|last| now.since(last) >= NOTE_AFTER)
}
