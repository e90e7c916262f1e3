//! Mail, renewals and jobs: what happens without anybody asking.

use std::path::Path;
use std::sync::Arc;

use super::control::{ControlError, Parts};
use crate::acme::staples::Staples;
use crate::acme::{self, Acme, Handshake, MAX_CLOCK_SKEW};
use crate::activate::{Activation, Enforce};
use crate::admin::sweeps;
use crate::ca::Ca;
use crate::config::AcmeChallenge;
use crate::jobs::authority_alarms::AuthorityAlarms;
use crate::jobs::chain_audit::ChainAudit;
use crate::jobs::check_audit::CheckAudit;
use crate::jobs::clean_up::CleanUp;
use crate::jobs::close_orphans::CloseOrphans;
use crate::jobs::expiry_alerts::ExpiryAlerts;
use crate::jobs::publish_crls::PublishCrls;
use crate::jobs::refresh_ocsp_staples::RefreshOcspStaples;
use crate::jobs::renew_ocsp_signers::RenewOcspSigners;
use crate::jobs::renew_server_certificates::RenewServerCertificates;
use crate::jobs::rotate_client_certificates::RotateClientCertificates;
use crate::jobs::rotate_upstream_identity::RotateUpstreamIdentity;
use crate::jobs::send_mail::SendMail;
use crate::jobs::supersede_certificates::SupersedeCertificates;
use crate::jobs::{Job, Jobs};
use crate::mail::smtp::Smtp;
use crate::mail::{Carrier, Mailer};
use crate::store::Store;
use crate::store::acme::ChallengeKind;
use crate::store::leases::ReplicaId;
use crate::store::outbox::Outbox;

/// The mailer; without a mail server it refuses to write.
pub(super) fn mailer(parts: &Parts, store: &Store, door_url: Option<String>) -> Result<Mailer, ControlError> {
    let carrier = match &parts.config.smtp {
        Some(settings) => {
            let roots = settings.root_ca_file.as_deref();
            let roots = roots.map(|path| read_roots("smtp.root_ca_file", path)).transpose()?;
            Some(Box::new(Smtp::new(settings, roots.as_deref())?) as Box<dyn Carrier>)
        }
        None => None,
    };
    if carrier.is_none() {
        tracing::warn!(
            "No mail server is configured: invitations must be handed over, and nobody is warned by mail"
        );
    }
    let outbox = Outbox::new(store.clone(), parts.vaults.clone());
    let name = parts.config.server.name.clone();
    let wake = Activation::new("send_mail");
    Ok(Mailer::new(outbox, carrier, name, door_url, wake, parts.metrics.jobs.clone()))
}

/// Starts every job.
pub(super) async fn start_jobs(
    parts: &Parts,
    store: &Store,
    ca: &Ca,
    enforce: Arc<dyn Enforce>,
    mailer: &Mailer,
    publish_crls: Activation,
) -> Result<Jobs, ControlError> {
    let replica = ReplicaId::new();
    let acme = acme(parts, store, enforce.clone(), replica.clone())?;
    let staples = RefreshOcspStaples::new(Staples::new(store.clone(), enforce.clone()));
    let new_certificates = Activation::new(staples.name());
    let renewals = RenewServerCertificates::new(store.clone(), ca.clone(), acme, enforce, mailer.clone())
        .waking(new_certificates.clone());
    let own = |job: Arc<dyn Job>| (Activation::new(job.name()), job);
    let jobs: Vec<(Activation, Arc<dyn Job>)> = vec![
        (publish_crls, Arc::new(PublishCrls::new(ca.clone()))),
        (mailer.activation().clone(), Arc::new(SendMail::new(mailer.clone()))),
        own(Arc::new(renewals)),
        (new_certificates, Arc::new(staples)),
        own(Arc::new(RenewOcspSigners::new(ca.clone()))),
        own(Arc::new(RotateUpstreamIdentity::new(ca.clone()))),
        own(Arc::new(RotateClientCertificates::new(store.clone(), mailer.clone()))),
        own(Arc::new(ExpiryAlerts::new(store.clone(), mailer.clone(), parts.metrics.validity.clone()))),
        own(Arc::new(AuthorityAlarms::new(store.clone(), ca.clone(), mailer.clone()))),
        own(Arc::new(ChainAudit::new(store.clone(), ca.clone(), parts.metrics.jobs.clone()))),
        own(Arc::new(CheckAudit::new(store.clone(), parts.metrics.jobs.clone()))),
        own(Arc::new(CloseOrphans::new(store.clone(), ca.clone()))),
        own(Arc::new(SupersedeCertificates::new(ca.clone()))),
        own(Arc::new(CleanUp::new(store.clone(), sweeps(store)))),
    ];
    Ok(Jobs::start(store.clone(), parts.clock.clone(), replica, parts.metrics.jobs.clone(), jobs).await?)
}

fn read_roots(key: &'static str, path: &Path) -> Result<Vec<u8>, ControlError> {
    std::fs::read(path).map_err(|cause| ControlError::Roots { key, path: path.to_owned(), cause })
}

fn acme(
    parts: &Parts,
    store: &Store,
    enforce: Arc<dyn Enforce>,
    replica: ReplicaId,
) -> Result<Option<Acme>, ControlError> {
    let config = &parts.config.acme;
    let Some(edge) = parts.edge.https_addresses().first().filter(|_| config.enabled) else { return Ok(None) };
    let extra_roots = match &config.root_ca_file {
        Some(path) => Some(read_roots("acme.root_ca_file", path)?),
        None => None,
    };
    let settings = acme::Settings {
        directory_url: config.directory_url.to_string(),
        contact: config.contact.clone(),
        challenge: match config.challenge {
            AcmeChallenge::Http01 => ChallengeKind::Http01,
            AcmeChallenge::TlsAlpn01 => ChallengeKind::TlsAlpn01,
        },
        profile: config.profile.clone(),
        extra_roots,
        max_clock_skew: MAX_CLOCK_SKEW,
    };
    let rooms = acme::Parts {
        store: store.clone(),
        vaults: parts.vaults.clone(),
        entropy: parts.entropy.clone(),
        clock: parts.clock.clone(),
        enforce,
        prove: Arc::new(Handshake::new(*edge, parts.config.edge.proxy_protocol_from.clone())),
        replica,
        metrics: parts.metrics.acme.clone(),
    };
    Ok(Some(Acme::new(settings, rooms)?))
}
