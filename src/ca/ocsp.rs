//! Answers about certificates, signed by a delegate of the authority that issued them.
//!
//! Every issuing authority that is in force has a delegate: its own key, a certificate of two weeks out of
//! the gate, and nothing to say about anything but status. The authority's own key signs no answers, so
//! it may be slow, or far away. A root has no delegate, because it may be offline for years: the status
//! of what it signed is on its list alone.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;

use super::gate::{GateError, parse_issuer};
use super::{Ca, SignerError};
use crate::domain::audit::{Act, Outcome};
use crate::domain::hex::hex;
use crate::domain::{Actor, AuthorityKind, Serial, Slug, UtcTime};
use crate::keys::{KeyFault, KeyId, Signer};
use crate::pki::issuer::PrepareError;
use crate::pki::ocsp::{
    CertStatus, IssuerId, OcspRequest, OcspSigner, SignerTemplate, prepare_response, prepare_signer,
};
use crate::pki::prepared::AssembleError;
use crate::pki::{KeyPolicy, PublicKey, keygen};
use crate::store::StoreError;
use crate::store::authorities::{Authority, SigningKey};
use crate::store::certificates::{IntentOutcome, IntentPurpose};
use crate::store::internal_certificates::{InternalCertificate, OCSP_KEY};

/// How long a delegate's certificate lives; half of it later the next one is made.
const SIGNER_LIFETIME: Duration = Duration::from_secs(14 * 86_400);
/// How far its notBefore lies back, for verifiers whose clock is late.
const BACK_DATE: Duration = Duration::from_secs(300);
/// From thisUpdate to nextUpdate of an answer: who keeps one that long learns of a revocation that late.
const ANSWER_LIFETIME: Duration = Duration::from_secs(4 * 3600);
/// Authorities and delegates that others made or ended are noticed after this.
const READ_AGAIN_AFTER: Duration = Duration::from_secs(60);
/// How long after the end of its certificate a delegate's key is kept: for clocks that differ.
const KEY_KEPT: Duration = Duration::from_secs(86_400);
/// Longest common name (RFC 5280 appendix A.1).
const MAX_NAME_CHARS: usize = 64;

/// A signed answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OcspAnswer {
    /// The OCSPResponse, DER.
    pub der: Vec<u8>,
    /// From when it speaks.
    pub this_update: UtcTime,
    /// Until when it may be used.
    pub next_update: UtcTime,
    /// Whether it answers everyone who asks this, until the register says otherwise.
    pub lasting: bool,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum OcspError {
    /// None of our authorities issued them all. An answer has one signer, and nobody's word counts for
    /// another's certificates; so it is `unauthorized`, which RFC 9919 §3.2.3 means for exactly this.
    #[error("the certificates are not of one authority of ours")]
    Unauthorized,
    /// The authority answers, but its delegate cannot sign now.
    #[error("the authority has no OCSP signer that is valid now")]
    NoSigner,
    /// The rows could not be read or written.
    #[error("the status of a certificate cannot be read")]
    Store(#[from] StoreError),
    /// The answer or the delegate's certificate did not pass the rules.
    #[error("the OCSP answer was refused before it was signed")]
    Prepare(#[from] PrepareError),
    /// The delegate could not sign.
    #[error("the OCSP signer could not sign")]
    Sign(#[from] SignerError),
    /// What was signed is not what was prepared.
    #[error("the signed OCSP answer is not the prepared one")]
    Compare(#[from] AssembleError),
    /// The delegate's certificate did not come out of the gate.
    #[error("the OCSP signer was not certified")]
    Gate(#[from] GateError),
    /// The delegate's key could not be sealed.
    #[error("the OCSP signer's key could not be sealed")]
    Seal(#[from] KeyFault),
}

/// One authority that answers, ready to sign.
struct Desk {
    authority: Slug,
    issuer: IssuerId,
    /// None while its delegate cannot be used.
    signer: Option<(OcspSigner, Arc<dyn Signer>)>,
}

impl Desk {
    /// Whether its delegate can vouch for a whole answer from `now` on.
    fn is_ready(&self, now: UtcTime) -> bool {
        let whole = |signer: &OcspSigner| now.plus(ANSWER_LIFETIME) <= signer.not_after();
        self.signer.as_ref().is_some_and(|(signer, _)| signer.not_before() <= now && whole(signer))
    }
}

/// The desks as this process last read them.
#[derive(Default)]
pub(super) struct Desks {
    read: RwLock<Option<Arc<Reading>>>,
    /// Held while rows are read or a delegate is made, so that a crowd makes one.
    turn: tokio::sync::Mutex<()>,
}

struct Reading {
    at: UtcTime,
    desks: Vec<Desk>,
}

impl Reading {
    fn desk(&self, request: &OcspRequest) -> Option<usize> {
        self.desks.iter().position(|desk| request.ids().iter().all(|id| desk.issuer.issued(id)))
    }
}

impl Ca {
    /// Answers from what is committed now: `good` only for a certificate that its authority put on record
    /// and did not take back, `unknown` for what it never issued.
    ///
    /// # Errors
    /// As [`OcspError`] says.
    pub async fn answer_ocsp(&self, request: &OcspRequest, now: UtcTime) -> Result<OcspAnswer, OcspError> {
        let (reading, at) = self.desk_for(request, now).await?;
        let desk = &reading.desks[at];
        let (signer, key) = desk.signer.as_ref().ok_or(OcspError::NoSigner)?;
        let mut statuses = Vec::with_capacity(request.ids().len());
        let mut lasting = request.plain().is_some();
        for id in request.ids() {
            let mut status = CertStatus::Unknown;
            if let Some(serial) = id.serial() {
                let found = self.0.store.certificate_status(&desk.authority, serial).await?;
                (status, lasting) = (found.status, lasting && found.followed);
            } else {
                lasting = false;
            }
            if let CertStatus::Revoked { at, .. } = &mut status {
                // Another replica's clock may run ahead of ours; nothing is revoked in the future.
                *at = (*at).min(now);
            }
            statuses.push((id, status));
        }
        let next_update = now.plus(ANSWER_LIFETIME).min(signer.not_after());
        let prepared = prepare_response(signer, &statuses, request.nonce(), now, next_update)?;
        let signature = key.sign(prepared.tbs()).await.map_err(SignerError::from)?;
        let der = prepared.assemble(&signature)?.der().to_vec();
        Ok(OcspAnswer { der, this_update: now, next_update, lasting })
    }

    /// Gives every authority that answers a new delegate when the half of its delegate's life is over, and
    /// removes the keys of delegates that are over. Returns how many were made.
    ///
    /// # Errors
    /// The first [`OcspError`]; the other authorities were still tried.
    pub async fn renew_ocsp_signers(&self, now: UtcTime) -> Result<u32, OcspError> {
        let _turn = self.0.ocsp.turn.lock().await;
        let (mut made, mut failure) = (0, None);
        for authority in self.answering(now).await? {
            match self.renew_signer(&authority, now).await {
                Ok(done) => made += u32::from(done),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        self.read_desks(now).await?;
        self.forget_keys(now).await?;
        failure.map_or(Ok(made), Err)
    }

    /// Removes what could sign in the name of an authority and has nothing to sign any more.
    async fn forget_keys(&self, now: UtcTime) -> Result<(), StoreError> {
        let (purpose, before) = (IntentPurpose::OcspSigner, now.minus(KEY_KEPT));
        let forgotten = self.0.store.forget_internal_keys(&purpose, OCSP_KEY, before).await?;
        let mut signers = self.0.signers.lock();
        for id in &forgotten {
            signers.remove(id);
            tracing::info!(key.id = %id, "Removed the key of an OCSP signer that is over");
        }
        Ok(())
    }

    async fn renew_signer(&self, authority: &Authority, now: UtcTime) -> Result<bool, OcspError> {
        let newest = self.signers_of(&authority.name).await?.into_iter().next();
        let due = newest.is_none_or(|newest| {
            let half = newest.not_after.since(newest.not_before) / 2;
            newest.revoked.is_some()
                || now >= newest.not_before.plus(half) && newest.not_after < authority.not_after
        });
        if due {
            self.make_signer(authority, now).await?;
        }
        Ok(due)
    }

    /// The desk for these certificates; its delegate is made when there is none that can sign.
    async fn desk_for(
        &self,
        request: &OcspRequest,
        now: UtcTime,
    ) -> Result<(Arc<Reading>, usize), OcspError> {
        let known = self.0.ocsp.read.read().clone();
        if let Some(reading) = known {
            let recent = reading.at <= now && now.since(reading.at) < READ_AGAIN_AFTER;
            let at = reading.desk(request).filter(|at| reading.desks[*at].is_ready(now));
            match at {
                Some(at) if recent => return Ok((reading, at)),
                // Strangers' certificates must not make us read rows more than once a second.
                None if reading.at == now => return self.desk_at_hand(request, now),
                _ => {}
            }
        }
        let _turn = self.0.ocsp.turn.lock().await;
        let reading = self.read_desks(now).await?;
        let Some(at) = reading.desk(request) else { return Err(OcspError::Unauthorized) };
        if !reading.desks[at].is_ready(now)
            && let Some(authority) = self.0.store.authority(&reading.desks[at].authority).await?
            && self
                .signers_of(&authority.name)
                .await?
                .first()
                .is_none_or(|newest| newest.not_after < authority.not_after)
        {
            self.make_signer(&authority, now).await?;
            self.read_desks(now).await?;
        }
        self.desk_at_hand(request, now)
    }

    /// The desk as last read, with a delegate that is valid now, be it for less than a whole answer.
    fn desk_at_hand(&self, request: &OcspRequest, now: UtcTime) -> Result<(Arc<Reading>, usize), OcspError> {
        let reading = self.0.ocsp.read.read().clone().ok_or(OcspError::NoSigner)?;
        let at = reading.desk(request).ok_or(OcspError::Unauthorized)?;
        let signer = reading.desks[at].signer.as_ref();
        let valid = signer.is_some_and(|(signer, _)| signer.not_before() <= now && now < signer.not_after());
        if valid { Ok((reading, at)) } else { Err(OcspError::NoSigner) }
    }

    async fn read_desks(&self, now: UtcTime) -> Result<Arc<Reading>, OcspError> {
        let mut desks = Vec::new();
        for authority in self.answering(now).await? {
            let issuer = parse_issuer(&authority)?;
            let mut signer = None;
            for candidate in self.signers_of(&authority.name).await? {
                let usable = candidate.revoked.is_none() && candidate.not_after > now;
                let Some(key_id) = candidate.key_id.filter(|_| usable && signer.is_none()) else { continue };
                match (OcspSigner::from_der(&candidate.der, &issuer), self.signer(&key_id).await) {
                    (Ok(certificate), Ok(key)) => signer = Some((certificate, key)),
                    (Err(error), _) => unusable(&authority.name, &error),
                    (_, Err(error)) => unusable(&authority.name, &error),
                }
            }
            desks.push(Desk { authority: authority.name, issuer: IssuerId::of(&issuer), signer });
        }
        let reading = Arc::new(Reading { at: now, desks });
        *self.0.ocsp.read.write() = Some(reading.clone());
        Ok(reading)
    }

    /// Authorities whose certificates are answered for: also one that retired or was archived, as long as
    /// its lists go on.
    async fn answering(&self, now: UtcTime) -> Result<Vec<Authority>, StoreError> {
        let mut answering = Vec::new();
        for authority in self.0.store.authorities().await? {
            if authority.kind == AuthorityKind::Issuing && self.keeps_status(&authority, now).await? {
                answering.push(authority);
            }
        }
        Ok(answering)
    }

    async fn signers_of(&self, authority: &Slug) -> Result<Vec<InternalCertificate>, StoreError> {
        self.0.store.internal_certificates(&IntentPurpose::OcspSigner, Some(authority)).await
    }

    /// Makes a delegate: key sealed and stored first, certificate through the gate second.
    async fn make_signer(&self, authority: &Authority, now: UtcTime) -> Result<(), OcspError> {
        let object = Some(("authority", authority.name.to_string()));
        let act =
            self.0.store.begin_act(Actor::System("ocsp"), "ocsp_signer.issue", object, None, now).await?;
        let made = self.certify_signer(authority, &act, now).await;
        if let Err(error) = &made {
            let detail = error.to_string();
            self.0.store.finish_act(&act, Outcome::Failed, Some(&detail), now).await?;
        }
        made
    }

    async fn certify_signer(&self, authority: &Authority, act: &Act, now: UtcTime) -> Result<(), OcspError> {
        let store = &self.0.store;
        let issuer = parse_issuer(authority)?;
        let (pkcs8, spki) = keygen::generate_p256();
        let public_key = PublicKey::from_spki_der(&spki, &KeyPolicy::default()).map_err(PrepareError::Key)?;
        let key_id = KeyId(format!("{}{OCSP_KEY}{}", authority.name, &hex(&public_key.sha256())[..16]));
        let sealed = self.0.vaults.authority.seal(SigningKey::place(&key_id), pkcs8.expose())?;
        let template = SignerTemplate {
            serial: Serial::random(&*self.0.entropy),
            public_key: &public_key,
            common_name: &signer_name(&authority.common_name),
            not_before: now.minus(BACK_DATE).max(issuer.not_before()),
            not_after: now.plus(SIGNER_LIFETIME).min(issuer.not_after()),
        };
        let prepared = prepare_signer(&issuer, &template)?;
        let transaction = store.begin().await?;
        transaction.insert_signing_key(&SigningKey { id: key_id.clone(), spki, sealed }, now).await?;
        transaction.commit().await?;
        let signed = self.sign_on_record(authority, prepared, IntentPurpose::OcspSigner, now).await?;

        let transaction = store.begin().await?;
        if !transaction.resolve_intent(signed.serial(), IntentOutcome::Issued, now).await? {
            return Err(GateError::IntentClosed.into());
        }
        let certificate = InternalCertificate {
            serial: signed.serial(),
            authority: authority.name.clone(),
            purpose: IntentPurpose::OcspSigner,
            subject: authority.name.clone(),
            key_id: Some(key_id),
            fingerprint: signed.fingerprint(),
            not_before: template.not_before,
            not_after: template.not_after,
            issued_at: now,
            der: signed.der().to_vec(),
            revoked: None,
        };
        transaction.insert_internal_certificate(&certificate).await?;
        let detail = format!("serial {}", certificate.serial);
        transaction.finish_act(act, Outcome::Succeeded, Some(&detail), now).await?;
        transaction.commit().await?;
        tracing::info!(
            authority = %authority.name, cert.serial = %certificate.serial, cert.ends = %certificate.not_after,
            "Made an OCSP signer"
        );
        Ok(())
    }
}

fn unusable(authority: &Slug, error: &(dyn std::error::Error + 'static)) {
    tracing::error!(authority = %authority, error, "An OCSP signer cannot be used; another is taken or made");
}

/// The authority's name with the office behind it, cut to what a name can hold.
fn signer_name(authority: &str) -> String {
    const OFFICE: &str = " OCSP";
    let room = MAX_NAME_CHARS - OFFICE.len();
    let mut name: String = authority.chars().take(room).collect();
    name.push_str(OFFICE);
    name
}
