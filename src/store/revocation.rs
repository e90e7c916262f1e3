//! What taking certificates back and giving them back does to rows, and what rows say of a serial.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use entity::{blocked_key, certificate, crl_head, intent, internal_certificate};
use sea_orm::sea_query::{Expr, OnConflict};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, Condition, ConnectionTrait, EntityTrait, ExprTrait, Insert, QueryFilter,
    QueryOrder, QuerySelect, QueryTrait,
};

use super::audit::{add_events, ending};
use super::certificates::{Certificate, IntentOutcome, read};
use super::register::add_changes;
use super::script::Script;
use super::{Store, StoreError, Transaction, at, named};
use crate::domain::audit::{Act, Outcome};
use crate::domain::{Delta, DeviceId, RevocationReason, Serial, Slug, UtcTime};
use crate::pki::ocsp::CertStatus;

/// What is on record of a serial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SerialStatus {
    /// As OCSP tells it.
    pub status: CertStatus,
    /// Whether the register says when it changes, so that whoever keeps it hears of it.
    pub followed: bool,
}

/// What revocations of one transaction change. It holds the register, and read under it what it changes.
pub struct Revocations<'a> {
    /// The register's last epoch before.
    pub epoch: u64,
    /// The revoked certificates, each once, as they are from now on.
    pub changed: Vec<&'a Certificate>,
    /// Keys that are in other hands, as [`Certificate::spki_sha256`].
    pub blocked: &'a BTreeSet<String>,
    /// What edges must know.
    pub deltas: &'a [Delta],
    /// Acts that have succeeded, with their details and times.
    pub ends: Vec<(&'a Act, String, UtcTime)>,
    /// When.
    pub now: UtcTime,
}

impl Store {
    /// What is on record of a serial at one authority. `Good` only for a certificate that is on record;
    /// an issuance that came to nothing counts as revoked, as on the list; one under way is unknown.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn certificate_status(
        &self,
        authority: &Slug,
        serial: Serial,
    ) -> Result<SerialStatus, StoreError> {
        type Row = (Option<i64>, Option<i64>);
        let (name, number) = (authority.to_string(), serial.to_string());
        let client = certificate::Entity::find_by_id(&number)
            .select_only()
            .columns([certificate::Column::RevokedAt, certificate::Column::RevocationReason])
            .filter(certificate::Column::Authority.eq(&name))
            .into_tuple::<Row>();
        if let Some((when, reason)) = client.one(self.reader()).await? {
            return Ok(SerialStatus { status: status(when, reason)?, followed: true });
        }
        let internal = internal_certificate::Entity::find_by_id(&number)
            .select_only()
            .columns([
                internal_certificate::Column::RevokedAt,
                internal_certificate::Column::RevocationReason,
            ])
            .filter(internal_certificate::Column::Authority.eq(&name))
            .into_tuple::<Row>();
        if let Some((when, reason)) = internal.one(self.reader()).await? {
            return Ok(SerialStatus { status: status(when, reason)?, followed: false });
        }
        let abandoned = intent::Entity::find_by_id(&number)
            .select_only()
            .column(intent::Column::ResolvedAt)
            .filter(intent::Column::Authority.eq(&name))
            .filter(intent::Column::Outcome.eq(IntentOutcome::Abandoned.name()))
            .into_tuple::<Option<i64>>();
        let status = match abandoned.one(self.reader()).await? {
            Some(when) => {
                let at = when.map_or(UtcTime::EPOCH, at);
                CertStatus::Revoked { at, reason: RevocationReason::CessationOfOperation }
            }
            None => CertStatus::Unknown,
        };
        Ok(SerialStatus { status, followed: false })
    }

    /// Whether this key is known to be in other hands. Once blocked, a key stays so.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn is_key_compromised(&self, spki_sha256: &str) -> Result<bool, StoreError> {
        is_blocked(self.reader(), spki_sha256).await
    }
}

impl Transaction {
    /// The certificate with this serial, as this transaction sees it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn certificate(&self, serial: Serial) -> Result<Option<Certificate>, StoreError> {
        let row = certificate::Entity::find_by_id(serial.to_string()).one(self.connection()).await?;
        row.map(read).transpose()
    }

    /// Those of these certificates that are on record, as this transaction sees them.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn certificates_by_serial(
        &self,
        serials: impl IntoIterator<Item = Serial> + Send,
    ) -> Result<HashMap<Serial, Certificate>, StoreError> {
        let serials: HashSet<_> = serials.into_iter().map(|serial| serial.to_string()).collect();
        let rows = certificate::Entity::find().filter(certificate::Column::Serial.is_in(serials));
        let rows = rows.all(self.connection()).await?.into_iter();
        rows.map(|row| read(row).map(|certificate| (certificate.serial, certificate))).collect()
    }

    /// Whether this key is known to be in other hands, as this transaction sees it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn is_key_compromised(&self, spki_sha256: &str) -> Result<bool, StoreError> {
        is_blocked(self.connection(), spki_sha256).await
    }

    /// Every certificate with this key, as this transaction sees them.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn certificates_with_key(&self, spki_sha256: &str) -> Result<Vec<Certificate>, StoreError> {
        let query = certificate::Entity::find()
            .filter(certificate::Column::SpkiSha256.eq(spki_sha256))
            .order_by_asc(certificate::Column::Serial);
        query.all(self.connection()).await?.into_iter().map(read).collect()
    }

    /// Certificates of a device that have not ended and are active or on hold, as this transaction sees
    /// them.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn revocable_certificates_of(
        &self,
        device: DeviceId,
        now: UtcTime,
    ) -> Result<Vec<Certificate>, StoreError> {
        let hold = i64::from(RevocationReason::CertificateHold.code());
        let not_final = Condition::any()
            .add(certificate::Column::RevokedAt.is_null())
            .add(certificate::Column::RevocationReason.eq(hold));
        let query = certificate::Entity::find()
            .filter(certificate::Column::DeviceId.eq(device.to_string()))
            .filter(certificate::Column::NotAfter.gte(now.as_unix()))
            .filter(not_final)
            .order_by_asc(certificate::Column::Serial);
        query.all(self.connection()).await?.into_iter().map(read).collect()
    }

    /// Writes revocations in one trip, with what follows from them: blocked keys, lists that are due,
    /// the register's changes and the ends of acts.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn write_revocations(&self, all: Revocations<'_>) -> Result<(), StoreError> {
        let mut script = Script::on(self);
        let (mut alike, mut lists) = (BTreeMap::<_, Vec<_>>::new(), BTreeMap::<_, i64>::new());
        for certificate in &all.changed {
            let revoked = certificate.revoked.map(|(at, reason)| (at.as_unix(), i64::from(reason.code())));
            let since = certificate.invalid_since.map(UtcTime::as_unix);
            alike.entry((revoked, since)).or_default().push(certificate.serial.to_string());
            *lists.entry(&certificate.authority).or_default() += 1;
        }
        for ((revoked, since), serials) in alike {
            let (at, reason) = revoked.unzip();
            let update = certificate::Entity::update_many()
                .col_expr(certificate::Column::RevokedAt, Expr::value(at))
                .col_expr(certificate::Column::RevocationReason, Expr::value(reason))
                .col_expr(certificate::Column::InvalidSince, Expr::value(since))
                .filter(certificate::Column::Serial.is_in(serials));
            script.update(update);
        }
        for (authority, changes) in lists {
            script.insert_by(list_changes(authority.to_string(), changes).into_query());
        }
        let there = OnConflict::column(blocked_key::Column::SpkiSha256).do_nothing().to_owned();
        let keys = all.blocked.iter().map(|key| blocked_key::ActiveModel {
            spki_sha256: Set(key.clone()),
            blocked_at: Set(all.now.as_unix()),
        });
        script.insert_unless(Some(&there), keys);
        add_changes(&mut script, all.epoch, all.deltas, all.now)?;
        let ends = all.ends.iter();
        add_events(
            &mut script,
            ends.flat_map(|(act, detail, now)| ending(act, Outcome::Succeeded, Some(detail), *now)),
        );
        Ok(script.run().await?)
    }

    /// Lifts the hold of a certificate. Returns whether it was on hold: every other reason is final.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn release_certificate(&self, serial: Serial) -> Result<bool, StoreError> {
        let hold = i64::from(RevocationReason::CertificateHold.code());
        let nothing = || Expr::value(Option::<i64>::None);
        let update = certificate::Entity::update_many()
            .col_expr(certificate::Column::RevokedAt, nothing())
            .col_expr(certificate::Column::RevocationReason, nothing())
            .col_expr(certificate::Column::InvalidSince, nothing())
            .filter(certificate::Column::Serial.eq(serial.to_string()))
            .filter(certificate::Column::RevocationReason.eq(hold));
        let released = update.exec(self.connection()).await?.rows_affected == 1;
        if released {
            self.count_list_change(serial).await?;
        }
        Ok(released)
    }

    /// Blocks the key of a certificate for ever.
    pub(super) async fn block_key_of(&self, serial: Serial, now: UtcTime) -> Result<(), StoreError> {
        let key = certificate::Entity::find_by_id(serial.to_string())
            .select_only()
            .column(certificate::Column::SpkiSha256)
            .into_tuple::<String>()
            .one(self.connection())
            .await?;
        let row = blocked_key::ActiveModel {
            spki_sha256: Set(key.ok_or(StoreError::Missing { what: "certificate" })?),
            blocked_at: Set(now.as_unix()),
        };
        blocked_key::Entity::insert(row)
            .on_conflict(OnConflict::column(blocked_key::Column::SpkiSha256).do_nothing().to_owned())
            .exec_without_returning(self.connection())
            .await?;
        Ok(())
    }

    /// Counts a change of what the list must name that covers this serial: the next look at that list
    /// finds it due.
    ///
    /// # Errors
    /// [`StoreError::Missing`] when nothing was ever to be signed under this serial.
    pub async fn count_list_change(&self, serial: Serial) -> Result<(), StoreError> {
        let authority = intent::Entity::find_by_id(serial.to_string())
            .select_only()
            .column(intent::Column::Authority)
            .into_tuple::<String>()
            .one(self.connection())
            .await?;
        let authority = authority.ok_or(StoreError::Missing { what: "intent" })?;
        list_changes(authority, 1).exec_without_returning(self.connection()).await?;
        Ok(())
    }
}

/// Counts changes of what the list of an authority must name: the next look at it finds it due.
fn list_changes(authority: String, count: i64) -> Insert<crl_head::ActiveModel> {
    let row = crl_head::ActiveModel {
        authority: Set(authority),
        changes: Set(count),
        published: Set(0),
        published_changes: Set(0),
    };
    let changes = Expr::col((crl_head::Entity, crl_head::Column::Changes));
    let more = OnConflict::column(crl_head::Column::Authority)
        .value(crl_head::Column::Changes, changes.add(count))
        .to_owned();
    crl_head::Entity::insert(row).on_conflict(more)
}

async fn is_blocked(connection: &impl ConnectionTrait, spki_sha256: &str) -> Result<bool, StoreError> {
    Ok(blocked_key::Entity::find_by_id(spki_sha256).one(connection).await?.is_some())
}

fn status(revoked_at: Option<i64>, reason: Option<i64>) -> Result<CertStatus, StoreError> {
    let Some(when) = revoked_at else { return Ok(CertStatus::Good) };
    let known = reason.and_then(|code| u8::try_from(code).ok()).and_then(RevocationReason::from_code);
    let reason = named("a revocation reason", &format!("{reason:?}"), known)?;
    Ok(CertStatus::Revoked { at: at(when), reason })
}
