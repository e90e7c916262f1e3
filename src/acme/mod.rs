//! Public server certificates by ACME (RFC 8555): an account, an order at a time for each name, its
//! challenges answered by the edges, the certificate installed and seen to be served.
//!
//! Called by the job `renew_server_certificates`. instant-acme speaks the protocol; what happens when
//! and what survives a crash is decided here. Never orders what is not due, never gives up for good.

mod account;
mod fault;
mod http;
mod install;
mod issued;
mod order;
mod prove;
mod responder;
mod suggestion;

pub mod schedule;
pub mod staples;
pub mod status;

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::activate::Enforce;
use crate::clock::SharedClock;
use crate::domain::audit::Outcome;
use crate::domain::{Actor, Entropy, Hostname, UtcTime};
use crate::keys::Vaults;
use crate::store::acme::{ChallengeKind, Renewal};
use crate::store::alerts::{NewAlert, Severity};
use crate::store::configuration::{CertificateSource, ServerCertificate, Site};
use crate::store::leases::{Acquired, Lease, ReplicaId};
use crate::store::{Store, StoreError};
use crate::telemetry::TraceContext;
use crate::telemetry::metrics::{AcmeMetrics, Success};

pub use fault::{AcmeError, Refusal};
pub use prove::{Handshake, ProveError, ProveServed};

use order::Drive;
use schedule::{Attempts, Due, JITTER_RANGE, Validity, due};

/// A name's lease; prolonged with each step.
const LEASE: Duration = Duration::from_secs(60);
/// Names driven at the same time.
const AT_ONCE: usize = 4;
/// From this failure on, administrators are told; the first ones may be a hiccup.
const ALERT_FROM: u32 = 3;
/// What differs more between the clocks than this stops ordering.
pub const MAX_CLOCK_SKEW: Duration = Duration::from_secs(300);

/// Alert: a name's certificate cannot be renewed.
pub const RENEWAL_FAILING: &str = "renewal_failing";

/// Which authority, and how control is proven.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The authority's directory.
    pub directory_url: String,
    /// A mail address for the account.
    pub contact: Option<String>,
    /// How control of a name is proven.
    pub challenge: ChallengeKind,
    /// The profile to ask for.
    pub profile: Option<String>,
    /// PEM certificates to trust beside the system's, for authorities of one's own.
    pub extra_roots: Option<Vec<u8>>,
    /// How far the clocks may be apart: [`MAX_CLOCK_SKEW`].
    pub max_clock_skew: Duration,
}

/// Everything that the engine works with.
pub struct Parts {
    /// The rows.
    pub store: Store,
    /// Opens account keys (authority) and site keys (server).
    pub vaults: Arc<Vaults>,
    /// For jitter and for moments in windows.
    pub entropy: Arc<dyn Entropy>,
    /// The wall clock.
    pub clock: SharedClock,
    /// Has edges take over challenges and certificates.
    pub enforce: Arc<dyn Enforce>,
    /// Looks at what is served.
    pub prove: Arc<dyn ProveServed>,
    /// Who we are among replicas.
    pub replica: ReplicaId,
    /// The numbers.
    pub metrics: Arc<AcmeMetrics>,
}

/// The ACME client. Cheap to clone.
#[derive(Clone)]
pub struct Acme(Arc<Inner>);

struct Inner {
    store: Store,
    vaults: Arc<Vaults>,
    entropy: Arc<dyn Entropy>,
    clock: SharedClock,
    enforce: Arc<dyn Enforce>,
    prove: Arc<dyn ProveServed>,
    replica: ReplicaId,
    metrics: Arc<AcmeMetrics>,
    settings: Settings,
    http: http::AcmeHttp,
}

/// TLS to the authority cannot be set up.
#[derive(Debug, thiserror::Error)]
#[error("TLS to the ACME authority cannot be set up")]
pub struct AcmeSetupError(#[source] rustls::Error);

/// How the attempt for one name ended.
#[derive(Debug)]
pub struct Attempt {
    /// The name.
    pub host: Hostname,
    /// The certificate that is served now, or why it is not.
    pub result: Result<ServerCertificate, Failure>,
}

/// A failed attempt.
#[derive(Debug)]
pub struct Failure {
    /// Why.
    pub error: AcmeError,
    /// Whether administrators do not know of it yet and should.
    pub is_news: bool,
    /// Until when the certificate in use lasts; none when there is only a local one.
    pub serves_until: Option<UtcTime>,
    /// When it is tried again.
    pub next_attempt_at: UtcTime,
}

impl Acme {
    /// A client; nobody is called before something is due.
    ///
    /// # Errors
    /// [`AcmeSetupError`] when there are no root certificates to verify the authority with.
    pub fn new(settings: Settings, parts: Parts) -> Result<Self, AcmeSetupError> {
        let http = http::AcmeHttp::new(settings.extra_roots.as_deref()).map_err(AcmeSetupError)?;
        let Parts { store, vaults, entropy, clock, enforce, prove, replica, metrics } = parts;
        Ok(Self(Arc::new(Inner {
            store,
            vaults,
            entropy,
            clock,
            enforce,
            prove,
            replica,
            metrics,
            settings,
            http,
        })))
    }

    /// Orders for every name that is due. A name that fails does not hold up the others.
    ///
    /// # Errors
    /// [`StoreError`] when the sites cannot be read.
    pub async fn renew_due(&self, stop: &CancellationToken) -> Result<Vec<Attempt>, StoreError> {
        let sites = self.0.store.sites().await?;
        let ours = sites.into_iter().filter(|site| site.enabled && site.source == CertificateSource::Acme);
        let attempts = futures_util::stream::iter(ours)
            .map(|site| self.renew_if_due(site, stop))
            .buffer_unordered(AT_ONCE)
            .filter_map(std::future::ready);
        Ok(attempts.collect().await)
    }

    async fn renew_if_due(&self, site: Site, stop: &CancellationToken) -> Option<Attempt> {
        if stop.is_cancelled() {
            return None;
        }
        // The names of one run are driven at the same time: a span each, in the run's trace.
        let work = async {
            let span = tracing::info_span!("acme", site.host = %site.host);
            self.attempt(site, stop).instrument(span).await
        };
        TraceContext::continued(&*self.0.entropy).scope(work).await
    }

    async fn attempt(&self, site: Site, stop: &CancellationToken) -> Option<Attempt> {
        let host = site.host.clone();
        match Box::pin(self.renew(site, stop)).await {
            Ok(None) => None,
            Ok(Some(certificate)) => Some(Attempt { host, result: Ok(certificate) }),
            Err(AcmeError::Stopped) => None,
            Err(error) => {
                let failure = self.note_failure(&host, error).await;
                Some(Attempt { host, result: Err(failure) })
            }
        }
    }

    /// Orders if it is due and nobody else is at it.
    async fn renew(
        &self,
        site: Site,
        stop: &CancellationToken,
    ) -> Result<Option<ServerCertificate>, AcmeError> {
        if !self.is_due(&site).await? {
            return Ok(None);
        }
        let name = format!("acme:{}", site.host);
        let lease = match self.0.store.acquire_lease(&name, &self.0.replica, LEASE, self.now()).await? {
            Acquired::Ours(lease) => lease,
            Acquired::Theirs { .. } => return Ok(None),
        };
        let result = self.renew_under(&site.host, &lease, stop).await;
        self.0.store.release_lease(&lease).await?;
        result
    }

    async fn renew_under(
        &self,
        host: &Hostname,
        lease: &Lease,
        stop: &CancellationToken,
    ) -> Result<Option<ServerCertificate>, AcmeError> {
        // Someone may have renewed it before we had the lease.
        let Some(site) = self.0.store.site(host).await? else { return Ok(None) };
        if !self.is_due(&site).await? {
            return Ok(None);
        }
        let object = Some(("site", host.to_string()));
        let actor = Actor::System("renew_server_certificates");
        let (action, asked) = ("server_certificate.renew", TraceContext::request_id());
        let act = self.0.store.begin_act(actor, action, object, asked, self.now()).await?;
        let mut drive = match Drive::begin(self, &site, lease, stop).await {
            Ok(drive) => drive,
            Err(error) => {
                self.finish_failed(&act, &error).await;
                return Err(error);
            }
        };
        let was_installed = drive.order.state == crate::store::acme::OrderState::Installed;
        let result = match drive.until_issued().await {
            Ok(()) => drive.install(&act).await,
            Err(error) => Err(error),
        };
        match result {
            Ok(certificate) => {
                if was_installed {
                    let outcome = Outcome::Succeeded;
                    self.0.store.finish_act(&act, outcome, Some("seen to be served"), self.now()).await?;
                }
                self.0.store.close_alert(RENEWAL_FAILING, host.as_str(), self.now()).await?;
                self.0.metrics.orders.count(Success::Succeeded);
                self.0.metrics.renewal_last_success.set(self.now());
                Ok(Some(certificate))
            }
            Err(error) => {
                if !error.keeps_the_order() {
                    self.close_order(drive.order.clone(), lease, &error.to_string()).await?;
                    self.0.metrics.orders.count(Success::Failed);
                }
                // One that was put in place and then taken back has its own entries.
                if !matches!(error, AcmeError::NotServed(_)) || was_installed {
                    self.finish_failed(&act, &error).await;
                }
                Err(error)
            }
        }
    }

    async fn is_due(&self, site: &Site) -> Result<bool, AcmeError> {
        let now = self.now();
        let renewal = self.0.store.renewal(&site.host).await?;
        let public = site.server_certificate.as_ref();
        let public = public.filter(|certificate| certificate.source == CertificateSource::Acme);
        let window = match public {
            Some(certificate) => self.window(&site.host, certificate, &renewal, now).await?,
            None => None,
        };
        let under_way = self.0.store.open_acme_order(&site.host).await?.is_some();
        let attempts = attempts_of(&renewal, under_way);
        let due = due(public.map(validity_of), window, &attempts, renewal.jitter, now);
        Ok(matches!(due, Due::Now(_)))
    }

    async fn finish_failed(&self, act: &crate::domain::audit::Act, error: &AcmeError) {
        let detail = error.to_string();
        let finished = self.0.store.finish_act(act, Outcome::Failed, Some(&detail), self.now()).await;
        if let Err(error) = finished {
            // A job closes it as unknown.
            tracing::warn!(error = &error as &dyn std::error::Error, "An act was not finished");
        }
    }

    /// Puts a failure on record and decides when the next attempt may be.
    async fn note_failure(&self, host: &Hostname, error: AcmeError) -> Failure {
        let now = self.now();
        tracing::warn!(error = &error as &dyn std::error::Error, site.host = %host, "No certificate for {host}");
        let noted = self.try_to_note(host, &error, now).await;
        let (is_news, serves_until, next_attempt_at) = noted.unwrap_or_else(|fault| {
            tracing::error!(error = &fault as &dyn std::error::Error, "A failure could not be recorded");
            (false, None, now)
        });
        Failure { error, is_news, serves_until, next_attempt_at }
    }

    async fn try_to_note(
        &self,
        host: &Hostname,
        error: &AcmeError,
        now: UtcTime,
    ) -> Result<(bool, Option<UtcTime>, UtcTime), StoreError> {
        let store = &self.0.store;
        let before = store.renewal(host).await?;
        let renewal = Renewal {
            failures: before.failures.saturating_add(1),
            jitter: self.jitter(),
            last_failed_at: Some(now),
            blocked_until: error.blocked_until(now),
            last_error: Some(error.to_string()),
            ..before
        };
        let site = store.site(host).await?;
        let current = site.and_then(|site| site.server_certificate);
        let public = current.filter(|certificate| certificate.source == CertificateSource::Acme);
        let transaction = store.begin().await?;
        transaction.set_renewal(host, &renewal).await?;
        let mut is_news = false;
        if renewal.failures >= ALERT_FROM || error.needs_a_person() {
            let severity = if public.is_some() { Severity::Warning } else { Severity::Critical };
            let message = format!("The certificate of {host} cannot be renewed: {error}.");
            let alert =
                NewAlert { kind: RENEWAL_FAILING, object: host.as_str(), message: &message, severity };
            is_news = transaction.raise_alert(alert, now).await?;
        }
        transaction.commit().await?;
        let under_way = store.open_acme_order(host).await?.is_some();
        let attempts = attempts_of(&renewal, under_way);
        let next = match due(public.as_ref().map(validity_of), None, &attempts, renewal.jitter, now) {
            Due::Now(_) => now,
            Due::At(at, _) => at,
        };
        Ok((is_news, public.map(|certificate| certificate.not_after), next))
    }

    fn jitter(&self) -> u16 {
        let mut random = [0; 4];
        self.0.entropy.fill(&mut random);
        u16::try_from(u32::from_be_bytes(random) % u32::from(JITTER_RANGE)).unwrap_or(0)
    }

    async fn keep_lease(&self, lease: &Lease) -> Result<(), StoreError> {
        self.0.store.renew_lease(lease, LEASE, self.now()).await
    }

    fn now(&self) -> UtcTime {
        self.0.clock.now()
    }
}

fn validity_of(certificate: &ServerCertificate) -> Validity {
    Validity { not_before: certificate.not_before, not_after: certificate.not_after }
}

fn attempts_of(renewal: &Renewal, under_way: bool) -> Attempts {
    Attempts {
        failures: renewal.failures,
        last_failed_at: renewal.last_failed_at,
        blocked_until: renewal.blocked_until,
        requested_at: renewal.requested_at,
        under_way,
    }
}
