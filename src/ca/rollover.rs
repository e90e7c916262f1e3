//! Rolling authorities over: staged -> trusted -> issuing -> retiring -> archived, for roots and issuing
//! authorities alike. Which step leads where is [`AuthorityState::after`]; here is what else must hold.
//!
//! Every step is one transaction of states, register deltas and the audit event `finished`, and its
//! answer waits for the edges.

use std::time::Duration;

use super::authorities::{DAY, ISSUING_DAYS, record};
use super::cross::CrossError;
use super::{Ca, InitError};
use crate::domain::audit::{Act, Outcome};
use crate::domain::{AuthorityKind, AuthorityState, AuthorityStep, Delta, Enforced, Slug, UtcTime};
use crate::store::authorities::Authority;
use crate::store::rollover::Dependants;
use crate::store::settings::INSTALLATION_NAME;
use crate::store::{StoreError, Transaction};

/// What a step did.
#[derive(Clone, Debug)]
pub struct Moved {
    /// The authority that was moved.
    pub authority: Authority,
    /// Others that moved with it: the one that issued before, or what stood only on an archived root.
    pub others: Vec<Authority>,
    /// How many edges have it.
    pub enforced: Enforced,
}

/// Why an authority was not moved. Nothing changed.
#[derive(Debug, thiserror::Error)]
pub enum RolloverError {
    /// No such authority. -> 404
    #[error("there is no such authority")]
    Missing,
    /// The step does not start where it stands. -> 409
    #[error("{authority} is {}, and cannot {} from there", .state.name(), .step.name())]
    Step {
        /// Which authority.
        authority: Slug,
        /// Where it stands.
        state: AuthorityState,
        /// What was asked for.
        step: AuthorityStep,
    },
    /// Its certificate comes from a ceremony that is not over. -> 409
    #[error("{0} has no certificate yet: import the outcome of its key ceremony first")]
    Unsigned(Slug),
    /// Somebody else moved authorities at the same time. -> 409
    #[error("someone else moved an authority at the same moment: look again")]
    Replaced,
    /// The root above it is not trusted. -> 409
    #[error("its root {0} is not trusted: trust that one first")]
    RootNotTrusted(Slug),
    /// It ends before a leaf of today would. -> 409
    #[error(
        "{authority} ends {ends}, before a certificate of full length that is issued today: stage another"
    )]
    TooShort {
        /// Which authority.
        authority: Slug,
        /// When it ends.
        ends: UtcTime,
    },
    /// A root whose issuing authority issues cannot go. -> 409
    #[error("{0} stands on this root and issues: let another issue first")]
    StillIssuing(Slug),
    /// Somebody depends on it. -> 409
    #[error("{count} active certificates would break, and {acknowledged} were acknowledged")]
    WouldBreak {
        /// How many would, now.
        count: u64,
        /// How many the caller reckoned with.
        acknowledged: u64,
    },
    /// Local server and upstream authorities are not rolled over by hand. -> 422
    #[error("only roots and issuing authorities are rolled over")]
    Kind,
    /// The new generation could not be made.
    #[error(transparent)]
    Make(#[from] InitError),
    /// The roots could not vouch for each other.
    #[error(transparent)]
    Cross(#[from] CrossError),
    /// The rows could not be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Ca {
    /// Makes the next generation of `kind`: key sealed, certificate signed, trusted by nobody yet.
    /// A new issuing authority stands under the root that issues.
    ///
    /// # Errors
    /// As [`RolloverError`] says; `act` is closed on success only.
    pub async fn stage(
        &self,
        kind: AuthorityKind,
        act: &Act,
        now: UtcTime,
    ) -> Result<Authority, RolloverError> {
        if !kind.is_for_clients() {
            return Err(RolloverError::Kind);
        }
        if kind == AuthorityKind::Root && self.has_offline_root().await? {
            let (name, _) = self.next_generation(kind).await?;
            return Err(InitError::OfflineRoot(name).into());
        }
        let organisation = self.organisation().await?;
        Ok(self.make_authority(kind, &organisation, AuthorityState::Staged, act, now).await?)
    }

    /// Takes `name` into client trust. A root and the one that issues vouch for each other first, if
    /// both keys are in this system.
    ///
    /// # Errors
    /// As [`RolloverError`] says.
    pub async fn trust(&self, name: &Slug, act: &Act, now: UtcTime) -> Result<Moved, RolloverError> {
        let authority = self.find(name).await?;
        check_step(&authority, AuthorityStep::Trust)?;
        if authority.kind == AuthorityKind::Root {
            self.cross_certify(&authority, act, now).await?;
        }
        self.step(&authority, AuthorityStep::Trust, act, now).await
    }

    /// Takes a trusted authority out of trust again, before it ever signed.
    ///
    /// # Errors
    /// As [`RolloverError`] says.
    pub async fn roll_back(&self, name: &Slug, act: &Act, now: UtcTime) -> Result<Moved, RolloverError> {
        self.step(&self.find(name).await?, AuthorityStep::RollBack, act, now).await
    }

    /// Stops `name` from signing anything but its lists, without a successor.
    ///
    /// # Errors
    /// As [`RolloverError`] says.
    pub async fn retire(&self, name: &Slug, act: &Act, now: UtcTime) -> Result<Moved, RolloverError> {
        self.step(&self.find(name).await?, AuthorityStep::Retire, act, now).await
    }

    /// From the answer on, `name` signs what authorities of its kind sign; the one that did retires in the
    /// same transaction.
    ///
    /// # Errors
    /// As [`RolloverError`] says; of two administrators at the same moment one gets
    /// [`RolloverError::Replaced`].
    pub async fn let_issue(&self, name: &Slug, act: &Act, now: UtcTime) -> Result<Moved, RolloverError> {
        let store = &self.0.store;
        let next = self.find(name).await?;
        check_step(&next, AuthorityStep::Issue)?;
        let current = store.signing_authority(next.kind).await?;
        if next.kind == AuthorityKind::Issuing && now.plus(self.longest_leaf().await?) > next.not_after {
            return Err(RolloverError::TooShort { authority: next.name, ends: next.not_after });
        }
        let transaction = store.begin().await?;
        transaction.lock_register().await?;
        let all = transaction.authorities().await?;
        let issues = all.iter().find(|a| a.kind == next.kind && a.state == AuthorityState::Issuing);
        if issues.map(|found| &found.name) != current.as_ref().map(|found| &found.name) {
            return Err(RolloverError::Replaced);
        }
        let root = next.issuer.as_ref().and_then(|root| all.iter().find(|a| a.name == *root));
        if let Some(root) = root.filter(|root| !root.state.is_in_force()) {
            return Err(RolloverError::RootNotTrusted(root.name.clone()));
        }
        // First out, then in: at no moment do two of a kind issue.
        let mut others = Vec::new();
        if let Some(current) = current {
            others.push(move_in(&transaction, current, AuthorityState::Retiring).await?);
        }
        let authority = move_in(&transaction, next, AuthorityState::Issuing).await?;
        self.commit_moves(transaction, authority, others, act, now).await
    }

    /// Takes `name` out of trust for good; with a root go the issuing authorities that stand on it alone.
    ///
    /// * `acknowledge` — how many active certificates break by it, as the caller was told; exactly that
    ///   number, counted while nothing can be issued.
    ///
    /// # Errors
    /// As [`RolloverError`] says.
    pub async fn archive(
        &self,
        name: &Slug,
        acknowledge: u64,
        act: &Act,
        now: UtcTime,
    ) -> Result<Moved, RolloverError> {
        let crosses = self.cross_links(now).await?;
        let transaction = self.0.store.begin().await?;
        transaction.lock_register().await?;
        let all = transaction.authorities().await?;
        let authority = all.iter().find(|found| found.name == *name).ok_or(RolloverError::Missing)?;
        let to = check_step(authority, AuthorityStep::Archive)?;
        let with_it = standing_on(authority, &all, &crosses);
        if let Some(issues) = with_it.iter().find(|found| found.state == AuthorityState::Issuing) {
            return Err(RolloverError::StillIssuing(issues.name.clone()));
        }
        let names = names_of(authority, &with_it);
        let count = transaction.dependants(&names, now).await?.certificates;
        if count != acknowledge {
            return Err(RolloverError::WouldBreak { count, acknowledged: acknowledge });
        }
        let mut others = Vec::new();
        for other in with_it {
            others.push(move_in(&transaction, other.clone(), AuthorityState::Archived).await?);
        }
        let authority = move_in(&transaction, authority.clone(), to).await?;
        self.commit_moves(transaction, authority, others, act, now).await
    }

    /// Who would break if `name` were archived now, with the authorities behind them.
    ///
    /// # Errors
    /// [`RolloverError::Missing`], [`RolloverError::Store`].
    pub async fn dependants(
        &self,
        name: &Slug,
        now: UtcTime,
    ) -> Result<(Dependants, Vec<Slug>), RolloverError> {
        let names = self.dependent_authorities(name, now).await?;
        Ok((self.0.store.dependants(&names, now).await?, names))
    }

    /// The issuing authorities whose leaves stop passing when `name` is archived.
    async fn dependent_authorities(&self, name: &Slug, now: UtcTime) -> Result<Vec<Slug>, RolloverError> {
        let authority = self.find(name).await?;
        let all = self.0.store.authorities().await?;
        let crosses = self.cross_links(now).await?;
        Ok(names_of(&authority, &standing_on(&authority, &all, &crosses)))
    }

    /// The life of the longest certificate that any profile gives.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn longest_leaf(&self) -> Result<Duration, StoreError> {
        let profiles = self.profiles().await?;
        Ok(profiles.iter().map(crate::pki::Profile::lifetime).max().unwrap_or_default())
    }

    /// What an authority of `kind` must have left to give a full term to what it signs: the longest leaf,
    /// or an issuing authority's life. `None` for local server authorities, whose leaves are cut short, and
    /// for upstream authorities, which are replaced by themselves.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn full_term(&self, kind: AuthorityKind) -> Result<Option<Duration>, StoreError> {
        Ok(match kind {
            AuthorityKind::Root => Some(DAY * ISSUING_DAYS),
            AuthorityKind::Issuing => Some(self.longest_leaf().await?),
            AuthorityKind::LocalServer | AuthorityKind::Upstream => None,
        })
    }

    /// Whether status is given for what `authority` signed: from trust on, and after the archive until a
    /// list was published after the end of the last leaf (RFC 5280 §3.3).
    ///
    /// # Errors
    /// [`StoreError`].
    pub(super) async fn keeps_status(&self, authority: &Authority, now: UtcTime) -> Result<bool, StoreError> {
        let store = &self.0.store;
        let can = authority.kind.is_for_clients()
            && authority.certificate.is_some()
            && now < authority.not_after
            && store.signing_key(&authority.key_id).await?.is_here();
        if !can || authority.state != AuthorityState::Archived {
            return Ok(can && authority.state.is_in_force());
        }
        let mut below: Vec<Slug> = vec![authority.name.clone()];
        let all = store.authorities().await?;
        below.extend(all.into_iter().filter(|a| a.issuer.as_ref() == Some(&authority.name)).map(|a| a.name));
        let Some(last) = store.last_end_under(&below).await? else { return Ok(false) };
        Ok(store.latest_crl_dates(&authority.name).await?.is_none_or(|list| list.this_update <= last))
    }

    /// What the installation is called in the names of its authorities.
    pub(super) async fn organisation(&self) -> Result<String, StoreError> {
        let name = self.0.store.setting(INSTALLATION_NAME).await?;
        Ok(name.unwrap_or_else(|| "Wicketgate".to_owned()))
    }

    async fn find(&self, name: &Slug) -> Result<Authority, RolloverError> {
        self.0.store.authority(name).await?.ok_or(RolloverError::Missing)
    }

    async fn step(
        &self,
        authority: &Authority,
        step: AuthorityStep,
        act: &Act,
        now: UtcTime,
    ) -> Result<Moved, RolloverError> {
        let to = check_step(authority, step)?;
        let transaction = self.0.store.begin().await?;
        transaction.lock_register().await?;
        let authority = move_in(&transaction, authority.clone(), to).await?;
        self.commit_moves(transaction, authority, Vec::new(), act, now).await
    }

    async fn commit_moves(
        &self,
        transaction: Transaction,
        authority: Authority,
        others: Vec<Authority>,
        act: &Act,
        now: UtcTime,
    ) -> Result<Moved, RolloverError> {
        let mut deltas = Vec::with_capacity(others.len() + 1);
        for moved in others.iter().chain([&authority]).filter(|moved| moved.certificate.is_some()) {
            deltas.push(Delta::Authority(record(moved)?));
        }
        transaction.append_changes(&deltas, now).await?;
        let detail = format!("{} is {}", authority.name, authority.state.name());
        transaction.finish_act(act, Outcome::Succeeded, Some(&detail), now).await?;
        transaction.commit().await?;
        for moved in others.iter().chain([&authority]) {
            tracing::info!(authority = %moved.name, state = moved.state.name(), "Moved an authority");
        }
        // A root's first list, and the lists of what was archived.
        self.0.publish_crls.wake();
        let enforced = self.0.enforce.bring_up_to_date().await;
        // Before the first certificate says where its authority's is.
        self.0.enforce.publish_documents().await;
        Ok(Moved { authority, others, enforced })
    }
}

/// A root that another root vouches for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CrossLink {
    pub(super) issuer: Slug,
    pub(super) subject: Slug,
}

/// Where `step` leads `authority`.
fn check_step(authority: &Authority, step: AuthorityStep) -> Result<AuthorityState, RolloverError> {
    // A generation that was never signed can only be put away.
    if authority.certificate.is_none() && step != AuthorityStep::Archive {
        return Err(RolloverError::Unsigned(authority.name.clone()));
    }
    if !authority.kind.is_for_clients() {
        return Err(RolloverError::Kind);
    }
    let wrong = || RolloverError::Step { authority: authority.name.clone(), state: authority.state, step };
    authority.state.after(step).ok_or_else(wrong)
}

async fn move_in(
    transaction: &Transaction,
    authority: Authority,
    to: AuthorityState,
) -> Result<Authority, RolloverError> {
    match transaction.move_authority(&authority.name, authority.state, to).await {
        Ok(()) => Ok(Authority { state: to, ..authority }),
        Err(StoreError::Conflict { .. }) => Err(RolloverError::Replaced),
        Err(error) => Err(error.into()),
    }
}

/// The issuing authorities, not archived yet, that lead to `root` and to no other root in force.
fn standing_on<'a>(root: &Authority, all: &'a [Authority], crosses: &[CrossLink]) -> Vec<&'a Authority> {
    if root.kind != AuthorityKind::Root {
        return Vec::new();
    }
    let in_force = |name: &Slug| {
        *name != root.name && all.iter().any(|other| other.name == *name && other.state.is_in_force())
    };
    // Another root that vouches for this one's key carries everything below it.
    if crosses.iter().any(|link| link.subject == root.name && in_force(&link.issuer)) {
        return Vec::new();
    }
    all.iter()
        .filter(|other| other.issuer.as_ref() == Some(&root.name) && other.state != AuthorityState::Archived)
        .collect()
}

/// Whose leaves are meant: an issuing authority's own, or those under what stands on a root.
fn names_of(authority: &Authority, standing_on_it: &[&Authority]) -> Vec<Slug> {
    match authority.kind {
        AuthorityKind::Issuing => vec![authority.name.clone()],
        AuthorityKind::Root => standing_on_it.iter().map(|other| other.name.clone()).collect(),
        AuthorityKind::LocalServer | AuthorityKind::Upstream => Vec::new(),
    }
}
