//! Publishing revocation lists.
//!
//! A list is a dated statement: it says what was revoked at its thisUpdate, never less, and never more
//! than what was committed. A revocation answers when the edges have it and OCSP tells it; its list
//! follows at once, but nobody waits for it, because making a list of many entries takes longer than
//! people should. While one is being made, further revocations gather for the next.

use std::time::Duration;

use super::gate::parse_issuer;
use super::{Ca, SignerError};
use crate::crash;
use crate::domain::{AuthorityKind, UtcTime};
use crate::pki::crl::{RevokedEntry, prepare_crl};
use crate::pki::issuer::PrepareError;
use crate::pki::prepared::AssembleError;
use crate::store::StoreError;
use crate::store::authorities::Authority;
use crate::store::crls::{Crl, CrlHead};

/// From thisUpdate to nextUpdate. A new list follows at half of it, so a verifier that missed one
/// still has days.
const LIFETIME: Duration = Duration::from_secs(7 * 86_400);

/// Why a list was not published. The one before stays.
#[derive(Debug, thiserror::Error)]
pub enum CrlError {
    /// The rows could not be read or written.
    #[error("the revocation list could not be recorded")]
    Store(#[from] StoreError),
    /// The bytes did not pass the rules.
    #[error("the revocation list was refused before it was signed")]
    Prepare(#[from] PrepareError),
    /// It was broken off: the program ends, or it panicked.
    #[error("the making of the revocation list was broken off")]
    Ended,
    /// The key could not sign.
    #[error("the authority could not sign its revocation list")]
    Sign(#[from] SignerError),
    /// What was signed is not what was recorded.
    #[error("the signed revocation list is not the recorded one")]
    Compare(#[from] AssembleError),
}

/// What became of a list that was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrlOutcome {
    /// It is the newest.
    Published {
        /// Its number.
        number: u64,
        /// How many serials it names.
        entries: usize,
    },
    /// Another process published a newer or fuller one meanwhile; this one was thrown away.
    Superseded {
        /// Its number, which nobody will use.
        number: u64,
    },
}

impl Ca {
    /// Publishes a list for every authority that needs one: it has none, something changed since, or half
    /// of its lifetime is over. Edges get the new lists. Returns how many were published.
    ///
    /// # Errors
    /// The first [`CrlError`]; the other authorities were still tried.
    pub async fn publish_crls(&self, now: UtcTime) -> Result<u32, CrlError> {
        let mut published = 0;
        let mut failure = None;
        for authority in self.0.store.authorities().await? {
            if !self.keeps_status(&authority, now).await? {
                continue;
            }
            match self.publish_if_due(&authority, now).await {
                Ok(done) => published += u32::from(done),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        if published > 0 {
            self.0.enforce.publish_documents().await;
        }
        failure.map_or(Ok(published), Err)
    }

    async fn publish_if_due(&self, authority: &Authority, now: UtcTime) -> Result<bool, CrlError> {
        let head = self.0.store.crl_head(&authority.name).await?;
        let last = self.0.store.latest_crl_dates(&authority.name).await?;
        let due = last.as_ref().is_none_or(|last| {
            head.changes > head.published_changes || now >= last.this_update.plus(LIFETIME / 2)
        });
        if !due {
            last.iter().for_each(|last| self.note_list(last));
            return Ok(false);
        }
        let outcome = self.publish_crl(authority, now).await?;
        Ok(matches!(outcome, CrlOutcome::Published { .. }))
    }

    /// Makes a list of `authority` and publishes it, due or not, unless another process was faster.
    ///
    /// # Errors
    /// [`CrlError`].
    pub async fn publish_crl(&self, authority: &Authority, now: UtcTime) -> Result<CrlOutcome, CrlError> {
        let store = &self.0.store;
        let issuer = parse_issuer(authority)?;
        let last = store.latest_crl_dates(&authority.name).await?;
        // RFC 5280 §3.3: an entry stays until it has been on a list published after its end.
        let keep_after_end = last.as_ref().map_or(UtcTime::EPOCH, |last| last.this_update);
        // A clock that was set back must not make the newer list the older one.
        let now = last.map_or(now, |last| now.max(last.this_update));
        let number = store.next_crl_number(&authority.name).await?;
        crash::reach("crl.after_number");
        // Before the revocations themselves, so that they hold at least what is counted here.
        let CrlHead { changes, .. } = store.crl_head(&authority.name).await?;
        let revocations = store.revocations(&authority.name, keep_after_end).await?;
        let entries = revocations.len();
        let next_update = now.plus(LIFETIME).min(issuer.not_after());
        // A root's list names no place: its own certificate has no distribution point to match, and
        // OpenSSL's -crl_check_all checks the root against it too.
        let url = (authority.kind == AuthorityKind::Issuing).then(|| self.crl_url(&authority.name));
        // Of a hundred thousand entries that is a while, in which others want to go on.
        let prepare = move || {
            let entries = revocations.into_iter().map(|entry| RevokedEntry {
                serial: entry.serial,
                // Another replica's clock may run ahead of ours.
                revoked_at: entry.at.min(now),
                reason: entry.reason,
                invalid_since: entry.invalid_since,
            });
            prepare_crl(&issuer, number, now, next_update, &entries.collect::<Vec<_>>(), url.as_deref())
        };
        let prepared = tokio::task::spawn_blocking(prepare).await.map_err(|_| CrlError::Ended)??;
        let mut list =
            Crl { authority: authority.name.clone(), number, this_update: now, next_update, der: Vec::new() };
        store.record_crl(&list, prepared.tbs()).await?;
        crash::reach("crl.after_record");
        let signature =
            self.signer(&authority.key_id).await?.sign(prepared.tbs()).await.map_err(SignerError::from)?;
        let assemble = move || prepared.assemble(&signature);
        let assembled = tokio::task::spawn_blocking(assemble).await.map_err(|_| CrlError::Ended)??;
        list.der = assembled.into_der();
        crash::reach("crl.after_signing");
        let transaction = store.begin().await?;
        if !transaction.publish_crl(&list, changes).await? {
            tracing::info!(authority = %authority.name, crl.number = number, "A newer revocation list was there first");
            return Ok(CrlOutcome::Superseded { number });
        }
        crash::reach("crl.before_commit");
        transaction.commit().await?;
        crash::reach("crl.after_commit");
        self.count_published(&list);
        tracing::info!(authority = %authority.name, crl.number = number, entries, "Published a revocation list");
        Ok(CrlOutcome::Published { number, entries })
    }
}
