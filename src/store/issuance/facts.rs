//! What requests and certificates are judged by, as the transaction that acts on it sees it; each read
//! in one trip.

use std::collections::{BTreeSet, HashMap, HashSet};

use entity::{authority, blocked_key, certificate, intent, person, profile, register_head};
use sea_orm::sea_query::{CaseStatement, Expr, Query, UnionType};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DbBackend, DbErr, EntityTrait, QueryFilter, QuerySelect, QueryTrait,
    Select, SelectGetableTuple, Selector, TryGetableMany,
};

use super::{Asked, Issuance};
use crate::domain::{AuthorityKind, AuthorityState, PersonId};
use crate::store::certificates::Certificate;
use crate::store::people::{Person, read_person};
use crate::store::register::register_lock;
use crate::store::script::joined;
use crate::store::{StoreError, Transaction, named};

/// What requests are judged by, as the transaction that records them sees it.
#[derive(Default)]
pub(super) struct Current {
    /// Keys of the requests that were certified, and in which lineage.
    pub(super) keys: HashSet<(String, String)>,
    /// Keys that are known to be in other hands.
    pub(super) blocked: HashSet<String>,
    /// The versions of those people who are not disabled.
    people: HashMap<String, u64>,
    /// The versions of the profiles.
    profiles: HashMap<String, u64>,
    /// The newest authority that issues: when it was made, its name, and which of the issuers that were
    /// read is its certificate.
    authority: Option<(i64, String, Option<usize>)>,
}

impl Current {
    /// Reads it in one trip.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(super) async fn read(transaction: &Transaction, all: &[Asked]) -> Result<Self, StoreError> {
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
    pub(super) fn agrees_with(&self, asked: &Asked, issuers: &[&[u8]]) -> bool {
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
pub(super) fn issuers(all: &[Asked]) -> Vec<&[u8]> {
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

/// What certificates that were signed depend on, as the transaction that stores them sees it.
pub(super) struct Present {
    /// By id, the people whom they are for, but for those who are disabled.
    pub(super) people: HashMap<String, Person>,
    /// The authorities that are in force.
    pub(super) in_force: HashSet<String>,
    /// The keys that are known to be in other hands.
    pub(super) blocked: HashSet<String>,
    /// The certificates to be replaced that are not revoked.
    pub(super) standing: HashSet<String>,
    /// Their intents that are open.
    pub(super) open: HashSet<String>,
    /// The versions of the profiles.
    profiles: HashMap<String, u64>,
    /// Their keys that were certified, and in which lineage.
    pub(super) keys: HashSet<(String, String)>,
}

impl Present {
    /// Takes the register's lock and reads behind it. Returns the register's last epoch, too.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(super) async fn read(transaction: &Transaction, all: &[Issuance]) -> Result<(u64, Self), StoreError> {
        let (epoch, rows) = rows_behind_lock(transaction, all).await?;
        let mut present = Self {
            people: HashMap::new(),
            in_force: HashSet::new(),
            blocked: HashSet::new(),
            standing: HashSet::new(),
            open: HashSet::new(),
            profiles: HashMap::new(),
            keys: HashSet::new(),
        };
        let mut changed = HashSet::new();
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
                OPEN => drop(present.open.insert(id)),
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
        Ok((epoch, present))
    }
}

/// Takes the register's lock, then reads everything that [`Present`] is made of.
async fn rows_behind_lock(
    transaction: &Transaction,
    all: &[Issuance],
) -> Result<(u64, Vec<Fact>), StoreError> {
    let connection = transaction.connection();
    let rows = present_rows(all);
    let backend = connection.get_database_backend();
    if backend != DbBackend::Sqlite {
        // What a statement reads was so when it began: it must begin when the lock is held.
        let epoch = transaction.lock_register().await?;
        return Ok((epoch, rows.all(connection).await?));
    }
    // The first write locks the whole file, and what is read behind it is what is so then: one trip.
    let mut lock = register_lock();
    lock.returning(Query::returning().exprs([
        Expr::val(EPOCH),
        Expr::val(""),
        Expr::col(register_head::Column::Epoch),
        Expr::val(None::<String>),
    ]));
    let both = joined(backend, [backend.build(&lock), rows.into_statement(backend)].into_iter());
    let mut facts = Vec::new();
    let mut epoch = None;
    for row in connection.query_all_raw(both).await? {
        match Fact::try_get_many_by_index(&row).map_err(DbErr::from)? {
            (EPOCH, _, number, _) => epoch = u64::try_from(number).ok(),
            fact => facts.push(fact),
        }
    }
    Ok((epoch.ok_or(StoreError::Missing { what: "head of the register" })?, facts))
}

impl Present {
    /// Whether what it was judged by is no longer so: the person's groups, the profile, or that nobody
    /// else has its key.
    pub(super) fn has_outrun(&self, one: &Issuance) -> bool {
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
/// An intent that is open.
const OPEN: i32 = 7;
/// The register's last epoch.
const EPOCH: i32 = 8;

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
    let open = intent::Entity::find()
        .select_only()
        .expr(Expr::val(OPEN))
        .column(intent::Column::Serial)
        .expr(Expr::val(0_i64))
        .expr(Expr::val(None::<String>))
        .filter(intent::Column::Serial.is_in(all.iter().map(|one| one.certificate.serial.to_string())))
        .filter(intent::Column::ResolvedAt.is_null());
    let mut query = people_in_good_standing(all.iter().map(|one| one.certificate.person));
    let parts = QueryTrait::query(&mut query);
    parts
        .union(UnionType::All, authorities.into_query())
        .union(UnionType::All, profiles_among(profiles).into_query())
        .union(UnionType::All, certified_among(&keys).into_query())
        .union(UnionType::All, blocked_among(keys).into_query())
        .union(UnionType::All, open.into_query());
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
