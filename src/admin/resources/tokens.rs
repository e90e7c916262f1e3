//! Keys for programs: shown once, kept as a hash, never more than their owner, always with an end.

use std::time::Duration;

use poem_openapi::param::{Path, Query};
use poem_openapi::{Object, OpenApi};

use super::Tag;
use crate::admin::auth::caller::{Call, Proof};
use crate::admin::auth::{secret, token};
use crate::admin::body::{Body, Created, NoContent, Shown};
use crate::admin::error::{Outcome, Problem};
use crate::admin::fields::{self, Faults};
use crate::admin::page::Page;
use crate::admin::services::Services;
use crate::admin::values::{Role, When};
use crate::domain::audit::{Act, Outcome as ActOutcome};
use crate::domain::{self, Entropy, PersonId, Secret, TokenId, UtcTime};
use crate::store::tokens as rows;
use crate::store::{Store, StoreError};

/// What the life of a token is counted in.
const DAY: Duration = Duration::from_secs(86_400);

/// A token that is made for someone by the program itself.
#[derive(Clone, Debug)]
pub struct NewAdminToken {
    /// Whose it is.
    pub person: PersonId,
    /// What it is called.
    pub name: String,
    /// What it may do at most.
    pub role: domain::Role,
    /// How long it lasts.
    pub lasts: Duration,
}

/// Makes a token on the command line's or the demo's behalf, and closes `act` with it.
///
/// # Errors
/// [`StoreError`].
pub async fn create_for(
    store: &Store,
    entropy: &dyn Entropy,
    new: NewAdminToken,
    act: &Act,
    now: UtcTime,
) -> Result<Secret<String>, StoreError> {
    let fresh = token::fresh(entropy);
    let row = rows::Token {
        id: TokenId::new(),
        secret: secret::hash(fresh.expose()),
        person: new.person,
        name: new.name,
        role: new.role,
        created_at: now,
        expires_at: now.plus(new.lasts),
        last_used_at: None,
    };
    let transaction = store.begin().await?;
    transaction.insert_token(&row).await?;
    let note = format!("token {}", row.id);
    transaction.finish_act(act, ActOutcome::Succeeded, Some(&note), now).await?;
    transaction.commit().await?;
    Ok(fresh)
}

/// Operations on tokens.
pub struct Api(pub Services);

/// A key for a program.
#[derive(Object)]
#[oai(skip_serializing_if_is_none)]
struct Token {
    id: String,
    person_id: String,
    name: String,
    /// What it may do at most; never more than its owner.
    role: Role,
    /// The token: only in the answer that makes it.
    token: Option<String>,
    /// In a repeated answer, instead of the token.
    secret_already_delivered: Option<bool>,
    created_at: When,
    expires_at: When,
    /// To within a few minutes.
    last_used_at: Option<When>,
}

/// A page of tokens.
#[derive(Object)]
#[oai(skip_serializing_if_is_none)]
struct TokenList {
    items: Vec<Token>,
    next_cursor: Option<String>,
}

/// A new token.
#[derive(Debug, Object)]
#[oai(deny_unknown_fields)]
struct NewToken {
    #[oai(validator(max_length = 64))]
    name: String,
    role: Role,
    #[oai(validator(minimum(value = "1"), maximum(value = "365")))]
    expires_in_days: u32,
}

#[OpenApi(prefix_path = "/api/v1/", tag = "Tag::Tokens")]
impl Api {
    /// Tokens: your own, or everyone's for an administrator
    #[oai(path = "/tokens", method = "get", operation_id = "listTokens")]
    async fn list(
        &self,
        call: Call,
        #[oai(validator(minimum(value = "1"), maximum(value = "200")))] limit: Query<Option<u32>>,
        cursor: Query<Option<String>>,
    ) -> Outcome<Shown<TokenList>> {
        let person = call.caller()?.narrow(None)?;
        let page = Page::<TokenId>::read(&limit, &cursor)?;
        let fetched = self.0.store().tokens(person, page.after, page.fetch()).await?;
        let (tokens, next_cursor) = page.cut(fetched, |token| token.id.to_string());
        let items = tokens.into_iter().map(|row| look(row, None)).collect();
        Ok(Shown::new(TokenList { items, next_cursor }))
    }

    /// Makes a token for yourself
    #[oai(path = "/tokens", method = "post", operation_id = "createToken")]
    async fn make(&self, call: Call, body: Body<NewToken>) -> Outcome<Created<Token>> {
        let caller = call.caller()?;
        let owner = caller.own()?;
        let Body(body) = body;
        let role = domain::Role::from(body.role);
        let mut faults = Faults::default();
        let name = faults.take("/name", fields::name(&body.name));
        if role > caller.role {
            faults.add("/role", "not_allowed", "A token cannot do more than you.");
        }
        let name = faults.unless(name)?;
        let mut expires_at = call.now.plus(DAY * body.expires_in_days);
        if let Proof::Token(parent) = &caller.proof {
            // Else a leaked token could live on for ever in its children.
            expires_at = expires_at.min(parent.expires_at);
        }
        let fresh = token::fresh(self.0.entropy());
        let row = rows::Token {
            id: TokenId::new(),
            secret: secret::hash(fresh.expose()),
            person: owner.id,
            name,
            role,
            created_at: call.now,
            expires_at,
            last_used_at: None,
        };
        let transaction = self.0.store().begin().await?;
        transaction.insert_token(&row).await?;
        let note = format!("token {}", row.id);
        transaction.finish_act(call.act()?, ActOutcome::Succeeded, Some(&note), call.now).await?;
        transaction.commit().await?;
        call.closed();
        Ok(Created::at(format!("/api/v1/tokens/{}", row.id), look(row, Some(fresh))))
    }

    /// Revokes a token
    #[oai(path = "/tokens/:id", method = "delete", operation_id = "revokeToken")]
    async fn revoke(&self, call: Call, id: Path<String>) -> Outcome<NoContent> {
        let missing = || Problem::not_found("token");
        let id: TokenId = id.0.parse().map_err(|_| missing())?;
        let owner = call.caller()?.narrow(None)?;
        let transaction = self.0.store().begin().await?;
        if !transaction.delete_token(id, owner).await? {
            return Err(missing());
        }
        transaction.finish_act(call.act()?, ActOutcome::Succeeded, None, call.now).await?;
        transaction.commit().await?;
        call.closed();
        Ok(NoContent::new())
    }
}

fn look(row: rows::Token, fresh: Option<Secret<String>>) -> Token {
    Token {
        id: row.id.to_string(),
        person_id: row.person.to_string(),
        name: row.name,
        role: row.role.into(),
        token: fresh.map(|fresh| fresh.expose().clone()),
        secret_already_delivered: None,
        created_at: row.created_at.into(),
        expires_at: row.expires_at.into(),
        last_used_at: row.last_used_at.map(When),
    }
}
