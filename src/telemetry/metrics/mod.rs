//! Numbers for Prometheus. Rooms count in atomics of their own ([`instruments`]); the export reads them
//! when someone asks, through OpenTelemetry's observable instruments, so that counting costs nothing
//! but an addition.

pub mod instruments;
pub mod rooms;
pub mod sightings;

mod export;
mod names;
mod process;

use std::sync::Arc;

use opentelemetry_sdk::metrics::SdkMeterProvider;
use prometheus::{Registry, TextEncoder};

use crate::domain::UtcTime;

pub use names::{LookupFault, Names};
pub use rooms::{
    AcmeMetrics, AdminMetrics, Breach, CaMetrics, ClientAuthResult, EdgeMetrics, Handshake, HttpMetrics,
    Issuance, IssuanceRefusal, JobMetrics, Limit, ProxyHeader, RefusalCode, Revocation, SelfCheck,
    SpanMetrics, StatusClass, Success, Targets, UpstreamFault, ValidityMetrics,
};

/// Content type of [`Metrics::render`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All numbers of the process. Hand a room its own field.
#[derive(Debug)]
pub struct Metrics {
    /// The edge.
    pub edge: Arc<EdgeMetrics>,
    /// Requests of console, portal and API.
    pub admin: Arc<AdminMetrics>,
    /// The authority.
    pub ca: Arc<CaMetrics>,
    /// The ACME client.
    pub acme: Arc<AcmeMetrics>,
    /// When certificates end.
    pub validity: Arc<ValidityMetrics>,
    /// Jobs and mail.
    pub jobs: Arc<JobMetrics>,
    /// Spans for a collector.
    pub spans: Arc<SpanMetrics>,
    registry: Registry,
    // Instruments are read for as long as their provider lives.
    _provider: SdkMeterProvider,
}

/// The numbers could not be set up: a name was given twice, which the tests exclude.
#[derive(Debug, thiserror::Error)]
#[error("metrics could not be registered: {0}")]
pub struct MetricsError(String);

impl Metrics {
    /// All numbers at zero. `now` is when the process started.
    ///
    /// # Errors
    /// [`MetricsError`].
    pub fn new(now: UtcTime) -> Result<Arc<Self>, MetricsError> {
        let registry = Registry::new();
        let exporter = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .without_target_info()
            .scope_info_enabled(false)
            .build()
            .map_err(|cause| MetricsError(cause.to_string()))?;
        let provider = SdkMeterProvider::builder().with_reader(exporter).build();
        let metrics = Self {
            edge: Arc::default(),
            admin: Arc::default(),
            ca: Arc::default(),
            acme: Arc::default(),
            validity: Arc::default(),
            jobs: Arc::default(),
            spans: Arc::default(),
            registry,
            _provider: provider.clone(),
        };
        export::observe(&metrics, &provider, now);
        let histograms = export::Durations::new(&metrics).map_err(|cause| MetricsError(cause.to_string()))?;
        metrics.registry.register(Box::new(histograms)).map_err(|cause| MetricsError(cause.to_string()))?;
        Ok(Arc::new(metrics))
    }

    /// Everything in Prometheus' text format ([`CONTENT_TYPE`]).
    pub fn render(&self) -> String {
        let mut text = String::new();
        if let Err(cause) = TextEncoder::new().encode_utf8(&self.registry.gather(), &mut text) {
            tracing::error!(%cause, "Metrics could not be written");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn metrics() -> Arc<Metrics> {
        Metrics::new(UtcTime::from_unix(1_000)).unwrap()
    }

    #[test]
    fn what_rooms_count_is_exported_under_its_promised_name() {
        let metrics = metrics();
        metrics.edge.http.answered(200, Duration::from_millis(30));
        metrics.edge.http.answered(403, Duration::from_secs(11));
        metrics.edge.http.active.rise();
        metrics.edge.handshakes.count(Handshake::Completed);
        metrics.edge.client_auth.count(ClientAuthResult::Revoked);
        metrics.edge.refused.count(RefusalCode::from_code("certificate_revoked"));
        metrics.edge.breaches.count(Breach::SlowHead);
        metrics.edge.limited.count(Limit::HandshakesSource);
        metrics.edge.upstream_faults.count(UpstreamFault::Connect);
        metrics.edge.tracked_connections.rise();
        metrics.ca.issued.count(Issuance::Renewal);
        metrics.ca.refused.count(IssuanceRefusal::KeyBlocked);
        metrics.ca.revoked.count(Revocation::KeyCompromise);
        metrics.acme.renewal_last_success.set(UtcTime::from_unix(2_000));
        metrics.validity.certificate_not_after.set("server", UtcTime::from_unix(3_000));
        metrics.ca.crl_next_update.set("issuing-g1", UtcTime::from_unix(4_000));
        metrics.jobs.runs.count("send_mails", "succeeded");
        metrics.admin.answered("listPeople", 403, Duration::from_millis(3));
        let text = metrics.render();
        for line in [
            "http_server_request_duration_seconds_bucket{role=\"edge\",status=\"2xx\",le=\"0.025\"} 0",
            "http_server_request_duration_seconds_bucket{role=\"edge\",status=\"2xx\",le=\"0.05\"} 1",
            "http_server_request_duration_seconds_bucket{role=\"edge\",status=\"4xx\",le=\"+Inf\"} 1",
            "http_server_request_duration_seconds_sum{role=\"edge\",status=\"4xx\"} 11",
            "http_server_request_duration_seconds_count{role=\"admin\",status=\"2xx\"} 0",
            "http_server_active_requests{role=\"edge\"} 1",
            "wicketgate_edge_requests_total{status=\"2xx\"} 1",
            "wicketgate_edge_handshakes_total{result=\"completed\"} 1",
            "wicketgate_client_auth_total{result=\"revoked\"} 1",
            "wicketgate_edge_refused_total{code=\"certificate_revoked\"} 1",
            "wicketgate_edge_connections_ended_total{cause=\"slow_head\"} 1",
            "wicketgate_edge_limited_total{limit=\"handshakes_source\"} 1",
            "wicketgate_edge_upstream_faults_total{kind=\"connect\"} 1",
            "wicketgate_edge_connections{reason=\"known\",tracked=\"true\"} 1",
            "wicketgate_ca_certificates_issued_total{act=\"renewal\"} 1",
            "wicketgate_ca_issuance_refused_total{cause=\"key_blocked\"} 1",
            "wicketgate_ca_crls_published_total 0",
            "wicketgate_admin_requests_total{operation=\"listPeople\",status=\"4xx\"} 1",
            "wicketgate_ca_certificates_revoked_total{reason=\"keyCompromise\"} 1",
            "wicketgate_acme_renewal_last_success_timestamp_seconds 2000",
            "wicketgate_certificate_not_after_timestamp_seconds{kind=\"server\"} 3000",
            "wicketgate_crl_next_update_timestamp_seconds{authority=\"issuing-g1\"} 4000",
            "wicketgate_job_runs_total{job=\"send_mails\",outcome=\"succeeded\"} 1",
            "process_start_time_seconds 1000",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        assert!(text.contains(concat!(
            "wicketgate_build_info{version=\"",
            env!("CARGO_PKG_VERSION"),
            "\"} 1"
        )));
    }

    #[test]
    fn what_never_happened_has_no_time() {
        let text = metrics().render();
        assert!(!text.contains("wicketgate_acme_renewal_last_success_timestamp_seconds "), "{text}");
    }

    #[test]
    fn every_family_has_a_help_text_and_a_name_of_the_conventions() {
        let metrics = metrics();
        for family in metrics.registry.gather() {
            let name = family.name();
            assert!(!family.help().is_empty(), "{name} has no help");
            let prefixes = ["wicketgate_", "http_server_", "process_"];
            assert!(prefixes.iter().any(|prefix| name.starts_with(prefix)), "{name}");
        }
    }

    #[test]
    fn two_sets_of_numbers_do_not_mix() {
        let (one, other) = (metrics(), metrics());
        one.ca.issued.count(Issuance::Enrolment);
        assert!(other.render().contains("wicketgate_ca_certificates_issued_total{act=\"enrolment\"} 0"));
    }
}
