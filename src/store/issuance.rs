//! The reads and writes of an issuance, shared by all that happen at the same moment.

mod facts;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use entity::{intent, serial};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use sea_orm::sea_query::Expr;
use sea_orm::{ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter};

use facts::{Current, Present, issuers};

use super::audit::{add_events, ending, owed_start};
use super::authorities::Authority;
use super::certificates::{Certificate, Intent, IntentOutcome, certificate_row, intent_row};
use super::people::{Device, Person, device_row};
use super::profiles::{IssuanceRequest, request_row};
use super::register::add_changes;
use super::script::Script;
use super::together::Together;
use super::writer::Rows;
use super::{Store, StoreError, Transaction};
use crate::crash;
use crate::domain::audit::{self, Act, Outcome};
use crate::domain::{AuthorityKind, Delta, InvitationId, LineageId, PersonId, Slug, UtcTime};
use crate::pki::Profile;
use crate::pki::profile::{Facts, Ruling, refusal};

/// A request for a certificate, to be judged by what the rows say when its intent is recorded.
#[derive(Clone, Debug)]
pub struct Asked {
    /// For whom, as they were read.
    pub person: PersonId,
    /// Which version of them.
    pub person_version: u64,
    /// The rules, as they were read.
    pub profile: Profile,
    /// Who is to sign.
    pub authority: Slug,
    /// Its certificate as it was read, DER.
    pub issuer: Vec<u8>,
    /// SHA-256 of the key's SubjectPublicKeyInfo, hexadecimal.
    pub key: String,
    /// In which lineage.
    pub lineage: LineageId,
    /// What the request itself says; the rows add the key's past and the person's other devices.
    pub known: Facts,
    /// What is recorded if the rules admit it; `None` if it could not be prepared.
    pub intent: Option<Intent>,
    /// The act; its `started` event is committed here, if it was not before.
    pub act: Act,
    /// When.
    pub now: UtcTime,
}

/// A certificate that was signed on record, and what is committed with it.
#[derive(Clone, Debug)]
pub struct Issuance {
    /// The certificate.
    pub certificate: Certificate,
    /// For whom, as they were when it was made.
    pub person: Person,
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
    /// The person's groups or the profile were changed, or another lineage got a certificate for its key.
    Outdated,
}

/// What became of a request.
#[derive(Clone, Debug)]
pub enum Judged {
    /// It is on record, with its intent if it had one.
    Admitted,
    /// It is on record; a rule refuses it.
    Refused(Box<Ruling>),
    /// Nothing is on record: person, profile or authority are no longer what they were when they were
    /// read. What was kept of them is forgotten: the next time they are read again.
    Outdated,
}

/// What an issuance needs to know beforehand. It may be older than the rows: whoever acts on it asks
/// [`Store::judge_and_record`], which compares.
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
    /// Person, profile and the authority that issues: as [`Self::keep_standing`] has kept them, or read
    /// once for all who ask at the same moment.
    ///
    /// * `afresh` — not from what was kept, which was [`Judged::Outdated`].
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn standing(
        &self,
        person: PersonId,
        profile: &Slug,
        afresh: bool,
    ) -> Result<Arc<Standing>, StoreError> {
        let key = (person, profile.clone());
        let kept = self.standing.kept.lock().get(&key).cloned();
        if let Some(kept) = kept.filter(|_| !afresh) {
            return Ok(kept);
        }
        Ok(Arc::new(self.standing.read.join(key, |keys| self.standings(keys).boxed()).await?))
    }

    /// Keeps what has led to a certificate for the next time, until it is [`Judged::Outdated`]. What
    /// refuses by itself must not be kept: nobody would compare it with the rows.
    pub fn keep_standing(&self, standing: &Arc<Standing>) {
        let (Some(person), Some(profile)) = (&standing.person, &standing.profile) else { return };
        let mut kept = self.standing.kept.lock();
        if kept.len() >= MOST_KEPT {
            kept.clear();
        }
        kept.insert((person.id, profile.name.clone()), standing.clone());
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

    /// Judges a request and keeps it, with its intent if no rule refuses.
    ///
    /// # Errors
    /// As [`Self::put_on_record`].
    pub async fn judge_and_record(&self, asked: Asked) -> Result<Judged, StoreError> {
        let (act, key) = (asked.act.clone(), (asked.person, asked.profile.name.clone()));
        let judged = self.writer.add(asked).await?;
        match judged {
            Judged::Outdated => drop(self.standing.kept.lock().remove(&key)),
            Judged::Admitted | Judged::Refused(_) => act.is_on_record(),
        }
        Ok(judged)
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
            let mut script = Script::on(transaction);
            add_intents(&mut script, all.iter());
            run_with_serials(script).await?;
            Ok(vec![(); all.len()])
        })
    }
}

/// Takes the serials and records the intents.
fn add_intents<'a>(script: &mut Script<'_>, intents: impl Iterator<Item = &'a Intent> + Clone) {
    script.insert_plain(
        None,
        intents.clone().map(|intent| serial::ActiveModel {
            serial: Set(intent.serial.to_string()),
            purpose: Set(intent.purpose.name().to_owned()),
            reserved_at: Set(intent.created_at.as_unix()),
        }),
    );
    script.insert(intents.map(intent_row));
}

/// Runs what takes serials: nothing else in it can be there before.
async fn run_with_serials(script: Script<'_>) -> Result<(), StoreError> {
    let done = script.run().await;
    done.map_err(|error| StoreError::unique(error, "the serial number"))
}

/// [`Standing`]s that were read.
#[derive(Debug, Default)]
pub(in crate::store) struct Standings {
    read: Together<(PersonId, Slug), Standing>,
    kept: Mutex<HashMap<(PersonId, Slug), Arc<Standing>>>,
}

/// How many are kept.
const MOST_KEPT: usize = 4_096;

impl Rows for Asked {
    type Answer = Judged;

    fn write<'t>(
        all: &'t [Self],
        transaction: &'t Transaction,
    ) -> BoxFuture<'t, Result<Vec<Self::Answer>, StoreError>> {
        Box::pin(async move {
            // Locks people, and may wait for who changes them: what is read behind it is what is so then.
            let mut devices = devices_on_record(transaction, all).await?;
            let current = Current::read(transaction, all).await?;
            let issuers = issuers(all);
            let (mut requests, mut admitted, mut answers) = (Vec::new(), Vec::new(), Vec::new());
            let mut starts = Vec::new();
            for one in all {
                if !current.agrees_with(one, &issuers) {
                    answers.push(Judged::Outdated);
                    continue;
                }
                let (facts, refused) = one.judge(&current, &mut devices);
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
                starts.extend(owed_start(&one.act));
                answers.push(refused.map_or(Judged::Admitted, |ruling| Judged::Refused(Box::new(ruling))));
            }
            let mut script = Script::on(transaction);
            add_events(&mut script, starts);
            script.insert_plain(None, requests);
            add_intents(&mut script, admitted.into_iter());
            run_with_serials(script).await?;
            Ok(answers)
        })
    }
}

impl Asked {
    /// Completes the facts and judges. Who is admitted counts for those judged after them.
    fn judge(&self, current: &Current, devices: &mut Devices) -> (Facts, Option<Ruling>) {
        let own = self.lineage.to_string();
        let mut facts = self.known.clone();
        facts.key_is_blocked = current.blocked.contains(&self.key);
        facts.key_is_used_elsewhere =
            current.keys.iter().any(|(key, lineage)| *key == self.key && *lineage != own);
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
            let (epoch, present) = Present::read(transaction, all).await?;
            let refusals = refusals(transaction, all, &present).await?;
            let stored: Vec<&Self> = all
                .iter()
                .zip(&refusals)
                .filter(|(_, refusal)| refusal.is_none())
                .map(|(one, _)| one)
                .collect();
            if stored.is_empty() {
                return Ok(refusals.into_iter().map(|refusal| refusal.map_or(Ok(()), Err)).collect());
            }
            store_all(transaction, &stored, &present, epoch).await?;
            crash::reach("ca.before_commit");
            Ok(refusals.into_iter().map(|refusal| refusal.map_or(Ok(()), Err)).collect())
        })
    }
}

/// What stands against each.
async fn refusals<'a>(
    transaction: &Transaction,
    all: &'a [Issuance],
    present: &Present,
) -> Result<Vec<Option<NotStored>>, StoreError> {
    let invited: Vec<_> = all.iter().filter_map(|one| Some((one.invitation?, one.now))).collect();
    let mut giving = transaction.giving_invitations(&invited).await?;
    // Of several with one key the first has it.
    let mut keys = HashSet::new();
    let refusal = |one: &'a Issuance| {
        let Certificate { serial, person, replaces, spki_sha256, authority, .. } = &one.certificate;
        if !present.in_force.contains(authority.as_str()) {
            Some(NotStored::AuthorityLeft)
        } else if replaces.is_some_and(|old| !present.standing.contains(&old.to_string())) {
            Some(NotStored::PredecessorRevoked)
        } else if present.blocked.contains(spki_sha256) {
            Some(NotStored::BlockedKey)
        } else if !present.people.contains_key(&person.to_string()) {
            Some(NotStored::PersonDisabled)
        } else if present.has_outrun(one) || !keys.insert(spki_sha256) {
            Some(NotStored::Outdated)
        } else if !present.open.contains(&serial.to_string()) {
            Some(NotStored::IntentClosed)
        } else if one.invitation.is_some_and(|invitation| !giving.remove(&invitation)) {
            // Of several in one transaction the first has it.
            Some(NotStored::InvitationUsed)
        } else {
            None
        }
    };
    Ok(all.iter().map(refusal).collect())
}

/// Closes the intents, which were found open under the register's lock.
fn close_intents(script: &mut Script<'_>, stored: &[&Issuance]) {
    let now = stored.iter().map(|one| one.now.as_unix()).max().unwrap_or(0);
    let update = intent::Entity::update_many()
        .col_expr(intent::Column::ResolvedAt, Expr::value(now))
        .col_expr(intent::Column::Outcome, Expr::value(IntentOutcome::Issued.name()))
        .filter(intent::Column::Serial.is_in(stored.iter().map(|one| one.certificate.serial.to_string())))
        .filter(intent::Column::ResolvedAt.is_null());
    script.update(update);
}

async fn store_all(
    transaction: &Transaction,
    stored: &[&Issuance],
    present: &Present,
    epoch: u64,
) -> Result<(), StoreError> {
    for one in stored {
        if let Some(invitation) = one.invitation {
            transaction.use_invitation(invitation, one.now).await?;
        }
        if let Some(when) = one.supersede_at {
            transaction.supersede(one.certificate.lineage, one.certificate.serial, when).await?;
        }
    }
    let mut script = Script::on(transaction);
    close_intents(&mut script, stored);
    script.insert(stored.iter().filter_map(|one| one.device.as_ref()).map(device_row));
    script.insert(stored.iter().enumerate().map(|(place, one)| {
        let mut row = certificate_row(&one.certificate);
        // Of several successors at the same moment the last one stays, as if they had come one by one.
        let later = stored.iter().skip(place + 1);
        let mut later = later.filter(|later| later.certificate.lineage == one.certificate.lineage);
        row.supersede_at = Set(later.find_map(|later| later.supersede_at).map(UtcTime::as_unix));
        row
    }));
    // Edges must know the person before the certificate.
    let ids: HashSet<_> = stored.iter().map(|one| one.certificate.person.to_string()).collect();
    let people = present.people.iter().filter(|(id, _)| ids.contains(*id));
    let people = people.map(|(_, one)| Delta::Person(one.record()));
    let deltas = people.chain(stored.iter().map(|one| Delta::Certificate(one.certificate.record())));
    let now = stored.iter().map(|one| one.now).max().unwrap_or(UtcTime::EPOCH);
    add_changes(&mut script, epoch, &deltas.collect::<Vec<_>>(), now)?;
    let events = stored.iter().flat_map(|one| {
        let detail = audit::issued(one.certificate.serial);
        ending(&one.act, Outcome::Succeeded, Some(&detail), one.now)
    });
    add_events(&mut script, events);
    Ok(script.run().await?)
}
