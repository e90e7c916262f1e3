//! The edge's own client certificate, for upstreams that ask for one, and the authority behind it.
//!
//! The upstream authority stands apart from all others. A backend that trusts it lets in our edges and nobody
//! else; one that trusted the issuing authority would let in every device directly. It is on no register, so
//! what it signs passes no edge. The certificate's key is sealed under the server key, because edges use it; the
//! authority's own under the authority key.
//!
//! All of it happens under the lease of the job `rotate_upstream_identity`: what is put into use is put there
//! in a transaction that checks the lease, so generations follow one another across replicas and crashes.

use std::collections::BTreeSet;
use std::time::Duration;

use super::Ca;
use super::authorities::{BACK_DATE, InitError};
use super::gate::{GateError, parse_issuer};
use crate::crash;
use crate::domain::audit::{Act, Outcome};
use crate::domain::hex::hex;
use crate::domain::{Actor, AuthorityKind, AuthorityState, Serial, Slug, UtcTime};
use crate::keys::{KeyFault, KeyId};
use crate::pki::issuer::{ClientLeaf, PrepareError, prepare_client};
use crate::pki::{KeyPolicy, PublicKey, keygen};
use crate::store::StoreError;
use crate::store::authorities::{Authority, SigningKey};
use crate::store::certificates::{IntentOutcome, IntentPurpose};
use crate::store::internal_certificates::{InternalCertificate, UPSTREAM_KEY};
use crate::store::leases::Lease;
use crate::store::settings::INSTALLATION_ID;
use crate::store::upstream_identity::UpstreamIdentity;

/// The lease under which the certificate is made and renewed: that of the job.
pub const UPSTREAM_IDENTITY_LEASE: &str = "job:rotate_upstream_identity";

/// Who acts, in the audit.
const ACTOR: Actor = Actor::System("upstream_identity");
/// What its subject is called. Which installation's it is, says its URI.
const COMMON_NAME: &str = "wicketgate edge";
/// How long a certificate lives; half of it later the next one is made.
const LIFETIME: Duration = Duration::from_secs(7 * 86_400);
/// How long after the end of its certificate a key is kept: for clocks that differ.
const KEY_KEPT: Duration = Duration::from_secs(86_400);
/// The next authority is made and published when one part in this many of its predecessor's life is left, years
/// before it signs: administrators make their backends trust both meanwhile. The first alarm tells of it.
const ANNOUNCED_WITH_LEFT: u32 = 3;

/// Why edges have no new client certificate for upstreams. The one before stays.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamIdentityError {
    /// The certificate names the installation, which is not made yet.
    #[error("there is no installation in this database yet; run `wicketgate init`")]
    NotInitialised,
    /// The rows could not be read or written, or another replica has the lease now.
    #[error("the edge's own client certificate could not be recorded")]
    Store(#[from] StoreError),
    /// Its authority could not be made.
    #[error("the upstream authority could not be made")]
    Authority(#[from] InitError),
    /// The bytes did not pass the rules.
    #[error("the edge's own client certificate was refused before it was signed")]
    Prepare(#[from] PrepareError),
    /// It did not come out of the gate.
    #[error("the edge's own client certificate was not signed")]
    Gate(#[from] GateError),
    /// Its key could not be sealed.
    #[error("the key of the edge's own client certificate could not be sealed")]
    Seal(#[from] KeyFault),
}

/// One run under the lease.
#[derive(Clone, Copy)]
struct Turn<'a> {
    lease: &'a Lease,
    now: UtcTime,
}

/// What is due with the upstream authority.
#[derive(Debug, PartialEq, Eq)]
enum Succession<'a> {
    /// This one signs and goes on.
    Stays(&'a Authority),
    /// This one signs, and its successor must be there to be trusted beside it.
    Announce(&'a Authority),
    /// None signs, or this one cannot give a certificate its whole life any more.
    Replace(Option<&'a Authority>),
}

impl Ca {
    /// Makes the edge's own client certificate if there is none, or the next one when less than half of its life
    /// is left or its authority was replaced; makes and replaces the authority where that is due. Edges get it.
    /// Returns the certificate that was made.
    ///
    /// * `lease` — of [`UPSTREAM_IDENTITY_LEASE`]; whoever lost it puts nothing into use.
    ///
    /// # Errors
    /// As [`UpstreamIdentityError`] says; repeating continues where it stopped.
    pub async fn renew_upstream_identity(
        &self,
        lease: &Lease,
        now: UtcTime,
    ) -> Result<Option<UpstreamIdentity>, UpstreamIdentityError> {
        // Under a clock that was set back, authority and certificate would begin before what is on record.
        self.check_clock(now).await?;
        let turn = Turn { lease, now };
        let (authority, moved) = self.upstream_authority(turn).await?;
        let (current, last) = self.last_upstream_identity().await?;
        let opens = self.upstream_key_opens(current.as_ref()).await?;
        let certificate = current.as_ref().map(|current| &current.certificate);
        let made = match why_due(certificate, opens, &authority.name, now) {
            Some(why) => {
                Some(self.make_upstream_identity(last.saturating_add(1), &authority, why, turn).await?)
            }
            None => None,
        };
        if moved || made.is_some() {
            self.0.enforce.publish_documents().await;
            self.0.enforce.bring_up_to_date().await;
        }
        let (purpose, before) = (IntentPurpose::UpstreamClient, now.minus(KEY_KEPT));
        self.0.store.forget_internal_keys(&purpose, UPSTREAM_KEY, before).await?;
        Ok(made)
    }

    /// The authority that signs now, and whether anything about authorities was changed for it.
    async fn upstream_authority(&self, turn: Turn<'_>) -> Result<(Authority, bool), UpstreamIdentityError> {
        let now = turn.now;
        let mut all = self.0.store.authorities().await?;
        all.retain(|one| one.kind == AuthorityKind::Upstream && one.certificate.is_some());
        for over in all.iter().filter(|one| one.state == AuthorityState::Retiring && one.not_after < now) {
            self.move_upstream(&[(over, AuthorityState::Archived)], "authority.archive", turn).await?;
        }
        let signs = all.iter().find(|one| one.state == AuthorityState::Issuing);
        match succession(signs, now) {
            Succession::Stays(signs) => Ok((signs.clone(), false)),
            Succession::Announce(signs) => {
                let is_missing = successor(&all, now).is_none();
                if is_missing {
                    self.make_upstream_authority(now).await?;
                }
                Ok((signs.clone(), is_missing))
            }
            Succession::Replace(before) => {
                let next = match successor(&all, now) {
                    Some(next) => next.clone(),
                    None => self.make_upstream_authority(now).await?,
                };
                // First out, then in: at no moment do two issue.
                let out = before.map(|before| (before, AuthorityState::Retiring));
                let moves: Vec<_> = out.into_iter().chain([(&next, AuthorityState::Issuing)]).collect();
                self.move_upstream(&moves, "authority.let_issue", turn).await?;
                Ok((Authority { state: AuthorityState::Issuing, ..next }, true))
            }
        }
    }

    /// Makes the next generation. It is published, so that backends can trust it, and signs nothing yet.
    async fn make_upstream_authority(&self, now: UtcTime) -> Result<Authority, UpstreamIdentityError> {
        let act = self.0.store.begin_act(ACTOR, "authority.create", None, None, now).await?;
        let organisation = self.organisation().await?;
        let (kind, state) = (AuthorityKind::Upstream, AuthorityState::Trusted);
        let made = self.make_authority(kind, &organisation, state, &act, now).await;
        self.closed(&act, made.map_err(UpstreamIdentityError::from), now).await
    }

    /// Moves these authorities together.
    async fn move_upstream(
        &self,
        moves: &[(&Authority, AuthorityState)],
        action: &'static str,
        turn: Turn<'_>,
    ) -> Result<(), UpstreamIdentityError> {
        let object = moves.last().map(|(authority, _)| ("authority", authority.name.to_string()));
        let act = self.0.store.begin_act(ACTOR, action, object, None, turn.now).await?;
        let moved = self.commit_upstream_moves(moves, &act, turn).await;
        self.closed(&act, moved.map_err(UpstreamIdentityError::from), turn.now).await
    }

    async fn commit_upstream_moves(
        &self,
        moves: &[(&Authority, AuthorityState)],
        act: &Act,
        turn: Turn<'_>,
    ) -> Result<(), StoreError> {
        let transaction = self.0.store.begin().await?;
        transaction.check_lease(turn.lease).await?;
        for (authority, to) in moves {
            transaction.move_authority(&authority.name, authority.state, *to).await?;
        }
        let words = moves.iter().map(|(authority, to)| format!("{} is {}", authority.name, to.name()));
        let detail = words.collect::<Vec<_>>().join(", ");
        transaction.finish_act(act, Outcome::Succeeded, Some(&detail), turn.now).await?;
        transaction.commit().await?;
        tracing::info!("Moved upstream authorities: {detail}");
        Ok(())
    }

    /// The one in use, and the last generation. One that cannot be read is as good as none, and its number is not
    /// given again.
    async fn last_upstream_identity(&self) -> Result<(Option<UpstreamIdentity>, u64), StoreError> {
        match self.0.store.upstream_identity().await {
            Ok(Some(current)) => {
                let last = current.generation;
                Ok((Some(current), last))
            }
            Ok(None) => Ok((None, 0)),
            Err(StoreError::Corrupt { .. } | StoreError::Missing { .. }) => {
                Ok((None, self.0.store.last_upstream_generation().await?))
            }
            Err(error) => Err(error),
        }
    }

    /// Whether the key of this certificate is there and opens.
    async fn upstream_key_opens(&self, current: Option<&UpstreamIdentity>) -> Result<bool, StoreError> {
        let Some(id) = current.and_then(|current| current.certificate.key_id.as_ref()) else {
            return Ok(false);
        };
        match self.0.store.signing_key(id).await {
            Ok(key) => Ok(self.0.vaults.server.open(SigningKey::place(id), &key.sealed).is_ok()),
            Err(StoreError::Missing { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn make_upstream_identity(
        &self,
        generation: u64,
        authority: &Authority,
        why: &'static str,
        turn: Turn<'_>,
    ) -> Result<UpstreamIdentity, UpstreamIdentityError> {
        let object = Some(("authority", authority.name.to_string()));
        let act = self.0.store.begin_act(ACTOR, "upstream_identity.issue", object, None, turn.now).await?;
        let made = self.certify_edge(generation, authority, &act, turn).await;
        let made = self.closed(&act, made, turn.now).await?;
        tracing::info!(
            authority = %authority.name, generation, cert.serial = %made.certificate.serial,
            cert.ends = %made.certificate.not_after, "Made a client certificate of the edge's own: {why}"
        );
        Ok(made)
    }

    /// The certificate through the gate; with it, and not before, its key is stored.
    async fn certify_edge(
        &self,
        generation: u64,
        authority: &Authority,
        act: &Act,
        turn: Turn<'_>,
    ) -> Result<UpstreamIdentity, UpstreamIdentityError> {
        let (store, now) = (&self.0.store, turn.now);
        let installation = store.setting(INSTALLATION_ID).await?;
        let installation = installation.ok_or(UpstreamIdentityError::NotInitialised)?;
        let issuer = parse_issuer(authority)?;
        let (pkcs8, spki) = keygen::generate_p256();
        let public_key = PublicKey::from_spki_der(&spki, &KeyPolicy::default()).map_err(PrepareError::Key)?;
        let key_id = KeyId(format!("{UPSTREAM_KEY}{}", &hex(&public_key.sha256())[..16]));
        let sealed = self.0.vaults.server.seal(SigningKey::place(&key_id), pkcs8.expose())?;
        let (uris, dns_names) = ([format!("urn:wicketgate:edge:{installation}")], BTreeSet::new());
        // It names no list and no responder: it is over before either would tell of much.
        let leaf = ClientLeaf {
            serial: Serial::random(&*self.0.entropy),
            public_key: &public_key,
            common_name: COMMON_NAME,
            email: None,
            uris: &uris,
            dns_names: &dns_names,
            not_before: now.minus(BACK_DATE).max(issuer.not_before()),
            not_after: now.plus(LIFETIME),
            crl_urls: &[],
            ocsp_urls: &[],
            issuer_urls: &[],
        };
        let prepared = prepare_client(&issuer, &leaf)?;
        let signed = self.sign_on_record(authority, prepared, IntentPurpose::UpstreamClient, now).await?;

        let certificate = InternalCertificate {
            serial: signed.serial(),
            authority: authority.name.clone(),
            purpose: IntentPurpose::UpstreamClient,
            subject: authority.name.clone(),
            key_id: Some(key_id.clone()),
            fingerprint: signed.fingerprint(),
            not_before: leaf.not_before,
            not_after: leaf.not_after,
            issued_at: now,
            der: signed.der().to_vec(),
            revoked: None,
        };
        let made = UpstreamIdentity { generation, certificate };
        let transaction = store.begin().await?;
        transaction.check_lease(turn.lease).await?;
        if !transaction.resolve_intent(signed.serial(), IntentOutcome::Issued, now).await? {
            return Err(GateError::IntentClosed.into());
        }
        transaction.insert_signing_key(&SigningKey { id: key_id, spki, sealed }, now).await?;
        transaction.use_upstream_identity(&made).await?;
        let detail = format!("generation {generation}, serial {}", signed.serial());
        transaction.finish_act(act, Outcome::Succeeded, Some(&detail), now).await?;
        crash::reach("upstream_identity.before_commit");
        transaction.commit().await?;
        Ok(made)
    }

    /// Closes the act of what failed; what succeeded has closed it.
    async fn closed<T>(
        &self,
        act: &Act,
        result: Result<T, UpstreamIdentityError>,
        now: UtcTime,
    ) -> Result<T, UpstreamIdentityError> {
        if let Err(error) = &result {
            self.0.store.finish_act(act, Outcome::Failed, Some(&error.to_string()), now).await?;
        }
        result
    }
}

/// What is due with the authority that `signs`, if any does.
fn succession(signs: Option<&Authority>, now: UtcTime) -> Succession<'_> {
    let Some(signs) = signs else { return Succession::Replace(None) };
    let life = signs.not_after.since(signs.not_before);
    if now < signs.not_before || !gives_a_whole_life(signs, now) {
        Succession::Replace(Some(signs))
    } else if signs.not_after.since(now) <= life / ANNOUNCED_WITH_LEFT {
        Succession::Announce(signs)
    } else {
        Succession::Stays(signs)
    }
}

/// The newest one that was announced and can take over at `now`.
fn successor(all: &[Authority], now: UtcTime) -> Option<&Authority> {
    let waits = |one: &&Authority| one.state == AuthorityState::Trusted && one.not_before <= now;
    all.iter().rev().filter(waits).find(|one| gives_a_whole_life(one, now))
}

fn gives_a_whole_life(authority: &Authority, now: UtcTime) -> bool {
    now.plus(LIFETIME) <= authority.not_after
}

/// Why another certificate is due; `None` while this one will do.
///
/// * `opens` — whether its key is there and can be used.
/// * `signs` — the authority that signs now.
fn why_due(
    current: Option<&InternalCertificate>,
    opens: bool,
    signs: &Slug,
    now: UtcTime,
) -> Option<&'static str> {
    let Some(current) = current else { return Some("there was none") };
    let half = current.not_after.since(current.not_before) / 2;
    if current.revoked.is_some() {
        Some("the one before was revoked")
    } else if current.authority != *signs {
        Some("its authority was replaced")
    } else if !opens {
        Some("the key of the one before does not open")
    } else if now < current.not_before {
        Some("the one before is not valid yet")
    } else if now >= current.not_before.plus(half) {
        Some("half of the life of the one before is over")
    } else {
        None
    }
}

#[cfg(test)]
mod tests;
