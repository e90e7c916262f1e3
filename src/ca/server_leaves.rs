//! Leaves of the local server authority: what a site serves until its public certificate arrives, and
//! what the admin listener always serves. Labelled, serverAuth only, never in client trust.

use std::time::Duration;

use super::gate::parse_issuer;
use super::{Ca, SignerError};
use crate::domain::{AuthorityKind, Hostname, Secret, UtcTime};
use crate::keys::KeyFault;
use crate::pki::server_leaf::{ServerLeafError as LeafError, local_server_leaf};
use crate::store::StoreError;
use crate::store::authorities::SigningKey;
use crate::store::configuration::{CertificateSource, ServerCertificate, SiteKind};

/// How long such a leaf lives.
const LIFETIME: Duration = Duration::from_secs(90 * 86_400);
/// How far notBefore lies back.
const BACK_DATE: Duration = Duration::from_secs(300);

/// Why no leaf was made.
#[derive(Debug, thiserror::Error)]
pub enum ServerLeafError {
    /// There is no local server authority. -> 503
    #[error("there is no local server authority; run `wicketgate init`")]
    NoAuthority,
    /// The rows could not be read or written.
    #[error("the local server certificate could not be recorded")]
    Store(#[from] StoreError),
    /// The authority's key could not be used.
    #[error("the local server authority could not sign")]
    Sign(#[from] SignerError),
    /// The leaf could not be made.
    #[error("the local server certificate could not be made")]
    Leaf(#[from] LeafError),
    /// The key could not be sealed.
    #[error("the local server certificate's key could not be sealed")]
    Seal(#[from] KeyFault),
}

/// A leaf and its open key, for a listener of this process.
pub struct LocalLeaf {
    /// Leaf first, then the authority, DER.
    pub chain: Vec<Vec<u8>>,
    /// PKCS#8 DER.
    pub key: Secret<Vec<u8>>,
    /// End of validity.
    pub not_after: UtcTime,
}

impl Ca {
    /// Makes a leaf of the local server authority for `names`.
    ///
    /// # Errors
    /// As [`ServerLeafError`] says.
    pub async fn local_leaf(&self, names: &[&str], now: UtcTime) -> Result<LocalLeaf, ServerLeafError> {
        let authority = self.0.store.signing_authority(AuthorityKind::LocalServer).await?;
        let authority = authority.ok_or(ServerLeafError::NoAuthority)?;
        let issuer = parse_issuer(&authority)?;
        let serial = self.reserve_serial("local server leaf", now).await?;
        let key = self.0.store.signing_key(&authority.key_id).await?;
        let opened = self.0.vaults.authority.open(SigningKey::place(&authority.key_id), &key.sealed);
        let pkcs8 = opened.map_err(|_| SignerError::Sealed(authority.key_id.clone()))?;
        let not_before = now.minus(BACK_DATE).max(issuer.not_before());
        let not_after = now.plus(LIFETIME).min(issuer.not_after());
        let (leaf, key) =
            local_server_leaf(issuer.der(), pkcs8.expose(), names, serial, not_before, not_after)?;
        Ok(LocalLeaf { chain: vec![leaf, issuer.der().to_vec()], key, not_after })
    }

    /// Makes a leaf of the local server authority for a site, sealed and ready to be stored.
    ///
    /// # Errors
    /// As [`ServerLeafError`] says.
    pub async fn local_certificate(
        &self,
        host: &Hostname,
        now: UtcTime,
    ) -> Result<ServerCertificate, ServerLeafError> {
        let leaf = self.local_leaf(&[host.as_str()], now).await?;
        let id = uuid::Uuid::now_v7().to_string();
        let sealed_key = self.0.vaults.server.seal(ServerCertificate::place(&id), leaf.key.expose())?;
        let view = crate::pki::chain::read_leaf(&leaf.chain[0]);
        let serial =
            view.ok().and_then(|view| view.serial).map(|serial| serial.to_string()).unwrap_or_default();
        Ok(ServerCertificate {
            id,
            host: host.clone(),
            source: CertificateSource::Local,
            chain_pem: leaf.chain.iter().map(|der| crate::pki::pem::block("CERTIFICATE", der)).collect(),
            sealed_key,
            serial,
            issuer: "local server authority".to_owned(),
            fingerprint: crate::domain::Fingerprint::of(&leaf.chain[0]),
            not_before: now.minus(BACK_DATE),
            not_after: leaf.not_after,
            created_at: now,
            staple: None,
        })
    }

    /// Gives every site whose current leaf is a local one, and has less than a third of its life
    /// left, a new one. Returns how many were replaced.
    ///
    /// # Errors
    /// The first [`ServerLeafError`].
    pub async fn renew_local_certificates(&self, now: UtcTime) -> Result<u32, ServerLeafError> {
        let mut replaced = 0;
        for site in self.0.store.sites().await? {
            let due = match &site.server_certificate {
                // What is passed through has its certificate elsewhere.
                None => site.kind != SiteKind::Passthrough,
                Some(current) => {
                    current.source == CertificateSource::Local && now.plus(LIFETIME / 3) >= current.not_after
                }
            };
            if !due {
                continue;
            }
            let certificate = self.local_certificate(&site.host, now).await?;
            let transaction = self.0.store.begin().await?;
            transaction.insert_server_certificate(&certificate).await?;
            transaction.serve_certificate(&site.host, &certificate.id).await?;
            transaction.commit().await?;
            replaced += 1;
        }
        if replaced > 0 {
            self.0.enforce.bring_up_to_date().await;
        }
        Ok(replaced)
    }
}
