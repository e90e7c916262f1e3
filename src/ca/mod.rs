//! The authority's use cases. Every path that ends in a client certificate (portal, API, command
//! line, renewal) ends in [`Ca::issue`] or [`Ca::renew`], and both end in one gate (`gate.rs`):
//! bytes prepared and linted, judged and recorded, signed once, compared, stored.

mod authorities;
mod ceremony;
mod checkpoints;
mod counted;
mod crls;
mod cross;
mod gate;
pub mod health;
mod intents;
mod issue;
mod ocsp;
mod people;
mod policy;
mod profiles;
mod revoke;
mod rollover;
mod server_leaves;
mod supersede;
mod taking;
mod upstream_identity;
#[cfg(feature = "test-util")]
mod witness;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use parking_lot::Mutex;

use crate::activate::{Activation, Enforce};
use crate::domain::{AuthorityKind, Entropy, Slug};
use crate::keys::{KeyId, SealedSigner, SignError, Signer, Vaults};
use crate::pki::AuthorityCertificate;
use crate::store::authorities::{Authority, SigningKey};
use crate::store::{Store, StoreError};
use crate::telemetry::metrics::CaMetrics;

pub use authorities::InitError;
pub use ceremony::{Brought, CeremonyFault, Imported, Wanted};
pub use checkpoints::CheckpointError;
pub use crls::{CrlError, CrlOutcome};
pub use cross::CrossError;
pub use gate::GateError;
pub use issue::{DeviceChoice, IssueError, IssueRequest, Issued};
pub use ocsp::{OcspAnswer, OcspError};
pub use people::EditPersonError;
pub use profiles::{EditProfileError, Explained, Rehearsal, RehearsedRequest};
pub use revoke::{Grounds, RevokeError, Revoked};
pub use rollover::{Moved, RolloverError};
pub use server_leaves::ServerLeafError;
pub use upstream_identity::{UPSTREAM_IDENTITY_LEASE, UpstreamIdentityError};
#[cfg(feature = "test-util")]
pub use witness::{Signed, Witness};

/// The authority. Cheap to clone.
#[derive(Clone)]
pub struct Ca(Arc<Inner>, Arc<CaMetrics>);

struct Inner {
    store: Store,
    vaults: Arc<Vaults>,
    entropy: Arc<dyn Entropy>,
    enforce: Arc<dyn Enforce>,
    publish_crls: Activation,
    /// Unix seconds of the newest act known to this process; 0 before the database was asked.
    last_recorded: AtomicI64,
    /// What stands in front of `/pki/…` in certificates, without a slash at its end.
    base_url: String,
    signers: Mutex<HashMap<KeyId, Arc<dyn Signer>>>,
    ocsp: ocsp::Desks,
    #[cfg(feature = "test-util")]
    witness: Arc<Witness>,
    /// Certificates of authorities by their bytes, read once.
    issuers: Mutex<HashMap<Vec<u8>, Arc<AuthorityCertificate>>>,
}

/// Why an authority's key could not be used.
#[derive(Debug, thiserror::Error)]
pub enum SignerError {
    /// The key's row could not be read.
    #[error("the signing key cannot be read")]
    Store(#[from] StoreError),
    /// The row was changed, moved, or sealed under another key.
    #[error("signing key {0} does not open: its row was changed or belongs to another key file")]
    Sealed(KeyId),
    /// The private half was never here.
    #[error("the private half of key {0} is not in this system: what it signs comes from a key ceremony")]
    Elsewhere(KeyId),
    /// The signer refused.
    #[error(transparent)]
    Sign(#[from] SignError),
}

impl Ca {
    /// The authority over these rows and keys.
    ///
    /// * `enforce` — tells the edges what was committed.
    /// * `publish_crls` — woken after every revocation.
    /// * `base_url` — goes into certificates as the place of lists and authority certificates.
    pub fn new(
        store: Store,
        vaults: Arc<Vaults>,
        entropy: Arc<dyn Entropy>,
        enforce: Arc<dyn Enforce>,
        publish_crls: Activation,
        base_url: String,
    ) -> Self {
        let inner = Inner {
            #[cfg(feature = "test-util")]
            witness: Witness::new(store.clone()),
            store,
            vaults,
            entropy,
            enforce,
            publish_crls,
            last_recorded: AtomicI64::new(0),
            base_url,
            signers: Mutex::default(),
            ocsp: ocsp::Desks::default(),
            issuers: Mutex::default(),
        };
        Self(Arc::new(inner), Arc::default())
    }

    /// Every authority, oldest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn authorities(&self) -> Result<Vec<Authority>, StoreError> {
        self.0.store.authorities().await
    }

    /// Where the revocation list of `authority` is published.
    pub fn crl_url(&self, authority: &Slug) -> String {
        format!("{}/pki/{authority}.crl", self.0.base_url)
    }

    /// Where the status of a certificate is asked for, whichever authority signed it.
    pub fn ocsp_url(&self) -> String {
        format!("{}/pki/ocsp", self.0.base_url)
    }

    /// Where the certificate of `authority` is published.
    pub fn issuer_url(&self, authority: &Slug) -> String {
        format!("{}/pki/{authority}.cer", self.0.base_url)
    }

    /// The certificates a client sends behind its leaf: its issuing authority alone. The root is
    /// what others trust, and is not sent.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn chain_of(&self, authority: &Slug) -> Result<Vec<Vec<u8>>, StoreError> {
        let issuer = self.0.store.authority(authority).await?;
        Ok(issuer.and_then(|issuer| issuer.certificate).into_iter().collect())
    }

    /// Who sees every signature.
    #[cfg(feature = "test-util")]
    pub fn witness(&self) -> &Arc<Witness> {
        &self.0.witness
    }

    /// The certificate of `authority`; what its row says today decides, only the reading is kept.
    fn issuer(&self, authority: &Authority) -> Result<Arc<AuthorityCertificate>, StoreError> {
        let der = authority.certificate.as_deref().unwrap_or_default();
        if let Some(issuer) = self.0.issuers.lock().get(der) {
            return Ok(issuer.clone());
        }
        let issuer = Arc::new(gate::parse_issuer(authority)?);
        self.0.issuers.lock().insert(der.to_vec(), issuer.clone());
        Ok(issuer)
    }

    async fn signer(&self, key_id: &KeyId) -> Result<Arc<dyn Signer>, SignerError> {
        if let Some(signer) = self.0.signers.lock().get(key_id) {
            return Ok(signer.clone());
        }
        let key = self.0.store.signing_key(key_id).await?;
        if !key.is_here() {
            return Err(SignerError::Elsewhere(key_id.clone()));
        }
        let opened = self.0.vaults.authority.open(SigningKey::place(key_id), &key.sealed);
        let pkcs8 = opened.map_err(|_| SignerError::Sealed(key_id.clone()))?;
        let signer: Arc<dyn Signer> = Arc::new(SealedSigner::from_pkcs8(key_id.clone(), pkcs8.expose())?);
        #[cfg(feature = "test-util")]
        let signer = self.0.witness.watching(signer);
        self.0.signers.lock().insert(key_id.clone(), signer.clone());
        Ok(signer)
    }
}

/// The slug of a generation, for example `client-issuing-g1`.
fn generation_name(kind: AuthorityKind, generation: usize) -> String {
    let stem = match kind {
        AuthorityKind::Root => "client-root",
        AuthorityKind::Issuing => "client-issuing",
        AuthorityKind::LocalServer => "local-server",
        AuthorityKind::Upstream => "upstream",
    };
    format!("{stem}-g{generation}")
}
