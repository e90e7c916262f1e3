//! The gate: the one place where a client certificate comes into being.
//!
//! serial reserved -> to-be-signed bytes prepared and linted -> intent committed -> signed -> compared
//! -> certificate, register delta and audit event in one transaction. A crash anywhere leaves either
//! nothing but a used-up serial, or an intent that [`Ca::resolve_intents`](super::Ca::resolve_intents)
//! closes and whose serial goes on the revocation list.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::policy::Question;
use super::{Ca, SignerError};
use crate::crash;
use crate::domain::audit::{self, Act, Outcome};
use crate::domain::{AuthorityKind, AuthorityState, Delta, Hostname, LineageId, Serial, Slug, UtcTime};
use crate::pki::issuer::{ClientLeaf, PrepareError, prepare_client};
use crate::pki::prepared::{AssembleError, Certificate as SignedCertificate};
use crate::pki::profile::{CommonName, Outliving, Ruling};
use crate::pki::{AuthorityCertificate, Prepared, Profile, PublicKey};
use crate::store::authorities::Authority;
use crate::store::certificates::{Certificate, Intent, IntentOutcome, IntentPurpose};
use crate::store::people::{Device, Person};
use crate::store::{StoreError, Transaction};

/// How often a serial is drawn before we stop believing in chance.
const SERIAL_TRIES: usize = 4;
/// How far the clock may stand before the last recorded act. Replicas' clocks differ, and certificates
/// are back-dated by as much.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(300);

/// What the gate is asked for. Identity and proof of possession have been checked; the rest is judged here.
pub(super) struct Order<'a> {
    pub(super) person: &'a Person,
    pub(super) device: &'a Device,
    /// Whether the device's row comes with the certificate.
    pub(super) device_is_new: bool,
    pub(super) profile: &'a Profile,
    pub(super) public_key: &'a PublicKey,
    pub(super) lineage: LineageId,
    pub(super) predecessor: Option<&'a Certificate>,
    pub(super) dns_names: &'a BTreeSet<Hostname>,
}

/// What came out.
pub(super) struct Passed {
    pub(super) certificate: Certificate,
    /// What a client sends behind it, DER.
    pub(super) chain: Vec<Vec<u8>>,
    /// Whether it ends before its profile's lifetime does, with its issuer.
    pub(super) is_capped: bool,
}

/// Why the gate did not open.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    /// There is no authority that issues. -> 503
    #[error("there is no issuing authority; run `wicketgate init`")]
    NoAuthority,
    /// The certificate would outlive its issuer. -> 409
    #[error(
        "authority {authority} ends {ends}, the certificate would end {wanted}: roll the authority over first"
    )]
    OutlivesAuthority {
        /// Which authority.
        authority: Slug,
        /// When it ends.
        ends: UtcTime,
        /// When the certificate would.
        wanted: UtcTime,
    },
    /// The bytes did not pass the rules. -> 422
    #[error("the certificate was refused before it was signed")]
    Prepare(#[source] PrepareError),
    /// Nothing was recorded and nothing signed, or the intent will be resolved. -> 503
    #[error("the certificate could not be recorded")]
    Store(#[from] StoreError),
    /// The key could not sign. -> 503
    #[error("the authority could not sign")]
    Sign(#[from] SignerError),
    /// The authority's row holds a certificate that is not of its key. Nothing was signed. -> 503
    #[error("the certificate in the row of authority {0} is not of its key: the row was changed")]
    ForeignCertificate(Slug),
    /// What was signed is not what was recorded. Nothing of it is given out. -> 500
    #[error("the signed certificate is not the recorded one")]
    Compare(#[from] AssembleError),
    /// The person was disabled while the certificate was being made. -> 403
    #[error("the person was disabled")]
    PersonDisabled,
    /// The certificate that was to be renewed was revoked meanwhile. -> 409
    #[error("a revoked certificate cannot be renewed: enrol the device again")]
    PredecessorRevoked,
    /// A rule of the profile speaks against it. -> 422
    #[error("profile {profile} refuses: {} (rule {})", .ruling.because, .ruling.rule.name())]
    Policy {
        /// Which profile.
        profile: Slug,
        /// What its rule says.
        ruling: Box<Ruling>,
    },
    /// The clock stands before what was recorded last; times in certificates would lie. -> 503
    #[error("the clock stands at {now}, before the last recorded act at {last}: set it right first")]
    ClockWentBack {
        /// What the clock says.
        now: UtcTime,
        /// When something was recorded last.
        last: UtcTime,
    },
    /// The authority was taken out of service while the certificate was being made. -> 503
    #[error("authority {0} was taken out of service meanwhile: ask again")]
    AuthorityLeft(Slug),
    /// The key is known to be in other hands. -> 422
    #[error("this key belonged to a certificate that was revoked for keyCompromise: make a new key")]
    BlockedKey,
    /// Somebody closed the intent meanwhile; the certificate is not given out. -> 503
    #[error("the intent was closed before the certificate was stored")]
    IntentClosed,
}

impl Ca {
    /// Opens the gate once: judged, prepared, linted, recorded, signed, compared, stored. `act` is closed
    /// as succeeded with the certificate; on an error the caller closes it.
    pub(super) async fn pass_gate(
        &self,
        order: &Order<'_>,
        act: &Act,
        now: UtcTime,
    ) -> Result<Passed, GateError> {
        let store = &self.0.store;
        self.check_clock(now).await?;
        let authority =
            store.signing_authority(AuthorityKind::Issuing).await?.ok_or(GateError::NoAuthority)?;
        let issuer = parse_issuer(&authority)?;
        crash::reach("ca.after_serial");
        // Outside the transaction, which everybody waits for; its failure counts only if the rules admit.
        let prepared = self.prepare_leaf(order, &authority, &issuer, now);
        if let Ok(prepared) = &prepared {
            self.check_key(&authority, prepared).await?;
        }

        let transaction = store.begin().await?;
        let question = Question {
            person: order.person,
            profile: order.profile,
            public_key: order.public_key,
            lineage: order.lineage,
            predecessor: order.predecessor,
            dns_names: order.dns_names,
        };
        let admitted = question.decide(&transaction, &act.actor, now).await?;
        let prepared = match admitted.and(prepared) {
            Ok(prepared) => prepared,
            Err(refused) => {
                transaction.commit().await?;
                return Err(refused);
            }
        };
        let purpose = IntentPurpose::Client {
            person: order.person.id,
            device: order.device.id,
            profile: order.profile.name.clone(),
            lineage: order.lineage,
        };
        put_on_record(&transaction, &authority, &prepared, purpose, now).await?;
        transaction.commit().await?;

        let (not_before, not_after) = (prepared.not_before(), prepared.not_after());
        let signed = self.sign_recorded(&authority, prepared).await?;
        let certificate = Certificate {
            serial: signed.serial(),
            authority: authority.name,
            person: order.person.id,
            device: order.device.id,
            profile: order.profile.name.clone(),
            profile_version: order.profile.version,
            lineage: order.lineage,
            replaces: order.predecessor.map(|old| old.serial),
            fingerprint: signed.fingerprint(),
            spki_sha256: hex(&order.public_key.sha256()),
            subject: common_name(order),
            email: order.profile.rules.names.email.then(|| order.person.email.clone()),
            not_before,
            not_after,
            issued_at: now,
            der: signed.der().to_vec(),
            revoked: None,
            invalid_since: None,
            supersede_at: None,
        };
        let transaction = store.begin().await?;
        self.store_certificate(&transaction, order, &certificate, act, now).await?;
        crash::reach("ca.before_commit");
        transaction.commit().await?;
        crash::reach("ca.after_commit");
        let is_capped = not_after < order.profile.validity(now).1;
        Ok(Passed { certificate, chain: authority.certificate.into_iter().collect(), is_capped })
    }

    /// The bytes to be signed, if no rule of the lint speaks against them.
    fn prepare_leaf(
        &self,
        order: &Order<'_>,
        authority: &Authority,
        issuer: &AuthorityCertificate,
        now: UtcTime,
    ) -> Result<Prepared, GateError> {
        let names = &order.profile.rules.names;
        let (not_before, wanted) = order.profile.validity(now);
        let not_after = match order.profile.rules.outliving {
            Outliving::Refuse => wanted,
            Outliving::Cap => wanted.min(issuer.not_after()),
        };
        let uris: Vec<String> = [
            names.person_uri.then(|| format!("urn:uuid:{}", order.person.id)),
            names.device_uri.then(|| format!("urn:uuid:{}", order.device.id)),
        ]
        .into_iter()
        .flatten()
        .collect();
        let leaf = ClientLeaf {
            serial: Serial::random(&*self.0.entropy),
            public_key: order.public_key,
            common_name: &common_name(order),
            email: names.email.then_some(order.person.email.as_str()),
            uris: &uris,
            dns_names: order.dns_names,
            not_before: not_before.max(issuer.not_before()),
            not_after,
            crl_urls: &[self.crl_url(&authority.name)],
            issuer_urls: &[self.issuer_url(&authority.name)],
        };
        prepare_client(issuer, &leaf).map_err(|error| match error {
            PrepareError::OutlivesAuthority { ends, wanted } => {
                GateError::OutlivesAuthority { authority: authority.name.clone(), ends, wanted }
            }
            other => GateError::Prepare(other),
        })
    }

    /// Refuses to sign while the clock stands before what was recorded last, by more than clocks of
    /// replicas may differ: notBefore, revocation times and list numbers would contradict each other.
    pub(super) async fn check_clock(&self, now: UtcTime) -> Result<(), GateError> {
        let last = match self.0.last_recorded.load(Ordering::Acquire) {
            0 => self.0.store.last_audited().await?.unwrap_or(UtcTime::EPOCH),
            seconds => UtcTime::from_unix(seconds),
        };
        if last.since(now) > CLOCK_TOLERANCE {
            return Err(GateError::ClockWentBack { now, last });
        }
        self.0.last_recorded.fetch_max(now.max(last).as_unix(), Ordering::AcqRel);
        Ok(())
    }

    /// Refuses what would be signed with another key than the authority's certificate is of: somebody
    /// changed its row.
    async fn check_key(&self, authority: &Authority, prepared: &Prepared) -> Result<(), GateError> {
        let signer = self.signer(&authority.key_id).await?;
        match signer.public_key() == prepared.issuer_spki() {
            true => Ok(()),
            false => Err(GateError::ForeignCertificate(authority.name.clone())),
        }
    }

    /// Puts a prepared certificate on record and signs it: serial and intent committed together, signed
    /// once, compared. The caller stores the certificate and closes the intent in one transaction; if
    /// it does not, a job closes the intent and the serial goes on the revocation list.
    pub(super) async fn sign_on_record(
        &self,
        authority: &Authority,
        prepared: Prepared,
        purpose: IntentPurpose,
        now: UtcTime,
    ) -> Result<SignedCertificate, GateError> {
        self.check_clock(now).await?;
        self.check_key(authority, &prepared).await?;
        let transaction = self.0.store.begin().await?;
        put_on_record(&transaction, authority, &prepared, purpose, now).await?;
        transaction.commit().await?;
        self.sign_recorded(authority, prepared).await
    }

    /// Signs what is on record, once, and compares.
    async fn sign_recorded(
        &self,
        authority: &Authority,
        prepared: Prepared,
    ) -> Result<SignedCertificate, GateError> {
        crash::reach("ca.after_intent");
        let signer = self.signer(&authority.key_id).await?;
        let signature = signer.sign(prepared.tbs()).await.map_err(SignerError::from)?;
        crash::reach("ca.after_signing");
        Ok(prepared.assemble(&signature)?)
    }

    async fn store_certificate(
        &self,
        transaction: &Transaction,
        order: &Order<'_>,
        certificate: &Certificate,
        act: &Act,
        now: UtcTime,
    ) -> Result<(), GateError> {
        // From here to the commit nobody is disabled and nothing is revoked behind our back.
        transaction.lock_register().await?;
        if !transaction
            .authority_state(&certificate.authority)
            .await?
            .is_some_and(AuthorityState::is_in_force)
        {
            return Err(GateError::AuthorityLeft(certificate.authority.clone()));
        }
        if let Some(old) = order.predecessor
            && transaction.is_revoked(old.serial).await?
        {
            return Err(GateError::PredecessorRevoked);
        }
        if transaction.is_key_compromised(&certificate.spki_sha256).await? {
            return Err(GateError::BlockedKey);
        }
        let person = transaction.person(order.person.id).await?.filter(|person| !person.disabled);
        let person = person.ok_or(GateError::PersonDisabled)?;
        if !transaction.resolve_intent(certificate.serial, IntentOutcome::Issued, now).await? {
            return Err(GateError::IntentClosed);
        }
        if order.device_is_new {
            transaction.insert_device(order.device).await?;
        }
        transaction.insert_certificate(certificate).await?;
        if let (Some(_), Some(overlap)) = (order.predecessor, order.profile.rules.renewal.overlap_seconds) {
            let when = now.plus(Duration::from_secs(overlap));
            transaction.supersede(certificate.lineage, certificate.serial, when).await?;
        }
        let deltas = [Delta::Person(person.record()), Delta::Certificate(certificate.record())];
        transaction.append_changes(&deltas, now).await?;
        let detail = audit::issued(certificate.serial);
        transaction.finish_act(act, Outcome::Succeeded, Some(&detail), now).await?;
        Ok(())
    }

    /// Draws a serial and commits it to its purpose.
    pub(super) async fn reserve_serial(&self, purpose: &str, now: UtcTime) -> Result<Serial, StoreError> {
        let mut tries = 1;
        loop {
            let serial = Serial::random(&*self.0.entropy);
            match self.0.store.reserve_serial(serial, purpose, now).await {
                Err(StoreError::Taken { .. }) if tries < SERIAL_TRIES => tries += 1,
                Err(error) => return Err(error),
                Ok(()) => return Ok(serial),
            }
        }
    }
}

/// What stands in the common name.
fn common_name(order: &Order<'_>) -> String {
    match order.profile.rules.names.common_name {
        CommonName::PersonName => order.person.name.clone(),
        CommonName::DeviceName => order.device.name.clone(),
        CommonName::PersonId => order.person.id.to_string(),
    }
}

/// Takes the serial and records the intent of a prepared certificate, in the caller's transaction.
async fn put_on_record(
    transaction: &Transaction,
    authority: &Authority,
    prepared: &Prepared,
    purpose: IntentPurpose,
    now: UtcTime,
) -> Result<(), StoreError> {
    let serial = prepared.serial();
    transaction.reserve_serial(serial, purpose.name(), now).await?;
    let intent = Intent {
        serial,
        authority: authority.name.clone(),
        tbs: prepared.tbs().to_vec(),
        purpose,
        not_after: prepared.not_after(),
        created_at: now,
    };
    transaction.record_intent(&intent).await
}

/// Reads the authority's own certificate.
pub(super) fn parse_issuer(authority: &Authority) -> Result<AuthorityCertificate, StoreError> {
    let corrupt = |detail: String| StoreError::Corrupt { what: "an authority's certificate", detail };
    let der = authority.certificate.as_deref().ok_or_else(|| corrupt("it was never signed".to_owned()))?;
    AuthorityCertificate::from_der(der).map_err(|error| corrupt(error.to_string()))
}

/// Lower-case hexadecimal.
pub(super) fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}
