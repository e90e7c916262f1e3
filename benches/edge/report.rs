//! Medians and ratios, as a section of `benches/RESULTS.md` and as one JSON line.

use std::fmt::Write;

use serde_json::{Value, json};

use super::bounds::{BOUNDS, Bound, Figure};
use super::load::Sample;
use super::peers;
use super::scenario::{Contestant, OURS, Scenario};

const BEGIN: &str = "<!-- edge: written by `make bench-edge` -->";
const END: &str = "<!-- edge: end -->";
/// What all of it must be, for the table of proofs.
const REQUIRED: &str =
    "CPU a unit of work within the bounds beside nginx, haproxy and caddy; 0 failed exchanges";

/// Every sample of one run.
pub(crate) struct Report {
    samples: Vec<(&'static str, &'static str, Sample)>,
    rounds: usize,
}

/// A figure that was measured, with what is required of it.
struct Item {
    bound: Bound,
    measured: Option<f64>,
}

impl Item {
    fn is_ok(&self) -> bool {
        self.bound.must.is_none_or(|must| self.reaches(must))
    }

    fn reaches(&self, bound: f64) -> bool {
        self.measured.is_some_and(|measured| self.bound.reaches(measured, bound))
    }

    /// The aims that were missed, by name.
    fn missed(&self) -> Vec<String> {
        let missed = self.bound.aims.iter().filter(|aim| !self.reaches(**aim));
        missed.map(|aim| format!("{} {aim}", self.bound.name)).collect()
    }
}

impl Report {
    pub(crate) fn new(rounds: usize) -> Self {
        Self { samples: Vec::new(), rounds }
    }

    pub(crate) fn add(&mut self, scenario: &'static str, contestant: &'static str, sample: Sample) {
        self.samples.push((scenario, contestant, sample));
    }

    fn values(&self, scenario: &str, contestant: &str, of: impl Fn(&Sample) -> f64) -> Vec<f64> {
        let own = self.samples.iter().filter(|(s, c, _)| *s == scenario && *c == contestant);
        own.map(|(_, _, sample)| of(sample)).collect()
    }

    fn median(&self, scenario: &str, contestant: &str, of: impl Fn(&Sample) -> f64) -> Option<f64> {
        median(self.values(scenario, contestant, of))
    }

    /// The median of the ratios within each round, which neighbours on the machine disturb least.
    fn ratio(&self, scenario: &str, figure: Figure, ours: &str, theirs: &str) -> Option<f64> {
        let ours = self.values(scenario, ours, |sample| figure.of(sample));
        let theirs = self.values(scenario, theirs, |sample| figure.of(sample));
        median(ours.iter().zip(&theirs).map(|(ours, theirs)| ours / theirs).collect())
    }

    fn measured(&self, bound: &Bound) -> Option<f64> {
        if bound.to.is_empty() {
            return self.median(bound.scenario, bound.of, |sample| bound.figure.of(sample));
        }
        let ratios = bound.to.iter().map(|peer| self.ratio(bound.scenario, bound.figure, bound.of, peer));
        let ratios: Vec<f64> = ratios.collect::<Option<_>>()?;
        // Whoever does best beside us is whom we compare worst with.
        let worst = if bound.figure.is_better_more() { f64::min } else { f64::max };
        ratios.into_iter().reduce(worst)
    }

    fn items(&self, scenarios: &[Scenario]) -> Vec<Item> {
        let was_asked = |bound: &Bound| scenarios.iter().any(|scenario| scenario.name == bound.scenario);
        let asked = BOUNDS.into_iter().filter(was_asked);
        asked.map(|bound| Item { bound, measured: self.measured(&bound) }).collect()
    }

    fn errors(&self) -> u64 {
        self.samples.iter().map(|(_, _, sample)| sample.errors).sum()
    }

    fn exchanges(&self) -> u64 {
        self.samples.iter().map(|(_, _, sample)| sample.done).sum()
    }

    /// The results file with this run in the place of the last one; what stands around it stays.
    pub(crate) fn merged(&self, before: &str, scenarios: &[Scenario]) -> String {
        let section = self.section(scenarios);
        match (before.find(BEGIN), before.find(END)) {
            (Some(begin), Some(end)) if begin < end => {
                let rest = before[end + END.len()..].trim_start_matches('\n');
                let gap = if rest.is_empty() { "" } else { "\n" };
                format!("{}{section}{gap}{rest}", &before[..begin])
            }
            _ if before.is_empty() => format!("# Bench results\n\n{section}"),
            _ => format!("{}\n\n{section}", before.trim_end()),
        }
    }

    /// What was measured, in Markdown.
    pub(crate) fn section(&self, scenarios: &[Scenario]) -> String {
        let mut text = format!("{BEGIN}\n## Edge\n\n{}\n\n", self.setting());
        text.push_str("| figure | measured | must be | aim | ok |\n|---|---|---|---|---|\n");
        for item in self.items(scenarios) {
            let Bound { name, must, aims, figure, .. } = item.bound;
            let sign = if figure.is_better_more() { "at least" } else { "at most" };
            let aims: Vec<String> = aims.iter().map(f64::to_string).collect();
            // Writing to a String does not fail.
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} | {} |",
                name.replace('_', " "),
                shown(item.measured),
                must.map_or("–".to_owned(), |must| format!("{sign} {must}")),
                if aims.is_empty() { "–".to_owned() } else { aims.join(", then ") },
                match (item.is_ok(), item.missed().is_empty()) {
                    (false, _) => "**no**",
                    (true, false) => "yes, aim missed",
                    (true, true) => "yes",
                },
            );
        }
        for scenario in scenarios {
            self.write_table(scenario, &mut text);
        }
        let _ = write!(text, "\n{} failed of {} exchanges.\n{END}\n", self.errors(), self.exchanges());
        text
    }

    /// What each contestant did, and ours beside it: CPU of ours by CPU of theirs.
    fn write_table(&self, scenario: &Scenario, text: &mut String) {
        let _ = write!(text, "\n`{}`: {}\n\n", scenario.name, scenario.title);
        text.push_str("| | a second | CPU µs each | slowest and fastest round | ours to it | |\n");
        text.push_str("|---|---|---|---|---|---|\n");
        let ours = scenario.contestants.first().map_or(OURS, |first| first.name);
        for contestant in &scenario.contestants {
            let cpu = self.values(scenario.name, contestant.name, Sample::cpu_micros);
            let bound = |pick: fn(f64, f64) -> f64| shown(cpu.iter().copied().reduce(pick));
            let ratio = self.ratio(scenario.name, Figure::CpuMicros, ours, contestant.name);
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} to {} | {} | {} |",
                contestant.name,
                shown(self.median(scenario.name, contestant.name, Sample::per_second)),
                shown(median(cpu.clone())),
                bound(f64::max),
                bound(f64::min),
                shown(ratio),
                self.beside(scenario, contestant),
            );
        }
    }

    /// What only some loads measure.
    fn beside(&self, scenario: &Scenario, contestant: &Contestant) -> String {
        let median = |of: fn(&Sample) -> f64| self.median(scenario.name, contestant.name, of);
        let p50 = median(|sample| sample.latency_ms.map_or(f64::NAN, |(p50, _)| p50));
        let p99 = median(|sample| Figure::P99.of(sample));
        let memory = median(|sample| Figure::KibEach.of(sample));
        let known = |value: Option<f64>| value.filter(|value| !value.is_nan());
        match (known(p50), known(p99), known(memory)) {
            (Some(p50), Some(p99), _) => format!("p50 {p50:.3} ms, p99 {p99:.3} ms"),
            (_, _, Some(memory)) => format!("{memory:.1} KB a connection"),
            _ => String::new(),
        }
    }

    fn setting(&self) -> String {
        let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let cpu = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown processor");
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        format!(
            "Medians of {} alternating rounds on loopback; {}, Linux {}. The proxy has core 0, visitors and backend \
             core 1; CPU is the proxy's, user and system, for each request or connection, and ratios are medians of \
             the rounds' own. TLS 1.3, TLS_AES_128_GCM_SHA256, X25519, P-256 on both sides, client certificate \
             required, no resumption. Everybody passes on the client's certificate, writes an access log to a file \
             (nginx through a buffer), and keeps its connections to the backend; ours has 10 protected routes, a \
             register of 10,001, its JSON log, metrics and assertion. The bare hyper echo answers by itself, without \
             policy, log and backend. Peers: {}; caddy without metrics, as it comes. Absolute numbers are this \
             machine's; compare within one table only.",
            self.rounds,
            cpu.trim_start_matches([' ', '\t', ':']),
            kernel.trim(),
            peers::versions(),
        )
    }

    /// The last line.
    pub(crate) fn json(&self, scenarios: &[Scenario]) -> Value {
        let items = self.items(scenarios);
        let mut short: Vec<&str> = items.iter().filter(|i| !i.is_ok()).map(|i| i.bound.name).collect();
        let missed: Vec<String> = items.iter().flat_map(Item::missed).collect();
        let mut items: Vec<Value> = items
            .iter()
            .map(|item| {
                json!({
                    "name": item.bound.name, "required": item.bound.must, "aim": item.bound.aims.last(),
                    "measured": item.measured.map(rounded), "n": self.rounds, "ok": item.is_ok(),
                })
            })
            .collect();
        let (errors, exchanges) = (self.errors(), self.exchanges());
        items.push(json!({
            "name": "failed_exchanges", "required": 0, "measured": errors, "n": exchanges, "ok": errors == 0,
        }));
        if errors > 0 {
            short.push("failed_exchanges");
        }
        json!({ "items": items, "short": short, "aims_missed": missed })
    }

    /// All of it as one item of the table of proofs.
    pub(crate) fn proof(&self, scenarios: &[Scenario], seconds: u64) -> Value {
        let items = self.items(scenarios);
        let figures = items.iter().map(|item| format!("{} {}", item.bound.name, shown(item.measured)));
        let measured = figures.collect::<Vec<_>>().join(", ");
        let short =
            items.iter().filter(|item| !item.is_ok()).map(|item| format!("; short: {}", item.bound.name));
        json!({
            "name": "bench", "required": REQUIRED,
            "measured": format!("{measured}, failed exchanges {}{}", self.errors(), short.collect::<String>()),
            "n": self.exchanges(),
            "ok": self.errors() == 0 && items.iter().all(Item::is_ok),
            "seconds": seconds,
            "aims_missed": items.iter().flat_map(Item::missed).collect::<Vec<_>>(),
        })
    }
}

/// Three digits, or more where they stand before the point.
fn shown(value: Option<f64>) -> String {
    match value {
        None => "not measured".to_owned(),
        Some(value) if value >= 100.0 => format!("{value:.0}"),
        Some(value) if value >= 10.0 => format!("{value:.1}"),
        Some(value) => format!("{value:.2}"),
    }
}

fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}
