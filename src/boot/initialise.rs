//! Making an installation: identity, data keys, authorities, the keys of assertions and audit, the door, and
//! what the edge shows to upstreams.

use std::time::Duration;

use crate::boot::ControlError;
use crate::ca::{Ca, UPSTREAM_IDENTITY_LEASE};
use crate::config::Config;
use crate::domain::{ClientAuth, UtcTime};
use crate::jobs::refresh_live::ASSERTION_KEY;
use crate::keys::{KeyId, Vaults};
use crate::pki::keygen;
use crate::store::Store;
use crate::store::authorities::SigningKey;
use crate::store::configuration::{CertificateSource, Site, SiteKind};
use crate::store::leases::{Acquired, ReplicaId};
use crate::store::settings::{INSTALLATION_ID, INSTALLATION_NAME};

/// Half a year in seconds: long enough to count, short enough to leave.
const DOOR_HSTS_SECONDS: u64 = 15_768_000;
/// The making of a client certificate takes milliseconds, with a slow database seconds.
const IDENTITY_WITHIN: Duration = Duration::from_secs(30);

/// Makes whatever is missing of an installation; what is there stays, so that it can be repeated
/// after a crash.
///
/// # Errors
/// As [`ControlError`] says.
pub async fn initialise(
    store: &Store,
    vaults: &Vaults,
    ca: &Ca,
    config: &Config,
    now: UtcTime,
) -> Result<(), ControlError> {
    ca.init(&config.server.name, now).await?;
    make_assertion_key(store, vaults, now).await?;
    ca.audit_key(now).await?;
    ensure_door(store, ca, config, now).await?;
    // Last: an installation that has its identity is whole.
    if store.setting(INSTALLATION_ID).await?.is_none() {
        let transaction = store.begin().await?;
        transaction.set_setting(INSTALLATION_NAME, &config.server.name).await?;
        transaction.set_setting(INSTALLATION_ID, &uuid::Uuid::now_v7().to_string()).await?;
        // The configuration carries the identity, so it moves with it.
        transaction.touch_configuration().await?;
        transaction.commit().await?;
    }
    Ok(())
}

async fn make_assertion_key(store: &Store, vaults: &Vaults, now: UtcTime) -> Result<(), ControlError> {
    if store.setting(ASSERTION_KEY).await?.is_some() {
        return Ok(());
    }
    let (pkcs8, spki) = keygen::generate_p256();
    let id = KeyId(format!("assertion-{}", uuid::Uuid::now_v7()));
    let sealed = vaults.server.seal(SigningKey::place(&id), pkcs8.expose())?;
    let transaction = store.begin().await?;
    transaction.insert_signing_key(&SigningKey { id: id.clone(), spki, sealed }, now).await?;
    transaction.set_setting(ASSERTION_KEY, &id.0).await?;
    transaction.commit().await?;
    Ok(())
}

/// Makes the configured door a site, with a leaf of the local server authority until its public one arrives.
pub(super) async fn ensure_door(
    store: &Store,
    ca: &Ca,
    config: &Config,
    now: UtcTime,
) -> Result<(), ControlError> {
    let Some(host) = &config.door.host else { return Ok(()) };
    if store.site(host).await?.is_some() {
        return Ok(());
    }
    let certificate = ca.local_certificate(host, now).await?;
    let site = Site {
        host: host.clone(),
        kind: SiteKind::Door,
        upstream: None,
        client_auth: ClientAuth::Request,
        hsts_max_age_seconds: DOOR_HSTS_SECONDS,
        source: if config.acme.enabled { CertificateSource::Acme } else { CertificateSource::Local },
        enabled: true,
        server_certificate: Some(certificate.clone()),
        created_at: now,
        version: 1,
    };
    let transaction = store.begin().await?;
    transaction.insert_server_certificate(&certificate).await?;
    transaction.insert_site(&site).await?;
    transaction.commit().await?;
    Ok(())
}

/// Gives the edge its client certificate for upstreams before its first configuration, if none is there. While
/// another replica is at it, it is left to that one; the job sees to it again.
pub(super) async fn ensure_upstream_identity(
    store: &Store,
    ca: &Ca,
    now: UtcTime,
) -> Result<(), ControlError> {
    let (name, replica) = (UPSTREAM_IDENTITY_LEASE, ReplicaId::new());
    let Acquired::Ours(lease) = store.acquire_lease(name, &replica, IDENTITY_WITHIN, now).await? else {
        return Ok(());
    };
    let made = Box::pin(ca.renew_upstream_identity(&lease, now)).await;
    store.release_lease(&lease).await?;
    made?;
    Ok(())
}
