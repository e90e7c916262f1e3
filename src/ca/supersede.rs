//! Taking back what a successor replaced, when the overlap that its profile grants is over.

use super::Ca;
use super::revoke::RevokeError;
use crate::domain::audit::Outcome;
use crate::domain::{Actor, RevocationReason, UtcTime};
use crate::store::StoreError;

/// Taken back at a time; the job comes again.
const BATCH: u64 = 500;

impl Ca {
    /// Revokes, as superseded, every certificate whose overlap with its successor is over at `now`.
    /// Returns how many.
    ///
    /// # Errors
    /// The first [`RevokeError`]; the others were still tried.
    pub async fn revoke_superseded(&self, now: UtcTime) -> Result<u64, RevokeError> {
        let store = &self.0.store;
        let mut done = 0;
        let mut failure = None;
        for old in store.superseded_certificates(now, BATCH).await? {
            let object = Some(("certificate", old.serial.to_string()));
            let actor = Actor::System("supersede_certificates");
            let act = store.begin_act(actor, "certificate.revoke", object, None, now).await?;
            match self.revoke(old.serial, RevocationReason::Superseded, &act, now).await {
                Ok(_) => done += 1,
                Err(error) => {
                    let _ = store.finish_act(&act, Outcome::Failed, Some(&error.to_string()), now).await;
                    // Revoked meanwhile, for a reason of its own: that is as well.
                    if !matches!(
                        error,
                        RevokeError::AlreadyRevoked(_) | RevokeError::Store(StoreError::Conflict { .. })
                    ) {
                        failure = failure.or(Some(error));
                    }
                }
            }
        }
        failure.map_or(Ok(done), Err)
    }
}
