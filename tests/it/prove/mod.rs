//! The proofs. Each is an ordinary test: small with every run of the tests, at full size under
//! `make prove-authority` and `make prove-edge` (`PROVE=full`, times `PROVE_SCALE`), which collect what
//! each measured.
//!
//! An item of `items.json` or `items-edge.json` is proved by the one test below `prove::` whose own name is
//! the item's.

mod bad_profiles;
mod crash;
mod edge;
mod gate;
mod health;
mod idempotency;
mod lint;
mod others;
mod profiles;
mod revocation;
mod rivals;
mod rules;
pub(crate) mod seed;
mod stories;
mod validity;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};

/// Between two lines that say how far a proof is.
const SPEAK_EVERY: Duration = Duration::from_secs(10);
/// What each table may take on two cores, in minutes.
const MINUTES: u64 = 50;

/// A line of the table.
#[derive(Deserialize)]
struct Item {
    name: String,
    minutes: u64,
    required: String,
}

/// The tables: the authority's and the edge's.
fn tables() -> [Vec<Item>; 2] {
    [include_str!("items.json"), include_str!("items-edge.json")]
        .map(|table| serde_json::from_str(table).unwrap())
}

/// One item while it is being proved.
pub(crate) struct Proof {
    name: &'static str,
    required: String,
    started: Instant,
    spoke: Mutex<Instant>,
    aims_missed: Vec<String>,
}

/// Whether proofs run at full size.
pub(crate) fn is_full() -> bool {
    std::env::var("PROVE").is_ok_and(|size| size == "full")
}

impl Proof {
    /// Begins the item of this name.
    pub(crate) fn of(name: &'static str) -> Self {
        let item = tables().into_iter().flatten().find(|item| item.name == name);
        let required = item.unwrap_or_else(|| panic!("{name} is in no table")).required;
        let now = Instant::now();
        Self { name, required, started: now, spoke: Mutex::new(now), aims_missed: Vec::new() }
    }

    /// How many: `small` in every run of the tests, `full` times `PROVE_SCALE` at full size.
    pub(crate) fn size(&self, small: u64, full: u64) -> u64 {
        if !is_full() {
            return small;
        }
        let scale = std::env::var("PROVE_SCALE").ok().and_then(|scale| scale.parse::<f64>().ok());
        ((full as f64) * scale.unwrap_or(1.0)).ceil().max(1.0) as u64
    }

    /// Says how far it is, now and then, at full size.
    pub(crate) fn progress(&self, done: u64, of: u64) {
        let mut spoke = self.spoke.lock();
        if is_full() && spoke.elapsed() >= SPEAK_EVERY {
            *spoke = Instant::now();
            println!("  {}: {done} of {of} after {} s", self.name, self.started.elapsed().as_secs());
        }
    }

    /// Notes an aim that is no requirement and was missed.
    pub(crate) fn miss(&mut self, aim: impl Into<String>) {
        self.aims_missed.push(aim.into());
    }

    /// Ends it: `n` cases, what was measured in words, whether that is what is required.
    #[track_caller]
    pub(crate) fn end(self, n: u64, ok: bool, measured: &str) {
        let report = self.report(n, ok, measured);
        if let Some(folder) = std::env::var_os("PROVE_DIR").map(PathBuf::from) {
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join(format!("{}.json", self.name)), report.to_string()).unwrap();
        }
        assert!(ok, "{}: {measured}\nrequired: {}", self.name, self.required);
    }

    fn report(&self, n: u64, ok: bool, measured: &str) -> Value {
        json!({
            "name": self.name, "required": self.required, "measured": measured, "n": n, "ok": ok,
            "seconds": self.started.elapsed().as_secs(), "aims_missed": self.aims_missed,
        })
    }
}

#[test]
fn each_table_fits_in_its_time_and_every_proof_has_one_name() {
    for items in tables() {
        assert!(items.iter().map(|item| item.minutes).sum::<u64>() <= MINUTES);
    }
    let proofs: Vec<_> = tables().into_iter().flatten().filter(|item| item.name != "bench").collect();
    let names: std::collections::BTreeSet<_> = proofs.iter().map(|item| &item.name).collect();
    assert_eq!(names.len(), proofs.len());
    let mut proof = Proof::of("bench");
    proof.miss("ten thousand a second");
    let report = proof.report(7, true, "fine");
    assert_eq!(
        (&report["n"], &report["ok"], &report["aims_missed"][0]),
        (&json!(7), &json!(true), &json!("ten thousand a second"))
    );
}
