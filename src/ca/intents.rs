//! Closing what a crash left open.

use std::time::Duration;

use super::Ca;
use crate::domain::UtcTime;
use crate::store::StoreError;
use crate::store::certificates::IntentOutcome;

/// An intent older than this belongs to nobody: signing takes milliseconds, a lost database seconds.
const ABANDON_AFTER: Duration = Duration::from_secs(30);
const SECOND: Duration = Duration::from_secs(1);

impl Ca {
    /// How long until [`Ca::resolve_intents`] may close every intent that is open now, at most a little
    /// more than half a minute; `None` when none is.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn open_intents_belong_to_nobody_in(
        &self,
        now: UtcTime,
    ) -> Result<Option<Duration>, StoreError> {
        let open = self.0.store.unresolved_intents(UtcTime::MAX).await?;
        let youngest = open.iter().map(|intent| intent.created_at).max();
        // Whole seconds: one more, so that it is over. A clock that was set back makes nobody wait long.
        let wait = |created: UtcTime| created.plus(ABANDON_AFTER).plus(SECOND).since(now);
        Ok(youngest.map(|created| wait(created).min(ABANDON_AFTER + SECOND)))
    }

    /// Closes intents that nobody will finish: their serials go on the revocation list, in case a
    /// signature was made that no row knows. Such a certificate never passes an edge anyway, because
    /// it is not on record. Returns how many were closed.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn resolve_intents(&self, now: UtcTime) -> Result<u64, StoreError> {
        let mut closed = 0;
        for intent in self.0.store.unresolved_intents(now.minus(ABANDON_AFTER)).await? {
            let transaction = self.0.store.begin().await?;
            if transaction.resolve_intent(intent.serial, IntentOutcome::Abandoned, now).await? {
                transaction.commit().await?;
                closed += 1;
                tracing::warn!(
                    cert.serial = %intent.serial, authority = %intent.authority,
                    "Closed an issuance that did not finish; its serial is revoked"
                );
            }
        }
        self.measure_intents(now).await?;
        if closed > 0 {
            self.0.publish_crls.wake();
        }
        Ok(closed)
    }
}
