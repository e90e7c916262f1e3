//! One-time links to an enrolment. The token stands in the fragment of the link, which browsers do not
//! send, and is used up by a POST, which mail scanners do not make.

use std::time::Duration;

use poem::Request;
use poem::http::StatusCode;
use poem_openapi::param::{Path, Query};
use poem_openapi::{Enum, Object, OpenApi};

use super::Tag;
use super::sessions::{Session, previous_session, show_session};
use crate::admin::auth::caller::Call;
use crate::admin::auth::{secret, session};
use crate::admin::body::{Body, Created, NoContent, Shown};
use crate::admin::error::{Outcome, Problem};
use crate::admin::fields::{self, Faults};
use crate::admin::page::Page;
use crate::admin::services::Services;
use crate::admin::values::When;
use crate::domain::audit::Outcome as ActOutcome;
use crate::domain::{InvitationId, PersonId, Secret, Slug, UtcTime};
use crate::mail::Recipient;
use crate::mail::letters::Letter;
use crate::store::invitations as rows;
use crate::store::outbox::SealedMail;
use crate::store::people::Person;

/// Longest an invitation is open, in hours.
const MOST_HOURS: u32 = 72;

/// Operations on invitations.
pub struct Api(pub Services);

/// Where an invitation stands.
#[derive(Clone, Copy, Debug, Enum)]
#[oai(rename_all = "snake_case", remote = "rows::InvitationState")]
enum InvitationState {
    /// Its link opens.
    Open,
    /// Its link was opened; the certificate is still to come.
    Accepted,
    /// Its certificate was issued.
    Used,
    /// Nobody came in time.
    Expired,
    /// It was taken back.
    Revoked,
}

/// A one-time link to an enrolment.
#[derive(Object)]
#[oai(skip_serializing_if_is_none)]
struct Invitation {
    id: String,
    person_id: String,
    /// The name that the device will have.
    device_name: Option<String>,
    profile: String,
    state: InvitationState,
    created_at: When,
    expires_at: When,
    /// The link: only in the answer that makes the invitation.
    link: Option<String>,
    /// In a repeated answer, instead of the link.
    secret_already_delivered: Option<bool>,
}

/// A page of invitations.
#[derive(Object)]
#[oai(skip_serializing_if_is_none)]
struct InvitationList {
    items: Vec<Invitation>,
    next_cursor: Option<String>,
}

/// Whom to invite.
#[derive(Debug, Object)]
#[oai(deny_unknown_fields)]
struct NewInvitation {
    #[oai(validator(max_length = 36))]
    person_id: String,
    /// The name that the device will have; the person chooses if absent.
    #[oai(validator(max_length = 64))]
    device_name: Option<String>,
    /// The profile of the certificate; `device` if absent.
    #[oai(validator(max_length = 63))]
    profile: Option<String>,
    /// Whether to mail the link.
    send_mail: bool,
    /// How long the link opens; 72 hours if absent.
    #[oai(validator(minimum(value = "1"), maximum(value = "72")))]
    expires_in_hours: Option<u32>,
}

/// The token of a link.
#[derive(Object)]
#[oai(deny_unknown_fields)]
struct InvitationAcceptance {
    #[oai(validator(max_length = 128))]
    token: String,
}

#[OpenApi(prefix_path = "/api/v1/", tag = "Tag::Invitations")]
impl Api {
    /// Invitations: your own, or everyone's for an administrator
    #[oai(path = "/invitations", method = "get", operation_id = "listInvitations")]
    async fn list(
        &self,
        call: Call,
        #[oai(validator(minimum(value = "1"), maximum(value = "200")))] limit: Query<Option<u32>>,
        cursor: Query<Option<String>>,
    ) -> Outcome<Shown<InvitationList>> {
        let person = call.caller()?.narrow(None)?;
        let page = Page::<InvitationId>::read(&limit, &cursor)?;
        let fetched = self.0.store().invitations(person, page.after, page.fetch()).await?;
        let (invitations, next_cursor) = page.cut(fetched, |invitation| invitation.id.to_string());
        let items = invitations.into_iter().map(|row| look(row, call.now, None)).collect();
        Ok(Shown::new(InvitationList { items, next_cursor }))
    }

    /// Invites someone to enrol one device
    #[oai(path = "/invitations", method = "post", operation_id = "invite")]
    async fn invite(&self, call: Call, body: Body<NewInvitation>) -> Outcome<Created<Invitation>> {
        let Body(body) = body;
        let mut faults = Faults::default();
        let person = faults.take("/person_id", body.person_id.parse::<PersonId>());
        let device_name = faults.take_if("/device_name", body.device_name.as_deref().map(fields::name));
        let profile = faults.take("/profile", body.profile.as_deref().unwrap_or("device").parse::<Slug>());
        let (person, profile) = faults.unless(person.zip(profile))?;
        let store = self.0.store();
        let person = store.person(person).await?;
        let person =
            person.ok_or_else(|| Problem::field("/person_id", "unknown", "There is no such person."))?;
        if person.disabled {
            return Err(Problem::conflict("person_disabled", "The person is disabled."));
        }
        if self.0.ca().profile(&profile).await?.is_none() {
            return Err(Problem::field("/profile", "unknown", "There is no such profile."));
        }
        if body.send_mail && !self.0.mailer().is_configured() {
            let detail =
                "No mail server is configured. Invite without mail, and hand the link over yourself.";
            return Err(Problem::conflict("mail_not_configured", detail));
        }
        let token = secret::fresh(self.0.entropy());
        let lasts = Duration::from_secs(3600) * body.expires_in_hours.unwrap_or(MOST_HOURS);
        let row = rows::Invitation {
            id: InvitationId::new(),
            secret: secret::hash(token.expose()),
            person: person.id,
            device_name,
            profile,
            created_at: call.now,
            expires_at: call.now.plus(lasts),
            accepted_at: None,
            used_at: None,
            revoked_at: None,
        };
        let origin = self.0.settings().invitation_origin();
        let link = Secret::new(format!("{origin}/#/invitation/{}", token.expose()));
        let mail = match body.send_mail {
            true => Some(self.letter(&person, &row, &link)?),
            false => None,
        };
        let transaction = store.begin().await?;
        transaction.insert_invitation(&row).await?;
        if let Some(mail) = &mail {
            transaction.enqueue_mail(mail, call.now).await?;
        }
        let note = format!("invitation {} for person {}", row.id, person.id);
        transaction.finish_act(call.act()?, ActOutcome::Succeeded, Some(&note), call.now).await?;
        transaction.commit().await?;
        call.closed();
        if mail.is_some() {
            self.0.mailer().wake();
        }
        let location = format!("/api/v1/invitations/{}", row.id);
        Ok(Created::at(location, look(row, call.now, Some(link))))
    }

    /// Takes an invitation back
    #[oai(path = "/invitations/:id", method = "delete", operation_id = "revokeInvitation")]
    async fn revoke(&self, call: Call, id: Path<String>) -> Outcome<NoContent> {
        let missing = || Problem::not_found("invitation");
        let id: InvitationId = id.0.parse().map_err(|_| missing())?;
        let store = self.0.store();
        let invitation = store.invitation(id).await?.ok_or_else(missing)?;
        let transaction = store.begin().await?;
        if !transaction.revoke_invitation(id, call.now).await? && invitation.revoked_at.is_none() {
            let detail = "Its certificate was issued already: revoke that.";
            return Err(Problem::conflict("invitation_used", detail));
        }
        // Whoever opened the link and is not done is stopped as well.
        transaction.end_enrolments(id).await?;
        transaction.finish_act(call.act()?, ActOutcome::Succeeded, None, call.now).await?;
        transaction.commit().await?;
        call.closed();
        Ok(NoContent::new())
    }

    /// Opens an invitation's link, once
    #[oai(path = "/invitations/acceptance", method = "post", operation_id = "acceptInvitation")]
    async fn accept(
        &self,
        call: Call,
        request: &Request,
        body: Body<InvitationAcceptance>,
    ) -> Outcome<Shown<Session>> {
        let token = Secret::new(body.0.token);
        let store = self.0.store();
        let invitation = store.invitation_by_secret(secret::hash(token.expose())).await?;
        let invitation = invitation.ok_or_else(gone)?;
        let person = store.person(invitation.person).await?.filter(|person| !person.disabled);
        let person = person.ok_or_else(gone)?;
        let begun = session::begin_enrolment(person.id, invitation.id, self.0.entropy(), call.now);
        let previous = previous_session(&self.0, request).await?;
        let transaction = store.begin().await?;
        if !transaction.accept_invitation(invitation.id, call.now).await? {
            return Err(gone());
        }
        if let Some((owner, id)) = previous {
            transaction.end_session(owner, id).await?;
        }
        transaction.insert_session(&begun.session).await?;
        let note = format!("invitation {}", invitation.id);
        transaction.finish_act(call.act()?, ActOutcome::Succeeded, Some(&note), call.now).await?;
        transaction.commit().await?;
        call.closed();
        let shown = show_session(&begun.session, &person, call.entrance, Some(&invitation), true);
        Ok(Shown::new(shown).cookie(begun.cookie()))
    }
}

impl Api {
    fn letter(
        &self,
        person: &Person,
        invitation: &rows::Invitation,
        link: &Secret<String>,
    ) -> Outcome<SealedMail> {
        let to = Recipient { email: &person.email, name: &person.name };
        let device = invitation.device_name.as_deref();
        let letter = Letter::Invitation { device, link: link.expose(), expires_at: invitation.expires_at };
        self.0.mailer().write(to, &letter).map_err(|error| Problem::unavailable(&error))
    }
}

/// One answer for unknown, opened, expired and revoked: it tells nobody which links there were.
fn gone() -> Problem {
    let detail = "This link does not open: it was used, taken back, or has expired. Ask for a new one.";
    Problem::new(StatusCode::GONE, "invitation_invalid", detail)
}

fn look(row: rows::Invitation, now: UtcTime, link: Option<Secret<String>>) -> Invitation {
    Invitation {
        id: row.id.to_string(),
        person_id: row.person.to_string(),
        state: row.state(now).into(),
        device_name: row.device_name,
        profile: row.profile.to_string(),
        created_at: row.created_at.into(),
        expires_at: row.expires_at.into(),
        link: link.map(|link| link.expose().clone()),
        secret_already_delivered: None,
    }
}
