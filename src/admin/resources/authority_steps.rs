//! Rolling authorities over, step by step. What each step needs and does is `ca`'s to say.

use poem_openapi::param::{Path, Query};
use poem_openapi::{Object, OpenApi};

use super::Tag;
use super::authorities::{Authority, look};
use crate::admin::auth::caller::Call;
use crate::admin::body::{Body, Shown};
use crate::admin::error::{Outcome, Problem, chain, sentence};
use crate::admin::page::Page;
use crate::admin::services::Services;
use crate::admin::values::When;
use crate::ca::{InitError, Moved, RolloverError};
use crate::domain::{Serial, Slug};
use crate::pki::issuer::PrepareError;

/// Operations on one authority. What is at the listing's own path is in `authorities`.
pub struct Api(pub Services);

/// What the caller knows of the consequences.
#[derive(Debug, Object)]
#[oai(deny_unknown_fields)]
struct Archival {
    /// How many active certificates break by it, as `dependants` said; may be left out when none does.
    #[oai(validator(minimum(value = "0"), maximum(value = "4294967295")))]
    acknowledge: Option<u64>,
}

/// A certificate that would no longer pass.
#[derive(Debug, Object)]
struct Dependant {
    serial: String,
    authority: String,
    person_id: String,
    device_id: String,
    device_name: String,
    not_after: When,
}

/// Who would break if the authority were archived now.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
struct DependantList {
    /// Active certificates: neither revoked nor expired.
    certificates: u64,
    /// People who have one.
    people: u64,
    /// Devices that have one.
    devices: u64,
    /// The issuing authorities behind them: a root counts what leads to it alone.
    authorities: Vec<String>,
    items: Vec<Dependant>,
    next_cursor: Option<String>,
}

#[OpenApi(prefix_path = "/api/v1/", tag = "Tag::Authorities")]
impl Api {
    /// Takes a staged authority into client trust
    ///
    /// A root and the one that issues vouch for each other first.
    #[oai(path = "/authorities/:name/trust", method = "post", operation_id = "trustAuthority")]
    async fn trust(&self, call: Call, name: Path<String>) -> Outcome<Shown<Authority>> {
        let moved = self.0.ca().trust(&slug(&name)?, call.act()?, call.now).await?;
        self.moved(&call, moved).await
    }

    /// Takes a trusted authority out of client trust again, before it ever issued
    #[oai(path = "/authorities/:name/rollback", method = "post", operation_id = "rollBackAuthority")]
    async fn roll_back(&self, call: Call, name: Path<String>) -> Outcome<Shown<Authority>> {
        let moved = self.0.ca().roll_back(&slug(&name)?, call.act()?, call.now).await?;
        self.moved(&call, moved).await
    }

    /// Lets a trusted authority issue from now on
    ///
    /// The one of its kind that did retires in the same moment.
    #[oai(path = "/authorities/:name/issuance", method = "post", operation_id = "letAuthorityIssue")]
    async fn let_issue(&self, call: Call, name: Path<String>) -> Outcome<Shown<Authority>> {
        let moved = self.0.ca().let_issue(&slug(&name)?, call.act()?, call.now).await?;
        self.moved(&call, moved).await
    }

    /// Stops an authority from issuing, without a successor
    #[oai(path = "/authorities/:name/retirement", method = "post", operation_id = "retireAuthority")]
    async fn retire(&self, call: Call, name: Path<String>) -> Outcome<Shown<Authority>> {
        let moved = self.0.ca().retire(&slug(&name)?, call.act()?, call.now).await?;
        self.moved(&call, moved).await
    }

    /// Takes an authority out of client trust for good
    ///
    /// With a root go the issuing authorities that lead to it alone.
    #[oai(path = "/authorities/:name/archival", method = "post", operation_id = "archiveAuthority")]
    async fn archive(
        &self,
        call: Call,
        name: Path<String>,
        body: Body<Archival>,
    ) -> Outcome<Shown<Authority>> {
        let acknowledge = body.0.acknowledge.unwrap_or(0);
        let moved = self.0.ca().archive(&slug(&name)?, acknowledge, call.act()?, call.now).await?;
        self.moved(&call, moved).await
    }

    /// Who would break if an authority were archived now
    #[oai(path = "/authorities/:name/dependants", method = "get", operation_id = "listDependants")]
    async fn dependants(
        &self,
        call: Call,
        name: Path<String>,
        #[oai(validator(minimum(value = "1"), maximum(value = "200")))] limit: Query<Option<u32>>,
        cursor: Query<Option<String>>,
    ) -> Outcome<Shown<DependantList>> {
        let page = Page::<Serial>::read(&limit, &cursor)?;
        let (count, authorities) = self.0.ca().dependants(&slug(&name)?, call.now).await?;
        let store = self.0.store();
        let fetched = store.dependent_certificates(&authorities, page.after, page.fetch(), call.now).await?;
        let (rows, next_cursor) = page.cut(fetched, |row| row.serial.to_string());
        let mut items = Vec::with_capacity(rows.len());
        for row in rows {
            let device = store.device(row.device).await?;
            items.push(Dependant {
                serial: row.serial.to_string(),
                authority: row.authority.to_string(),
                person_id: row.person.to_string(),
                device_id: row.device.to_string(),
                device_name: device.map(|device| device.name).unwrap_or_default(),
                not_after: row.not_after.into(),
            });
        }
        Ok(Shown::new(DependantList {
            certificates: count.certificates,
            people: count.people,
            devices: count.devices,
            authorities: authorities.iter().map(ToString::to_string).collect(),
            items,
            next_cursor,
        }))
    }
}

impl Api {
    async fn moved(&self, call: &Call, moved: Moved) -> Outcome<Shown<Authority>> {
        call.closed();
        let enforced = Some(moved.enforced.into());
        // What was put away unsigned has nothing to show.
        let shown = look(&self.0, moved.authority, enforced).await?;
        Ok(Shown::new(shown.ok_or_else(|| Problem::not_found("authority"))?))
    }
}

fn slug(name: &Path<String>) -> Outcome<Slug> {
    name.0.parse().map_err(|_| Problem::not_found("authority"))
}

impl From<RolloverError> for Problem {
    fn from(error: RolloverError) -> Self {
        let said = sentence(&error.to_string());
        match error {
            RolloverError::Missing => Self::not_found("authority"),
            RolloverError::Step { .. } => Self::conflict("wrong_state", said),
            RolloverError::Unsigned(_) => Self::conflict("ceremony_pending", said),
            RolloverError::Replaced => Self::conflict("conflict", said),
            RolloverError::RootNotTrusted(_) => Self::conflict("root_not_trusted", said),
            RolloverError::TooShort { .. } => Self::conflict("outlives_authority", said),
            RolloverError::StillIssuing(_) => Self::conflict("still_issuing", said),
            RolloverError::WouldBreak { .. } => Self::conflict("would_break", said),
            RolloverError::Kind => Self::field("/kind", "not_rolled_over", said),
            RolloverError::Make(InitError::NoRoot) => Self::conflict("no_root", said),
            RolloverError::Make(InitError::OfflineRoot(_)) => Self::conflict("offline_root", said),
            RolloverError::Make(InitError::Prepare(PrepareError::OutlivesAuthority { ends, .. })) => {
                Self::conflict(
                    "outlives_authority",
                    format!(
                        "The root ends {ends}, before the new authority would: roll the root over first."
                    ),
                )
            }
            RolloverError::Make(InitError::Store(cause)) | RolloverError::Store(cause) => cause.into(),
            RolloverError::Make(InitError::Compare(_)) => Self::internal(&chain(&error)),
            RolloverError::Make(_) | RolloverError::Cross(_) => Self::unavailable(&error),
        }
    }
}
