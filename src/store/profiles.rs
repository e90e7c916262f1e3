//! Profiles, every version of them, and what was asked of them.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use entity::{issuance_request, profile, profile_version};
use sea_orm::sea_query::Expr;
use sea_orm::{ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use uuid::Uuid;

use super::{Store, StoreError, Transaction, at, json, named, parse, to_json};
use crate::domain::{Actor, PersonId, Slug, UtcTime};
use crate::pki::Profile;
use crate::pki::profile::{Facts, Rule, Rules};

/// How long what was asked is kept: a draft is rehearsed on this much of the past.
pub const REQUESTS_KEPT: Duration = Duration::from_secs(30 * 86_400);

/// A profile as it once was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProfileVersion {
    /// Which version.
    pub version: u64,
    /// What it said.
    pub rules: Rules,
    /// Who made it.
    pub actor: String,
    /// When.
    pub at: UtcTime,
}

/// What was asked of a profile, and what it said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuanceRequest {
    /// When.
    pub at: UtcTime,
    /// For whom.
    pub person: PersonId,
    /// Of which profile.
    pub profile: Slug,
    /// Of which version.
    pub profile_version: u64,
    /// What it was judged by.
    pub facts: Facts,
    /// Which rule refused it, if one did.
    pub refused_by: Option<Rule>,
}

impl Store {
    /// The profile of this name.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn profile(&self, name: &Slug) -> Result<Option<Profile>, StoreError> {
        profile::Entity::find_by_id(name.to_string()).one(self.reader()).await?.map(read).transpose()
    }

    /// Those of these profiles that there are.
    pub(in crate::store) async fn profiles_by_name(
        &self,
        names: HashSet<&Slug>,
    ) -> Result<HashMap<Slug, Profile>, StoreError> {
        let names = names.into_iter().map(ToString::to_string);
        let rows =
            profile::Entity::find().filter(profile::Column::Name.is_in(names)).all(self.reader()).await?;
        rows.into_iter().map(|row| read(row).map(|profile| (profile.name.clone(), profile))).collect()
    }

    /// Every profile, by name.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn profiles(&self) -> Result<Vec<Profile>, StoreError> {
        let query = profile::Entity::find().order_by_asc(profile::Column::Name);
        query.all(self.reader()).await?.into_iter().map(read).collect()
    }

    /// What the profile was, newest version first, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn profile_versions(&self, name: &Slug, limit: u64) -> Result<Vec<ProfileVersion>, StoreError> {
        let query = profile_version::Entity::find()
            .filter(profile_version::Column::Profile.eq(name.to_string()))
            .order_by_desc(profile_version::Column::Version)
            .limit(limit);
        let read = |row: profile_version::Model| {
            Ok(ProfileVersion {
                version: u64::try_from(row.version).unwrap_or(0),
                rules: json("a profile's rules", &row.rules)?,
                actor: row.actor,
                at: at(row.at),
            })
        };
        query.all(self.reader()).await?.into_iter().map(read).collect()
    }

    /// What was asked of a profile since `since`, newest first, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn issuance_requests(
        &self,
        profile: &Slug,
        since: UtcTime,
        limit: u64,
    ) -> Result<Vec<IssuanceRequest>, StoreError> {
        use issuance_request::Column;
        let query = issuance_request::Entity::find()
            .filter(Column::Profile.eq(profile.to_string()))
            .filter(Column::At.gte(since.as_unix()))
            .order_by_desc(Column::At)
            .order_by_desc(Column::Id)
            .limit(limit);
        query.all(self.reader()).await?.into_iter().map(read_request).collect()
    }

    /// Forgets what was asked before `before`. Returns how many.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn sweep_issuance_requests(&self, before: UtcTime) -> Result<u64, StoreError> {
        let query =
            issuance_request::Entity::delete_many().filter(issuance_request::Column::At.lt(before.as_unix()));
        Ok(query.exec(self.writer()).await?.rows_affected)
    }
}

impl Transaction {
    /// The profile of this name, as this transaction sees it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn profile(&self, name: &Slug) -> Result<Option<Profile>, StoreError> {
        profile::Entity::find_by_id(name.to_string()).one(self.connection()).await?.map(read).transpose()
    }

    /// Adds a profile as its first version.
    ///
    /// # Errors
    /// [`StoreError::Taken`] when the name is there already.
    pub async fn insert_profile(&self, new: &Profile, actor: &Actor, now: UtcTime) -> Result<(), StoreError> {
        let row = profile::ActiveModel {
            name: Set(new.name.to_string()),
            rules: Set(to_json("a profile's rules", &new.rules)?),
            created_at: Set(now.as_unix()),
            version: Set(number(new.version)),
        };
        let inserted = profile::Entity::insert(row).exec_without_returning(self.connection()).await;
        inserted.map_err(|error| StoreError::unique(error, "the profile's name"))?;
        self.keep_version(new, actor, now).await
    }

    /// Changes a profile; `edited.version` is the version that it becomes.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when it is no longer the version before.
    pub async fn update_profile(
        &self,
        edited: &Profile,
        actor: &Actor,
        now: UtcTime,
    ) -> Result<(), StoreError> {
        let update = profile::Entity::update_many()
            .col_expr(profile::Column::Rules, Expr::value(to_json("a profile's rules", &edited.rules)?))
            .col_expr(profile::Column::Version, Expr::value(number(edited.version)))
            .filter(profile::Column::Name.eq(edited.name.to_string()))
            .filter(profile::Column::Version.eq(number(edited.version) - 1));
        if update.exec(self.connection()).await?.rows_affected != 1 {
            return Err(StoreError::Conflict { what: "the profile" });
        }
        self.keep_version(edited, actor, now).await
    }

    async fn keep_version(&self, profile: &Profile, actor: &Actor, now: UtcTime) -> Result<(), StoreError> {
        let row = profile_version::ActiveModel {
            id: Set(Uuid::now_v7().to_string()),
            profile: Set(profile.name.to_string()),
            version: Set(number(profile.version)),
            rules: Set(to_json("a profile's rules", &profile.rules)?),
            actor: Set(actor.to_string()),
            at: Set(now.as_unix()),
        };
        profile_version::Entity::insert(row).exec_without_returning(self.connection()).await?;
        Ok(())
    }

    /// Keeps what was asked of a profile.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn insert_issuance_request(&self, new: &IssuanceRequest) -> Result<(), StoreError> {
        let row = request_row(new)?;
        issuance_request::Entity::insert(row).exec_without_returning(self.connection()).await?;
        Ok(())
    }
}

pub(in crate::store) fn request_row(
    new: &IssuanceRequest,
) -> Result<issuance_request::ActiveModel, StoreError> {
    Ok(issuance_request::ActiveModel {
        id: Set(Uuid::now_v7().to_string()),
        at: Set(new.at.as_unix()),
        person_id: Set(new.person.to_string()),
        profile: Set(new.profile.to_string()),
        profile_version: Set(number(new.profile_version)),
        facts: Set(to_json("the facts of a request", &new.facts)?),
        refused_by: Set(new.refused_by.map(|rule| rule.name().to_owned())),
    })
}

fn number(version: u64) -> i64 {
    i64::try_from(version).unwrap_or(i64::MAX)
}

fn read(row: profile::Model) -> Result<Profile, StoreError> {
    Ok(Profile {
        name: parse("a profile's name", &row.name)?,
        version: u64::try_from(row.version).unwrap_or(0),
        rules: json("a profile's rules", &row.rules)?,
    })
}

fn read_request(row: issuance_request::Model) -> Result<IssuanceRequest, StoreError> {
    let refused_by = match &row.refused_by {
        Some(name) => Some(named("a rule", name, Rule::from_name(name))?),
        None => None,
    };
    Ok(IssuanceRequest {
        at: at(row.at),
        person: parse("a request's person", &row.person_id)?,
        profile: parse("a request's profile", &row.profile)?,
        profile_version: u64::try_from(row.profile_version).unwrap_or(0),
        facts: json("the facts of a request", &row.facts)?,
        refused_by,
    })
}
