//! Items whose proof lives with what it proves, brought to their size here.

use super::Proof;
use crate::harness::database::TestDatabase;
use crate::{audit, rollover};

#[test]
fn audit_tamper() {
    let proof = Proof::of("audit_tamper");
    let tally = audit::tamper::audit_tamper(proof.size(400, 10_000), 0xa11d);
    let measured = format!("{} of {} noticed {:?}", tally.detected, tally.tried, tally.missed);
    proof.end(tally.tried, tally.detected == tally.tried, &measured);
}

/// Full size is a minute of traffic at 50 handshakes a second.
fn scale(proof: &Proof) -> rollover::Scale {
    let times = u32::try_from(proof.size(1, 8)).unwrap();
    let small = rollover::Scale::small();
    rollover::Scale { devices: small.devices * times as usize, dwell: small.dwell * times, ..small }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rollover() {
    let proof = Proof::of("rollover");
    let database = TestDatabase::postgres().unwrap_or_else(TestDatabase::sqlite);
    let report = rollover::prove(&database, scale(&proof)).await;
    let ok = report.failures.is_empty() && report.passes.is_empty() && report.visits > 50;
    let measured = format!(
        "{} handshakes of valid certificates, {} failed; {} of others, {} passed; {:?}",
        report.visits,
        report.failures.len(),
        report.refusals,
        report.passes.len(),
        report.elapsed
    );
    proof.end(report.visits + report.refusals, ok, &measured);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_would_break() {
    let proof = Proof::of("who_would_break");
    let report = rollover::prove(&TestDatabase::sqlite(), scale(&proof)).await;
    let exact = report.broken.iter().filter(|(said, broke)| said == broke).count();
    let archived = report.broken.len();
    let measured = format!(
        "{exact} of {archived} authorities exact, {:?} devices each",
        report.broken.iter().map(|(said, _)| said.len()).collect::<Vec<_>>()
    );
    proof.end(archived as u64, exact == archived && archived == 3, &measured);
}
