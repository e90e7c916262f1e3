//! Profiles as the authority keeps them: versioned, explained, and rehearsed before they count.

use super::Ca;
use super::issue::{DeviceChoice, IssueError, IssueRequest};
use super::policy::Question;
use crate::domain::audit::{Act, Outcome};
use crate::domain::{Actor, LineageId, PersonId, Slug, UtcTime};
use crate::pki::profile::{Rule, RuleFault, Rules, Ruling, refusal};
use crate::pki::{KeyPolicy, Profile, SigningRequest};
use crate::store::StoreError;
use crate::store::profiles::{ProfileVersion, REQUESTS_KEPT};

/// Requests that one rehearsal looks at.
const MOST_REHEARSED: u64 = 10_000;

/// Why a profile was not changed.
#[derive(Debug, thiserror::Error)]
pub enum EditProfileError {
    /// Rules are out of their bounds. -> 422
    #[error("{} rules of the profile are out of bounds", .0.len())]
    Faults(Vec<RuleFault>),
    /// The row could not be changed; [`StoreError::Conflict`] when somebody else did, [`StoreError::Taken`]
    /// when the name is there already.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What every rule says to a request that was not made.
#[derive(Clone, Debug)]
pub struct Explained {
    /// Which version of the profile said it.
    pub profile_version: u64,
    /// Every rule, in order.
    pub rulings: Vec<Ruling>,
}

/// What a draft would have said to what was asked.
#[derive(Clone, Debug)]
pub struct Rehearsal {
    /// How many requests it was tried on.
    pub requests: u64,
    /// Whether there were more than were looked at; the newest were.
    pub is_cut: bool,
    /// Those that would have ended otherwise, newest first.
    pub changed: Vec<RehearsedRequest>,
}

/// A request that a draft would have answered otherwise.
#[derive(Clone, Debug)]
pub struct RehearsedRequest {
    /// When it was made.
    pub at: UtcTime,
    /// For whom.
    pub person: PersonId,
    /// Which rule refused it then.
    pub was_refused_by: Option<Rule>,
    /// What the draft's refusing rule says, if one refuses.
    pub would_be_refused_by: Option<Ruling>,
}

impl Ca {
    /// The profile of this name.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn profile(&self, name: &Slug) -> Result<Option<Profile>, StoreError> {
        self.0.store.profile(name).await
    }

    /// Every profile, by name.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn profiles(&self) -> Result<Vec<Profile>, StoreError> {
        self.0.store.profiles().await
    }

    /// The versions of a profile, newest first, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn profile_versions(&self, name: &Slug, limit: u64) -> Result<Vec<ProfileVersion>, StoreError> {
        self.0.store.profile_versions(name, limit).await
    }

    /// Adds the profile that every installation starts with, if there is none of its name.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn ensure_profiles(&self, now: UtcTime) -> Result<(), StoreError> {
        let device = Profile::device();
        if self.0.store.profile(&device.name).await?.is_some() {
            return Ok(());
        }
        let transaction = self.0.store.begin().await?;
        match transaction.insert_profile(&device, &Actor::System("init"), now).await {
            // Another replica was first.
            Err(StoreError::Taken { .. }) => Ok(()),
            Err(error) => Err(error),
            Ok(()) => transaction.commit().await,
        }
    }

    /// Adds a profile. `act` is closed with the row.
    ///
    /// # Errors
    /// As [`EditProfileError`] says.
    pub async fn create_profile(
        &self,
        name: Slug,
        rules: Rules,
        act: &Act,
        now: UtcTime,
    ) -> Result<Profile, EditProfileError> {
        within_bounds(&rules)?;
        let profile = Profile { name, version: 1, rules };
        let transaction = self.0.store.begin().await?;
        transaction.insert_profile(&profile, &act.actor, now).await?;
        transaction.finish_act(act, Outcome::Succeeded, Some("version 1"), now).await?;
        transaction.commit().await?;
        Ok(profile)
    }

    /// Gives a profile, as it was read, new rules: its next version. What was issued under older ones
    /// stays as it is; renewals run the new ones.
    ///
    /// # Errors
    /// As [`EditProfileError`] says.
    pub async fn edit_profile(
        &self,
        read: &Profile,
        rules: Rules,
        act: &Act,
        now: UtcTime,
    ) -> Result<Profile, EditProfileError> {
        within_bounds(&rules)?;
        let profile = Profile { name: read.name.clone(), version: read.version + 1, rules };
        let transaction = self.0.store.begin().await?;
        transaction.update_profile(&profile, &act.actor, now).await?;
        let detail = format!("version {}", profile.version);
        transaction.finish_act(act, Outcome::Succeeded, Some(&detail), now).await?;
        transaction.commit().await?;
        Ok(profile)
    }

    /// What every rule says to a request of `actor` that is not made.
    ///
    /// # Errors
    /// [`IssueError`] when there is no such person, device or profile, or the request cannot be read.
    pub async fn explain(
        &self,
        wanted: &IssueRequest,
        actor: &Actor,
        now: UtcTime,
    ) -> Result<Explained, IssueError> {
        let store = &self.0.store;
        let found = store.profile(&wanted.profile).await?;
        let profile = found.ok_or_else(|| IssueError::NoProfile(wanted.profile.clone()))?;
        let person = store.person(wanted.person).await?.ok_or(IssueError::NoPerson)?;
        if let DeviceChoice::Existing(id) = wanted.device {
            let device = store.device(id).await?.filter(|device| device.person == person.id);
            device.ok_or(IssueError::NoDevice)?;
        }
        let request = SigningRequest::from_pem(&wanted.csr_pem, &KeyPolicy::ANY).map_err(IssueError::Csr)?;
        let question = Question {
            person: &person,
            profile: &profile,
            public_key: request.public_key(),
            lineage: LineageId::new(),
            predecessor: None,
            dns_names: &wanted.dns_names,
        };
        // Dropped without a commit: nothing of it stays.
        let transaction = store.begin().await?;
        let rulings = question.rulings(&transaction, actor, now).await?;
        Ok(Explained { profile_version: profile.version, rulings })
    }

    /// Says which of the last thirty days' requests a draft of this profile's rules would have answered
    /// otherwise.
    ///
    /// # Errors
    /// [`EditProfileError::Faults`] when the draft is out of bounds, [`StoreError`].
    pub async fn rehearse(
        &self,
        profile: &Slug,
        draft: Rules,
        now: UtcTime,
    ) -> Result<Rehearsal, EditProfileError> {
        within_bounds(&draft)?;
        let since = now.minus(REQUESTS_KEPT);
        let mut asked = self.0.store.issuance_requests(profile, since, MOST_REHEARSED + 1).await?;
        let is_cut = asked.len() as u64 > MOST_REHEARSED;
        asked.truncate(usize::try_from(MOST_REHEARSED).unwrap_or(usize::MAX));
        let requests = asked.len() as u64;
        let draft = Profile { name: profile.clone(), version: 0, rules: draft };
        let changed = asked
            .into_iter()
            .filter_map(|request| {
                let refused = refusal(draft.judge(&request.facts));
                let differs = refused.is_some() != request.refused_by.is_some();
                differs.then_some(RehearsedRequest {
                    at: request.at,
                    person: request.person,
                    was_refused_by: request.refused_by,
                    would_be_refused_by: refused,
                })
            })
            .collect();
        Ok(Rehearsal { requests, is_cut, changed })
    }
}

fn within_bounds(rules: &Rules) -> Result<(), EditProfileError> {
    let faults = rules.faults();
    if faults.is_empty() { Ok(()) } else { Err(EditProfileError::Faults(faults)) }
}
