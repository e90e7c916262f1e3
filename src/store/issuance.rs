//! The reads and writes of an issuance, shared by all that happen at the same moment.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use entity::{audit_event, blocked_key, certificate, device, intent, issuance_request, person, serial};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use sea_orm::sea_query::{Expr, UnionType};
use sea_orm::{ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter, QuerySelect, QueryTrait};

use super::audit::finished;
use super::authorities::Authority;
use super::certificates::{Certificate, Intent, IntentOutcome, certificate_row, intent_row};
use super::people::{Device, Person, device_row, read_person};
use super::profiles::{IssuanceRequest, request_row};
use super::writer::Rows;
use super::{Store, StoreError, Transaction};
use crate::crash;
use crate::domain::audit::{self, Act, Outcome};
use crate::domain::{AuthorityKind, AuthorityState, Delta, InvitationId, LineageId, PersonId, Slug, UtcTime};
use crate::pki::Profile;
use crate::pki::profile::{Facts, Ruling, refusal};

/// A request for a certificate, to be judged by what the rows say when its intent is recorded.
#[derive(Clone, Debug)]
pub struct Asked {
    /// For whom.
    pub person: PersonId,
    /// The rules.
    pub profile: Profile,
    /// SHA-256 of the key's SubjectPublicKeyInfo, hexadecimal.
    pub key: String,
    /// In which lineage.
    pub lineage: LineageId,
    /// What the request itself says; the rows add the key's past and the person's other devices.
    pub known: Facts,
    /// What is recorded if the rules admit it; `None` if it could not be prepared.
    pub intent: Option<Intent>,
    /// When.
    pub now: UtcTime,
}

/// A certificate that was signed on record, and what is committed with it.
#[derive(Clone, Debug)]
pub struct Issuance {
    /// The certificate.
    pub certificate: Certificate,
    /// Its device, if it is new.
    pub device: Option<Device>,
    /// The invitation that it uses up, if it is somebody's first by one.
    pub invitation: Option<InvitationId>,
    /// When older certificates of its lineage are taken back, if they are.
    pub supersede_at: Option<UtcTime>,
    /// The act that is closed with it.
    pub act: Act,
    /// When.
    pub now: UtcTime,
}

/// Why a signed certificate is not stored. Its intent stays open, or was closed by others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotStored {
    /// The authority was taken out of service.
    AuthorityLeft,
    /// The person was disabled, or is gone.
    PersonDisabled,
    /// The certificate that it renews was revoked.
    PredecessorRevoked,
    /// A certificate with this key was revoked for keyCompromise.
    BlockedKey,
    /// Somebody closed the intent.
    IntentClosed,
    /// The invitation gave its certificate already, was taken back, or has expired.
    InvitationUsed,
}

/// What an issuance needs to know beforehand.
#[derive(Clone, Debug)]
pub struct Standing {
    /// For whom it is to be, if they are on record.
    pub person: Option<Person>,
    /// Under which rules.
    pub profile: Option<Profile>,
    /// The newest authority that issues.
    pub authority: Option<Authority>,
}

impl Store {
    /// Person, profile and the authority that issues, read once for all who ask at the same moment.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn standing(&self, person: PersonId, profile: &Slug) -> Result<Standing, StoreError> {
        let all = |keys| self.standings(keys).boxed();
        self.standing.join((person, profile.clone()), all).await
    }

    async fn standings(&self, keys: Vec<(PersonId, Slug)>) -> Result<Vec<Standing>, StoreError> {
        let people: HashSet<_> = keys.iter().map(|(person, _)| *person).collect();
        let profiles: HashSet<_> = keys.iter().map(|(_, profile)| profile).collect();
        let people = self.people_by_id(people).await?;
        let profiles = self.profiles_by_name(profiles).await?;
        let authority = self.signing_authority(AuthorityKind::Issuing).await?;
        let standing = |(person, profile): &(PersonId, Slug)| Standing {
            person: people.get(person).cloned(),
            profile: profiles.get(profile).cloned(),
            authority: authority.clone(),
        };
        Ok(keys.iter().map(standing).collect())
    }

    /// Takes the intent's serial and records the intent, durably.
    ///
    /// # Errors
    /// [`StoreError::Taken`] when the serial was handed out before; after any error nothing must be signed.
    pub async fn put_on_record(&self, intent: Intent) -> Result<(), StoreError> {
        self.writer.add(intent).await
    }

    /// Judges a request and keeps it, with its intent if no rule refuses. Returns the ruling that does.
    ///
    /// # Errors
    /// As [`Self::put_on_record`].
    pub async fn judge_and_record(&self, asked: Asked) -> Result<Option<Ruling>, StoreError> {
        self.writer.add(asked).await
    }

    /// Stores a signed certificate with its device, its register change and the end of its act, durably,
    /// if person, predecessor, key and intent are still what they must be.
    ///
    /// # Errors
    /// [`StoreError`]; then nothing of it stands.
    pub async fn store_issued(&self, issuance: Issuance) -> Result<Result<(), NotStored>, StoreError> {
        self.writer.add(issuance).await
    }
}

impl Rows for Intent {
    type Answer = ();

    fn write<'t>(
        all: &'t [Self],
        transaction: &'t Transaction,
    ) -> BoxFuture<'t, Result<Vec<()>, StoreError>> {
        Box::pin(async move {
            record_intents(transaction, all.iter()).await?;
            Ok(vec![(); all.len()])
        })
    }
}

/// Takes the serials and records the intents.
async fn record_intents<'a>(
    transaction: &Transaction,
    intents: impl Iterator<Item = &'a Intent> + Clone,
) -> Result<(), StoreError> {
    let connection = transaction.connection();
    let serials = intents.clone().map(|intent| serial::ActiveModel {
        serial: Set(intent.serial.to_string()),
        purpose: Set(intent.purpose.name().to_owned()),
        reserved_at: Set(intent.created_at.as_unix()),
    });
    let reserved = serial::Entity::insert_many(serials).exec_without_returning(connection).await;
    reserved.map_err(|error| StoreError::unique(error, "the serial number"))?;
    intent::Entity::insert_many(intents.map(intent_row)).exec_without_returning(connection).await?;
    Ok(())
}

impl Rows for Asked {
    type Answer = Option<Ruling>;

    fn write<'t>(
        all: &'t [Self],
        transaction: &'t Transaction,
    ) -> BoxFuture<'t, Result<Vec<Self::Answer>, StoreError>> {
        Box::pin(async move {
            let (keys, blocked) = keys_on_record(transaction, all).await?;
            let mut devices = devices_on_record(transaction, all).await?;
            let (mut requests, mut admitted, mut answers) = (Vec::new(), Vec::new(), Vec::new());
            for one in all {
                let (facts, refused) = one.judge(&keys, &blocked, &mut devices);
                let request = IssuanceRequest {
                    at: one.now,
                    person: one.person,
                    profile: one.profile.name.clone(),
                    profile_version: one.profile.version,
                    facts,
                    refused_by: refused.as_ref().map(|ruling| ruling.rule),
                };
                requests.push(request_row(&request)?);
                admitted.extend(one.intent.as_ref().filter(|_| refused.is_none()));
                answers.push(refused);
            }
            let requests = issuance_request::Entity::insert_many(requests);
            requests.exec_without_returning(transaction.connection()).await?;
            if !admitted.is_empty() {
                record_intents(transaction, admitted.into_iter()).await?;
            }
            Ok(answers)
        })
    }
}

impl Asked {
    /// Completes the facts and judges. Who is admitted counts for those judged after them.
    fn judge(
        &self,
        keys: &[KeyOnRecord],
        blocked: &HashSet<String>,
        devices: &mut Devices,
    ) -> (Facts, Option<Ruling>) {
        let own = self.lineage.to_string();
        let mut same = keys.iter().filter(|known| known.key == self.key);
        let mut facts = self.known.clone();
        facts.key_is_blocked = blocked.contains(&self.key);
        facts.key_is_used_elsewhere = same.any(|known| known.lineage != own);
        let counted = devices.get_mut(&(self.person, self.profile.name.clone()));
        if let Some(lineages) = &counted {
            let others = lineages.iter().filter(|lineage| **lineage != own).count();
            facts.other_devices = u32::try_from(others).unwrap_or(u32::MAX);
        }
        let refused = refusal(self.profile.judge(&facts));
        if let (Some(lineages), None, Some(_)) = (counted, &refused, &self.intent) {
            lineages.insert(own);
        }
        (facts, refused)
    }
}

/// A certificate that was issued for one of the keys.
struct KeyOnRecord {
    key: String,
    lineage: String,
}

/// Those of the keys that are known to be in other hands.
async fn blocked_keys(
    transaction: &Transaction,
    keys: impl Iterator<Item = &str>,
) -> Result<HashSet<String>, StoreError> {
    let query = blocked_key::Entity::find()
        .select_only()
        .column(blocked_key::Column::SpkiSha256)
        .filter(blocked_key::Column::SpkiSha256.is_in(keys.collect::<HashSet<_>>()));
    Ok(query.into_tuple().all(transaction.connection()).await?.into_iter().collect())
}

/// Which of the requests' keys were certified, and which are known to be in other hands.
async fn keys_on_record(
    transaction: &Transaction,
    all: &[Asked],
) -> Result<(Vec<KeyOnRecord>, HashSet<String>), StoreError> {
    use certificate::Column;
    let keys: HashSet<_> = all.iter().map(|one| one.key.as_str()).collect();
    let blocked = blocked_key::Entity::find()
        .select_only()
        .column(blocked_key::Column::SpkiSha256)
        .expr(Expr::val(None::<String>))
        .filter(blocked_key::Column::SpkiSha256.is_in(keys.iter().copied()));
    let mut query = certificate::Entity::find()
        .select_only()
        .columns([Column::SpkiSha256, Column::Lineage])
        .filter(Column::SpkiSha256.is_in(keys));
    QueryTrait::query(&mut query).union(UnionType::All, blocked.into_query());
    let rows = query.into_tuple::<(String, Option<String>)>().all(transaction.connection()).await?;
    let (mut known, mut blocked) = (Vec::new(), HashSet::new());
    for (key, lineage) in rows {
        match lineage {
            Some(lineage) => known.push(KeyOnRecord { key, lineage }),
            None => drop(blocked.insert(key)),
        }
    }
    Ok((known, blocked))
}

/// Lineages of a person under a profile that limits them.
type Devices = BTreeMap<(PersonId, Slug), BTreeSet<String>>;

/// Locks and counts, where a profile limits how many there are: in one order everywhere, so that two
/// replicas do not wait for each other.
async fn devices_on_record(transaction: &Transaction, all: &[Asked]) -> Result<Devices, StoreError> {
    let limited = all.iter().filter(|one| one.profile.rules.devices_per_person.is_some());
    let mut devices: Devices =
        limited.map(|one| ((one.person, one.profile.name.clone()), BTreeSet::new())).collect();
    let now = all.iter().map(|one| one.now).max().unwrap_or(UtcTime::EPOCH);
    for ((person, profile), lineages) in &mut devices {
        transaction.lock_person(*person).await?;
        *lineages = transaction.lineages(*person, profile, now).await?;
    }
    Ok(devices)
}

impl Rows for Issuance {
    type Answer = Result<(), NotStored>;
    /// The register is locked before any person is.
    const RANK: u8 = 0;

    fn write<'t>(
        all: &'t [Self],
        transaction: &'t Transaction,
    ) -> BoxFuture<'t, Result<Vec<Self::Answer>, StoreError>> {
        Box::pin(async move {
            // From here to the commit nobody is disabled and nothing is revoked behind our back.
            transaction.lock_register().await?;
            let people = people_in_good_standing(transaction, all).await?;
            let refusals = refusals(transaction, all, &people).await?;
            let stored: Vec<&Self> = all
                .iter()
                .zip(&refusals)
                .filter(|(_, refusal)| refusal.is_none())
                .map(|(one, _)| one)
                .collect();
            if stored.is_empty() {
                return Ok(refusals.into_iter().map(|refusal| refusal.map_or(Ok(()), Err)).collect());
            }
            match close_intents(transaction, &stored).await? {
                closed if closed == stored.len() as u64 => {}
                // One of several was closed by others: each is tried alone.
                _ if all.len() > 1 => return Err(StoreError::Conflict { what: "an intent" }),
                _ => return Ok(vec![Err(NotStored::IntentClosed)]),
            }
            store_all(transaction, &stored, &people).await?;
            crash::reach("ca.before_commit");
            Ok(refusals.into_iter().map(|refusal| refusal.map_or(Ok(()), Err)).collect())
        })
    }
}

/// By id, the people whom the certificates are for, but for those who are disabled.
async fn people_in_good_standing(
    transaction: &Transaction,
    all: &[Issuance],
) -> Result<HashMap<String, Person>, StoreError> {
    let ids: HashSet<_> = all.iter().map(|one| one.certificate.person.to_string()).collect();
    let found = person::Entity::find().filter(person::Column::Id.is_in(ids)).all(transaction.connection());
    let mut people = HashMap::new();
    for row in found.await? {
        let person = read_person(row)?;
        if !person.disabled {
            people.insert(person.id.to_string(), person);
        }
    }
    Ok(people)
}

/// What stands against each, as this transaction sees it.
async fn refusals(
    transaction: &Transaction,
    all: &[Issuance],
    people: &HashMap<String, Person>,
) -> Result<Vec<Option<NotStored>>, StoreError> {
    let replaced: Vec<_> = all.iter().filter_map(|one| one.certificate.replaces).collect();
    let mut standing = HashSet::new();
    if !replaced.is_empty() {
        let query = certificate::Entity::find()
            .select_only()
            .column(certificate::Column::Serial)
            .filter(certificate::Column::Serial.is_in(replaced.iter().map(ToString::to_string)))
            .filter(certificate::Column::RevokedAt.is_null());
        standing.extend(query.into_tuple::<String>().all(transaction.connection()).await?);
    }
    let authorities: HashSet<_> = all.iter().map(|one| &one.certificate.authority).collect();
    let mut in_force = HashSet::new();
    for authority in authorities {
        if transaction.authority_state(authority).await?.is_some_and(AuthorityState::is_in_force) {
            in_force.insert(authority);
        }
    }
    let keys = all.iter().map(|one| one.certificate.spki_sha256.as_str());
    let blocked = blocked_keys(transaction, keys).await?;
    let invited: Vec<_> = all.iter().filter_map(|one| Some((one.invitation?, one.now))).collect();
    let mut giving = transaction.giving_invitations(&invited).await?;
    let refusal = |one: &Issuance| {
        let Certificate { person, replaces, spki_sha256, authority, .. } = &one.certificate;
        if !in_force.contains(authority) {
            Some(NotStored::AuthorityLeft)
        } else if replaces.is_some_and(|old| !standing.contains(&old.to_string())) {
            Some(NotStored::PredecessorRevoked)
        } else if blocked.contains(spki_sha256) {
            Some(NotStored::BlockedKey)
        } else if !people.contains_key(&person.to_string()) {
            Some(NotStored::PersonDisabled)
        } else if one.invitation.is_some_and(|invitation| !giving.remove(&invitation)) {
            // Of several in one transaction the first has it.
            Some(NotStored::InvitationUsed)
        } else {
            None
        }
    };
    Ok(all.iter().map(refusal).collect())
}

/// Closes the open ones among the intents. Returns how many were open.
async fn close_intents(transaction: &Transaction, stored: &[&Issuance]) -> Result<u64, StoreError> {
    let now = stored.iter().map(|one| one.now.as_unix()).max().unwrap_or(0);
    let update = intent::Entity::update_many()
        .col_expr(intent::Column::ResolvedAt, Expr::value(now))
        .col_expr(intent::Column::Outcome, Expr::value(IntentOutcome::Issued.name()))
        .filter(intent::Column::Serial.is_in(stored.iter().map(|one| one.certificate.serial.to_string())))
        .filter(intent::Column::ResolvedAt.is_null());
    Ok(update.exec(transaction.connection()).await?.rows_affected)
}

async fn store_all(
    transaction: &Transaction,
    stored: &[&Issuance],
    people: &HashMap<String, Person>,
) -> Result<(), StoreError> {
    let connection = transaction.connection();
    let devices: Vec<_> = stored.iter().filter_map(|one| one.device.as_ref()).map(device_row).collect();
    if !devices.is_empty() {
        device::Entity::insert_many(devices).exec_without_returning(connection).await?;
    }
    let certificates = stored.iter().map(|one| certificate_row(&one.certificate));
    certificate::Entity::insert_many(certificates).exec_without_returning(connection).await?;
    for one in stored {
        if let Some(invitation) = one.invitation {
            transaction.use_invitation(invitation, one.now).await?;
        }
        if let Some(when) = one.supersede_at {
            transaction.supersede(one.certificate.lineage, one.certificate.serial, when).await?;
        }
    }
    // Edges must know the person before the certificate.
    let ids: HashSet<_> = stored.iter().map(|one| one.certificate.person.to_string()).collect();
    let people =
        people.iter().filter(|(id, _)| ids.contains(*id)).map(|(_, one)| Delta::Person(one.record()));
    let deltas = people.chain(stored.iter().map(|one| Delta::Certificate(one.certificate.record())));
    let now = stored.iter().map(|one| one.now).max().unwrap_or(UtcTime::EPOCH);
    transaction.append_changes(&deltas.collect::<Vec<_>>(), now).await?;
    let events = stored.iter().map(|one| {
        let detail = audit::issued(one.certificate.serial);
        finished(&one.act, Outcome::Succeeded, Some(&detail), one.now)
    });
    audit_event::Entity::insert_many(events).exec_without_returning(connection).await?;
    Ok(())
}
