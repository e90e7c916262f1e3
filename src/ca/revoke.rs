//! Taking certificates back, and giving back those that were only held. The row, the register delta and
//! the audit event stand or fall together; the answer waits for the edges.

use std::collections::HashMap;

use futures_util::FutureExt;

use super::Ca;
use crate::crash;
use crate::domain::audit::{Act, Outcome};
use crate::domain::{Delta, DeviceId, Enforced, RevocationReason, Serial, UtcTime};
use crate::store::certificates::Certificate;
use crate::store::{StoreError, Transaction};

/// Why a certificate is taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grounds {
    /// The reason.
    pub reason: RevocationReason,
    /// Since when its key is thought to be in other hands, if known (RFC 5280 §5.3.2).
    pub invalid_since: Option<UtcTime>,
}

/// A certificate that was taken back or given back.
#[derive(Clone, Debug)]
pub struct Revoked {
    /// The certificate.
    pub certificate: Certificate,
    /// How many edges know it already.
    pub enforced: Enforced,
}

/// Why nothing was revoked or released.
#[derive(Debug, thiserror::Error)]
pub enum RevokeError {
    /// There is no such certificate or device: a revocation of what was never issued is an error. -> 404
    #[error("there is no such {0}")]
    Missing(&'static str),
    /// It is revoked for another reason, and reasons are final but for a hold, and for a rise to
    /// keyCompromise (RFC 5280 §5.3.1). -> 409
    #[error("the certificate is revoked already ({0}); a reason can only be raised to keyCompromise")]
    AlreadyRevoked(RevocationReason),
    /// Only a hold can be lifted. -> 409
    #[error("the certificate is not on hold: only certificateHold can be released")]
    NotOnHold,
    /// The date is in the future, or before the certificate was valid. -> 422
    #[error("invalid_since must lie between the start of the certificate, {from}, and now")]
    InvalidSince {
        /// Start of validity.
        from: UtcTime,
    },
    /// Nothing changed; repeating is safe. -> 503
    #[error("the revocation could not be recorded")]
    Store(#[from] StoreError),
}

impl Ca {
    /// As [`Self::revoke_on`], without a date of invalidity.
    ///
    /// # Errors
    /// As [`RevokeError`] says.
    pub async fn revoke(
        &self,
        serial: Serial,
        reason: RevocationReason,
        act: &Act,
        now: UtcTime,
    ) -> Result<Revoked, RevokeError> {
        self.revoke_on(serial, Grounds { reason, invalid_since: None }, act, now).await
    }

    /// Revokes a certificate. Revoking it again on the same grounds changes nothing and succeeds. With
    /// keyCompromise every certificate with its key goes, and the key is blocked for ever. `act` is
    /// closed with the revocation, and by the caller if this fails.
    ///
    /// # Errors
    /// As [`RevokeError`] says.
    pub async fn revoke_on(
        &self,
        serial: Serial,
        grounds: Grounds,
        act: &Act,
        now: UtcTime,
    ) -> Result<Revoked, RevokeError> {
        let asked = Revocation { serial, grounds, act: act.clone(), now };
        let store = &self.0.store;
        let all = |all| store.write(move |transaction| take_back_all(transaction, all).boxed()).boxed();
        let TakenBack { certificate, count, is_dated } = self.0.revocations.join(asked, all).await??;
        crash::reach("revoke.after_commit");
        let reason = grounds.reason;
        if count > 0 {
            self.count_revocations(reason, count);
            tracing::info!(cert.serial = %serial, reason = %reason, count, "Revoked a client certificate");
        }
        if count > 0 || is_dated {
            self.0.publish_crls.wake();
        }
        let enforced = self.0.enforce.bring_up_to_date().await;
        Ok(Revoked { certificate, enforced })
    }

    /// Lifts the hold of a certificate: it passes again, leaves the revocation list, and OCSP answers
    /// `good`. `act` is closed with it, and by the caller if this fails.
    ///
    /// # Errors
    /// [`RevokeError::NotOnHold`] when it is active, or revoked for a reason that is final.
    pub async fn release(&self, serial: Serial, act: &Act, now: UtcTime) -> Result<Revoked, RevokeError> {
        let transaction = self.0.store.begin().await?;
        transaction.lock_register().await?;
        transaction.certificate(serial).await?.ok_or(RevokeError::Missing("certificate"))?;
        if !transaction.release_certificate(serial).await? {
            return Err(RevokeError::NotOnHold);
        }
        let certificate =
            transaction.certificate(serial).await?.ok_or(RevokeError::Missing("certificate"))?;
        let delta = Delta::Released { fingerprint: certificate.fingerprint };
        transaction.append_changes(&[delta], now).await?;
        transaction.finish_act(act, Outcome::Succeeded, None, now).await?;
        transaction.commit().await?;
        tracing::info!(cert.serial = %serial, "Released a client certificate from hold");
        let enforced = self.after_revocation().await;
        Ok(Revoked { certificate, enforced })
    }

    /// Revokes every certificate of a device that has not ended and is active or on hold. None left to
    /// revoke is a success.
    ///
    /// # Errors
    /// As [`RevokeError`] says.
    pub async fn revoke_device(
        &self,
        device: DeviceId,
        reason: RevocationReason,
        act: &Act,
        now: UtcTime,
    ) -> Result<Enforced, RevokeError> {
        self.0.store.device(device).await?.ok_or(RevokeError::Missing("device"))?;
        let transaction = self.0.store.begin().await?;
        transaction.lock_register().await?;
        let mut deltas = Vec::new();
        for found in transaction.revocable_certificates_of(device, now).await? {
            // One with the same key may have taken it along.
            let certificate = transaction.certificate(found.serial).await?.unwrap_or(found);
            let (hold, final_already) = match certificate.revoked {
                None => (false, false),
                Some((_, held)) => (held == RevocationReason::CertificateHold, held == reason),
            };
            if final_already || (certificate.revoked.is_some() && !hold) {
                continue;
            }
            deltas.push(take_back(&transaction, &certificate, reason, now).await?);
            if reason == RevocationReason::KeyCompromise {
                deltas.extend(take_back_siblings(&transaction, &certificate, now).await?);
            }
        }
        transaction.append_changes(&deltas, now).await?;
        let detail = format!("{} certificates, {reason}", deltas.len());
        transaction.finish_act(act, Outcome::Succeeded, Some(&detail), now).await?;
        transaction.commit().await?;
        self.count_revocations(reason, deltas.len());
        tracing::info!(device.id = %device, count = deltas.len(), reason = %reason, "Revoked a device");
        Ok(self.after_revocation().await)
    }

    async fn after_revocation(&self) -> Enforced {
        self.0.publish_crls.wake();
        self.0.enforce.bring_up_to_date().await
    }
}

/// A revocation that is asked for.
#[derive(Clone, Debug)]
pub(super) struct Revocation {
    serial: Serial,
    grounds: Grounds,
    act: Act,
    now: UtcTime,
}

/// What a revocation changed.
#[derive(Debug)]
pub(super) struct TakenBack {
    certificate: Certificate,
    /// How many certificates went.
    count: usize,
    /// Whether it learned since when its key is not trusted.
    is_dated: bool,
}

/// Carries out what is asked for at the same moment, one after the other, and closes the acts of what is
/// not refused. An error is everyone's: then nothing of it stands.
async fn take_back_all(
    transaction: &Transaction,
    all: Vec<Revocation>,
) -> Result<Vec<Result<TakenBack, RevokeError>>, StoreError> {
    // From here to the commit nothing is issued, revoked or released behind our back.
    transaction.lock_register().await?;
    let serials = all.iter().map(|asked| asked.serial);
    let mut known = transaction.certificates_by_serial(serials).await?;
    let (mut deltas, mut answers) = (Vec::new(), Vec::with_capacity(all.len()));
    for asked in &all {
        let fresh = match known.get(&asked.serial) {
            None => Err(RevokeError::Missing("certificate")),
            Some(certificate) => asked.is_fresh(certificate),
        };
        let answer = match fresh {
            Ok(fresh) => Ok(asked.take_back(transaction, fresh, &mut known, &mut deltas).await?),
            Err(refused) => Err(refused),
        };
        answers.push(answer);
    }
    if !deltas.is_empty() {
        transaction
            .append_changes(&deltas, all.iter().map(|one| one.now).max().unwrap_or(UtcTime::EPOCH))
            .await?;
    }
    let ends = all.iter().zip(&answers).filter_map(|(asked, answer)| {
        let count = answer.as_ref().ok()?.count;
        Some((&asked.act, asked.detail(count), asked.now))
    });
    transaction.succeed_acts(ends.collect()).await?;
    crash::reach("revoke.before_commit");
    Ok(answers)
}

impl Revocation {
    /// Whether it changes anything, if it may be done.
    fn is_fresh(&self, certificate: &Certificate) -> Result<bool, RevokeError> {
        let Grounds { reason, invalid_since } = self.grounds;
        let from = certificate.not_before;
        if invalid_since.is_some_and(|since| since > self.now || since < from) {
            return Err(RevokeError::InvalidSince { from });
        }
        match certificate.revoked {
            None => Ok(true),
            Some((_, RevocationReason::CertificateHold)) => Ok(reason != RevocationReason::CertificateHold),
            Some((_, same)) if same == reason => Ok(false),
            Some(_) if reason == RevocationReason::KeyCompromise => Ok(true),
            Some((_, other)) => Err(RevokeError::AlreadyRevoked(other)),
        }
    }

    /// Revokes the certificate if that is new, and with its key whatever shares it. `known` learns of it.
    async fn take_back(
        &self,
        transaction: &Transaction,
        fresh: bool,
        known: &mut HashMap<Serial, Certificate>,
        deltas: &mut Vec<Delta>,
    ) -> Result<TakenBack, StoreError> {
        let Self { serial, grounds: Grounds { reason, invalid_since }, now, .. } = *self;
        let missing = StoreError::Missing { what: "certificate" };
        let mut certificate = known.get(&serial).cloned().ok_or(missing)?;
        let before = deltas.len();
        if fresh {
            deltas.push(take_back(transaction, &certificate, reason, now).await?);
            certificate.revoked = Some((certificate.revoked.map_or(now, |(at, _)| at), reason));
            if reason == RevocationReason::KeyCompromise {
                deltas.extend(take_back_siblings(transaction, &certificate, now).await?);
                // Siblings among those that are asked for are not what they were.
                let others = known.keys().copied().filter(|other| *other != serial);
                let others = transaction.certificates_by_serial(others.collect::<Vec<_>>()).await?;
                known.extend(others);
            }
        }
        let dated = invalid_since.filter(|since| certificate.invalid_since != Some(*since));
        if let Some(since) = dated {
            transaction.set_invalid_since(serial, since).await?;
            certificate.invalid_since = Some(since);
        }
        known.insert(serial, certificate.clone());
        Ok(TakenBack { certificate, count: deltas.len() - before, is_dated: dated.is_some() })
    }

    /// What the audit says of it.
    fn detail(&self, count: usize) -> String {
        let reason = self.grounds.reason;
        match count {
            0 => "was revoked before".to_owned(),
            1 => reason.name().to_owned(),
            count => format!("{reason}, {count} certificates with the same key"),
        }
    }
}

/// Revokes one certificate in a transaction that holds the register. It keeps the time of its first
/// revocation: since then it has not passed.
async fn take_back(
    transaction: &Transaction,
    certificate: &Certificate,
    reason: RevocationReason,
    now: UtcTime,
) -> Result<Delta, StoreError> {
    let before = certificate.revoked.map(|(_, reason)| reason);
    transaction.revoke_certificate(certificate.serial, before, reason, now).await?;
    let at = certificate.revoked.map_or(now, |(at, _)| at);
    Ok(Delta::Revoked { fingerprint: certificate.fingerprint, at, reason })
}

/// Revokes for keyCompromise whatever else has the key of this certificate.
async fn take_back_siblings(
    transaction: &Transaction,
    certificate: &Certificate,
    now: UtcTime,
) -> Result<Vec<Delta>, StoreError> {
    let reason = RevocationReason::KeyCompromise;
    let mut deltas = Vec::new();
    for sibling in transaction.certificates_with_key(&certificate.spki_sha256).await? {
        let done = sibling.revoked.is_some_and(|(_, known)| known == reason);
        if sibling.serial != certificate.serial && !done {
            deltas.push(take_back(transaction, &sibling, reason, now).await?);
        }
    }
    Ok(deltas)
}
