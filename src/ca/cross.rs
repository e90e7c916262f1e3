//! Cross-certificates: when a root is rolled over, the old one and the new one vouch for each other's
//! key. Nobody of ours needs them (edges know every leaf by its bytes); they are for verifiers elsewhere
//! that trust only one of the two, and are exported for them.

use super::Ca;
use super::authorities::BACK_DATE;
use super::gate::{GateError, parse_issuer};
use super::rollover::CrossLink;
use crate::domain::audit::{Act, Outcome};
use crate::domain::{AuthorityKind, Serial, Slug, UtcTime};
use crate::pki::cross::{CrossTemplate, has_room, prepare_cross};
use crate::pki::issuer::PrepareError;
use crate::store::StoreError;
use crate::store::authorities::Authority;
use crate::store::certificates::{IntentOutcome, IntentPurpose};
use crate::store::internal_certificates::InternalCertificate;

/// Why two roots do not vouch for each other. What was made before stays and is not made again.
#[derive(Debug, thiserror::Error)]
pub enum CrossError {
    /// The bytes did not pass the rules.
    #[error("the cross-certificate was refused before it was signed")]
    Prepare(#[from] PrepareError),
    /// It could not be put on record or signed.
    #[error("the cross-certificate could not be made")]
    Gate(#[from] GateError),
    /// The rows could not be read or written.
    #[error("the cross-certificate could not be recorded")]
    Store(#[from] StoreError),
}

impl Ca {
    /// The cross-certificates that `root` gave or got, newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn cross_certificates(&self, root: &Slug) -> Result<Vec<InternalCertificate>, StoreError> {
        let all = self.0.store.internal_certificates(&IntentPurpose::CrossCertificate, None).await?;
        Ok(all.into_iter().filter(|cross| cross.authority == *root || cross.subject == *root).collect())
    }

    /// Which root vouches for which, at `now`.
    pub(super) async fn cross_links(&self, now: UtcTime) -> Result<Vec<CrossLink>, StoreError> {
        let all = self.0.store.internal_certificates(&IntentPurpose::CrossCertificate, None).await?;
        let valid = all
            .into_iter()
            .filter(|cross| cross.revoked.is_none() && (cross.not_before..=cross.not_after).contains(&now));
        Ok(valid.map(|cross| CrossLink { issuer: cross.authority, subject: cross.subject }).collect())
    }

    /// Lets `new` and the root that issues vouch for each other, both ways, where that is still missing
    /// and both keys are in this system.
    pub(super) async fn cross_certify(
        &self,
        new: &Authority,
        act: &Act,
        now: UtcTime,
    ) -> Result<(), CrossError> {
        let store = &self.0.store;
        let Some(old) = store.signing_authority(AuthorityKind::Root).await? else { return Ok(()) };
        for root in [&old, new] {
            if !store.signing_key(&root.key_id).await?.is_here() {
                tracing::info!(authority = %root.name, "No cross-certificates: the root's key is elsewhere");
                return Ok(());
            }
        }
        let links = self.cross_links(now).await?;
        for (issuer, subject) in [(&old, new), (new, &old)] {
            let there = links.iter().any(|link| link.issuer == issuer.name && link.subject == subject.name);
            if issuer.name == subject.name || there {
                continue;
            }
            if !has_room(&parse_issuer(issuer)?) {
                tracing::warn!(authority = %issuer.name, "No cross-certificate: the root's path length leaves no room");
                continue;
            }
            self.vouch(issuer, subject, act, now).await?;
        }
        Ok(())
    }

    async fn vouch(
        &self,
        issuer: &Authority,
        subject: &Authority,
        act: &Act,
        now: UtcTime,
    ) -> Result<(), CrossError> {
        let store = &self.0.store;
        let object = Some(("authority", issuer.name.to_string()));
        let request = act.request_id.clone();
        let act = store.begin_act(act.actor.clone(), "authority.cross_certify", object, request, now).await?;
        let (by, of) = (parse_issuer(issuer)?, parse_issuer(subject)?);
        let template = CrossTemplate {
            serial: Serial::random(&*self.0.entropy),
            subject: &of,
            not_before: now.minus(BACK_DATE).max(by.not_before()).max(of.not_before()),
            not_after: by.not_after().min(of.not_after()),
            crl_urls: &[self.crl_url(&issuer.name)],
            issuer_urls: &[self.issuer_url(&issuer.name)],
        };
        let prepared = prepare_cross(&by, &template)?;
        let signed = self.sign_on_record(issuer, prepared, IntentPurpose::CrossCertificate, now).await?;
        let row = InternalCertificate {
            serial: signed.serial(),
            authority: issuer.name.clone(),
            purpose: IntentPurpose::CrossCertificate,
            subject: subject.name.clone(),
            key_id: None,
            fingerprint: signed.fingerprint(),
            not_before: template.not_before,
            not_after: template.not_after,
            issued_at: now,
            der: signed.der().to_vec(),
            revoked: None,
        };
        let transaction = store.begin().await?;
        if !transaction.resolve_intent(row.serial, IntentOutcome::Issued, now).await? {
            return Err(GateError::IntentClosed.into());
        }
        transaction.insert_internal_certificate(&row).await?;
        let detail = format!("{} for {}, serial {}", issuer.name, subject.name, row.serial);
        transaction.finish_act(&act, Outcome::Succeeded, Some(&detail), now).await?;
        transaction.commit().await?;
        tracing::info!(authority = %issuer.name, subject = %subject.name, "One root vouches for another");
        Ok(())
    }
}
