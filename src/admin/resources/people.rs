//! Humans and service accounts.

use poem::http::StatusCode;
use poem_openapi::param::{Header, Path, Query};
use poem_openapi::{Object, OpenApi};

use super::{Tag, check_version};
use crate::admin::auth::caller::{Call, Proof};
use crate::admin::auth::password;
use crate::admin::body::{Body, Created, NoContent, Shown};
use crate::admin::error::{Outcome, Problem};
use crate::admin::fields::{self, Faults};
use crate::admin::page::Page;
use crate::admin::services::Services;
use crate::admin::values::{Enforced, Role, When};
use crate::ca::EditPersonError;
use crate::domain::audit::Outcome as ActOutcome;
use crate::domain::{PersonId, Secret};
use crate::store::people as rows;

/// Operations on people.
pub struct Api(pub Services);

/// A human or service account.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
struct Person {
    id: String,
    /// Unique, in lower case; may change, and is never an identity.
    email: String,
    name: String,
    role: Role,
    groups: Vec<String>,
    /// Whether they are shut out, everywhere and at once.
    disabled: bool,
    /// Whether they can sign in with a password.
    has_password: bool,
    created_at: When,
    /// Counts edits: the ETag.
    version: u64,
    /// After a change: how far it has reached.
    enforced: Option<Enforced>,
}

/// A page of people.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
struct PersonList {
    items: Vec<Person>,
    next_cursor: Option<String>,
}

/// Someone new.
#[derive(Debug, Object)]
#[oai(deny_unknown_fields)]
struct NewPerson {
    #[oai(validator(max_length = 254))]
    email: String,
    #[oai(validator(max_length = 64))]
    name: String,
    role: Role,
    #[oai(validator(max_items = 100))]
    groups: Vec<String>,
}

/// What changes about someone.
#[derive(Debug, Object)]
#[oai(deny_unknown_fields)]
struct PersonEdit {
    #[oai(validator(max_length = 254))]
    email: Option<String>,
    #[oai(validator(max_length = 64))]
    name: Option<String>,
    role: Option<Role>,
    #[oai(validator(max_items = 100))]
    groups: Option<Vec<String>>,
    /// Shuts the person out, or lets them back in.
    disabled: Option<bool>,
}

/// A new password.
#[derive(Object)]
#[oai(deny_unknown_fields)]
struct PasswordChange {
    /// The one before, if there is one.
    #[oai(validator(max_length = 128))]
    current_password: Option<String>,
    #[oai(validator(max_length = 128))]
    new_password: String,
}

#[OpenApi(prefix_path = "/api/v1/", tag = "Tag::People")]
impl Api {
    /// Everyone
    #[oai(path = "/people", method = "get", operation_id = "listPeople")]
    async fn list(
        &self,
        #[oai(validator(minimum(value = "1"), maximum(value = "200")))] limit: Query<Option<u32>>,
        cursor: Query<Option<String>>,
    ) -> Outcome<Shown<PersonList>> {
        let page = Page::<PersonId>::read(&limit, &cursor)?;
        let fetched = self.0.store().people(page.after, page.fetch()).await?;
        let (people, next_cursor) = page.cut(fetched, |person| person.id.to_string());
        Ok(Shown::new(PersonList { items: people.into_iter().map(Person::from).collect(), next_cursor }))
    }

    /// Adds someone
    #[oai(path = "/people", method = "post", operation_id = "addPerson")]
    async fn add(&self, call: Call, body: Body<NewPerson>) -> Outcome<Created<Person>> {
        let Body(body) = body;
        let mut faults = Faults::default();
        let email = faults.take("/email", fields::email(&body.email));
        let name = faults.take("/name", fields::name(&body.name));
        let groups = fields::groups(&body.groups, "/groups", &mut faults);
        let (email, name) = faults.unless(email.zip(name))?;
        let person = rows::Person {
            id: PersonId::new(),
            email,
            name,
            role: body.role.into(),
            groups,
            disabled: false,
            has_password: false,
            created_at: call.now,
            version: 1,
        };
        let (person, _) = self.0.ca().create_person(&person, call.act()?, call.now).await?;
        call.closed();
        let version = person.version;
        Ok(Created::at(format!("/api/v1/people/{}", person.id), Person::from(person)).version(version))
    }

    /// One person
    #[oai(path = "/people/:id", method = "get", operation_id = "getPerson")]
    async fn show(&self, call: Call, id: Path<String>) -> Outcome<Shown<Person>> {
        let person = self.reach(&call, &id).await?;
        let version = person.version;
        Ok(Shown::new(Person::from(person)).version(version))
    }

    /// Changes someone
    #[oai(path = "/people/:id", method = "patch", operation_id = "editPerson")]
    async fn edit(
        &self,
        call: Call,
        id: Path<String>,
        #[oai(name = "If-Match")] if_match: Header<Option<String>>,
        body: Body<PersonEdit>,
    ) -> Outcome<Shown<Person>> {
        let person = self.reach(&call, &id).await?;
        check_version(&if_match, person.version, "the person")?;
        let Body(body) = body;
        let mut faults = Faults::default();
        let email = faults.take_if("/email", body.email.as_deref().map(fields::email));
        let name = faults.take_if("/name", body.name.as_deref().map(fields::name));
        let groups = body.groups.map(|groups| fields::groups(&groups, "/groups", &mut faults));
        faults.none()?;
        let edited = rows::Person {
            email: email.unwrap_or_else(|| person.email.clone()),
            name: name.unwrap_or_else(|| person.name.clone()),
            role: body.role.map_or(person.role, Into::into),
            groups: groups.unwrap_or_else(|| person.groups.clone()),
            disabled: body.disabled.unwrap_or(person.disabled),
            ..person.clone()
        };
        let (stored, enforced) = self.0.ca().update_person(&edited, call.act()?, call.now).await?;
        call.closed();
        let version = stored.version;
        let shown = Person { enforced: Some(enforced.into()), ..Person::from(stored) };
        Ok(Shown::new(shown).version(version))
    }

    /// Sets your own password
    ///
    /// Whoever has one names it. Whoever enrols by an invitation may set their first one. A change ends
    /// the person's other sessions and all their API tokens.
    #[oai(path = "/people/:id/password", method = "put", operation_id = "setPassword")]
    async fn set_password(
        &self,
        call: Call,
        id: Path<String>,
        body: Body<PasswordChange>,
    ) -> Outcome<NoContent> {
        let caller = call.caller()?;
        let id: PersonId = id.0.parse().map_err(|_| Problem::not_found("person"))?;
        if !caller.is(id) {
            // Not even an administrator: they invite people, who then set their own.
            caller.reach(id, "person")?;
            return Err(Problem::not_allowed("A password is set only by the person whose it is."));
        }
        let Proof::Session(session) = &caller.proof else {
            return Err(Problem::not_allowed("A password is set only by someone who is signed in."));
        };
        let person = caller.own()?;
        let Body(PasswordChange { current_password, new_password }) = body;
        let (current, new) = (current_password.map(Secret::new), Secret::new(new_password));
        let before = self.check_current(&call, person, current).await?;
        let mut faults = Faults::default();
        faults.take("/new_password", password::check(new.expose(), &person.email, &person.name));
        faults.none()?;
        let hash = self.0.passwords().hash(new, self.0.entropy()).await;
        let hash = hash.map_err(|error| Problem::unavailable(&error))?;
        let transaction = self.0.store().begin().await?;
        // Only in the place of the one that was checked: someone else may have been faster.
        transaction.set_password(id, before.as_ref(), &hash).await?;
        transaction.end_sessions(id, Some(session.id)).await?;
        if before.is_some() {
            // Whoever knew the old one may have made tokens with it.
            transaction.delete_tokens(id).await?;
        }
        let note = session.invitation.map(|invitation| {
            format!("the first password of this {}, by invitation {invitation}", person.role.name())
        });
        transaction.finish_act(call.act()?, ActOutcome::Succeeded, note.as_deref(), call.now).await?;
        transaction.commit().await?;
        call.closed();
        Ok(NoContent::new())
    }
}

impl Api {
    async fn reach(&self, call: &Call, id: &Path<String>) -> Outcome<rows::Person> {
        let id: PersonId = id.0.parse().map_err(|_| Problem::not_found("person"))?;
        call.caller()?.reach(id, "person")?;
        self.0.store().person(id).await?.ok_or_else(|| Problem::not_found("person"))
    }

    /// Checks the password that a new one is to replace; returns its hash, if there is one.
    async fn check_current(
        &self,
        call: &Call,
        person: &rows::Person,
        current: Option<Secret<String>>,
    ) -> Outcome<Option<Secret<String>>> {
        let hash = self.0.store().password_hash(person.id).await?;
        if hash.is_none() {
            return Ok(None);
        }
        if call.caller()?.enrolment().is_some() {
            // An invitation shows that someone reads the mail; that alone must not take an account over.
            return Err(Problem::not_allowed("Sign in with your password to change it."));
        }
        self.0.limits().draw_account(call.entrance, &person.email).map_err(Problem::rate_limited)?;
        let Some(current) = current else {
            return Err(Problem::field("/current_password", "required", "Is missing."));
        };
        let right = self.0.passwords().verify(current, hash.clone()).await;
        if right.map_err(|error| Problem::unavailable(&error))? {
            return Ok(hash);
        }
        Err(Problem::field("/current_password", "wrong", "Is not your password."))
    }
}

impl From<EditPersonError> for Problem {
    fn from(error: EditPersonError) -> Self {
        match error {
            EditPersonError::LastAdministrator => Self::new(
                StatusCode::CONFLICT,
                "last_administrator",
                "This is the last administrator. Make someone else one first.",
            ),
            EditPersonError::Store(error) => error.into(),
        }
    }
}

impl From<rows::Person> for Person {
    fn from(row: rows::Person) -> Self {
        Self {
            id: row.id.to_string(),
            email: row.email,
            name: row.name,
            role: row.role.into(),
            groups: row.groups.iter().map(ToString::to_string).collect(),
            disabled: row.disabled,
            has_password: row.has_password,
            created_at: row.created_at.into(),
            version: row.version,
            enforced: None,
        }
    }
}
