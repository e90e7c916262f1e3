//! What DNS says of upstreams. The names come from the configuration, so there are not many.

use std::sync::Arc;

use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;

use super::counters;
use crate::domain::upstream::NameStatus;
use crate::telemetry::metrics::EdgeMetrics;

pub(super) fn observe(meter: &Meter, edge: &Arc<EdgeMetrics>) {
    let answers = edge.clone();
    meter
        .u64_observable_counter("wicketgate_edge_name_answers")
        .with_description("Good answers of DNS about upstreams")
        .with_callback(move |observer| observer.observe(answers.name_answers.value(), &[]))
        .build();
    let help = "Names of upstreams that could not be resolved when they were asked for";
    counters(meter, "wicketgate_edge_name_faults", help, edge, |edge| &edge.name_faults);
    let help = "Addresses that a name of an upstream stands for";
    gauge(meter, "wicketgate_edge_name_addresses", help, edge, |name| {
        i64::try_from(name.addresses).unwrap_or(i64::MAX)
    });
    let help = "1 while a name of an upstream cannot be resolved and what was known of it is used";
    gauge(meter, "wicketgate_edge_name_stale", help, edge, |name| i64::from(name.stale.is_some()));
}

fn gauge(
    meter: &Meter,
    name: &'static str,
    help: &'static str,
    edge: &Arc<EdgeMetrics>,
    value: fn(&NameStatus) -> i64,
) {
    let edge = edge.clone();
    meter
        .i64_observable_gauge(name)
        .with_description(help)
        .with_callback(move |observer| {
            for name in edge.names.known().iter() {
                let labels = [
                    KeyValue::new("upstream", name.upstream.to_string()),
                    KeyValue::new("target", name.target.clone()),
                ];
                observer.observe(value(name), &labels);
            }
        })
        .build();
}
