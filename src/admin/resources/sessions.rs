//! Signing in and out.

use poem::Request;
use poem::http::StatusCode;
use poem_openapi::param::{Path, Query};
use poem_openapi::{Enum, Object, OpenApi};

use super::Tag;
use crate::admin::auth::caller::{Call, Caller, Proof};
use crate::admin::auth::{cookie, secret, session};
use crate::admin::body::{Body, Created, NoContent, Shown};
use crate::admin::error::{Outcome, Problem};
use crate::admin::listener::Entrance;
use crate::admin::page::Page;
use crate::admin::services::Services;
use crate::admin::values::{Role, When};
use crate::domain::{self, PersonId, Secret, SessionId};
use crate::store::invitations::Invitation;
use crate::store::people::Person;
use crate::store::sessions as rows;

/// Operations on sessions.
pub struct Api(pub Services);

/// How a session came to be.
#[derive(Clone, Copy, Debug, Enum)]
#[oai(rename_all = "snake_case")]
pub(super) enum SessionKind {
    /// With a password.
    Password,
    /// With an invitation.
    Enrolment,
    /// No session, a token.
    Token,
}

/// Who is signed in.
#[derive(Debug, Object)]
pub(super) struct SessionPerson {
    id: String,
    email: String,
    name: String,
    /// What they may do here: at the door, everyone is a member.
    role: Role,
}

/// The invitation that is being used.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
pub(super) struct SessionInvitation {
    id: String,
    /// The name that the device will have.
    device_name: Option<String>,
    profile: String,
}

/// A signed-in browser, or the token that asks.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
pub(super) struct Session {
    id: String,
    kind: SessionKind,
    person: SessionPerson,
    /// When it is over, if it is not used from now on.
    expires_at: When,
    created_at: When,
    /// Whether it is the one that asks.
    current: bool,
    invitation: Option<SessionInvitation>,
}

/// A page of sessions.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
struct SessionList {
    items: Vec<Session>,
    next_cursor: Option<String>,
}

/// Address and password.
#[derive(Object)]
#[oai(deny_unknown_fields)]
struct SignIn {
    #[oai(validator(max_length = 254))]
    email: String,
    #[oai(validator(max_length = 128))]
    password: String,
}

#[OpenApi(prefix_path = "/api/v1/", tag = "Tag::Sessions")]
impl Api {
    /// Who is signed in
    #[oai(path = "/sessions/current", method = "get", operation_id = "getCurrentSession")]
    async fn current(&self, call: Call) -> Outcome<Shown<Session>> {
        let caller = call.caller()?;
        let person = caller.own()?;
        Ok(Shown::new(match &caller.proof {
            Proof::Session(own) => {
                let invitation = match own.invitation {
                    Some(id) => self.0.store().invitation(id).await?,
                    None => None,
                };
                show_session(own, person, call.entrance, invitation.as_ref(), true)
            }
            Proof::Token(token) => Session {
                id: token.id.to_string(),
                kind: SessionKind::Token,
                person: show_person(person, caller.role),
                expires_at: token.expires_at.into(),
                created_at: token.created_at.into(),
                current: true,
                invitation: None,
            },
            Proof::Certificate(_) | Proof::Host { .. } => return Err(Problem::not_found("session")),
        }))
    }

    /// Signs in
    #[oai(path = "/sessions", method = "post", operation_id = "signIn")]
    async fn sign_in(&self, call: Call, request: &Request, body: Body<SignIn>) -> Outcome<Created<Session>> {
        let Body(SignIn { email, password }) = body;
        let email = email.trim().to_lowercase();
        self.0.limits().draw_account(call.entrance, &email).map_err(Problem::rate_limited)?;
        let store = self.0.store();
        let person = store.person_by_email(&email).await?;
        let hash = match &person {
            Some(person) => store.password_hash(person.id).await?,
            None => None,
        };
        let right = self.0.passwords().verify(Secret::new(password), hash).await;
        let right = right.map_err(|error| Problem::unavailable(&error))?;
        let person = person.filter(|person| right && !person.disabled).ok_or_else(|| {
            // One answer for unknown, wrong and disabled: it tells nobody who has an account.
            let detail = "This address and password do not belong together.";
            Problem::new(StatusCode::UNAUTHORIZED, "sign_in_failed", detail)
        })?;
        let begun = session::begin(person.id, self.0.entropy(), call.now);
        let previous = previous_session(&self.0, request).await?;
        let transaction = store.begin().await?;
        if let Some((owner, id)) = previous {
            transaction.end_session(owner, id).await?;
        }
        transaction.insert_session(&begun.session).await?;
        transaction.commit().await?;
        if let Err(error) = store.sweep_sessions(call.now).await {
            tracing::warn!(error = %error, "Ended sessions could not be removed");
        }
        call.note(format!("person {}", person.id));
        let shown = show_session(&begun.session, &person, call.entrance, None, true);
        Ok(Created::at("/api/v1/sessions/current".to_owned(), shown).cookie(begun.cookie()))
    }

    /// Signs out
    #[oai(path = "/sessions/current", method = "delete", operation_id = "signOut")]
    async fn sign_out(&self, call: Call) -> Outcome<NoContent> {
        let Proof::Session(own) = &call.caller()?.proof else { return Err(Problem::not_found("session")) };
        end(&self.0, own.person, own.id).await?;
        Ok(NoContent::with_cookie(cookie::clear()))
    }

    /// Your own sessions
    #[oai(path = "/sessions", method = "get", operation_id = "listSessions")]
    async fn list(
        &self,
        call: Call,
        #[oai(validator(minimum(value = "1"), maximum(value = "200")))] limit: Query<Option<u32>>,
        cursor: Query<Option<String>>,
    ) -> Outcome<Shown<SessionList>> {
        let caller = call.caller()?;
        let person = caller.own()?;
        let page = Page::<SessionId>::read(&limit, &cursor)?;
        let fetched = self.0.store().sessions(person.id, page.after, page.fetch(), call.now).await?;
        let (sessions, next_cursor) = page.cut(fetched, |session| session.id.to_string());
        let own = own_session(caller);
        let items = sessions
            .iter()
            .filter(|session| session::holds(session, call.now))
            .map(|session| show_session(session, person, call.entrance, None, own == Some(session.id)))
            .collect();
        Ok(Shown::new(SessionList { items, next_cursor }))
    }

    /// Ends one of your own sessions
    #[oai(path = "/sessions/:id", method = "delete", operation_id = "endSession")]
    async fn end(&self, call: Call, id: Path<String>) -> Outcome<NoContent> {
        let caller = call.caller()?;
        let id: SessionId = id.0.parse().map_err(|_| Problem::not_found("session"))?;
        end(&self.0, caller.own()?.id, id).await?;
        let clear = own_session(caller) == Some(id);
        Ok(if clear { NoContent::with_cookie(cookie::clear()) } else { NoContent::new() })
    }
}

/// How a session looks.
pub(super) fn show_session(
    row: &rows::Session,
    person: &Person,
    entrance: Entrance,
    invitation: Option<&Invitation>,
    current: bool,
) -> Session {
    let role = match (row.kind, entrance) {
        (rows::SessionKind::Password, Entrance::Console | Entrance::Socket) => person.role,
        _ => domain::Role::Member,
    };
    Session {
        id: row.id.to_string(),
        kind: match row.kind {
            rows::SessionKind::Password => SessionKind::Password,
            rows::SessionKind::Enrolment => SessionKind::Enrolment,
        },
        person: show_person(person, role),
        expires_at: session::ends_at(row).into(),
        created_at: row.created_at.into(),
        current,
        invitation: invitation.map(|invitation| SessionInvitation {
            id: invitation.id.to_string(),
            device_name: invitation.device_name.clone(),
            profile: invitation.profile.to_string(),
        }),
    }
}

fn show_person(person: &Person, role: domain::Role) -> SessionPerson {
    SessionPerson {
        id: person.id.to_string(),
        email: person.email.clone(),
        name: person.name.clone(),
        role: role.into(),
    }
}

fn own_session(caller: &Caller) -> Option<SessionId> {
    match &caller.proof {
        Proof::Session(session) => Some(session.id),
        _ => None,
    }
}

/// The session that the browser had before: signing in replaces it.
pub(super) async fn previous_session(
    services: &Services,
    request: &Request,
) -> Outcome<Option<(PersonId, SessionId)>> {
    let Some(value) = cookie::read(request.headers()).filter(|value| secret::is_well_formed(value)) else {
        return Ok(None);
    };
    let found = services.store().session_by_secret(secret::hash(&value)).await?;
    Ok(found.map(|session| (session.person, session.id)))
}

async fn end(services: &Services, person: PersonId, id: SessionId) -> Outcome<()> {
    let transaction = services.store().begin().await?;
    if !transaction.end_session(person, id).await? {
        return Err(Problem::not_found("session"));
    }
    Ok(transaction.commit().await?)
}
