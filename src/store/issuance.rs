//! The reads and writes of an issuance, shared by all that happen at the same moment.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use entity::{authority, blocked_key, certificate, intent, person, profile, serial};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use sea_orm::sea_query::{CaseStatement, Expr, UnionType};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter, QuerySelect, QueryTrait, Select,
    SelectGetableTuple, Selector,
};

use super::audit::{add_events, ending, owed_start};
use super::authorities::Authority;
use super::certificates::{Certificate, Intent, IntentOutcome, certificate_row, intent_row};
use super::people::{Device, Person, device_row, read_person};
use super::profiles::{IssuanceRequest, request_row};
use super::register::add_changes;
use super::script::Script;
use super::together::Together;
use super::writer::Rows;
use super::{Store, StoreError, Transaction, named};
use crate::crash;
use crate::domain::audit::{self, Act, Outcome};
use crate::domain::{AuthorityKind, AuthorityState, Delta, InvitationId, LineageId, PersonId, Slug, UtcTime};
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
    script.insert(intents.clone().map(|intent| serial::ActiveModel {
        serial: Set(intent.serial.to_string()),
        purpose: Set(intent.purpose.name().to_owned()),
        reserved_at: Set(intent.created_at.as_unix()),
    }));
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
            script.insert(requests);
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

/// What requests are judged by, as the transaction that records them sees it.
#[derive(Default)]
struct Current {
    /// Keys of the requests that were certified, and in which lineage.
    keys: HashSet<(String, String)>,
    /// Keys that are known to be in other hands.
    blocked: HashSet<String>,
    /// The versions of those people who are not disabled.
    people: HashMap<String, u64>,
    /// The versions of the profiles.
    profiles: HashMap<String, u64>,
    /// The newest authority that issues: when it was made, its name, and which of the issuers that were
    /// read is its certificate.
    authority: Option<(i64, String, Option<usize>)>,
}

impl Current {
    async fn read(transaction: &Transaction, all: &[Asked]) -> Result<Self, StoreError> {
        let mut current = Self::default();
        for (kind, id, number, text) in current_rows(all).all(transaction.connection()).await? {
            let version = u64::try_from(number).unwrap_or(0);
            match kind {
                PERSON => drop(current.people.insert(id, version)),
                PROFILE => drop(current.profiles.insert(id, version)),
                AUTHORITY => {
                    let issuer = text.and_then(|place| place.parse().ok());
                    current.authority = current.authority.max(Some((number, id, issuer)));
                }
                BLOCKED => drop(current.blocked.insert(id)),
                _ => drop(current.keys.insert((id, text.unwrap_or_default()))),
            }
        }
        Ok(current)
    }

    /// Whether a request was made from what is so still.
    fn agrees_with(&self, asked: &Asked, issuers: &[&[u8]]) -> bool {
        let signs = |(_, name, issuer): &(i64, String, Option<usize>)| {
            let issuer = issuer.and_then(|place| issuers.get(place));
            issuer.is_some_and(|issuer| *issuer == asked.issuer) && *name == asked.authority.as_str()
        };
        self.people.get(&asked.person.to_string()) == Some(&asked.person_version)
            && self.profiles.get(asked.profile.name.as_str()) == Some(&asked.profile.version)
            && self.authority.as_ref().is_some_and(signs)
    }
}

/// The certificates of authorities that were read, each once.
fn issuers(all: &[Asked]) -> Vec<&[u8]> {
    let issuers: BTreeSet<_> = all.iter().map(|one| one.issuer.as_slice()).collect();
    issuers.into_iter().collect()
}

/// Everything that [`Current`] is made of, in one trip.
fn current_rows(all: &[Asked]) -> Selector<SelectGetableTuple<Fact>> {
    let keys: HashSet<_> = all.iter().map(|one| one.key.as_str()).collect();
    let no_text = Expr::val(None::<String>);
    let mut query = certified_among(&keys);
    let people = people_in_good_standing(all.iter().map(|one| one.person));
    let profiles = profiles_among(all.iter().map(|one| one.profile.name.as_str()).collect());
    // Which of them is in the row, by its place.
    let which = issuers(all).into_iter().enumerate().fold(CaseStatement::new(), |which, (place, issuer)| {
        which.case(authority::Column::Certificate.eq(issuer), place.to_string())
    });
    let authorities = authority::Entity::find()
        .select_only()
        .expr(Expr::val(AUTHORITY))
        .columns([authority::Column::Name, authority::Column::CreatedAt])
        .expr(which.finally(no_text))
        .filter(authority::Column::Kind.eq(AuthorityKind::Issuing.name()))
        .filter(authority::Column::State.eq(AuthorityState::Issuing.name()));
    QueryTrait::query(&mut query)
        .union(UnionType::All, blocked_among(keys).into_query())
        .union(UnionType::All, people.into_query())
        .union(UnionType::All, profiles.into_query())
        .union(UnionType::All, authorities.into_query());
    query.into_tuple()
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
            let epoch = transaction.lock_register().await?;
            let present = Present::read(transaction, all).await?;
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
            match close_intents(transaction, &stored).await? {
                closed if closed == stored.len() as u64 => {}
                // One of several was closed by others: each is tried alone.
                _ if all.len() > 1 => return Err(StoreError::Conflict { what: "an intent" }),
                _ => return Ok(vec![Err(NotStored::IntentClosed)]),
            }
            store_all(transaction, &stored, &present, epoch).await?;
            crash::reach("ca.before_commit");
            Ok(refusals.into_iter().map(|refusal| refusal.map_or(Ok(()), Err)).collect())
        })
    }
}

/// What certificates that were signed depend on, as the transaction that stores them sees it.
struct Present {
    /// By id, the people whom they are for, but for those who are disabled.
    people: HashMap<String, Person>,
    /// The authorities that are in force.
    in_force: HashSet<String>,
    /// The keys that are known to be in other hands.
    blocked: HashSet<String>,
    /// The certificates to be replaced that are not revoked.
    standing: HashSet<String>,
    /// The versions of the profiles.
    profiles: HashMap<String, u64>,
    /// Their keys that were certified, and in which lineage.
    keys: HashSet<(String, String)>,
}

impl Present {
    async fn read(transaction: &Transaction, all: &[Issuance]) -> Result<Self, StoreError> {
        let mut present = Self {
            people: HashMap::new(),
            in_force: HashSet::new(),
            blocked: HashSet::new(),
            standing: HashSet::new(),
            profiles: HashMap::new(),
            keys: HashSet::new(),
        };
        let mut changed = HashSet::new();
        let rows = present_rows(all).all(transaction.connection()).await?;
        for (kind, id, version, state) in rows {
            match kind {
                PERSON => {
                    let version = u64::try_from(version).unwrap_or(0);
                    let mut known = all.iter().map(|one| &one.person);
                    match known.find(|known| known.version == version && known.id.to_string() == id) {
                        Some(known) => drop(present.people.insert(id, known.clone())),
                        None => drop(changed.insert(id)),
                    }
                }
                AUTHORITY => {
                    let state = state.unwrap_or_default();
                    let read = named("an authority's state", &state, AuthorityState::from_name(&state))?;
                    if read.is_in_force() {
                        present.in_force.insert(id);
                    }
                }
                BLOCKED => drop(present.blocked.insert(id)),
                PROFILE => drop(present.profiles.insert(id, u64::try_from(version).unwrap_or(0))),
                KEY => drop(present.keys.insert((id, state.unwrap_or_default()))),
                _ => drop(present.standing.insert(id)),
            }
        }
        if !changed.is_empty() {
            let found = person::Entity::find().filter(person::Column::Id.is_in(changed));
            for row in found.all(transaction.connection()).await? {
                let person = read_person(row)?;
                present.people.insert(person.id.to_string(), person);
            }
        }
        Ok(present)
    }
}

impl Present {
    /// Whether what it was judged by is no longer so: the person's groups, the profile, or that nobody
    /// else has its key.
    fn has_outrun(&self, one: &Issuance) -> bool {
        let Certificate { person, profile, profile_version, spki_sha256, lineage, .. } = &one.certificate;
        let groups = self.people.get(&person.to_string()).map(|person| &person.groups);
        let lineage = lineage.to_string();
        groups != Some(&one.person.groups)
            || self.profiles.get(profile.as_str()) != Some(profile_version)
            || self.keys.iter().any(|(key, other)| key == spki_sha256 && *other != lineage)
    }
}

/// Something that is so: its kind, of what, a number and a text.
type Fact = (i32, String, i64, Option<String>);

/// A person who is not disabled, and their version.
const PERSON: i32 = 1;
/// An authority; its state, or when it was made.
const AUTHORITY: i32 = 2;
/// A key that is known to be in other hands.
const BLOCKED: i32 = 3;
/// A certificate that is not revoked.
const STANDING: i32 = 4;
/// A profile and its version.
const PROFILE: i32 = 5;
/// A key that was certified, and in which lineage.
const KEY: i32 = 6;

fn people_in_good_standing(ids: impl Iterator<Item = PersonId>) -> Select<person::Entity> {
    let ids: HashSet<_> = ids.map(|id| id.to_string()).collect();
    person::Entity::find()
        .select_only()
        .expr(Expr::val(PERSON))
        .columns([person::Column::Id, person::Column::Version])
        .expr(Expr::val(None::<String>))
        .filter(person::Column::Id.is_in(ids))
        .filter(person::Column::Disabled.eq(false))
}

fn profiles_among(names: HashSet<&str>) -> Select<profile::Entity> {
    profile::Entity::find()
        .select_only()
        .expr(Expr::val(PROFILE))
        .columns([profile::Column::Name, profile::Column::Version])
        .expr(Expr::val(None::<String>))
        .filter(profile::Column::Name.is_in(names))
}

fn certified_among(keys: &HashSet<&str>) -> Select<certificate::Entity> {
    use certificate::Column;
    certificate::Entity::find()
        .select_only()
        .expr(Expr::val(KEY))
        .column(Column::SpkiSha256)
        .expr(Expr::val(0_i64))
        .column(Column::Lineage)
        .filter(Column::SpkiSha256.is_in(keys.iter().copied()))
}

fn blocked_among(keys: HashSet<&str>) -> Select<blocked_key::Entity> {
    blocked_key::Entity::find()
        .select_only()
        .expr(Expr::val(BLOCKED))
        .column(blocked_key::Column::SpkiSha256)
        .expr(Expr::val(0_i64))
        .expr(Expr::val(None::<String>))
        .filter(blocked_key::Column::SpkiSha256.is_in(keys))
}

/// Everything that [`Present`] is made of, in one trip.
fn present_rows(all: &[Issuance]) -> Selector<SelectGetableTuple<Fact>> {
    let authorities: HashSet<_> = all.iter().map(|one| one.certificate.authority.as_str()).collect();
    let authorities = authority::Entity::find()
        .select_only()
        .expr(Expr::val(AUTHORITY))
        .column(authority::Column::Name)
        .expr(Expr::val(0_i64))
        .column(authority::Column::State)
        .filter(authority::Column::Name.is_in(authorities));
    let keys: HashSet<_> = all.iter().map(|one| one.certificate.spki_sha256.as_str()).collect();
    let profiles = all.iter().map(|one| one.certificate.profile.as_str()).collect();
    let mut query = people_in_good_standing(all.iter().map(|one| one.certificate.person));
    let parts = QueryTrait::query(&mut query);
    parts
        .union(UnionType::All, authorities.into_query())
        .union(UnionType::All, profiles_among(profiles).into_query())
        .union(UnionType::All, certified_among(&keys).into_query())
        .union(UnionType::All, blocked_among(keys).into_query());
    let replaced: HashSet<_> =
        all.iter().filter_map(|one| one.certificate.replaces).map(|old| old.to_string()).collect();
    let parts = QueryTrait::query(&mut query);
    if !replaced.is_empty() {
        let standing = certificate::Entity::find()
            .select_only()
            .expr(Expr::val(STANDING))
            .column(certificate::Column::Serial)
            .expr(Expr::val(0_i64))
            .expr(Expr::val(None::<String>))
            .filter(certificate::Column::Serial.is_in(replaced))
            .filter(certificate::Column::RevokedAt.is_null());
        parts.union(UnionType::All, standing.into_query());
    }
    query.into_tuple()
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
        let Certificate { person, replaces, spki_sha256, authority, .. } = &one.certificate;
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
