//! Offline roots, seen from the running system: planning a ceremony, and taking back what came of it.
//! Between the two lies another machine (`cli/ceremony`), which knows nothing of this one but the plan.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::Ca;
use super::authorities::{BACK_DATE, DAY, ISSUING_DAYS, InitError, ROOT_DAYS, common_name, key_id, record};
use super::gate::parse_issuer;
use crate::domain::audit::{Act, Outcome};
use crate::domain::{AuthorityKind, AuthorityState, Delta, Enforced, Fingerprint, UtcTime};
use crate::keys::KeyFault;
use crate::pki::AuthorityCertificate;
use crate::pki::ceremony::{CeremonyError, IssuingPlan, KeyChoice, ListPlan, Plan, RevokedPlan, RootPlan};
use crate::pki::issuer::{ISSUING_PATH_LEN, ROOT_PATH_LEN};
use crate::store::StoreError;
use crate::store::authorities::{Authority, SigningKey};
use crate::store::crls::{Crl, Revocation};

/// What a ceremony is wanted for.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// A new root, too, although there is one; the first ceremony always makes one.
    pub new_root: bool,
    /// A new issuing authority; always with a new root.
    pub issuing: bool,
    /// From one list of the root to when the next must be there.
    pub list_lifetime: Duration,
}

/// What came of a ceremony, DER.
#[derive(Clone, Debug)]
pub struct Brought {
    /// The root's certificate.
    pub root: Vec<u8>,
    /// The issuing authority's, if one was planned.
    pub issuing: Option<Vec<u8>>,
    /// The root's list.
    pub list: Vec<u8>,
}

/// What was taken over.
#[derive(Clone, Debug)]
pub struct Imported {
    /// The root, without its key.
    pub root: Authority,
    /// The issuing authority.
    pub issuing: Option<Authority>,
    /// When the root's list ends: the next ceremony is before that.
    pub list_ends: UtcTime,
    /// How many edges have it.
    pub enforced: Enforced,
}

/// Why nothing was planned or taken over.
#[derive(Debug, thiserror::Error)]
pub enum CeremonyFault {
    /// The root's key is in this system.
    #[error(
        "the roots of this installation are made and kept in it: ceremonies are for `init --offline-root`"
    )]
    OnlineRoot,
    /// The plan is not one of ours.
    #[error("this installation did not write this plan, or a character in it was changed")]
    UnknownPlan,
    /// The outcome was taken over before.
    #[error("the outcome of this plan was taken over at {0}")]
    Done(UtcTime),
    /// The plan or what was brought is refused.
    #[error(transparent)]
    Refused(#[from] CeremonyError),
    /// Keys could not be made.
    #[error("the issuing authority's key could not be sealed")]
    Seal(#[from] KeyFault),
    /// The root cannot be used.
    #[error(transparent)]
    Init(#[from] InitError),
    /// The rows could not be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Ca {
    /// Plans a ceremony: decides every name, serial and date, makes the issuing authority's key, puts all
    /// of it on record, and gives the plan's text.
    ///
    /// # Errors
    /// As [`CeremonyFault`] says; `act` is closed on success only.
    pub async fn plan_ceremony(
        &self,
        wanted: Wanted,
        act: &Act,
        now: UtcTime,
    ) -> Result<String, CeremonyFault> {
        if !self.has_offline_root().await? {
            return Err(CeremonyFault::OnlineRoot);
        }
        let store = &self.0.store;
        let organisation = self.organisation().await?;
        let known = store.signing_authority(AuthorityKind::Root).await?.filter(|_| !wanted.new_root);
        let (root, number, revoked) = match &known {
            Some(root) => {
                let number = store.next_crl_number(&root.name).await?;
                let last = store.latest_crl_dates(&root.name).await?;
                let last = last.map_or(UtcTime::EPOCH, |list| list.this_update);
                (known_root(root)?, number, store.revocations(&root.name, last).await?)
            }
            None => (self.new_root(&organisation, now).await?, 1, Vec::new()),
        };
        let pending = match wanted.issuing || known.is_none() {
            true => Some(self.pending_issuing(&root, &organisation, now).await?),
            false => None,
        };
        let list = ListPlan {
            number,
            this_update: now,
            next_update: now.plus(wanted.list_lifetime).min(root.not_after),
            revoked: revoked.iter().map(revoked_plan).collect(),
        };
        let issuing = pending.as_ref().map(|(_, _, plan)| plan.clone());
        let plan = Plan::new(organisation, now, root, issuing, list);
        let text = plan.to_text()?;
        let sha256 = Plan::sha256(&text);
        let transaction = store.begin().await?;
        if let Some((key, authority, _)) = &pending {
            transaction.insert_signing_key(key, now).await?;
            transaction.insert_authority(authority).await?;
        }
        transaction.insert_ceremony(&sha256, text.as_bytes(), now).await?;
        transaction.finish_act(act, Outcome::Succeeded, Some(&sha256), now).await?;
        transaction.commit().await?;
        Ok(text)
    }

    /// Takes over what a ceremony brought, if it is what `plan_text` leads to and we wrote that. The root
    /// comes without its key. Where no root was there before, both are trusted at once; else both wait
    /// to be rolled over to.
    ///
    /// # Errors
    /// As [`CeremonyFault`] says; then nothing was taken over.
    pub async fn import_ceremony(
        &self,
        plan_text: &str,
        brought: &Brought,
        act: &Act,
        now: UtcTime,
    ) -> Result<Imported, CeremonyFault> {
        let store = &self.0.store;
        let sha256 = Plan::sha256(plan_text);
        let ceremony = store.ceremony(&sha256).await?.ok_or(CeremonyFault::UnknownPlan)?;
        if ceremony.plan != plan_text.as_bytes() {
            return Err(CeremonyFault::UnknownPlan);
        }
        if let Some(at) = ceremony.completed_at {
            return Err(CeremonyFault::Done(at));
        }
        let plan = Plan::from_text(plan_text)?;
        let root = plan.take_root(&brought.root)?;
        let issuing = plan.take_issuing(&root, brought.issuing.as_deref())?;
        let list = plan.take_list(&root, &brought.list)?;
        let issuing = match (&plan.issuing, issuing) {
            (Some(planned), Some(certificate)) => {
                self.check_own_key(planned).await?;
                Some((planned, certificate))
            }
            _ => None,
        };

        let transaction = store.begin().await?;
        transaction.lock_register().await?;
        let before = transaction.authorities().await?;
        let root_row = match before.iter().find(|found| found.name == plan.root.name) {
            Some(known) => known.clone(),
            None => {
                let first = !before
                    .iter()
                    .any(|found| found.kind == AuthorityKind::Root && found.state == AuthorityState::Issuing);
                let state = if first { AuthorityState::Issuing } else { AuthorityState::Staged };
                let (key, row) = root_rows(&plan, &root, state, now)?;
                transaction.insert_signing_key(&key, now).await?;
                transaction.insert_authority(&row).await?;
                row
            }
        };
        let state =
            if root_row.state.is_in_force() { AuthorityState::Trusted } else { AuthorityState::Staged };
        let mut imported = None;
        if let Some((planned, certificate)) = &issuing {
            let tbs =
                plan.prepare_issuing(&root)?.map(|prepared| prepared.tbs().to_vec()).unwrap_or_default();
            transaction.import_authority(&planned.name, &tbs, certificate.der(), state).await?;
            imported = transaction.authorities().await?.into_iter().find(|row| row.name == planned.name);
        }
        let row = Crl {
            authority: root_row.name.clone(),
            number: list.number(),
            this_update: plan.list.this_update,
            next_update: plan.list.next_update,
            der: list.der().to_vec(),
        };
        transaction.import_crl(&row, plan.prepare_list(&root)?.tbs()).await?;
        let mut deltas = Vec::new();
        for moved in [Some(&root_row), imported.as_ref()].into_iter().flatten() {
            if moved.state.is_in_force() {
                deltas.push(Delta::Authority(record(moved)?));
            }
        }
        transaction.append_changes(&deltas, now).await?;
        if !transaction.complete_ceremony(&sha256, now).await? {
            return Err(CeremonyFault::Done(now));
        }
        transaction.finish_act(act, Outcome::Succeeded, Some(&sha256), now).await?;
        transaction.commit().await?;
        tracing::info!(authority = %root_row.name, plan.sha256 = %sha256, "Took over the outcome of a key ceremony");
        let enforced = self.0.enforce.bring_up_to_date().await;
        self.0.enforce.publish_documents().await;
        Ok(Imported { root: root_row, issuing: imported, list_ends: row.next_update, enforced })
    }

    async fn new_root(&self, organisation: &str, now: UtcTime) -> Result<RootPlan, CeremonyFault> {
        let (name, generation) = self.next_generation(AuthorityKind::Root).await?;
        Ok(RootPlan {
            name,
            common_name: common_name(AuthorityKind::Root, organisation, generation),
            serial: self.reserve_serial("authority", now).await?,
            not_before: now.minus(BACK_DATE),
            not_after: now.plus(DAY * ROOT_DAYS),
            key: KeyChoice::P256,
            path_length: ROOT_PATH_LEN,
            certificate_sha256: None,
        })
    }

    /// An issuing authority without certificate: its key and row, and what the plan says of it.
    async fn pending_issuing(
        &self,
        root: &RootPlan,
        organisation: &str,
        now: UtcTime,
    ) -> Result<(SigningKey, Authority, IssuingPlan), CeremonyFault> {
        let (name, generation) = self.next_generation(AuthorityKind::Issuing).await?;
        let (_, key) = self.make_key(&name)?;
        let plan = IssuingPlan {
            name: name.clone(),
            common_name: common_name(AuthorityKind::Issuing, organisation, generation),
            serial: self.reserve_serial("authority", now).await?,
            not_before: now.minus(BACK_DATE).max(root.not_before),
            not_after: now.plus(DAY * ISSUING_DAYS),
            path_length: ISSUING_PATH_LEN,
            public_key: STANDARD.encode(&key.spki),
            public_key_sha256: Fingerprint::of(&key.spki).to_string(),
            crl_url: self.crl_url(&root.name),
            issuer_url: self.issuer_url(&root.name),
        };
        let row = Authority {
            name,
            kind: AuthorityKind::Issuing,
            state: AuthorityState::Staged,
            key_id: key.id.clone(),
            issuer: Some(root.name.clone()),
            serial: plan.serial,
            common_name: plan.common_name.clone(),
            not_before: plan.not_before,
            not_after: plan.not_after,
            // Nobody knows them before the root's key exists; the plan, which leads to them, is on record.
            tbs: Vec::new(),
            certificate: None,
            crl_number: 0,
            created_at: now,
        };
        Ok((key, row, plan))
    }

    /// The key that was certified is the one that waits here.
    async fn check_own_key(&self, planned: &IssuingPlan) -> Result<(), CeremonyFault> {
        let row = self.0.store.authority(&planned.name).await?.ok_or(CeremonyFault::UnknownPlan)?;
        let key = self.0.store.signing_key(&row.key_id).await?;
        let same = key.spki == planned.spki()? && row.serial == planned.serial;
        if same { Ok(()) } else { Err(CeremonyFault::UnknownPlan) }
    }
}

fn known_root(root: &Authority) -> Result<RootPlan, StoreError> {
    Ok(RootPlan {
        name: root.name.clone(),
        common_name: root.common_name.clone(),
        serial: root.serial,
        not_before: root.not_before,
        not_after: root.not_after,
        key: KeyChoice::P256,
        path_length: ROOT_PATH_LEN,
        certificate_sha256: Some(parse_issuer(root)?.fingerprint().to_string()),
    })
}

/// The rows of a root whose key is elsewhere.
fn root_rows(
    plan: &Plan,
    root: &AuthorityCertificate,
    state: AuthorityState,
    now: UtcTime,
) -> Result<(SigningKey, Authority), CeremonyFault> {
    let spki = root.spki_der().to_vec();
    let prepared = plan.prepare_root(&spki)?;
    let plan = &plan.root;
    let id = key_id(&plan.name, &spki);
    let row = Authority {
        name: plan.name.clone(),
        kind: AuthorityKind::Root,
        state,
        key_id: id.clone(),
        issuer: None,
        serial: plan.serial,
        common_name: plan.common_name.clone(),
        not_before: plan.not_before,
        not_after: plan.not_after,
        tbs: prepared.tbs().to_vec(),
        certificate: Some(root.der().to_vec()),
        crl_number: 0,
        created_at: now,
    };
    Ok((SigningKey { id, spki, sealed: Vec::new() }, row))
}

fn revoked_plan(revocation: &Revocation) -> RevokedPlan {
    RevokedPlan { serial: revocation.serial, at: revocation.at, reason: revocation.reason }
}
