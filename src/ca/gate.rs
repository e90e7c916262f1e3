//! The gate: the one place where a client certificate comes into being.
//!
//! to-be-signed bytes prepared and linted -> judged, and serial and intent committed -> signed -> compared
//! -> certificate, register delta and audit event in one transaction. A crash anywhere leaves either
//! nothing but a used-up serial, or an intent that [`Ca::resolve_intents`](super::Ca::resolve_intents)
//! closes and whose serial goes on the revocation list.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::policy::Question;
use super::{Ca, SignerError};
use crate::crash;
use crate::domain::audit::Act;
use crate::domain::hex::hex;
use crate::domain::{Hostname, InvitationId, LineageId, Serial, Slug, UtcTime};
use crate::keys::Signer;
use crate::pki::issuer::{ClientLeaf, PrepareError, prepare_client};
use crate::pki::prepared::{AssembleError, Certificate as SignedCertificate};
use crate::pki::profile::{CommonName, Outliving, Ruling};
use crate::pki::{AuthorityCertificate, Prepared, Profile, PublicKey};
use crate::store::StoreError;
use crate::store::authorities::Authority;
use crate::store::certificates::{Certificate, Intent, IntentPurpose};
use crate::store::issuance::{Issuance, NotStored};
use crate::store::people::{Device, Person};

/// How often a serial is drawn before we stop believing in chance.
const SERIAL_TRIES: usize = 4;
/// How far the clock may stand before the last recorded act. Replicas' clocks differ, and certificates
/// are back-dated by as much.
pub(super) const CLOCK_TOLERANCE: Duration = Duration::from_secs(300);

/// What the gate is asked for. Identity and proof of possession have been checked; the rest is judged here.
pub(super) struct Order<'a> {
    pub(super) person: &'a Person,
    pub(super) device: &'a Device,
    /// Whether the device's row comes with the certificate.
    pub(super) device_is_new: bool,
    /// Used up with the certificate, if one led here.
    pub(super) invitation: Option<InvitationId>,
    pub(super) profile: &'a Profile,
    /// Who is to sign, if anybody can.
    pub(super) authority: Option<&'a Authority>,
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
    #[error("no authority issues: `wicketgate ca list` shows which one can be made to")]
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
    /// Person, profile or authority changed while the certificate was being made. -> 503
    #[error("person, profile or authority were changed meanwhile: ask again")]
    Outdated,
    /// The key is known to be in other hands. -> 422
    #[error("this key belonged to a certificate that was revoked for keyCompromise: make a new key")]
    BlockedKey,
    /// Somebody closed the intent meanwhile; the certificate is not given out. -> 503
    #[error("the intent was closed before the certificate was stored")]
    IntentClosed,
    /// The invitation gave another certificate meanwhile, or was taken back. -> 409
    #[error("the invitation gave its certificate already, or was taken back")]
    InvitationUsed,
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
        let authority = order.authority.ok_or(GateError::NoAuthority)?;
        let issuer = self.issuer(authority)?;
        let signer = self.signer_for(authority, issuer.spki_der()).await?;
        crash::reach("ca.after_serial");
        // Outside the transaction, which everybody waits for; its failure counts only if the rules admit.
        let prepared = self.prepare_leaf(order, authority, &issuer, now);
        let purpose = IntentPurpose::Client {
            person: order.person.id,
            device: order.device.id,
            profile: order.profile.name.clone(),
            lineage: order.lineage,
        };
        let question = Question {
            person: order.person,
            profile: order.profile,
            public_key: order.public_key,
            lineage: order.lineage,
            predecessor: order.predecessor,
            dns_names: order.dns_names,
        };
        let intent = prepared.as_ref().ok().map(|prepared| intent(authority, prepared, purpose, now));
        question.put_on_record(store, authority, intent, act, now).await?;
        let prepared = prepared?;

        let (not_before, not_after) = (prepared.not_before(), prepared.not_after());
        let signed = sign_recorded(&*signer, prepared).await?;
        let certificate = Certificate {
            serial: signed.serial(),
            authority: authority.name.clone(),
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
        let overlap = order.profile.rules.renewal.overlap_seconds.filter(|_| order.predecessor.is_some());
        let issuance = Issuance {
            certificate: certificate.clone(),
            person: order.person.clone(),
            device: order.device_is_new.then(|| order.device.clone()),
            invitation: order.invitation,
            supersede_at: overlap.map(|seconds| now.plus(Duration::from_secs(seconds))),
            act: act.clone(),
            now,
        };
        store.store_issued(issuance).await?.map_err(|refused| refused_of(refused, &certificate))?;
        crash::reach("ca.after_commit");
        let is_capped = not_after < order.profile.validity(now).1;
        Ok(Passed { certificate, chain: authority.certificate.iter().cloned().collect(), is_capped })
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
            ocsp_urls: &[self.ocsp_url()],
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
        let signer = self.signer_for(authority, prepared.issuer_spki()).await?;
        self.0.store.put_on_record(intent(authority, &prepared, purpose, now)).await?;
        sign_recorded(&*signer, prepared).await
    }

    /// The authority's signer, if its key is the one in the authority's certificate.
    async fn signer_for(
        &self,
        authority: &Authority,
        issuer_spki: &[u8],
    ) -> Result<Arc<dyn Signer>, GateError> {
        let signer = self.signer(&authority.key_id).await?;
        if signer.public_key() != issuer_spki {
            return Err(GateError::ForeignCertificate(authority.name.clone()));
        }
        Ok(signer)
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

/// Signs what is on record, once, and compares.
async fn sign_recorded(signer: &dyn Signer, prepared: Prepared) -> Result<SignedCertificate, GateError> {
    crash::reach("ca.after_intent");
    let signature = signer.sign(prepared.tbs()).await.map_err(SignerError::from)?;
    crash::reach("ca.after_signing");
    Ok(prepared.assemble(&signature)?)
}

/// What stands in the common name.
fn common_name(order: &Order<'_>) -> String {
    match order.profile.rules.names.common_name {
        CommonName::PersonName => order.person.name.clone(),
        CommonName::DeviceName => order.device.name.clone(),
        CommonName::PersonId => order.person.id.to_string(),
    }
}

/// The intent of a prepared certificate.
fn intent(authority: &Authority, prepared: &Prepared, purpose: IntentPurpose, now: UtcTime) -> Intent {
    Intent {
        serial: prepared.serial(),
        authority: authority.name.clone(),
        tbs: prepared.tbs().to_vec(),
        purpose,
        not_after: prepared.not_after(),
        created_at: now,
    }
}

fn refused_of(refused: NotStored, certificate: &Certificate) -> GateError {
    match refused {
        NotStored::AuthorityLeft => GateError::AuthorityLeft(certificate.authority.clone()),
        NotStored::PersonDisabled => GateError::PersonDisabled,
        NotStored::PredecessorRevoked => GateError::PredecessorRevoked,
        NotStored::BlockedKey => GateError::BlockedKey,
        NotStored::IntentClosed => GateError::IntentClosed,
        NotStored::InvitationUsed => GateError::InvitationUsed,
        NotStored::Outdated => GateError::Outdated,
    }
}

/// Reads the authority's own certificate.
pub(super) fn parse_issuer(authority: &Authority) -> Result<AuthorityCertificate, StoreError> {
    let corrupt = |detail: String| StoreError::Corrupt { what: "an authority's certificate", detail };
    let der = authority.certificate.as_deref().ok_or_else(|| corrupt("it was never signed".to_owned()))?;
    AuthorityCertificate::from_der(der).map_err(|error| corrupt(error.to_string()))
}
