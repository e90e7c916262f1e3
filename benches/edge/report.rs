//! Medians and ratios, as a section of `benches/RESULTS.md` and as one JSON line.

use std::fmt::Write;
use std::process::Command;

use serde_json::{Value, json};

use super::load::{Cell, Sample};

const BEGIN: &str = "<!-- edge: written by `make bench-edge` -->";
const END: &str = "<!-- edge: end -->";
const OURS: &str = "wicketgate";
const PEERS: [&str; 2] = ["nginx", "haproxy"];

/// A ratio to a peer, and what we aim at.
struct Aim {
    name: &'static str,
    cell: Cell,
    peer: &'static str,
    of: fn(&Sample) -> f64,
    /// At least this, or at most this.
    at_least: bool,
    aim: f64,
}

/// Aims are those of the design phase for the full product on one core.
const AIMS: [Aim; 6] = [
    Aim {
        name: "keep_alive_requests_per_second_to_nginx",
        cell: Cell::KeepAlive,
        peer: "nginx",
        of: Sample::per_second,
        at_least: true,
        aim: 1.05,
    },
    Aim {
        name: "keep_alive_requests_per_second_to_haproxy",
        cell: Cell::KeepAlive,
        peer: "haproxy",
        of: Sample::per_second,
        at_least: true,
        aim: 0.95,
    },
    Aim {
        name: "full_handshakes_per_second_to_nginx",
        cell: Cell::Handshakes,
        peer: "nginx",
        of: Sample::per_second,
        at_least: true,
        aim: 2.8,
    },
    Aim {
        name: "full_handshakes_per_second_to_haproxy",
        cell: Cell::Handshakes,
        peer: "haproxy",
        of: Sample::per_second,
        at_least: true,
        aim: 2.8,
    },
    Aim {
        name: "cpu_seconds_per_100k_requests_to_nginx",
        cell: Cell::KeepAlive,
        peer: "nginx",
        of: Sample::cpu_per_100k,
        at_least: false,
        aim: 0.95,
    },
    Aim {
        name: "cpu_seconds_per_100k_requests_to_haproxy",
        cell: Cell::KeepAlive,
        peer: "haproxy",
        of: Sample::cpu_per_100k,
        at_least: false,
        aim: 1.05,
    },
];

/// Every sample of one run.
pub(crate) struct Report<'a> {
    samples: &'a [(Cell, &'static str, Sample)],
    rounds: usize,
}

impl<'a> Report<'a> {
    pub(crate) fn of(samples: &'a [(Cell, &'static str, Sample)], rounds: usize) -> Self {
        Self { samples, rounds }
    }

    fn values(&self, cell: Cell, target: &str, of: fn(&Sample) -> f64) -> Vec<f64> {
        let own = self.samples.iter().filter(|(c, t, _)| *c == cell && *t == target);
        own.map(|(_, _, sample)| of(sample)).collect()
    }

    fn median(&self, cell: Cell, target: &str, of: fn(&Sample) -> f64) -> f64 {
        median(self.values(cell, target, of))
    }

    /// The median of the ratios within each round, which neighbours on the machine disturb least.
    fn ratio(&self, aim: &Aim) -> f64 {
        let ours = self.values(aim.cell, OURS, aim.of);
        let theirs = self.values(aim.cell, aim.peer, aim.of);
        median(ours.iter().zip(&theirs).map(|(ours, theirs)| ours / theirs).collect())
    }

    fn errors(&self) -> u64 {
        self.samples.iter().map(|(_, _, sample)| sample.errors).sum()
    }

    /// The results file with this run in the place of the last one.
    pub(crate) fn markdown(&self, before: &str) -> String {
        let mut text = format!("{BEGIN}\n## Edge\n\n{}\n\n", self.setting());
        text.push_str("| | keep-alive requests/s | CPU s per 100,000 requests | full handshakes/s |\n|---|---|---|---|\n");
        for target in std::iter::once(OURS).chain(PEERS) {
            // Writing to a String does not fail.
            let _ = writeln!(
                text,
                "| {target} | {:.0} | {:.2} | {:.0} |",
                self.median(Cell::KeepAlive, target, Sample::per_second),
                self.median(Cell::KeepAlive, target, Sample::cpu_per_100k),
                self.median(Cell::Handshakes, target, Sample::per_second),
            );
        }
        text.push_str("\n| ratio, ours to theirs | measured | aim |\n|---|---|---|\n");
        for aim in &AIMS {
            let sign = if aim.at_least { "at least" } else { "at most" };
            let _ = writeln!(
                text,
                "| {} | {:.2} | {sign} {} |",
                aim.name.replace('_', " "),
                self.ratio(aim),
                aim.aim
            );
        }
        let _ = write!(text, "\n{} failed exchanges in all.\n{END}\n", self.errors());
        match (before.find(BEGIN), before.find(END)) {
            (Some(begin), Some(end)) if begin < end => {
                let rest = before[end + END.len()..].trim_start_matches('\n');
                format!("{}{text}{rest}", &before[..begin])
            }
            _ if before.is_empty() => format!("# Bench results\n\n{text}"),
            _ => format!("{}\n\n{text}", before.trim_end()),
        }
    }

    fn setting(&self) -> String {
        let version = |program: &str, flag: &str| -> String {
            let output = Command::new(program).arg(flag).output();
            let text = output.map(|o| [o.stdout, o.stderr].concat()).unwrap_or_default();
            String::from_utf8_lossy(&text).lines().next().unwrap_or("unknown").to_owned()
        };
        let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let cpu = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown processor");
        format!(
            "Medians of {} alternating rounds on loopback; {}. The proxy has core 0, visitors and backend \
             core 1. TLS 1.3, TLS_AES_128_GCM_SHA256, X25519, P-256 on both sides, client certificate \
             required, no resumption, answers of 1 KiB, no access log. Against {} and {}. Ours has the whole \
             request path: register of 10,001, route table, policy, assertion. Absolute numbers are this \
             machine's; compare within one run only.",
            self.rounds,
            cpu.trim_start_matches([' ', '\t', ':']),
            version("nginx", "-v"),
            version("haproxy", "-v"),
        )
    }

    /// The last line.
    pub(crate) fn json(&self) -> Value {
        let mut items = Vec::new();
        let mut missed = Vec::new();
        for aim in &AIMS {
            let measured = self.ratio(aim);
            let reached = if aim.at_least { measured >= aim.aim } else { measured <= aim.aim };
            if !reached {
                missed.push(aim.name);
            }
            items.push(json!({
                "name": aim.name,
                "required": null,
                "aim": aim.aim,
                "measured": (measured * 1000.0).round() / 1000.0,
                "n": self.rounds,
                "ok": true,
            }));
        }
        let errors = self.errors();
        let exchanges: u64 = self.samples.iter().map(|(_, _, sample)| sample.done).sum();
        items.push(json!({
            "name": "failed_exchanges", "required": 0, "measured": errors, "n": exchanges, "ok": errors == 0,
        }));
        let short: Vec<_> = (errors > 0).then_some("failed_exchanges").into_iter().collect();
        json!({ "items": items, "short": short, "aims_missed": missed })
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
