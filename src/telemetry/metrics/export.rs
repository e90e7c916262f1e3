//! Where each number gets its name. Base units, `_total`, `_timestamp_seconds`; times of events, never
//! remaining seconds; no label with a person or a device in it.

mod names;

use std::sync::Arc;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Meter, MeterProvider};
use opentelemetry_sdk::metrics::SdkMeterProvider;
use prometheus::core::{Collector, Desc};
use prometheus::proto::{self, LabelPair, MetricFamily, MetricType};

use super::instruments::{Counters, Label};
use super::rooms::AdminMetrics;
use super::{EdgeMetrics, Metrics, process};
use crate::domain::UtcTime;
use crate::domain::upstream::{BreakerState, Health, TargetStatus};

/// Makes every number of `metrics` but the histograms readable through `provider`.
pub(super) fn observe(metrics: &Metrics, provider: &SdkMeterProvider, now: UtcTime) {
    let meter = provider.meter("wicketgate");
    edge(&meter, metrics);
    control(&meter, metrics);
    validity(&meter, metrics);
    itself(&meter, now);
    spans(&meter, metrics);
}

fn edge(meter: &Meter, metrics: &Metrics) {
    let edge = &metrics.edge;
    let http = edge.clone();
    meter
        .u64_observable_counter("wicketgate_edge_requests")
        .with_description("Requests that the edge answered")
        .with_callback(move |observer| {
            for (class, durations) in http.http.classes() {
                observer.observe(durations.count(), &[KeyValue::new("status", class)]);
            }
        })
        .build();
    let (public, private) = (metrics.edge.clone(), metrics.admin.clone());
    meter
        .i64_observable_gauge("http.server.active_requests")
        .with_description("Requests under way")
        .with_callback(move |observer| {
            observer.observe(public.http.active.value(), &[KeyValue::new("role", "edge")]);
            observer.observe(private.http.active.value(), &[KeyValue::new("role", "admin")]);
        })
        .build();
    counters(meter, "wicketgate_edge_handshakes", "TLS handshakes", edge, |edge| &edge.handshakes);
    let name = "wicketgate_edge_proxy_headers";
    counters(meter, name, "What load balancers said first", edge, |edge| &edge.proxy_headers);
    let chains = edge.clone();
    meter
        .u64_observable_counter("wicketgate_edge_bad_chains")
        .with_description("Chains of addresses that were not believed")
        .with_callback(move |observer| observer.observe(chains.bad_chains.value(), &[]))
        .build();
    counters(meter, "wicketgate_client_auth", "Client certificates seen", edge, |edge| &edge.client_auth);
    let name = "wicketgate_edge_self_checks";
    counters(meter, name, "What the edge answers itself as a stranger", edge, |edge| &edge.self_checks);
    let help = "1 while protected routes are closed because a stranger got in";
    gauge(meter, "wicketgate_edge_sealed", help, edge, |edge| Some(edge.sealed.value()));
    counters(meter, "wicketgate_edge_refused", "Errors of the edge's own", edge, |edge| &edge.refused);
    let (name, help) = ("wicketgate_edge_connections_ended", "Connections ended for what their visitors did");
    counters(meter, name, help, edge, |edge| &edge.breaches);
    let help = "Requests and connections that were refused because there were too many";
    counters(meter, "wicketgate_edge_limited", help, edge, |edge| &edge.limited);
    let name = "wicketgate_edge_upstream_faults";
    counters(meter, name, "Faults of backends", edge, |edge| &edge.upstream_faults);
    targets(meter, edge);
    names::observe(meter, edge);
    let connections = edge.clone();
    meter
        .i64_observable_gauge("wicketgate_edge_connections")
        .with_description("Open connections; tracked ones end when their certificate is revoked")
        .with_callback(move |observer| {
            for (gauge, tracked, reason) in [
                (&connections.tracked_connections, "true", "known"),
                (&connections.anonymous_connections, "false", "anonymous"),
                (&connections.refused_connections, "false", "refused"),
                (&connections.passed_connections, "false", "passed_through"),
            ] {
                let labels = [KeyValue::new("tracked", tracked), KeyValue::new("reason", reason)];
                observer.observe(gauge.value(), &labels);
            }
        })
        .build();
    let name = "wicketgate_edge_register_epoch";
    gauge(meter, name, "Epoch of the register in use", edge, |edge| Some(edge.register_epoch.value()));
    let name = "wicketgate_edge_register_certificates";
    gauge(meter, name, "Certificates in the register", edge, |edge| Some(edge.register_certificates.value()));
    let name = "wicketgate_edge_feed_fresh_timestamp_seconds";
    gauge(meter, name, "When the feed was last known to be complete", edge, |edge| edge.feed_fresh.value());
}

/// Targets come from the configuration or from DNS, 64 of an upstream at most; those that are gone are left out.
fn targets(meter: &Meter, edge: &Arc<EdgeMetrics>) {
    let label = |status: &TargetStatus| {
        let mut labels = vec![
            KeyValue::new("upstream", status.upstream.to_string()),
            KeyValue::new("target", status.target.clone()),
        ];
        labels.extend(status.address.map(|address| KeyValue::new("address", address.to_string())));
        labels
    };
    let metrics = edge.clone();
    meter
        .i64_observable_gauge("wicketgate_edge_upstream_breaker")
        .with_description("1 for the state that a target's breaker is in, 0 for the others")
        .with_callback(move |observer| {
            for status in metrics.targets.seen().iter() {
                for state in BreakerState::ALL {
                    let mut labels = label(status);
                    labels.push(KeyValue::new("state", state.name()));
                    observer.observe(i64::from(state == status.breaker), &labels);
                }
            }
        })
        .build();
    let metrics = edge.clone();
    meter
        .i64_observable_gauge("wicketgate_edge_upstream_healthy")
        .with_description("What active checks found: 1 well, 0 not")
        .with_callback(move |observer| {
            for status in metrics.targets.seen().iter().filter(|status| status.health != Health::Unknown) {
                observer.observe(i64::from(status.health == Health::Healthy), &label(status));
            }
        })
        .build();
    let metrics = edge.clone();
    meter
        .i64_observable_gauge("wicketgate_edge_upstream_in_flight")
        .with_description("Requests under way at a target")
        .with_callback(move |observer| {
            for status in metrics.targets.seen().iter() {
                observer.observe(status.in_flight.into(), &label(status));
            }
        })
        .build();
    let (requests, failures) = (edge.clone(), edge.clone());
    meter
        .u64_observable_counter("wicketgate_edge_upstream_requests")
        .with_description("Requests that were sent to a target")
        .with_callback(move |observer| {
            requests
                .targets
                .seen()
                .iter()
                .for_each(|status| observer.observe(status.requests, &label(status)));
        })
        .build();
    meter
        .u64_observable_counter("wicketgate_edge_upstream_failures")
        .with_description("Requests that failed at a target")
        .with_callback(move |observer| {
            failures
                .targets
                .seen()
                .iter()
                .for_each(|status| observer.observe(status.failures, &label(status)));
        })
        .build();
    let retries = edge.clone();
    meter
        .u64_observable_counter("wicketgate_edge_upstream_retries")
        .with_description("Requests that were sent to another target")
        .with_callback(move |observer| observer.observe(retries.upstream_retries.value(), &[]))
        .build();
}

fn control(meter: &Meter, metrics: &Metrics) {
    let requests = metrics.admin.clone();
    meter
        .u64_observable_counter("wicketgate_admin_requests")
        .with_description("Requests that console, portal and API answered")
        .with_callback(move |observer| {
            for ((operation, status), count) in requests.requests() {
                let labels = [KeyValue::new("operation", operation), KeyValue::new("status", status)];
                observer.observe(count, &labels);
            }
        })
        .build();
    let name = "wicketgate_ca_certificates_issued";
    counters(meter, name, "Client certificates issued", &metrics.ca, |ca| &ca.issued);
    let name = "wicketgate_ca_issuance_refused";
    counters(meter, name, "Requests for a client certificate refused", &metrics.ca, |ca| &ca.refused);
    let ca = metrics.ca.clone();
    meter
        .u64_observable_counter("wicketgate_ca_crls_published")
        .with_description("Revocation lists published")
        .with_callback(move |observer| observer.observe(ca.crls_published.value(), &[]))
        .build();
    let name = "wicketgate_ca_certificates_revoked";
    counters(meter, name, "Client certificates revoked", &metrics.ca, |ca| &ca.revoked);
    let name = "wicketgate_ca_intents_unresolved";
    let help = "Issuances of which only the intent is on record";
    gauge(meter, name, help, &metrics.ca, |ca| Some(ca.intents_unresolved.value()));
    counters(meter, "wicketgate_acme_orders", "ACME orders that ended", &metrics.acme, |acme| &acme.orders);
    let name = "wicketgate_acme_renewal_last_success_timestamp_seconds";
    let help = "When a server certificate was last renewed";
    gauge(meter, name, help, &metrics.acme, |acme| acme.renewal_last_success.value());
    counters(meter, "wicketgate_mails", "Mails that left or finally did not", &metrics.jobs, |jobs| {
        &jobs.mails
    });
    let name = "wicketgate_mail_outbox";
    gauge(meter, name, "Mails that wait", &metrics.jobs, |jobs| Some(jobs.mail_outbox.value()));
    let help = "Links of the audit's chain, as the replica that chains knows";
    gauge(meter, "wicketgate_audit_links", help, &metrics.jobs, |jobs| Some(jobs.audit_links.value()));
    let help = "Audit events that should be in the chain by now and are not";
    gauge(meter, "wicketgate_audit_unchained", help, &metrics.jobs, |jobs| {
        Some(jobs.audit_unchained.value())
    });
    let jobs = metrics.jobs.clone();
    meter
        .u64_observable_counter("wicketgate_job_runs")
        .with_description("Runs of jobs")
        .with_callback(move |observer| {
            for ((job, outcome), count) in jobs.runs.values() {
                observer.observe(count, &[KeyValue::new("job", job), KeyValue::new("outcome", outcome)]);
            }
        })
        .build();
    let name = "wicketgate_job_last_success_timestamp_seconds";
    timestamps(meter, name, "Last success of a job", "job", &metrics.jobs, |jobs| jobs.last_success.values());
}

fn validity(meter: &Meter, metrics: &Metrics) {
    let validity = &metrics.validity;
    let name = "wicketgate_certificate_not_after_timestamp_seconds";
    let help = "Earliest end of validity among the certificates in use";
    timestamps(meter, name, help, "kind", validity, |validity| validity.certificate_not_after.values());
    let name = "wicketgate_crl_next_update_timestamp_seconds";
    let help = "When the next revocation list is due";
    timestamps(meter, name, help, "authority", &metrics.ca, |ca| ca.crl_next_update.values());
}

fn spans(meter: &Meter, metrics: &Metrics) {
    let spans = metrics.spans.clone();
    meter
        .u64_observable_counter("wicketgate_otlp_spans")
        .with_description("Spans that the collector took, and that were lost")
        .with_callback(move |observer| {
            observer.observe(spans.sent.value(), &[KeyValue::new("outcome", "sent")]);
            observer.observe(spans.lost.value(), &[KeyValue::new("outcome", "lost")]);
        })
        .build();
}

fn itself(meter: &Meter, now: UtcTime) {
    meter
        .u64_observable_gauge("wicketgate_build_info")
        .with_description("1, with the version as a label")
        .with_callback(|observer| observer.observe(1, &[KeyValue::new("version", env!("CARGO_PKG_VERSION"))]))
        .build();
    meter
        .i64_observable_gauge("process_start_time_seconds")
        .with_description("When the process started")
        .with_callback(move |observer| observer.observe(now.as_unix(), &[]))
        .build();
    meter
        .u64_observable_gauge("process_resident_memory_bytes")
        .with_description("Resident memory")
        .with_callback(|observer| {
            if let Some(bytes) = process::resident_bytes() {
                observer.observe(bytes, &[]);
            }
        })
        .build();
    meter
        .u64_observable_gauge("process_open_fds")
        .with_description("Open file descriptors")
        .with_callback(|observer| {
            if let Some(count) = process::open_files() {
                observer.observe(count, &[]);
            }
        })
        .build();
}

fn counters<R, L>(
    meter: &Meter,
    name: &'static str,
    help: &'static str,
    room: &Arc<R>,
    of: fn(&R) -> &Counters<L>,
) where
    R: Send + Sync + 'static,
    L: Label,
{
    let room = room.clone();
    meter
        .u64_observable_counter(name)
        .with_description(help)
        .with_callback(move |observer| {
            for (word, count) in of(&room).values() {
                observer.observe(count, &[KeyValue::new(L::NAME, word)]);
            }
        })
        .build();
}

fn gauge<R>(meter: &Meter, name: &'static str, help: &'static str, room: &Arc<R>, of: fn(&R) -> Option<i64>)
where
    R: Send + Sync + 'static,
{
    let room = room.clone();
    meter
        .i64_observable_gauge(name)
        .with_description(help)
        .with_callback(move |observer| {
            if let Some(value) = of(&room) {
                observer.observe(value, &[]);
            }
        })
        .build();
}

fn timestamps<R>(
    meter: &Meter,
    name: &'static str,
    help: &'static str,
    label: &'static str,
    room: &Arc<R>,
    of: fn(&R) -> Vec<(String, i64)>,
) where
    R: Send + Sync + 'static,
{
    let room = room.clone();
    meter
        .i64_observable_gauge(name)
        .with_description(help)
        .with_callback(move |observer| {
            for (word, seconds) in of(&room) {
                observer.observe(seconds, &[KeyValue::new(label, word)]);
            }
        })
        .build();
}

/// Request durations. OpenTelemetry has no observable histogram, so this one speaks to Prometheus itself,
/// under the name of the semantic conventions (`http.server.request.duration`, in seconds).
pub(super) struct Durations {
    servers: [(&'static str, Server); 2],
    desc: Desc,
}

/// Whose requests.
enum Server {
    Edge(Arc<EdgeMetrics>),
    Admin(Arc<AdminMetrics>),
}

impl Durations {
    pub(super) fn new(metrics: &Metrics) -> Result<Self, prometheus::Error> {
        let servers =
            [("edge", Server::Edge(metrics.edge.clone())), ("admin", Server::Admin(metrics.admin.clone()))];
        let labels = vec!["role".to_owned(), "status".to_owned()];
        let desc = Desc::new(
            "http_server_request_duration_seconds".to_owned(),
            "From the head of a request to the end of its answer".to_owned(),
            labels,
            std::collections::HashMap::new(),
        )?;
        Ok(Self { servers, desc })
    }
}

impl Collector for Durations {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut family = MetricFamily::default();
        family.set_name(self.desc.fq_name.clone());
        family.set_help(self.desc.help.clone());
        family.set_field_type(MetricType::HISTOGRAM);
        for (role, server) in &self.servers {
            let http = match server {
                Server::Edge(edge) => &edge.http,
                Server::Admin(admin) => &admin.http,
            };
            for (class, durations) in http.classes() {
                let (bounds, count, sum) = durations.cumulative();
                let buckets = bounds.into_iter().map(|(bound, count)| {
                    let mut bucket = proto::Bucket::default();
                    bucket.set_upper_bound(bound);
                    bucket.set_cumulative_count(count);
                    bucket
                });
                let mut histogram = proto::Histogram::default();
                histogram.set_bucket(buckets.collect());
                histogram.set_sample_count(count);
                histogram.set_sample_sum(sum);
                let mut metric = proto::Metric::from_label(vec![pair("role", role), pair("status", class)]);
                metric.set_histogram(histogram);
                family.mut_metric().push(metric);
            }
        }
        vec![family]
    }
}

fn pair(name: &str, value: &str) -> LabelPair {
    let mut pair = LabelPair::default();
    pair.set_name(name.to_owned());
    pair.set_value(value.to_owned());
    pair
}
