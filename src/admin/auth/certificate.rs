//! Callers who prove themselves with nothing but the client certificate of their connection: devices
//! that renew what they hold. Only operations that say so take this proof, and only at the door.

use poem::http::StatusCode;

use super::caller::{Caller, Proof};
use crate::admin::error::{Outcome, Problem};
use crate::admin::listener::{Entrance, Visitor};
use crate::admin::services::Services;
use crate::domain::{Role, UtcTime};
use crate::live::{Cause, Classified};

/// Who is behind the connection's certificate, if it is known.
///
/// # Errors
/// When the rows cannot be read.
pub async fn by_certificate(services: &Services, visitor: &Visitor, now: UtcTime) -> Outcome<Option<Caller>> {
    if visitor.entrance != Entrance::Door {
        return Ok(None);
    }
    let Classified::Known(identity) = services.classify(visitor, now) else { return Ok(None) };
    let person = services.store().person(identity.person().id).await?;
    let Some(person) = person.filter(|person| !person.disabled) else { return Ok(None) };
    Ok(Some(Caller { proof: Proof::Certificate(identity), person: Some(person), role: Role::Member }))
}

/// Why the connection's certificate is no proof, for clients that have nothing else to show.
pub fn refusal(services: &Services, visitor: &Visitor, now: UtcTime) -> Problem {
    let (code, detail) = match services.classify(visitor, now) {
        Classified::None => (
            "certificate_required",
            "Present the current client certificate in the TLS handshake: this is for whoever holds one.",
        ),
        Classified::Refused(refusal) => (refusal.cause.code(), sentence(refusal.cause)),
        // Known to the register, but the rows say otherwise.
        Classified::Known(_) => (Cause::PersonDisabled.code(), sentence(Cause::PersonDisabled)),
    };
    Problem::new(StatusCode::FORBIDDEN, code, detail)
}

fn sentence(cause: Cause) -> &'static str {
    match cause {
        Cause::Expired => "The client certificate has expired: enrol the device again with an invitation.",
        Cause::NotYetValid => "The client certificate is not valid yet: check the clocks.",
        Cause::Revoked(_) => "The client certificate was revoked: enrol the device again with an invitation.",
        Cause::PersonDisabled => "The person behind the client certificate is disabled.",
        Cause::AuthorityRetired => {
            "The authority of the client certificate is retired: enrol the device again with an invitation."
        }
        Cause::NotOnRecord
        | Cause::WrongUsage
        | Cause::BadSignature
        | Cause::UnknownAuthority
        | Cause::Unreadable => "The client certificate was not issued here.",
    }
}
