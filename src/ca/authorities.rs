//! Making authorities: key sealed and bytes recorded first, signed second, in force third.

use std::time::Duration;

use super::gate::parse_issuer;
use super::{Ca, SignerError, generation_name};
use crate::crash;
use crate::domain::audit::{Act, Outcome};
use crate::domain::hex::hex;
use crate::domain::{Actor, AuthorityKind, AuthorityRecord, AuthorityState, Delta, Serial, Slug, UtcTime};
use crate::keys::{KeyFault, KeyId};
use crate::pki::issuer::{AuthorityTemplate, PrepareError, prepare_authority, prepare_root};
use crate::pki::keygen;
use crate::pki::prepared::AssembleError;
use crate::store::StoreError;
use crate::store::authorities::{Authority, SigningKey};

/// The setting that says where roots are made.
const ROOT_KEY: &str = "root_key";
/// Its value for roots that ceremonies make.
const OFFLINE: &str = "offline";
pub(super) const DAY: Duration = Duration::from_secs(86_400);
/// A root outlives two issuing generations.
pub(super) const ROOT_DAYS: u32 = 20 * 365;
/// An issuing authority lives ten years, of which it issues all but the last leaf's lifetime.
pub(super) const ISSUING_DAYS: u32 = 10 * 365;
/// The local server authority is trusted by administrators' own hands, so it changes seldom.
const LOCAL_SERVER_DAYS: u32 = 10 * 365;
/// The upstream authority is trusted by backends' own configuration, so it changes as seldom.
const UPSTREAM_DAYS: u32 = 10 * 365;
/// How far notBefore lies back, for hosts whose clock is late.
pub(super) const BACK_DATE: Duration = Duration::from_secs(300);

/// Why an authority was not made.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The rows could not be written.
    #[error("the authority could not be recorded")]
    Store(#[from] StoreError),
    /// The key could not be sealed.
    #[error("the authority's key could not be sealed")]
    Seal(#[from] KeyFault),
    /// The bytes did not pass the rules.
    #[error("the authority's certificate was refused before it was signed")]
    Prepare(#[from] PrepareError),
    /// The key could not sign.
    #[error("the authority's certificate could not be signed")]
    Sign(#[from] SignerError),
    /// What was signed is not what was recorded.
    #[error("the signed certificate is not the recorded one")]
    Compare(#[from] AssembleError),
    /// An issuing authority needs a root that issues.
    #[error("no root issues: stage one, trust it and let it issue first")]
    NoRoot,
    /// The root's key is elsewhere.
    #[error("the key of {0} is not in this system: `wicketgate ca ceremony plan` begins")]
    OfflineRoot(Slug),
    /// A root cannot leave the system in which its key was made.
    #[error("this installation has a root already; only a new one can be kept offline")]
    HasRoot,
}

impl Ca {
    /// Makes the first root, issuing and local server authority if they are missing; what is there
    /// stays, whatever state it is in. With an offline root the first two come from a ceremony.
    /// `organisation` goes into their names.
    ///
    /// # Errors
    /// As [`InitError`] says; repeating continues where it stopped.
    pub async fn init(&self, organisation: &str, now: UtcTime) -> Result<(), InitError> {
        self.ensure_profiles(now).await?;
        let online = [AuthorityKind::Root, AuthorityKind::Issuing, AuthorityKind::LocalServer];
        let offline = [AuthorityKind::LocalServer];
        let kinds = if self.has_offline_root().await? { &offline[..] } else { &online[..] };
        for kind in kinds {
            let all = self.0.store.authorities().await?;
            if !all.iter().any(|authority| authority.kind == *kind && authority.certificate.is_some()) {
                let act = self
                    .0
                    .store
                    .begin_act(Actor::System("init"), "authority.create", None, None, now)
                    .await?;
                self.make_authority(*kind, organisation, AuthorityState::Issuing, &act, now).await?;
            }
        }
        Ok(())
    }

    /// Makes one more generation of `kind`, in `state`: [`AuthorityState::Staged`], which nobody hears
    /// of, [`AuthorityState::Issuing`] for the first, or [`AuthorityState::Trusted`] for an upstream
    /// authority. Its key is sealed and its bytes are on record before the signature. `act` is closed as
    /// succeeded with it; on an error the caller closes it.
    ///
    /// # Errors
    /// As [`InitError`] says.
    pub(super) async fn make_authority(
        &self,
        kind: AuthorityKind,
        organisation: &str,
        state: AuthorityState,
        act: &Act,
        now: UtcTime,
    ) -> Result<Authority, InitError> {
        let store = &self.0.store;
        let (name, generation) = self.next_generation(kind).await?;
        let issuer = match kind {
            AuthorityKind::Issuing => {
                let root = store.signing_authority(AuthorityKind::Root).await?.ok_or(InitError::NoRoot)?;
                if !store.signing_key(&root.key_id).await?.is_here() {
                    return Err(InitError::OfflineRoot(root.name));
                }
                Some(root)
            }
            AuthorityKind::Root | AuthorityKind::LocalServer | AuthorityKind::Upstream => None,
        };
        let (key_id, key) = self.make_key(&name)?;
        let serial = self.reserve_serial("authority", now).await?;
        crash::reach("authority.after_serial");
        let template = Template { kind, serial, spki: &key.spki, organisation, generation, now };
        let prepared = self.prepare(&template, issuer.as_ref())?;

        let authority = Authority {
            name: name.clone(),
            kind,
            state: AuthorityState::Staged,
            key_id: key_id.clone(),
            issuer: issuer.as_ref().map(|issuer| issuer.name.clone()),
            serial,
            common_name: common_name(kind, organisation, generation),
            not_before: prepared.not_before(),
            not_after: prepared.not_after(),
            tbs: prepared.tbs().to_vec(),
            certificate: None,
            crl_number: 0,
            created_at: now,
        };
        let transaction = store.begin().await?;
        transaction.insert_signing_key(&key, now).await?;
        transaction.insert_authority(&authority).await?;
        transaction.commit().await?;
        crash::reach("authority.after_record");

        let signing_key = issuer.as_ref().map_or(&key_id, |issuer| &issuer.key_id);
        let signature =
            self.signer(signing_key).await?.sign(prepared.tbs()).await.map_err(SignerError::from)?;
        crash::reach("authority.after_signing");
        let certificate = prepared.assemble(&signature)?;

        let transaction = store.begin().await?;
        transaction.complete_authority(&name, certificate.der(), state).await?;
        let done = Authority { state, certificate: Some(certificate.der().to_vec()), ..authority };
        // Edges know nothing of upstream authorities, so that nobody under one is ever somebody there.
        if state.is_in_force() && kind != AuthorityKind::Upstream {
            transaction.append_changes(&[Delta::Authority(record(&done)?)], now).await?;
        }
        transaction.finish_act(act, Outcome::Succeeded, Some(name.as_str()), now).await?;
        crash::reach("authority.before_commit");
        transaction.commit().await?;
        crash::reach("authority.after_commit");
        tracing::info!(authority = %name, ends = %done.not_after, "Made an authority");
        Ok(done)
    }

    /// The name and number of the next generation of `kind`.
    pub(super) async fn next_generation(&self, kind: AuthorityKind) -> Result<(Slug, usize), StoreError> {
        let all = self.0.store.authorities().await?;
        let generation = all.iter().filter(|authority| authority.kind == kind).count() + 1;
        let corrupt = |detail: String| StoreError::Corrupt { what: "an authority's name", detail };
        let name = generation_name(kind, generation)
            .parse()
            .map_err(|error: crate::domain::slug::ParseSlugError| corrupt(error.to_string()))?;
        Ok((name, generation))
    }

    /// A fresh key for the authority `name`, sealed.
    pub(super) fn make_key(&self, name: &Slug) -> Result<(KeyId, SigningKey), KeyFault> {
        let (pkcs8, spki) = keygen::generate_p256();
        let id = key_id(name, &spki);
        let sealed = self.0.vaults.authority.seal(SigningKey::place(&id), pkcs8.expose())?;
        Ok((id.clone(), SigningKey { id, spki, sealed }))
    }

    /// Whether this installation was made without a root of its own.
    pub(super) async fn has_offline_root(&self) -> Result<bool, StoreError> {
        Ok(self.0.store.setting(ROOT_KEY).await?.as_deref() == Some(OFFLINE))
    }

    /// Says, once and for all, that this installation's roots are made by ceremonies, elsewhere.
    ///
    /// # Errors
    /// [`InitError::HasRoot`] when there is a root already.
    pub async fn keep_root_offline(&self) -> Result<(), InitError> {
        let all = self.0.store.authorities().await?;
        if !self.has_offline_root().await? && all.iter().any(|found| found.kind == AuthorityKind::Root) {
            return Err(InitError::HasRoot);
        }
        let transaction = self.0.store.begin().await?;
        transaction.set_setting(ROOT_KEY, OFFLINE).await?;
        Ok(transaction.commit().await?)
    }

    fn prepare(
        &self,
        template: &Template<'_>,
        issuer: Option<&Authority>,
    ) -> Result<crate::pki::Prepared, InitError> {
        let (days, urls) = match template.kind {
            AuthorityKind::Root => (ROOT_DAYS, None),
            AuthorityKind::LocalServer => (LOCAL_SERVER_DAYS, None),
            AuthorityKind::Upstream => (UPSTREAM_DAYS, None),
            AuthorityKind::Issuing => (ISSUING_DAYS, issuer.map(|root| &root.name)),
        };
        let crl_urls: Vec<_> = urls.iter().map(|root| self.crl_url(root)).collect();
        let issuer_urls: Vec<_> = urls.iter().map(|root| self.issuer_url(root)).collect();
        let common_name = common_name(template.kind, template.organisation, template.generation);
        let issuer = issuer.map(parse_issuer).transpose()?;
        let not_before = template.now.minus(BACK_DATE);
        let filled = AuthorityTemplate {
            kind: template.kind,
            serial: template.serial,
            spki_der: template.spki,
            common_name: &common_name,
            organization: None,
            not_before: issuer.as_ref().map_or(not_before, |issuer| not_before.max(issuer.not_before())),
            not_after: template.now.plus(DAY * days),
            crl_urls: &crl_urls,
            issuer_urls: &issuer_urls,
        };
        Ok(match &issuer {
            Some(issuer) => prepare_authority(issuer, &filled)?,
            None => prepare_root(&filled)?,
        })
    }
}

struct Template<'a> {
    kind: AuthorityKind,
    serial: Serial,
    spki: &'a [u8],
    organisation: &'a str,
    generation: usize,
    now: UtcTime,
}

/// Never a host name: some verifiers trip over an authority that is called like a server.
pub(super) fn common_name(kind: AuthorityKind, organisation: &str, generation: usize) -> String {
    let what = match kind {
        AuthorityKind::Root => "Client Root",
        AuthorityKind::Issuing => "Client Issuing",
        AuthorityKind::LocalServer => "Local Server Authority",
        AuthorityKind::Upstream => "Upstream Authority",
    };
    format!("{organisation} {what} G{generation}")
}

/// Names a key after its authority and its own bytes.
pub(super) fn key_id(name: &Slug, spki: &[u8]) -> KeyId {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, spki);
    KeyId(format!("{name}-{}", &hex(digest.as_ref())[..16]))
}

/// What edges know of an authority.
pub(super) fn record(authority: &Authority) -> Result<AuthorityRecord, StoreError> {
    let parsed = parse_issuer(authority)?;
    Ok(AuthorityRecord {
        name: authority.name.clone(),
        kind: authority.kind,
        state: authority.state,
        certificate: parsed.der().to_vec(),
        subject: parsed.subject_der().to_vec(),
        spki: parsed.spki_der().to_vec(),
        not_after: authority.not_after,
    })
}
