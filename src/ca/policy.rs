//! What a profile's rules are given to judge by, read in the transaction that acts on the verdict.

use std::collections::BTreeSet;

use super::gate::{GateError, hex};
use crate::domain::{Actor, Hostname, LineageId, PersonId, UtcTime};
use crate::pki::profile::{Facts, Requester, Rule, Ruling, refusal};
use crate::pki::{Profile, PublicKey};
use crate::store::certificates::Certificate;
use crate::store::people::Person;
use crate::store::profiles::IssuanceRequest;
use crate::store::{StoreError, Transaction};

/// A request as the rules see it.
pub(super) struct Question<'a> {
    pub(super) person: &'a Person,
    pub(super) profile: &'a Profile,
    pub(super) public_key: &'a PublicKey,
    pub(super) lineage: LineageId,
    pub(super) predecessor: Option<&'a Certificate>,
    pub(super) dns_names: &'a BTreeSet<Hostname>,
}

/// Who asks, seen from the person it is for.
fn requester(actor: &Actor, person: PersonId) -> Requester {
    match actor {
        Actor::Person(id) | Actor::Token { person: id, .. } if *id == person => Requester::Owner,
        Actor::Person(_) | Actor::Token { .. } => Requester::Administrator,
        Actor::Host { .. } | Actor::System(_) => Requester::System,
    }
}

impl Question<'_> {
    /// Reads the facts. With a limit on devices the person's row is locked until commit, so that two
    /// requests at once do not both find room for the last one.
    pub(super) async fn facts(
        &self,
        transaction: &Transaction,
        actor: &Actor,
        now: UtcTime,
    ) -> Result<Facts, StoreError> {
        let key = hex(&self.public_key.sha256());
        let other_devices = match self.profile.rules.devices_per_person {
            None => 0,
            Some(_) => {
                transaction.lock_person(self.person.id).await?;
                let name = &self.profile.name;
                transaction.other_lineages(self.person.id, name, self.lineage, now).await?
            }
        };
        Ok(Facts {
            requester: requester(actor, self.person.id),
            groups: self.person.groups.clone(),
            key: self.public_key.kind().into(),
            key_is_blocked: transaction.is_key_compromised(&key).await?,
            key_is_used_elsewhere: transaction.is_key_in_other_lineage(&key, self.lineage).await?,
            renewal: self.predecessor.map(|old| old.spki_sha256 == key),
            other_devices,
            dns_names: self.dns_names.clone(),
        })
    }

    /// Every rule's word on this request.
    pub(super) async fn rulings(
        &self,
        transaction: &Transaction,
        actor: &Actor,
        now: UtcTime,
    ) -> Result<Vec<Ruling>, StoreError> {
        Ok(self.profile.judge(&self.facts(transaction, actor, now).await?))
    }

    /// Judges the request and keeps it. A refusal is the answer, not an error of the transaction: the
    /// caller commits, so that what was refused is on record too.
    pub(super) async fn decide(
        &self,
        transaction: &Transaction,
        actor: &Actor,
        now: UtcTime,
    ) -> Result<Result<(), GateError>, StoreError> {
        let facts = self.facts(transaction, actor, now).await?;
        let refused = refusal(self.profile.judge(&facts));
        let request = IssuanceRequest {
            at: now,
            person: self.person.id,
            profile: self.profile.name.clone(),
            profile_version: self.profile.version,
            facts,
            refused_by: refused.as_ref().map(|ruling| ruling.rule),
        };
        transaction.insert_issuance_request(&request).await?;
        Ok(match refused {
            None => Ok(()),
            Some(ruling) if ruling.rule == Rule::BlockedKey => Err(GateError::BlockedKey),
            Some(ruling) => {
                Err(GateError::Policy { profile: self.profile.name.clone(), ruling: Box::new(ruling) })
            }
        })
    }
}
