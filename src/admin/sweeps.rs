//! What the job `clean_up` forgets on this room's behalf.

use async_trait::async_trait;

use crate::domain::UtcTime;
use crate::jobs::JobError;
use crate::jobs::clean_up::Sweep;
use crate::store::Store;

/// Sessions that are over, and answers kept for repeated requests.
pub fn sweeps(store: &Store) -> Vec<Box<dyn Sweep>> {
    vec![Box::new(Sessions(store.clone())), Box::new(IdempotencyKeys(store.clone()))]
}

struct Sessions(Store);

#[async_trait]
impl Sweep for Sessions {
    fn what(&self) -> &'static str {
        "sessions"
    }

    async fn sweep(&self, now: UtcTime) -> Result<u64, JobError> {
        Ok(self.0.sweep_sessions(now).await?)
    }
}

struct IdempotencyKeys(Store);

#[async_trait]
impl Sweep for IdempotencyKeys {
    fn what(&self) -> &'static str {
        "idempotency keys"
    }

    async fn sweep(&self, now: UtcTime) -> Result<u64, JobError> {
        Ok(self.0.sweep_idempotency_keys(now).await?)
    }
}
