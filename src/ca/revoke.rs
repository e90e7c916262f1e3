//! Taking certificates back, and giving back those that were only held. The row, the register delta and
//! the audit event stand or fall together; the answer waits for the edges.

use super::Ca;
use super::taking::{Revocation, TakenBack, Taking};
use crate::crash;
use crate::domain::audit::{Act, Outcome};
use crate::domain::{Delta, DeviceId, Enforced, RevocationReason, Serial, UtcTime};
use crate::store::StoreError;
use crate::store::certificates::Certificate;

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
        let TakenBack { certificate, count, is_dated } = self.0.store.add(asked).await??;
        crash::reach("revoke.after_commit");
        let reason = grounds.reason;
        if count > 0 {
            self.count_revocations(reason, count);
            tracing::info!(cert.serial = %serial, reason = %reason, count, "Revoked a client certificate");
        }
        if count > 0 || is_dated {
            self.0.publish_crls.wake();
        }
        let enforced = self.0.enforce.bring_register_up_to_date().await;
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
        let mut taking = Taking::begin(&transaction).await?;
        for found in transaction.revocable_certificates_of(device, now).await? {
            // One with the same key may have taken it along.
            let serial = found.serial;
            let revoked = taking.known(found).revoked;
            if revoked.is_none_or(|(_, held)| held == RevocationReason::CertificateHold && held != reason) {
                taking.take(serial, reason, now).await?;
            }
        }
        let count = taking.count();
        let detail = format!("{count} certificates, {reason}");
        taking.write(vec![(act, detail, now)], now).await?;
        transaction.commit().await?;
        self.count_revocations(reason, count);
        tracing::info!(device.id = %device, count, reason = %reason, "Revoked a device");
        Ok(self.after_revocation().await)
    }

    async fn after_revocation(&self) -> Enforced {
        self.0.publish_crls.wake();
        self.0.enforce.bring_register_up_to_date().await
    }
}
