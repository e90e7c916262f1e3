//! Taking certificates back. The row, the register delta and the audit event stand or fall together;
//! the answer waits for the edges.

use super::Ca;
use crate::domain::audit::{Act, Outcome};
use crate::domain::{Delta, DeviceId, Enforced, RevocationReason, Serial, UtcTime};
use crate::store::StoreError;
use crate::store::certificates::Certificate;

/// A certificate that is revoked.
#[derive(Clone, Debug)]
pub struct Revoked {
    /// The certificate.
    pub certificate: Certificate,
    /// How many edges know it already.
    pub enforced: Enforced,
}

/// Why nothing was revoked.
#[derive(Debug, thiserror::Error)]
pub enum RevokeError {
    /// There is no such certificate or device: a revocation of what was never issued is an error. -> 404
    #[error("there is no such {0}")]
    Missing(&'static str),
    /// It is revoked for another reason, and reasons are final but for a rise to keyCompromise
    /// (RFC 5280 §5.3.1). -> 409
    #[error("the certificate is revoked already ({0}); a reason can only be raised to keyCompromise")]
    AlreadyRevoked(RevocationReason),
    /// Nothing changed; repeating is safe. -> 503
    #[error("the revocation could not be recorded")]
    Store(#[from] StoreError),
}

impl Ca {
    /// Revokes a certificate. Revoking it again for the same reason changes nothing and succeeds.
    /// `act` is closed with the revocation, and by the caller if this fails.
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
        let mut certificate =
            self.0.store.certificate(serial).await?.ok_or(RevokeError::Missing("certificate"))?;
        let from = certificate.revoked.map(|(_, reason)| reason);
        match from {
            None => {}
            Some(same) if same == reason => {
                self.0.store.finish_act(act, Outcome::Succeeded, Some("was revoked before"), now).await?;
                let enforced = self.0.enforce.bring_up_to_date().await;
                return Ok(Revoked { certificate, enforced });
            }
            Some(_) if reason == RevocationReason::KeyCompromise => {}
            Some(other) => return Err(RevokeError::AlreadyRevoked(other)),
        }
        let transaction = self.0.store.begin().await?;
        transaction.revoke_certificate(serial, from, reason, now).await?;
        let delta = Delta::Revoked { fingerprint: certificate.fingerprint, at: now, reason };
        transaction.append_changes(&[delta], now).await?;
        transaction.finish_act(act, Outcome::Succeeded, Some(reason.name()), now).await?;
        transaction.commit().await?;
        certificate.revoked = Some((now, reason));
        self.count_revocations(reason, 1);
        tracing::info!(cert.serial = %serial, reason = %reason, "Revoked a client certificate");
        let enforced = self.after_revocation().await;
        Ok(Revoked { certificate, enforced })
    }

    /// Revokes every active certificate of a device. None left to revoke is a success.
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
        let active = transaction.active_certificates_of(device, now).await?;
        let mut deltas = Vec::with_capacity(active.len());
        for certificate in &active {
            transaction.revoke_certificate(certificate.serial, None, reason, now).await?;
            deltas.push(Delta::Revoked { fingerprint: certificate.fingerprint, at: now, reason });
        }
        transaction.append_changes(&deltas, now).await?;
        let detail = format!("{} certificates, {reason}", active.len());
        transaction.finish_act(act, Outcome::Succeeded, Some(&detail), now).await?;
        transaction.commit().await?;
        self.count_revocations(reason, active.len());
        tracing::info!(device.id = %device, count = active.len(), reason = %reason, "Revoked a device");
        Ok(self.after_revocation().await)
    }

    async fn after_revocation(&self) -> Enforced {
        self.0.publish_crls.wake();
        self.0.enforce.bring_up_to_date().await
    }
}
