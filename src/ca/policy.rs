//! What a profile's rules are given to judge by, read in the transaction that acts on the verdict.

use std::collections::BTreeSet;

use super::gate::GateError;
use crate::domain::audit::Act;
use crate::domain::hex::hex;
use crate::domain::{Actor, Hostname, LineageId, PersonId, UtcTime};
use crate::pki::profile::{Facts, Requester, Rule, Ruling};
use crate::pki::{Profile, PublicKey};
use crate::store::authorities::Authority;
use crate::store::certificates::{Certificate, Intent};
use crate::store::issuance::{Asked, Judged};
use crate::store::people::Person;
use crate::store::{Store, StoreError, Transaction};

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
        Actor::Person(id) | Actor::Token { person: id, .. } | Actor::Device { person: id, .. }
            if *id == person =>
        {
            Requester::Owner
        }
        Actor::Person(_) | Actor::Token { .. } | Actor::Device { .. } => Requester::Administrator,
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
        let mut facts = self.known(actor);
        let key = self.key();
        if self.profile.rules.devices_per_person.is_some() {
            transaction.lock_person(self.person.id).await?;
            let name = &self.profile.name;
            facts.other_devices = transaction.other_lineages(self.person.id, name, self.lineage, now).await?;
        }
        facts.key_is_blocked = transaction.is_key_compromised(&key).await?;
        facts.key_is_used_elsewhere = transaction.is_key_in_other_lineage(&key, self.lineage).await?;
        Ok(facts)
    }

    /// The facts that are in the request itself.
    fn known(&self, actor: &Actor) -> Facts {
        Facts {
            requester: requester(actor, self.person.id),
            groups: self.person.groups.clone(),
            key: self.public_key.kind().into(),
            key_is_blocked: false,
            key_is_used_elsewhere: false,
            renewal: self.predecessor.map(|old| old.spki_sha256 == self.key()),
            other_devices: 0,
            dns_names: self.dns_names.clone(),
        }
    }

    fn key(&self) -> String {
        hex(&self.public_key.sha256())
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

    /// Judges the request by what the rows say at that moment, and puts request and intent on record, or
    /// the refused request alone.
    pub(super) async fn put_on_record(
        &self,
        store: &Store,
        authority: &Authority,
        intent: Option<Intent>,
        act: &Act,
        now: UtcTime,
    ) -> Result<(), GateError> {
        let asked = Asked {
            person: self.person.id,
            person_version: self.person.version,
            profile: self.profile.clone(),
            authority: authority.name.clone(),
            issuer: authority.certificate.clone().unwrap_or_default(),
            key: self.key(),
            lineage: self.lineage,
            known: self.known(&act.actor),
            intent,
            act: act.clone(),
            now,
        };
        match store.judge_and_record(asked).await? {
            Judged::Admitted => Ok(()),
            Judged::Outdated => Err(GateError::Outdated),
            Judged::Refused(ruling) if ruling.rule == Rule::BlockedKey => Err(GateError::BlockedKey),
            Judged::Refused(ruling) => Err(GateError::Policy { profile: self.profile.name.clone(), ruling }),
        }
    }
}
