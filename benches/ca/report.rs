//! Medians and percentiles, as a section of `benches/RESULTS.md` and as one JSON line.

use std::fmt::Write;

use serde_json::{Value, json};

use super::load::Sample;
use super::peers;

const BEGIN: &str = "<!-- ca: written by `make bench-ca` -->";
const END: &str = "<!-- ca: end -->";
const STEP: &str = "step-ca";
/// What it is compared with: the way in and the database that ours has unless told otherwise.
const DEFAULT: &str = "SQLite by API";

/// What a sample is of; the name is the target's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Measured {
    /// A round of certificates.
    Issued(String),
    /// Revocations one by one, with a long list on record.
    Revoked(String),
    /// Rebuilding that list.
    List(String),
    /// Pages of a full inventory.
    Page(String),
    /// OCSP answers that are kept.
    OcspKept(String),
    /// OCSP answers with a nonce.
    OcspWithNonce(String),
}

/// Every sample of one run.
pub(crate) struct Report {
    samples: Vec<(Measured, Sample)>,
    rounds: usize,
    count: usize,
}

/// A figure, and what it must be.
struct Item {
    name: &'static str,
    measured: Option<f64>,
    n: u64,
    required: f64,
    aim: f64,
    at_least: bool,
}

impl Item {
    fn reaches(&self, bound: f64) -> bool {
        self.measured
            .is_some_and(|measured| if self.at_least { measured >= bound } else { measured <= bound })
    }
}

impl Report {
    pub(crate) fn new(rounds: usize, count: usize) -> Self {
        Self { samples: Vec::new(), rounds, count }
    }

    pub(crate) fn add(&mut self, of: Measured, sample: Sample) {
        self.samples.push((of, sample));
    }

    fn of<'a>(&'a self, of: &'a Measured) -> impl Iterator<Item = &'a Sample> {
        self.samples.iter().filter(move |(measured, _)| measured == of).map(|(_, sample)| sample)
    }

    fn median(&self, of: &Measured, value: impl Fn(&Sample) -> f64) -> Option<f64> {
        median(self.of(of).map(value).collect())
    }

    fn issued(&self, name: &str, value: impl Fn(&Sample) -> f64) -> Option<f64> {
        self.median(&Measured::Issued(name.to_owned()), value)
    }

    /// The median of the ratios within each round, which neighbours on the machine disturb least.
    fn ratio_to_step(&self, value: fn(&Sample) -> f64) -> Option<f64> {
        let (ours, theirs) = (Measured::Issued(DEFAULT.to_owned()), Measured::Issued(STEP.to_owned()));
        let ours = self.of(&ours).map(value);
        median(ours.zip(self.of(&theirs).map(value)).map(|(o, t)| o / t).collect())
    }

    fn items(&self) -> Vec<Item> {
        let rounds = (self.rounds * self.count) as u64;
        let done = |of: Measured| self.of(&of).map(|sample| sample.done).sum();
        let mut items = Vec::new();
        let mut add = |name, measured, n, (required, aim), at_least| {
            items.push(Item { name, measured, n, required, aim, at_least });
        };
        let per_second = |name| self.issued(name, Sample::per_second);
        add("certificates_per_second_sqlite", per_second("SQLite"), rounds, (500.0, 1_000.0), true);
        add("certificates_per_second_postgresql", per_second("PostgreSQL"), rounds, (800.0, 2_000.0), true);
        // Each with its default database, which is embedded.
        add("ratio_to_step_ca", self.ratio_to_step(Sample::per_second), rounds, (1.0, 1.0), true);
        add("cpu_ratio_to_step_ca", self.ratio_to_step(Sample::cpu_per_1000), rounds, (1.0, 1.0), false);
        for (name, house) in [("revoke_p99_ms_sqlite", "SQLite"), ("revoke_p99_ms_postgresql", "PostgreSQL")]
        {
            let of = Measured::Revoked(house.to_owned());
            add(name, self.median(&of, |sample| sample.percentile(99.0)), done(of), (50.0, 20.0), false);
        }
        for (name, house) in
            [("crl_rebuild_ms_sqlite", "SQLite"), ("crl_rebuild_ms_postgresql", "PostgreSQL")]
        {
            let of = Measured::List(house.to_owned());
            add(
                name,
                self.median(&of, |sample| sample.percentile(50.0)),
                done(of),
                (2_000.0, 1_000.0),
                false,
            );
        }
        for (name, house) in
            [("list_page_p95_ms_sqlite", "SQLite"), ("list_page_p95_ms_postgresql", "PostgreSQL")]
        {
            let of = Measured::Page(house.to_owned());
            add(name, self.median(&of, |sample| sample.percentile(95.0)), done(of), (100.0, 100.0), false);
        }
        for (name, house) in
            [("ocsp_per_second_cached_sqlite", "SQLite"), ("ocsp_per_second_cached_postgresql", "PostgreSQL")]
        {
            let of = Measured::OcspKept(house.to_owned());
            add(name, self.median(&of, Sample::per_second), done(of), (2_000.0, 5_000.0), true);
        }
        for (name, house) in [
            ("ocsp_per_second_with_nonce_sqlite", "SQLite"),
            ("ocsp_per_second_with_nonce_postgresql", "PostgreSQL"),
        ] {
            let of = Measured::OcspWithNonce(house.to_owned());
            add(name, self.median(&of, Sample::per_second), done(of), (600.0, 1_500.0), true);
        }
        items
    }

    fn errors(&self) -> (u64, u64) {
        let sum = |value: fn(&Sample) -> u64| self.samples.iter().map(|(_, sample)| value(sample)).sum();
        (sum(|sample| sample.errors), sum(|sample| sample.done))
    }

    /// The results file with this run in the place of the last one.
    pub(crate) fn markdown(&self, before: &str) -> String {
        let mut text = format!("{BEGIN}\n## Authority\n\n{}\n\n", self.setting());
        text.push_str(
            "| | certificates/s | slowest and fastest round | p99 ms | CPU s per 1,000 |\n|---|---|---|---|---|\n",
        );
        for name in ["SQLite", "SQLite by API", "PostgreSQL", "PostgreSQL by API", STEP] {
            let of = Measured::Issued(name.to_owned());
            let rates: Vec<f64> = self.of(&of).map(Sample::per_second).collect();
            let bound = |pick: fn(f64, f64) -> f64| rates.iter().copied().reduce(pick).unwrap_or(f64::NAN);
            // Writing to a String does not fail.
            let _ = writeln!(
                text,
                "| {name} | {} | {:.0} to {:.0} | {} | {} |",
                shown(self.issued(name, Sample::per_second), 0),
                bound(f64::min),
                bound(f64::max),
                shown(self.issued(name, |sample| sample.percentile(99.0)), 1),
                shown(self.issued(name, Sample::cpu_per_1000), 2),
            );
        }
        text.push_str("\n| | measured | must | aim |\n|---|---|---|---|\n");
        for item in self.items() {
            let sign = if item.at_least { "at least" } else { "at most" };
            let _ = writeln!(
                text,
                "| {} | {} | {sign} {} | {} |",
                item.name.replace('_', " "),
                shown(item.measured, if item.required < 10.0 { 2 } else { 0 }),
                item.required,
                item.aim
            );
        }
        let _ = write!(text, "\n{} failed exchanges in all.\n{END}\n", self.errors().0);
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
        let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let cpu = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown processor");
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        format!(
            "Medians of {} alternating rounds of {} certificates on loopback, 16 clients; {}, {cores} cores for \
             everything: authority, database, clients. Every target commits durably and signs the same P-256 \
             requests with P-256. Ours has proof of possession, lint, both audit events, the register's change, and \
             an edge that has written it to disk before the caller is answered; \"by API\" adds TLS, token, guard and \
             JSON. {} has its default database (badger) and one-time tokens that were made beforehand, over TLS. CPU \
             is that of authority and database; without \"by API\" the callers are in the same process. Absolute \
             numbers are this machine's; compare within one run only.",
            self.rounds,
            self.count,
            cpu.trim_start_matches([' ', '\t', ':']),
            peers::step_version(),
        )
    }

    /// The last line.
    pub(crate) fn json(&self) -> Value {
        let round = |value: f64| (value * 1000.0).round() / 1000.0;
        let (mut items, mut short, mut missed) = (Vec::new(), Vec::new(), Vec::new());
        for item in self.items() {
            let ok = item.reaches(item.required);
            if !ok {
                short.push(item.name);
            }
            if !item.reaches(item.aim) {
                missed.push(item.name);
            }
            items.push(json!({
                "name": item.name, "required": item.required, "aim": item.aim,
                "measured": item.measured.map(round), "n": item.n, "ok": ok,
            }));
        }
        let (errors, done) = self.errors();
        items.push(json!({
            "name": "failed_exchanges", "required": 0, "measured": errors, "n": done, "ok": errors == 0,
        }));
        if errors > 0 {
            short.push("failed_exchanges");
        }
        json!({ "items": items, "short": short, "aims_missed": missed })
    }
}

fn shown(value: Option<f64>, digits: usize) -> String {
    value.map_or("not measured".to_owned(), |value| format!("{value:.digits$}"))
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}
