//! The gate: the one place where a client certificate comes into being.
//!
//! serial reserved -> to-be-signed bytes prepared and linted -> intent committed -> signed -> compared
//! -> certificate, register delta and audit event in one transaction. A crash anywhere leaves either
//! nothing but a used-up serial, or an intent that [`Ca::resolve_intents`](super::Ca::resolve_intents)
//! closes and whose serial goes on the revocation list.

use super::{Ca, SignerError};
use crate::crash;
use crate::domain::audit::{Act, Outcome};
use crate::domain::{AuthorityKind, Delta, LineageId, Serial, UtcTime};
use crate::pki::issuer::{ClientLeaf, PrepareError, prepare_client};
use crate::pki::prepared::{AssembleError, Certificate as SignedCertificate};
use crate::pki::{AuthorityCertificate, Prepared, Profile, PublicKey};
use crate::store::authorities::Authority;
use crate::store::certificates::{Certificate, Intent, IntentOutcome, IntentPurpose};
use crate::store::people::{Device, Person};
use crate::store::{StoreError, Transaction};

/// How often a serial is drawn before we stop believing in chance.
const SERIAL_TRIES: usize = 4;

/// What the gate is asked for, after identity, key and policy have been checked.
pub(super) struct Order<'a> {
    pub(super) person: &'a Person,
    pub(super) device: &'a Device,
    /// Whether the device's row comes with the certificate.
    pub(super) device_is_new: bool,
    pub(super) profile: &'a Profile,
    pub(super) public_key: &'a PublicKey,
    pub(super) lineage: LineageId,
    pub(super) replaces: Option<Serial>,
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
        authority: crate::domain::Slug,
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
    /// What was signed is not what was recorded. Nothing of it is given out. -> 500
    #[error("the signed certificate is not the recorded one")]
    Compare(#[from] AssembleError),
    /// The person was disabled while the certificate was being made. -> 403
    #[error("the person was disabled")]
    PersonDisabled,
    /// The certificate that was to be renewed was revoked meanwhile. -> 409
    #[error("a revoked certificate cannot be renewed: enrol the device again")]
    PredecessorRevoked,
    /// The key is known to be in other hands. -> 422
    #[error("this key belonged to a certificate that was revoked for keyCompromise: make a new key")]
    BlockedKey,
    /// Somebody closed the intent meanwhile; the certificate is not given out. -> 503
    #[error("the intent was closed before the certificate was stored")]
    IntentClosed,
}

impl Ca {
    /// Opens the gate once. `act` is closed as succeeded with the certificate; on an error the caller closes it.
    pub(super) async fn pass_gate(
        &self,
        order: &Order<'_>,
        act: &Act,
        now: UtcTime,
    ) -> Result<(Certificate, Vec<Vec<u8>>), GateError> {
        let store = &self.0.store;
        if store.is_key_compromised(&hex(&order.public_key.sha256())).await? {
            return Err(GateError::BlockedKey);
        }
        let authority =
            store.signing_authority(AuthorityKind::Issuing).await?.ok_or(GateError::NoAuthority)?;
        let issuer = parse_issuer(&authority)?;
        let chain: Vec<Vec<u8>> = authority.certificate.iter().cloned().collect();
        let serial = Serial::random(&*self.0.entropy);
        crash::reach("ca.after_serial");

        let (not_before, not_after) = order.profile.validity(now);
        let leaf = ClientLeaf {
            serial,
            public_key: order.public_key,
            common_name: &order.person.name,
            email: Some(&order.person.email),
            uris: &[format!("urn:uuid:{}", order.person.id)],
            not_before: not_before.max(issuer.not_before()),
            not_after,
            crl_urls: &[self.crl_url(&authority.name)],
            issuer_urls: &[self.issuer_url(&authority.name)],
        };
        let prepared = prepare_client(&issuer, &leaf).map_err(|error| match error {
            PrepareError::OutlivesAuthority { ends, wanted } => {
                GateError::OutlivesAuthority { authority: authority.name.clone(), ends, wanted }
            }
            other => GateError::Prepare(other),
        })?;
        let purpose = IntentPurpose::Client {
            person: order.person.id,
            device: order.device.id,
            profile: order.profile.name.clone(),
            lineage: order.lineage,
        };
        let (not_before, not_after) = (prepared.not_before(), prepared.not_after());
        let signed = self.sign_on_record(&authority, prepared, purpose, now).await?;

        let certificate = Certificate {
            serial,
            authority: authority.name,
            person: order.person.id,
            device: order.device.id,
            profile: order.profile.name.clone(),
            profile_version: 0,
            lineage: order.lineage,
            replaces: order.replaces,
            fingerprint: signed.fingerprint(),
            spki_sha256: hex(&order.public_key.sha256()),
            subject: order.person.name.clone(),
            email: Some(order.person.email.clone()),
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
        Ok((certificate, chain))
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
        let transaction = self.0.store.begin().await?;
        put_on_record(&transaction, authority, &prepared, purpose, now).await?;
        transaction.commit().await?;
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
        if let Some(old) = order.replaces
            && transaction.is_revoked(old).await?
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
        let deltas = [Delta::Person(person.record()), Delta::Certificate(certificate.record())];
        transaction.append_changes(&deltas, now).await?;
        let detail = format!("serial {}", certificate.serial);
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
