//! Signs checkpoints of the audit's chain. The key is sealed like an authority's, so the database alone
//! signs nothing; and it signs no link that does not follow, event by event, from the one it signed last.

use super::{Ca, SignerError};
use crate::crash;
use crate::domain::audit::Outcome;
use crate::domain::audit_chain::{ChainHead, Checkpoint};
use crate::domain::{Actor, UtcTime};
use crate::keys::{KeyFault, KeyId};
use crate::pki::{audit, keygen};
use crate::store::StoreError;
use crate::store::authorities::SigningKey;
use crate::store::settings::{AUDIT_KEY, INSTALLATION_ID};

/// Links read at a time.
const PAGE: u64 = 500;

/// Why no checkpoint was signed.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// There is nothing to sign yet. -> 409
    #[error("no event of the audit is chained yet")]
    NothingChained,
    /// The installation has no identity yet. -> 409
    #[error("there is no installation in this database yet; run `wicketgate init`")]
    NotInitialised,
    /// The chain is not what was signed before, or does not follow from it. -> 409
    #[error(
        "the chain of the audit is broken at link {number}: {what}. Keep the database as it is, and compare with an earlier export"
    )]
    Broken {
        /// At which link.
        number: u64,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The rows could not be read or written. -> 503
    #[error("the checkpoint could not be recorded")]
    Store(#[from] StoreError),
    /// The key could not be sealed. -> 503
    #[error("the key of the audit could not be sealed")]
    Seal(#[from] KeyFault),
    /// The key could not sign. -> 503
    #[error("the key of the audit could not sign")]
    Sign(#[from] SignerError),
}

impl Ca {
    /// The id of the key that signs checkpoints; made if it is missing.
    ///
    /// # Errors
    /// [`CheckpointError`].
    pub async fn audit_key(&self, now: UtcTime) -> Result<KeyId, CheckpointError> {
        let store = &self.0.store;
        if let Some(id) = store.setting(AUDIT_KEY).await? {
            return Ok(KeyId(id));
        }
        let (pkcs8, spki) = keygen::generate_p256();
        let id = KeyId(audit::key_id(&spki));
        let sealed = self.0.vaults.authority.seal(SigningKey::place(&id), pkcs8.expose())?;
        let object = Some(("signing_key", id.0.clone()));
        let act = store.begin_act(Actor::System("init"), "audit.make_key", object, None, now).await?;
        let transaction = store.begin().await?;
        transaction.insert_signing_key(&SigningKey { id: id.clone(), spki, sealed }, now).await?;
        let made = match transaction.begin_setting(AUDIT_KEY, &id.0, "the key of the audit").await {
            Ok(()) => {
                transaction.finish_act(&act, Outcome::Succeeded, None, now).await?;
                transaction.commit().await.map(|()| id)
            }
            Err(error) => {
                drop(transaction);
                store.finish_act(&act, Outcome::Failed, Some("another replica made one"), now).await?;
                // Another replica was faster: its key is the one.
                store.setting(AUDIT_KEY).await?.map(KeyId).ok_or(error)
            }
        };
        Ok(made?)
    }

    /// The public halves of every key that may have signed a checkpoint, SubjectPublicKeyInfo DER.
    ///
    /// # Errors
    /// [`CheckpointError`].
    pub async fn audit_keys(&self, now: UtcTime) -> Result<Vec<SigningKey>, CheckpointError> {
        self.audit_key(now).await?;
        Ok(self.0.store.audit_signing_keys().await?)
    }

    /// Reads the chain from the last checkpoint to its end, and signs nothing. What was signed before is
    /// not read again: whoever keeps an export or a checkpoint elsewhere checks that.
    ///
    /// # Errors
    /// As [`CheckpointError`] says: [`CheckpointError::Broken`] names the first link that does not fit.
    pub async fn check_chain(&self) -> Result<ChainHead, CheckpointError> {
        let last = self.0.store.latest_audit_checkpoint().await?;
        self.follow_from(last.as_ref()).await
    }

    /// Signs the end of the chain, after reading everything since the last checkpoint. When there is
    /// nothing new, the last one is the answer.
    ///
    /// # Errors
    /// As [`CheckpointError`] says; then nothing was signed.
    pub async fn checkpoint(&self, now: UtcTime) -> Result<Checkpoint, CheckpointError> {
        let store = &self.0.store;
        let installation_id = store.setting(INSTALLATION_ID).await?.ok_or(CheckpointError::NotInitialised)?;
        let last = store.latest_audit_checkpoint().await?;
        let head = self.follow_from(last.as_ref()).await?;
        match last {
            Some(last) if last.number == head.number => return Ok(last),
            _ if head.number == 0 => return Err(CheckpointError::NothingChained),
            _ => {}
        }
        let key = self.audit_key(now).await?;
        let ChainHead { number, hash } = head;
        let signature = Vec::new();
        let mut made =
            Checkpoint { installation_id, number, hash, at: now, key_id: key.0.clone(), signature };
        let signer = self.signer(&key).await?;
        made.signature = signer.sign(&made.statement()).await.map_err(SignerError::from)?;
        crash::reach("audit.after_signing");
        if store.insert_audit_checkpoint(&made).await? {
            tracing::debug!(audit.number = number, "Signed a checkpoint of the audit");
            return Ok(made);
        }
        // Another replica signed the same place.
        let stored = store.audit_checkpoints(number - 1, 1).await?.pop();
        Ok(stored.filter(|stored| stored.head() == head).unwrap_or(made))
    }

    /// The end of the chain, when it follows from this checkpoint and the checkpoint is ours.
    async fn follow_from(&self, last: Option<&Checkpoint>) -> Result<ChainHead, CheckpointError> {
        if let Some(last) = last {
            self.recognise(last).await?;
        }
        self.follow(last.map_or(ChainHead::START, Checkpoint::head)).await
    }

    /// Whether we signed this: its key opens, and the signature is that key's.
    async fn recognise(&self, checkpoint: &Checkpoint) -> Result<(), CheckpointError> {
        let broken = |what| CheckpointError::Broken { number: checkpoint.number, what };
        let id = KeyId(checkpoint.key_id.clone());
        match self.signer(&id).await {
            Err(SignerError::Store(StoreError::Missing { .. }) | SignerError::Sealed(_)) => {
                return Err(broken("the key of the last checkpoint is not ours"));
            }
            other => drop(other?),
        }
        let key = self.0.store.signing_key(&id).await?;
        audit::check_signature(checkpoint, &key.spki)
            .map_err(|_| broken("the last checkpoint was not signed by us"))?;
        // Its link is still the one that was signed.
        let signed = self.0.store.audit_links(checkpoint.number.saturating_sub(1), 1).await?;
        let stands = signed.first().is_some_and(|link| link.head == checkpoint.head());
        if stands { Ok(()) } else { Err(broken("it is not the one of the last checkpoint")) }
    }

    /// Reads the chain from a signed place to its end.
    async fn follow(&self, from: ChainHead) -> Result<ChainHead, CheckpointError> {
        let mut head = from;
        loop {
            let links = self.0.store.audit_links(head.number, PAGE).await?;
            let count = links.len() as u64;
            for link in links {
                let number = head.number + 1;
                let broken = |what| CheckpointError::Broken { number, what };
                let event = link.event.ok_or_else(|| broken("its event is not there"))?;
                if link.head.number != number {
                    return Err(broken("it is missing"));
                }
                head = head.next(&event);
                if head != link.head {
                    return Err(broken("it does not fit its event and the link before"));
                }
            }
            if count < PAGE {
                return Ok(head);
            }
        }
    }
}
