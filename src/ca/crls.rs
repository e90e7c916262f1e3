//! Publishing revocation lists.

use std::time::Duration;

use super::gate::{hex, parse_issuer};
use super::{Ca, SignerError};
use crate::crash;
use crate::domain::{AuthorityKind, AuthorityState, UtcTime};
use crate::pki::crl::{RevokedEntry, prepare_crl};
use crate::pki::issuer::PrepareError;
use crate::pki::prepared::AssembleError;
use crate::store::StoreError;
use crate::store::authorities::Authority;
use crate::store::crls::{Crl, Revocation};

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
    /// The key could not sign.
    #[error("the authority could not sign its revocation list")]
    Sign(#[from] SignerError),
    /// What was signed is not what was recorded.
    #[error("the signed revocation list is not the recorded one")]
    Compare(#[from] AssembleError),
}

impl Ca {
    /// Publishes a list for every authority that needs one: it has none, something was revoked since,
    /// or half of its lifetime is over. Edges get the new lists. Returns how many were published.
    ///
    /// # Errors
    /// The first [`CrlError`]; the other authorities were still tried.
    pub async fn publish_crls(&self, now: UtcTime) -> Result<u32, CrlError> {
        let mut published = 0;
        let mut failure = None;
        for authority in self.0.store.authorities().await? {
            let revokes = matches!(authority.kind, AuthorityKind::Root | AuthorityKind::Issuing)
                && authority.certificate.is_some()
                && matches!(
                    authority.state,
                    AuthorityState::Trusted | AuthorityState::Issuing | AuthorityState::Retiring
                );
            if !revokes {
                continue;
            }
            match self.publish_if_due(&authority, now).await {
                Ok(done) => published += u32::from(done),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        if published > 0 {
            self.0.enforce.bring_up_to_date().await;
        }
        failure.map_or(Ok(published), Err)
    }

    async fn publish_if_due(&self, authority: &Authority, now: UtcTime) -> Result<bool, CrlError> {
        let store = &self.0.store;
        let last = store.latest_crl(&authority.name).await?;
        // RFC 5280 §3.3: an entry stays until it has been on a list published after its end.
        let keep_after_end = last.as_ref().map_or(UtcTime::EPOCH, |last| last.this_update);
        let revocations = store.revocations(&authority.name, keep_after_end).await?;
        // By content and not by time: what was committed while the last list was made counts, too.
        let due = last.as_ref().is_none_or(|last| {
            now >= last.this_update.plus(LIFETIME / 2) || last.entries_sha256 != digest(&revocations)
        });
        if !due {
            last.iter().for_each(|last| self.note_list(last));
            return Ok(false);
        }
        // A clock that was set back must not make the newer list the older one.
        let now = last.map_or(now, |last| now.max(last.this_update));
        self.publish_crl(authority, keep_after_end, now).await?;
        Ok(true)
    }

    async fn publish_crl(
        &self,
        authority: &Authority,
        keep_after_end: UtcTime,
        now: UtcTime,
    ) -> Result<(), CrlError> {
        let store = &self.0.store;
        let issuer = parse_issuer(authority)?;
        let number = store.next_crl_number(&authority.name).await?;
        crash::reach("crl.after_number");
        // Read after the number was taken, so that a higher number never names less for long.
        let revocations = store.revocations(&authority.name, keep_after_end).await?;
        let entries: Vec<_> = revocations
            .iter()
            .map(|entry| RevokedEntry {
                serial: entry.serial,
                revoked_at: entry.at,
                reason: entry.reason,
                invalid_since: entry.invalid_since,
            })
            .collect();
        let next_update = now.plus(LIFETIME).min(issuer.not_after());
        // A root's list names no place: its own certificate has no distribution point to match, and
        // OpenSSL's -crl_check_all checks the root against it too.
        let url = (authority.kind == AuthorityKind::Issuing).then(|| self.crl_url(&authority.name));
        let prepared = prepare_crl(&issuer, number, now, next_update, &entries, url.as_deref())?;
        let mut list = Crl {
            authority: authority.name.clone(),
            number,
            this_update: now,
            next_update,
            entries_sha256: digest(&revocations),
            der: Vec::new(),
        };
        store.record_crl(&list, prepared.tbs()).await?;
        crash::reach("crl.after_record");
        let signature =
            self.signer(&authority.key_id).await?.sign(prepared.tbs()).await.map_err(SignerError::from)?;
        list.der = prepared.assemble(&signature)?.der().to_vec();
        crash::reach("crl.after_signing");
        let transaction = store.begin().await?;
        transaction.publish_crl(&list).await?;
        transaction.commit().await?;
        self.count_published(&list);
        tracing::info!(authority = %authority.name, crl.number = number, entries = entries.len(), "Published a revocation list");
        Ok(())
    }
}

/// What a list names, in a word that changes with it.
fn digest(revocations: &[Revocation]) -> String {
    let mut lines: Vec<_> = revocations
        .iter()
        .map(|entry| format!("{} {} {}\n", entry.serial, entry.at.as_unix(), entry.reason.code()))
        .collect();
    lines.sort_unstable();
    hex(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, lines.concat().as_bytes()).as_ref())
}
