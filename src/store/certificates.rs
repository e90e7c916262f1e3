//! Client certificates: what we are about to sign, what we signed, what we took back.

use std::collections::{BTreeSet, HashMap};

use entity::{certificate, intent};
use sea_orm::sea_query::{Expr, Func};
use sea_orm::{ActiveValue::Set, ColumnTrait, Condition, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use super::inventory::search_key;
use super::{Store, StoreError, Transaction, at, named, parse};
use crate::domain::{
    CertificateRecord, DeviceId, Fingerprint, LineageId, PersonId, RevocationReason, Serial, Slug, UtcTime,
};

/// What we are about to sign. Committed before the signature is made, so that a power cut leaves a
/// trace that can be listed and revoked by serial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intent {
    /// The reserved serial.
    pub serial: Serial,
    /// Who is going to sign.
    pub authority: Slug,
    /// The exact bytes to be signed.
    pub tbs: Vec<u8>,
    /// What the certificate is for.
    pub purpose: IntentPurpose,
    /// Until when the certificate would be valid.
    pub not_after: UtcTime,
    /// When it was recorded.
    pub created_at: UtcTime,
}

/// What a certificate is about to be made for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IntentPurpose {
    /// A person's device.
    Client {
        /// For whom.
        person: PersonId,
        /// For which device.
        device: DeviceId,
        /// Under which profile.
        profile: Slug,
        /// In which lineage.
        lineage: LineageId,
    },
    /// The delegate that signs OCSP responses of the authority.
    OcspSigner,
    /// Another authority's key, for those who trust only this one.
    CrossCertificate,
    /// The edge itself, before upstreams that ask for a certificate.
    UpstreamClient,
}

impl IntentPurpose {
    /// The name in rows.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Client { .. } => "client",
            Self::OcspSigner => OCSP_SIGNER,
            Self::CrossCertificate => CROSS_CERTIFICATE,
            Self::UpstreamClient => UPSTREAM_CLIENT,
        }
    }
}

const OCSP_SIGNER: &str = "ocsp_signer";
const CROSS_CERTIFICATE: &str = "cross_certificate";
const UPSTREAM_CLIENT: &str = "upstream_client";

/// How an intent ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntentOutcome {
    /// The certificate is on record.
    Issued,
    /// Nothing came of it; its serial is on the revocation list until it would have expired, in case
    /// a signature was made that nobody recorded.
    Abandoned,
}

impl IntentOutcome {
    /// The name in rows.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Issued => "issued",
            Self::Abandoned => "abandoned",
        }
    }
}

/// A client certificate as rows hold it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Its serial, unique in the whole database.
    pub serial: Serial,
    /// Who signed it.
    pub authority: Slug,
    /// Whose it is.
    pub person: PersonId,
    /// On which device.
    pub device: DeviceId,
    /// Under which profile.
    pub profile: Slug,
    /// Which version of it; 0 for certificates of before profiles had versions.
    pub profile_version: u64,
    /// The lineage it belongs to.
    pub lineage: LineageId,
    /// The certificate of the lineage that it renews.
    pub replaces: Option<Serial>,
    /// SHA-256 of its DER.
    pub fingerprint: Fingerprint,
    /// SHA-256 of its key's SubjectPublicKeyInfo, hexadecimal: what a blocklist knows keys by.
    pub spki_sha256: String,
    /// Its common name.
    pub subject: String,
    /// Its rfc822Name.
    pub email: Option<String>,
    /// Start of validity, inclusive.
    pub not_before: UtcTime,
    /// End of validity, inclusive.
    pub not_after: UtcTime,
    /// When it was issued.
    pub issued_at: UtcTime,
    /// Its bytes.
    pub der: Vec<u8>,
    /// When and why it was revoked, if it was.
    pub revoked: Option<(UtcTime, RevocationReason)>,
    /// Since when the key is thought to be in other hands (RFC 5280 §5.3.2).
    pub invalid_since: Option<UtcTime>,
    /// When it is taken back because its successor took over, if it has one and overlaps end.
    pub supersede_at: Option<UtcTime>,
}

impl Certificate {
    /// What edges know of this certificate.
    pub fn record(&self) -> CertificateRecord {
        CertificateRecord {
            fingerprint: self.fingerprint,
            serial: self.serial,
            authority: self.authority.clone(),
            profile: self.profile.clone(),
            person: self.person,
            device: self.device,
            not_before: self.not_before,
            not_after: self.not_after,
            revoked: self.revoked,
        }
    }
}

/// Which certificates a listing shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Neither revoked nor expired.
    Active,
    /// Revoked.
    Revoked,
    /// Past its end and not revoked.
    Expired,
}

/// What a listing may be narrowed to.
#[derive(Clone, Debug, Default)]
pub struct CertificateFilter {
    /// Only of this standing, at `now` of the call.
    pub standing: Option<Standing>,
    /// Only of this person.
    pub person: Option<PersonId>,
    /// Only of this device.
    pub device: Option<DeviceId>,
    /// Only after this serial, for paging.
    pub after: Option<Serial>,
}

/// Certificates of one key that are looked at; renewals mostly bring new keys.
const MOST_WITH_ONE_KEY: u64 = 20;

impl Store {
    /// The certificate with this serial.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn certificate(&self, serial: Serial) -> Result<Option<Certificate>, StoreError> {
        certificate::Entity::find_by_id(serial.to_string()).one(self.reader()).await?.map(read).transpose()
    }

    /// Certificates by serial, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn certificates(
        &self,
        filter: &CertificateFilter,
        limit: u64,
        now: UtcTime,
    ) -> Result<Vec<Certificate>, StoreError> {
        use certificate::Column;
        let mut query = certificate::Entity::find().order_by_asc(Column::Serial).limit(limit);
        query = match filter.standing {
            None => query,
            Some(Standing::Active) => {
                query.filter(Column::RevokedAt.is_null()).filter(Column::NotAfter.gte(now.as_unix()))
            }
            Some(Standing::Revoked) => query.filter(Column::RevokedAt.is_not_null()),
            Some(Standing::Expired) => {
                query.filter(Column::RevokedAt.is_null()).filter(Column::NotAfter.lt(now.as_unix()))
            }
        };
        if let Some(person) = filter.person {
            query = query.filter(Column::PersonId.eq(person.to_string()));
        }
        if let Some(device) = filter.device {
            query = query.filter(Column::DeviceId.eq(device.to_string()));
        }
        if let Some(after) = filter.after {
            query = query.filter(Column::Serial.gt(after.to_string()));
        }
        query.all(self.reader()).await?.into_iter().map(read).collect()
    }

    /// The certificates of a person with this key, newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn certificates_with_key(
        &self,
        person: PersonId,
        spki_sha256: &str,
    ) -> Result<Vec<Certificate>, StoreError> {
        let query = certificate::Entity::find()
            .filter(certificate::Column::SpkiSha256.eq(spki_sha256))
            .filter(certificate::Column::PersonId.eq(person.to_string()))
            .order_by_desc(certificate::Column::IssuedAt)
            .limit(MOST_WITH_ONE_KEY);
        query.all(self.reader()).await?.into_iter().map(read).collect()
    }

    /// For each of these certificates that has one: the newest unrevoked certificate of its lineage that
    /// ends later, or that replaced it in the same second.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn successors(
        &self,
        of: impl IntoIterator<Item = &Certificate>,
    ) -> Result<HashMap<Serial, Serial>, StoreError> {
        use certificate::Column;
        let of: Vec<&Certificate> = of.into_iter().collect();
        let lineages: BTreeSet<String> = of.iter().map(|one| one.lineage.to_string()).collect();
        if lineages.is_empty() {
            return Ok(HashMap::new());
        }
        let rows = certificate::Entity::find()
            .select_only()
            .columns([Column::Lineage, Column::Serial, Column::NotAfter, Column::Replaces])
            .filter(Column::Lineage.is_in(lineages))
            .filter(Column::RevokedAt.is_null())
            .order_by_desc(Column::NotAfter)
            .into_tuple::<(String, String, i64, Option<String>)>()
            .all(self.reader())
            .await?;
        let mut found = HashMap::new();
        for one in of {
            let (lineage, own) = (one.lineage.to_string(), one.serial.to_string());
            let follows = |row: &&(String, String, i64, Option<String>)| {
                let (of, _, not_after, replaces) = row;
                *of == lineage && (*not_after > one.not_after.as_unix() || replaces.as_ref() == Some(&own))
            };
            if let Some((_, serial, ..)) = rows.iter().find(follows) {
                found.insert(one.serial, parse("a certificate's serial", serial)?);
            }
        }
        Ok(found)
    }

    /// Certificates whose overlap with their successor is over at `now`, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn superseded_certificates(
        &self,
        now: UtcTime,
        limit: u64,
    ) -> Result<Vec<Certificate>, StoreError> {
        let query = certificate::Entity::find()
            .filter(certificate::Column::SupersedeAt.lte(now.as_unix()))
            .filter(certificate::Column::RevokedAt.is_null())
            .filter(certificate::Column::NotAfter.gte(now.as_unix()))
            .order_by_asc(certificate::Column::SupersedeAt)
            .limit(limit);
        query.all(self.reader()).await?.into_iter().map(read).collect()
    }

    /// Intents that were recorded before `before` and have no outcome yet.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn unresolved_intents(&self, before: UtcTime) -> Result<Vec<Intent>, StoreError> {
        let query = intent::Entity::find()
            .filter(intent::Column::ResolvedAt.is_null())
            .filter(intent::Column::CreatedAt.lt(before.as_unix()))
            .order_by_asc(intent::Column::CreatedAt);
        query.all(self.reader()).await?.into_iter().map(read_intent).collect()
    }
}

impl Transaction {
    /// Records what is about to be signed.
    ///
    /// # Errors
    /// [`StoreError`]; then nothing must be signed.
    pub async fn record_intent(&self, new: &Intent) -> Result<(), StoreError> {
        intent::Entity::insert(intent_row(new)).exec_without_returning(self.connection()).await?;
        Ok(())
    }

    /// Adds a signed certificate.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn insert_certificate(&self, new: &Certificate) -> Result<(), StoreError> {
        certificate::Entity::insert(certificate_row(new)).exec_without_returning(self.connection()).await?;
        Ok(())
    }

    /// Says how an intent ended. Returns whether it was open: an intent ends once, so whoever finds
    /// it closed must not go on.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn resolve_intent(
        &self,
        serial: Serial,
        outcome: IntentOutcome,
        now: UtcTime,
    ) -> Result<bool, StoreError> {
        if outcome == IntentOutcome::Abandoned {
            // An intent that was found open behind this lock stays open for whoever has it.
            self.lock_register().await?;
        }
        let update = intent::Entity::update_many()
            .col_expr(intent::Column::ResolvedAt, Expr::value(now.as_unix()))
            .col_expr(intent::Column::Outcome, Expr::value(outcome.name()))
            .filter(intent::Column::Serial.eq(serial.to_string()))
            .filter(intent::Column::ResolvedAt.is_null());
        let resolved = update.exec(self.connection()).await?.rows_affected == 1;
        if resolved && outcome == IntentOutcome::Abandoned {
            self.count_list_change(serial).await?;
        }
        Ok(resolved)
    }

    /// Revokes a certificate, or gives it another reason; `from` is the state that was read. The time of
    /// the first revocation stays: since then it has not passed. A key in other hands is blocked.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when it is no longer in that state.
    pub async fn revoke_certificate(
        &self,
        serial: Serial,
        from: Option<RevocationReason>,
        reason: RevocationReason,
        now: UtcTime,
    ) -> Result<(), StoreError> {
        let mut update = certificate::Entity::update_many()
            .col_expr(
                certificate::Column::RevokedAt,
                Func::coalesce([Expr::col(certificate::Column::RevokedAt), Expr::value(now.as_unix())])
                    .into(),
            )
            .col_expr(certificate::Column::RevocationReason, Expr::value(i64::from(reason.code())))
            .filter(certificate::Column::Serial.eq(serial.to_string()));
        update = match from {
            None => update.filter(certificate::Column::RevokedAt.is_null()),
            Some(from) => update.filter(certificate::Column::RevocationReason.eq(i64::from(from.code()))),
        };
        let changed = update.exec(self.connection()).await?.rows_affected;
        if changed != 1 {
            return Err(StoreError::Conflict { what: "the certificate" });
        }
        if reason == RevocationReason::KeyCompromise {
            self.block_key_of(serial, now).await?;
        }
        self.count_list_change(serial).await
    }

    /// Whether this key is in a certificate of another lineage than `lineage`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn is_key_in_other_lineage(
        &self,
        spki_sha256: &str,
        lineage: LineageId,
    ) -> Result<bool, StoreError> {
        let query = certificate::Entity::find()
            .select_only()
            .column(certificate::Column::Serial)
            .filter(certificate::Column::SpkiSha256.eq(spki_sha256))
            .filter(certificate::Column::Lineage.ne(lineage.to_string()))
            .into_tuple::<String>();
        Ok(query.one(self.connection()).await?.is_some())
    }

    /// How many lineages other than `lineage` the person has under `profile`: with a certificate that is
    /// neither revoked nor expired at `now`, or with one that is being made.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn other_lineages(
        &self,
        person: PersonId,
        profile: &Slug,
        lineage: LineageId,
        now: UtcTime,
    ) -> Result<u32, StoreError> {
        let own = lineage.to_string();
        let mut others = self.lineages(person, profile, now).await?;
        others.remove(&own);
        Ok(u32::try_from(others.len()).unwrap_or(u32::MAX))
    }

    /// The person's lineages under `profile`: with a certificate that is neither revoked nor expired at
    /// `now`, or with one that is being made.
    pub(in crate::store) async fn lineages(
        &self,
        person: PersonId,
        profile: &Slug,
        now: UtcTime,
    ) -> Result<BTreeSet<String>, StoreError> {
        // In this order: an intent that becomes a certificate between the two is seen by both.
        let under_way = intent::Entity::find()
            .select_only()
            .column(intent::Column::Lineage)
            .filter(intent::Column::PersonId.eq(person.to_string()))
            .filter(intent::Column::Profile.eq(profile.to_string()))
            .filter(intent::Column::ResolvedAt.is_null())
            .filter(intent::Column::Lineage.is_not_null())
            .into_tuple::<String>()
            .all(self.connection())
            .await?;
        let living = certificate::Entity::find()
            .select_only()
            .column(certificate::Column::Lineage)
            .filter(certificate::Column::PersonId.eq(person.to_string()))
            .filter(certificate::Column::Profile.eq(profile.to_string()))
            .filter(certificate::Column::RevokedAt.is_null())
            .filter(certificate::Column::NotAfter.gte(now.as_unix()))
            .into_tuple::<String>()
            .all(self.connection())
            .await?;
        Ok(living.into_iter().chain(under_way).collect())
    }

    /// Says that every older certificate of the lineage is taken back at `when`, unless it is sooner.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn supersede(
        &self,
        lineage: LineageId,
        successor: Serial,
        when: UtcTime,
    ) -> Result<(), StoreError> {
        use certificate::Column;
        certificate::Entity::update_many()
            .col_expr(Column::SupersedeAt, Expr::value(when.as_unix()))
            .filter(Column::Lineage.eq(lineage.to_string()))
            .filter(Column::Serial.ne(successor.to_string()))
            .filter(Column::RevokedAt.is_null())
            .filter(
                Condition::any()
                    .add(Column::SupersedeAt.is_null())
                    .add(Column::SupersedeAt.gt(when.as_unix())),
            )
            .exec(self.connection())
            .await?;
        Ok(())
    }
}

pub(in crate::store) fn intent_row(new: &Intent) -> intent::ActiveModel {
    let mut row = intent::ActiveModel {
        serial: Set(new.serial.to_string()),
        authority: Set(new.authority.to_string()),
        tbs: Set(new.tbs.clone()),
        person_id: Set(String::new()),
        device_id: Set(String::new()),
        profile: Set(String::new()),
        not_after: Set(new.not_after.as_unix()),
        created_at: Set(new.created_at.as_unix()),
        resolved_at: Set(None),
        outcome: Set(None),
        purpose: Set(new.purpose.name().to_owned()),
        lineage: Set(None),
    };
    if let IntentPurpose::Client { person, device, profile, lineage } = &new.purpose {
        row.person_id = Set(person.to_string());
        row.device_id = Set(device.to_string());
        row.profile = Set(profile.to_string());
        row.lineage = Set(Some(lineage.to_string()));
    }
    row
}

pub(in crate::store) fn certificate_row(new: &Certificate) -> certificate::ActiveModel {
    certificate::ActiveModel {
        serial: Set(new.serial.to_string()),
        authority: Set(new.authority.to_string()),
        person_id: Set(new.person.to_string()),
        device_id: Set(new.device.to_string()),
        profile: Set(new.profile.to_string()),
        lineage: Set(new.lineage.to_string()),
        replaces: Set(new.replaces.map(|serial| serial.to_string())),
        fingerprint: Set(new.fingerprint.to_string()),
        spki_sha256: Set(new.spki_sha256.clone()),
        subject: Set(new.subject.clone()),
        email: Set(new.email.clone()),
        not_before: Set(new.not_before.as_unix()),
        not_after: Set(new.not_after.as_unix()),
        issued_at: Set(new.issued_at.as_unix()),
        der: Set(new.der.clone()),
        revoked_at: Set(None),
        revocation_reason: Set(None),
        invalid_since: Set(None),
        profile_version: Set(i64::try_from(new.profile_version).unwrap_or(i64::MAX)),
        supersede_at: Set(None),
        subject_key: Set(search_key(&new.subject)),
        email_key: Set(new.email.as_deref().map(search_key).unwrap_or_default()),
    }
}

pub(in crate::store) fn read(row: certificate::Model) -> Result<Certificate, StoreError> {
    let revoked = match (row.revoked_at, row.revocation_reason) {
        (None, _) => None,
        (Some(when), code) => {
            let known = code.and_then(|code| u8::try_from(code).ok()).and_then(RevocationReason::from_code);
            Some((at(when), named("a revocation reason", &format!("{code:?}"), known)?))
        }
    };
    Ok(Certificate {
        serial: parse("a certificate's serial", &row.serial)?,
        authority: parse("a certificate's authority", &row.authority)?,
        person: parse("a certificate's person", &row.person_id)?,
        device: parse("a certificate's device", &row.device_id)?,
        profile: parse("a certificate's profile", &row.profile)?,
        profile_version: u64::try_from(row.profile_version).unwrap_or(0),
        lineage: parse("a certificate's lineage", &row.lineage)?,
        replaces: row.replaces.map(|serial| parse("a certificate's predecessor", &serial)).transpose()?,
        fingerprint: parse("a certificate's fingerprint", &row.fingerprint)?,
        spki_sha256: row.spki_sha256,
        subject: row.subject,
        email: row.email,
        not_before: at(row.not_before),
        not_after: at(row.not_after),
        issued_at: at(row.issued_at),
        der: row.der,
        revoked,
        invalid_since: row.invalid_since.map(at),
        supersede_at: row.supersede_at.map(at),
    })
}

fn read_intent(row: intent::Model) -> Result<Intent, StoreError> {
    let purpose = match row.purpose.as_str() {
        "client" => IntentPurpose::Client {
            person: parse("an intent's person", &row.person_id)?,
            device: parse("an intent's device", &row.device_id)?,
            profile: parse("an intent's profile", &row.profile)?,
            // Intents of before this column was there began lineages that nobody knows.
            lineage: match &row.lineage {
                Some(lineage) => parse("an intent's lineage", lineage)?,
                None => LineageId::new(),
            },
        },
        OCSP_SIGNER => IntentPurpose::OcspSigner,
        CROSS_CERTIFICATE => IntentPurpose::CrossCertificate,
        UPSTREAM_CLIENT => IntentPurpose::UpstreamClient,
        other => return named("an intent's purpose", other, None),
    };
    Ok(Intent {
        serial: parse("an intent's serial", &row.serial)?,
        authority: parse("an intent's authority", &row.authority)?,
        tbs: row.tbs,
        purpose,
        not_after: at(row.not_after),
        created_at: at(row.created_at),
    })
}
