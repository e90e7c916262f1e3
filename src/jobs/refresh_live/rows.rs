//! A version of the configuration, read from rows: keys are opened here, for the feed alone.

use super::{ASSERTION_KEY, RefreshError, RefreshLive};
use crate::domain::{Fingerprint, Secret};
use crate::keys::KeyId;
use crate::live::configuration::{AssertionKeyData, DerData, KeyData, OcspData, UpstreamIdentityData};
use crate::live::{ChallengeData, ConfigurationData, RouteData, SiteData, SiteKind, UpstreamData};
use crate::pki::pem;
use crate::store::StoreError;
use crate::store::acme::{Challenge, ChallengeKind};
use crate::store::authorities::SigningKey;
use crate::store::configuration::{self as rows, CertificateSource, ServerCertificate};
use crate::store::settings::INSTALLATION_ID;
use crate::store::upstream_identity::UpstreamIdentity;

impl RefreshLive {
    /// What the rows say, for this version.
    pub(super) async fn configuration(&self, version: u64) -> Result<ConfigurationData, RefreshError> {
        let sites = self.store.sites().await?;
        let mut served = Vec::with_capacity(sites.len());
        for site in sites.iter().filter(|site| site.enabled) {
            if site.kind == rows::SiteKind::Passthrough {
                served.push(passed_through(site));
                continue;
            }
            // A site without any certificate cannot be served; the job that makes local ones will see it.
            let Some(certificate) = &site.server_certificate else { continue };
            match self.site(site, certificate) {
                Ok(site) => served.push(site),
                // One broken row does not stop the healthy ones.
                Err(error) => {
                    tracing::error!(site = %site.host, error = &error as &dyn std::error::Error, "A site is not served")
                }
            }
        }
        let hosts: Vec<_> = served.iter().map(|site| site.host.clone()).collect();
        let routes = self.store.routes().await?.into_iter().filter(|route| hosts.contains(&route.host));
        let upstreams = self.store.upstreams().await?;
        Ok(ConfigurationData {
            version,
            installation: self.store.setting(INSTALLATION_ID).await?.unwrap_or_default(),
            door_url: self.door_url.clone(),
            sites: served,
            upstreams: upstreams
                .into_iter()
                .map(|row| UpstreamData { name: row.name, targets: row.targets, options: row.options })
                .collect(),
            routes: routes
                .map(|row| RouteData {
                    id: row.id,
                    host: row.host,
                    path_prefix: row.path_prefix,
                    upstream: row.upstream,
                    policy: row.policy,
                    plain_header: row.plain_header,
                    audience: row.audience,
                    options: row.options,
                })
                .collect(),
            challenges: self.challenges().await?,
            assertion: self.assertion().await?,
            upstream_identity: self.upstream_identity().await?,
        })
    }

    fn site(&self, site: &rows::Site, certificate: &ServerCertificate) -> Result<SiteData, RefreshError> {
        let place = ServerCertificate::place(&certificate.id);
        let key = self.vaults.server.open(place, &certificate.sealed_key);
        let key = key.map_err(|_| RefreshError::Sealed(format!("site {}", site.host)))?;
        Ok(SiteData {
            host: site.host.clone(),
            kind: match site.kind {
                rows::SiteKind::App => SiteKind::App,
                rows::SiteKind::Door => SiteKind::Door,
                rows::SiteKind::Passthrough => SiteKind::Passthrough,
            },
            upstream: site.upstream.clone(),
            client_auth: site.client_auth,
            hsts_max_age_seconds: site.hsts_max_age_seconds,
            chain: pem::blocks(&certificate.chain_pem, "CERTIFICATE").into_iter().map(DerData).collect(),
            key: KeyData(key),
            is_local: certificate.source == CertificateSource::Local,
            ocsp: certificate
                .staple
                .as_ref()
                .map(|staple| OcspData { der: DerData(staple.der.clone()), next_update: staple.until }),
        })
    }

    async fn challenges(&self) -> Result<Vec<ChallengeData>, RefreshError> {
        let open = self.store.open_challenges().await?;
        let data = |row: Challenge| match row.kind {
            ChallengeKind::Http01 => ChallengeData::Http01 {
                host: row.host,
                token: row.token,
                key_authorization: row.key_authorization,
            },
            // RFC 8737 §3: SHA-256 of the key authorization.
            ChallengeKind::TlsAlpn01 => ChallengeData::TlsAlpn01 {
                host: row.host,
                digest: Fingerprint::of(row.key_authorization.as_bytes()).0.to_vec(),
            },
        };
        Ok(open.into_iter().map(data).collect())
    }

    async fn assertion(&self) -> Result<Option<AssertionKeyData>, RefreshError> {
        let Some(kid) = self.store.setting(ASSERTION_KEY).await? else { return Ok(None) };
        let id = KeyId(kid.clone());
        let row = self.store.signing_key(&id).await?;
        let key = self.vaults.server.open(SigningKey::place(&id), &row.sealed);
        let key = key.map_err(|_| RefreshError::Sealed("assertions".to_owned()))?;
        Ok(Some(AssertionKeyData { kid, key: KeyData(key) }))
    }

    /// What the edge shows to upstreams. One that cannot be read, or does not open, keeps nothing else from being
    /// served; its job makes another.
    async fn upstream_identity(&self) -> Result<Option<UpstreamIdentityData>, RefreshError> {
        let identity = match self.store.upstream_identity().await {
            Err(error @ (StoreError::Corrupt { .. } | StoreError::Missing { .. })) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "The edge's client certificate for upstreams cannot be read, and is shown to nobody"
                );
                None
            }
            other => other?,
        };
        let Some(UpstreamIdentity { generation, certificate }) = identity else { return Ok(None) };
        let Some(id) = certificate.key_id else { return Ok(None) };
        let key = match self.store.signing_key(&id).await {
            Ok(row) => self.vaults.server.open(SigningKey::place(&id), &row.sealed).ok(),
            // It is not kept for long after its end.
            Err(StoreError::Missing { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        let Some(key) = key else {
            tracing::error!(
                generation,
                "The key of the edge's client certificate for upstreams does not open: its row was changed, or \
                 belongs to another key file, or its certificate has ended"
            );
            return Ok(None);
        };
        Ok(Some(UpstreamIdentityData {
            generation,
            chain: vec![DerData(certificate.der)],
            key: KeyData(key),
        }))
    }
}

/// A name and where it leads: the certificate is its target's.
fn passed_through(site: &rows::Site) -> SiteData {
    SiteData {
        host: site.host.clone(),
        kind: SiteKind::Passthrough,
        upstream: site.upstream.clone(),
        client_auth: site.client_auth,
        hsts_max_age_seconds: site.hsts_max_age_seconds,
        chain: Vec::new(),
        key: KeyData(Secret::new(Vec::new())),
        is_local: false,
        ocsp: None,
    }
}
