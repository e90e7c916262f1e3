//! The first administrator comes in by a one-time link that only whoever runs the host can make.

use std::time::Duration;

use poem::http::StatusCode;
use poem_openapi::{Object, OpenApi};

use super::Tag;
use super::sessions::{Session, show_session};
use crate::admin::auth::caller::Call;
use crate::admin::auth::{password, secret, session};
use crate::admin::body::{Body, Created};
use crate::admin::error::{Outcome, Problem};
use crate::admin::fields::{self, Faults};
use crate::admin::services::Services;
use crate::domain::audit::Outcome as ActOutcome;
use crate::domain::{Delta, Entropy, PersonId, Role, Secret, UtcTime};
use crate::store::people::Person;
use crate::store::{Store, StoreError};

/// How long the link opens.
const LINK_LASTS: Duration = Duration::from_secs(24 * 3600);

/// Why there is no setup link.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// There is an administrator already.
    #[error("the installation has been set up: an administrator is there")]
    Done,
    /// The link could not be recorded.
    #[error("the setup link could not be recorded")]
    Store(#[from] StoreError),
}

/// Makes the token of the setup link; one made before no longer opens. It opens once, for 24 hours.
/// The link is `<console>/#/setup/<token>`. Never log it.
///
/// # Errors
/// [`SetupError::Done`] when there is an administrator already.
pub async fn create_token(
    store: &Store,
    entropy: &dyn Entropy,
    now: UtcTime,
) -> Result<Secret<String>, SetupError> {
    if store.has_administrator().await? {
        return Err(SetupError::Done);
    }
    let token = secret::fresh(entropy);
    store.replace_setup_link(secret::hash(token.expose()), now, now.plus(LINK_LASTS)).await?;
    Ok(token)
}

/// Operations on the set-up.
pub struct Api(pub Services);

/// The first administrator.
#[derive(Object)]
#[oai(deny_unknown_fields)]
struct SetupRequest {
    /// The token of the link.
    #[oai(validator(max_length = 128))]
    token: String,
    /// Their mail address.
    #[oai(validator(max_length = 254))]
    email: String,
    /// Their name.
    #[oai(validator(max_length = 64))]
    name: String,
    /// Their password.
    #[oai(validator(max_length = 128))]
    password: String,
}

#[OpenApi(prefix_path = "/api/v1/", tag = "Tag::Installation")]
impl Api {
    /// Makes the first administrator and signs them in
    #[oai(path = "/setup", method = "post", operation_id = "setUp")]
    async fn set_up(&self, call: Call, body: Body<SetupRequest>) -> Outcome<Created<Session>> {
        let store = self.0.store();
        if store.has_administrator().await? {
            let detail = "The installation has been set up.";
            return Err(Problem::new(StatusCode::GONE, "setup_done", detail));
        }
        let Body(body) = body;
        let password = Secret::new(body.password);
        let token = secret::hash(&body.token);
        if !store.setup_link_opens(token, call.now).await? {
            return Err(bad_link());
        }
        let mut faults = Faults::default();
        let email = faults.take("/email", fields::email(&body.email));
        let name = faults.take("/name", fields::name(&body.name));
        let strong = password::check(
            password.expose(),
            email.as_deref().unwrap_or_default(),
            name.as_deref().unwrap_or_default(),
        );
        faults.take("/password", strong);
        let (email, name) = faults.unless(email.zip(name))?;

        let hash = self.0.passwords().hash(password, self.0.entropy()).await;
        let hash = hash.map_err(|error| Problem::unavailable(&error))?;
        let person = Person {
            id: PersonId::new(),
            email,
            name,
            role: Role::Administrator,
            groups: Default::default(),
            disabled: false,
            has_password: true,
            created_at: call.now,
            version: 1,
        };
        let begun = session::begin(person.id, self.0.entropy(), call.now);
        // All in one: a crash must not leave an administrator who can never sign in.
        let transaction = store.begin().await?;
        if !transaction.use_setup_link(token, call.now).await? {
            return Err(bad_link());
        }
        transaction.insert_person(&person).await?;
        transaction.set_password(person.id, None, &hash).await?;
        transaction.insert_session(&begun.session).await?;
        transaction.append_changes(&[Delta::Person(person.record())], call.now).await?;
        let note = format!("person {}", person.id);
        transaction.finish_act(call.act()?, ActOutcome::Succeeded, Some(&note), call.now).await?;
        transaction.commit().await?;
        call.closed();
        self.0.enforce().bring_up_to_date().await;
        let shown = show_session(&begun.session, &person, call.entrance, None, true);
        Ok(Created::at("/api/v1/sessions/current".to_owned(), shown).cookie(begun.cookie()))
    }
}

fn bad_link() -> Problem {
    let detail = "This setup link does not open: it was used, replaced, or has expired. Make a new one.";
    Problem::new(StatusCode::FORBIDDEN, "setup_link_invalid", detail)
}
