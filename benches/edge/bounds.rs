//! What the figures must be, and what they should be: one line each for the report to fill in.

use super::load::Sample;
use super::scenario::{
    CADDY, HAPROXY, HAPROXY_LARGE, NGINX, NGINX_LARGE, OURS, OURS_HYBRID, REGISTER_0, REGISTER_1000000,
    ROUTES_10, ROUTES_10000,
};

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Figure {
    /// The proxy's time on its core for one request; the less the better.
    CpuMicros,
    /// Requests, octets or connections for a second of the proxy's time on its core; the more the better.
    PerCpuSecond,
    /// The 99th percentile of latency; the less the better.
    P99,
    /// Memory of an idle connection; the less the better.
    KibEach,
}

impl Figure {
    pub(crate) fn of(self, sample: &Sample) -> f64 {
        match self {
            Self::CpuMicros => sample.cpu_micros(),
            Self::PerCpuSecond => 1_000_000.0 / sample.cpu_micros(),
            Self::P99 => sample.latency_ms.map_or(f64::NAN, |(_, p99)| p99),
            Self::KibEach => sample.kib_each.unwrap_or(f64::NAN),
        }
    }

    pub(crate) fn is_better_more(self) -> bool {
        self == Self::PerCpuSecond
    }
}

/// One figure, and its bounds.
#[derive(Clone, Copy)]
pub(crate) struct Bound {
    pub(crate) name: &'static str,
    pub(crate) scenario: &'static str,
    pub(crate) figure: Figure,
    /// Whose.
    pub(crate) of: &'static str,
    /// Divided by theirs, whoever of them does best; by nobody's if there are none.
    pub(crate) to: &'static [&'static str],
    /// Without one, it is only to be known.
    pub(crate) must: Option<f64>,
    /// From the nearest to the farthest.
    pub(crate) aims: &'static [f64],
}

impl Bound {
    /// Whether `measured` is on the right side of `bound`.
    pub(crate) fn reaches(&self, measured: f64, bound: f64) -> bool {
        if self.figure.is_better_more() { measured >= bound } else { measured <= bound }
    }
}

/// Large answers: whichever of their settings suits them best.
const TUNED: &[&str] = &[NGINX, NGINX_LARGE, HAPROXY, HAPROXY_LARGE];

pub(crate) const BOUNDS: [Bound; 15] = [
    cpu("h1_1k_cpu_to_nginx", "h1_1k", &[NGINX], 0.95, &[0.80]),
    cpu("h1_1k_cpu_to_haproxy", "h1_1k", &[HAPROXY], 1.05, &[0.85]),
    cpu("h2_1k_cpu_to_nginx", "h2_1k", &[NGINX], 0.80, &[0.62]),
    cpu("h2_1k_cpu_to_haproxy", "h2_1k", &[HAPROXY], 1.2, &[0.80]),
    rate("h1_100k_throughput_to_best", "h1_100k", TUNED, 1.7, &[2.0]),
    rate("h2_100k_throughput_to_best", "h2_100k", TUNED, 1.7, &[1.8]),
    rate("handshakes_to_nginx", "handshakes", &[NGINX], 2.8, &[4.5]),
    rate("handshakes_to_haproxy", "handshakes", &[HAPROXY], 2.8, &[4.5]),
    rate("handshakes_to_caddy", "handshakes", &[CADDY], 1.6, &[2.6]),
    Bound {
        name: "handshakes_mlkem_per_cpu_second",
        scenario: "handshakes_mlkem",
        figure: Figure::PerCpuSecond,
        of: OURS_HYBRID,
        to: &[],
        must: None,
        aims: &[],
    },
    Bound {
        name: "idle_kib_each",
        scenario: "idle_rss",
        figure: Figure::KibEach,
        of: OURS,
        to: &[],
        must: Some(36.0),
        aims: &[20.0, 16.0],
    },
    Bound {
        name: "half_load_p99_to_nginx",
        scenario: "latency_half",
        figure: Figure::P99,
        of: OURS,
        to: &[NGINX],
        must: Some(1.0),
        aims: &[],
    },
    Bound {
        name: "half_load_p99_to_best",
        scenario: "latency_half",
        figure: Figure::P99,
        of: OURS,
        to: &[NGINX, HAPROXY],
        must: None,
        aims: &[1.0],
    },
    Bound {
        name: "cpu_of_10000_routes_to_10",
        scenario: "routes",
        figure: Figure::CpuMicros,
        of: ROUTES_10000,
        to: &[ROUTES_10],
        must: Some(1.15),
        aims: &[],
    },
    Bound {
        name: "cpu_of_1000000_certificates_to_0",
        scenario: "register",
        figure: Figure::CpuMicros,
        of: REGISTER_1000000,
        to: &[REGISTER_0],
        must: Some(1.15),
        aims: &[],
    },
];

const fn cpu(
    name: &'static str,
    scenario: &'static str,
    to: &'static [&'static str],
    must: f64,
    aims: &'static [f64],
) -> Bound {
    Bound { name, scenario, figure: Figure::CpuMicros, of: OURS, to, must: Some(must), aims }
}

const fn rate(
    name: &'static str,
    scenario: &'static str,
    to: &'static [&'static str],
    must: f64,
    aims: &'static [f64],
) -> Bound {
    Bound { name, scenario, figure: Figure::PerCpuSecond, of: OURS, to, must: Some(must), aims }
}
