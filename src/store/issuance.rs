//! The writes of an issuance, shared by all that happen at the same moment.

use std::collections::{HashMap, HashSet};

use entity::{audit_event, certificate, device, intent, person, serial};
use futures_util::future::BoxFuture;
use sea_orm::sea_query::Expr;
use sea_orm::{ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter, QuerySelect};

use super::audit::finished;
use super::certificates::{Certificate, Intent, IntentOutcome, certificate_row, intent_row};
use super::people::{Device, Person, device_row, read_person};
use super::writer::Rows;
use super::{Store, StoreError, Transaction};
use crate::crash;
use crate::domain::audit::{Act, Outcome};
use crate::domain::{Delta, RevocationReason, UtcTime};

/// A certificate that was signed on record, and what is committed with it.
#[derive(Clone, Debug)]
pub struct Issuance {
    /// The certificate.
    pub certificate: Certificate,
    /// Its device, if it is new.
    pub device: Option<Device>,
    /// The act that is closed with it.
    pub act: Act,
    /// When.
    pub now: UtcTime,
}

/// Why a signed certificate is not stored. Its intent stays open, or was closed by others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotStored {
    /// The person was disabled, or is gone.
    PersonDisabled,
    /// The certificate that it renews was revoked.
    PredecessorRevoked,
    /// A certificate with this key was revoked for keyCompromise.
    BlockedKey,
    /// Somebody closed the intent.
    IntentClosed,
}

impl Store {
    /// Takes the intent's serial and records the intent, durably.
    ///
    /// # Errors
    /// [`StoreError::Taken`] when the serial was handed out before; after any error nothing must be signed.
    pub async fn put_on_record(&self, intent: Intent) -> Result<(), StoreError> {
        self.writer.add(intent).await
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
            let serials = all.iter().map(|intent| serial::ActiveModel {
                serial: Set(intent.serial.to_string()),
                purpose: Set(intent.purpose.name().to_owned()),
                reserved_at: Set(intent.created_at.as_unix()),
            });
            let reserved = serial::Entity::insert_many(serials);
            let reserved = reserved.exec_without_returning(transaction.connection()).await;
            reserved.map_err(|error| StoreError::unique(error, "the serial number"))?;
            let intents = intent::Entity::insert_many(all.iter().map(intent_row));
            intents.exec_without_returning(transaction.connection()).await?;
            Ok(vec![(); all.len()])
        })
    }
}

impl Rows for Issuance {
    type Answer = Result<(), NotStored>;

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
    let keys: HashSet<_> = all.iter().map(|one| one.certificate.spki_sha256.as_str()).collect();
    let query = certificate::Entity::find()
        .select_only()
        .column(certificate::Column::SpkiSha256)
        .filter(certificate::Column::SpkiSha256.is_in(keys))
        .filter(certificate::Column::RevocationReason.eq(i64::from(RevocationReason::KeyCompromise.code())));
    let blocked: HashSet<String> =
        query.into_tuple().all(transaction.connection()).await?.into_iter().collect();
    let refusal = |one: &Issuance| {
        let Certificate { person, replaces, spki_sha256, .. } = &one.certificate;
        if replaces.is_some_and(|old| !standing.contains(&old.to_string())) {
            Some(NotStored::PredecessorRevoked)
        } else if blocked.contains(spki_sha256) {
            Some(NotStored::BlockedKey)
        } else if !people.contains_key(&person.to_string()) {
            Some(NotStored::PersonDisabled)
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
    // Edges must know the person before the certificate.
    let ids: HashSet<_> = stored.iter().map(|one| one.certificate.person.to_string()).collect();
    let people =
        people.iter().filter(|(id, _)| ids.contains(*id)).map(|(_, one)| Delta::Person(one.record()));
    let deltas = people.chain(stored.iter().map(|one| Delta::Certificate(one.certificate.record())));
    let now = stored.iter().map(|one| one.now).max().unwrap_or(UtcTime::EPOCH);
    transaction.append_changes(&deltas.collect::<Vec<_>>(), now).await?;
    let events = stored.iter().map(|one| {
        let detail = format!("serial {}", one.certificate.serial);
        finished(&one.act, Outcome::Succeeded, Some(&detail), one.now)
    });
    audit_event::Entity::insert_many(events).exec_without_returning(connection).await?;
    Ok(())
}
