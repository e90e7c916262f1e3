//! Ends the process, or takes the database away, at every named point of every act of the authority, on
//! both databases, again and again: nothing is signed that is not on record, and the next process goes on.
//!
//! In one process, a kill is every task of the run unwinding at once with its transactions open: what was
//! committed stands, and nothing else. A tenth as many runs are real processes that are sent SIGKILL.

mod evidence;
mod process;
mod series;

use evidence::Found;
use series::{Blow, Series};

use super::Proof;
use super::seed::Seed;
use crate::harness::database::TestDatabase;

/// What the authority is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// First certificates, up to three at once.
    Issue,
    /// Successors of certificates.
    Renew,
    /// A revocation.
    Revoke,
    /// A revocation list of every authority.
    PublishLists,
    /// The first authorities, in an empty database.
    MakeAuthorities,
}

/// One line of the matrix.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub(super) act: Act,
    pub(super) point: &'static str,
}

const fn row(act: Act, point: &'static str) -> Row {
    Row { act, point }
}

/// Every act at every point that it passes. Whoever adds an act or a point adds a line.
pub(super) const MATRIX: &[Row] = &[
    row(Act::Issue, "ca.after_serial"),
    row(Act::Issue, "ca.after_intent"),
    row(Act::Issue, "ca.after_signing"),
    row(Act::Issue, "ca.before_commit"),
    row(Act::Issue, "ca.after_commit"),
    row(Act::Renew, "ca.after_serial"),
    row(Act::Renew, "ca.after_intent"),
    row(Act::Renew, "ca.after_signing"),
    row(Act::Renew, "ca.before_commit"),
    row(Act::Renew, "ca.after_commit"),
    row(Act::Revoke, "revoke.before_commit"),
    row(Act::Revoke, "revoke.after_commit"),
    row(Act::PublishLists, "crl.after_number"),
    row(Act::PublishLists, "crl.after_record"),
    row(Act::PublishLists, "crl.after_signing"),
    row(Act::PublishLists, "crl.before_commit"),
    row(Act::PublishLists, "crl.after_commit"),
    row(Act::MakeAuthorities, "authority.after_serial"),
    row(Act::MakeAuthorities, "authority.after_record"),
    row(Act::MakeAuthorities, "authority.after_signing"),
    row(Act::MakeAuthorities, "authority.before_commit"),
    row(Act::MakeAuthorities, "authority.after_commit"),
];

/// Points with a name of their own.
fn points() -> usize {
    MATRIX.iter().map(|row| row.point).collect::<std::collections::BTreeSet<_>>().len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn crash_matrix() {
    let proof = Proof::of("crash_matrix");
    let (sqlite, postgres) =
        tokio::join!(Box::pin(every_row(&proof, false)), Box::pin(every_row(&proof, true)),);
    let missing = postgres.is_none();
    let mut found = sqlite.unwrap_or_default();
    found.add(&postgres.unwrap_or_default());
    let ok = points() >= 12 && found.is_clean() && (!missing || !super::is_full());
    proof.end(found.runs(), ok, &format!("{} points: {found}", points()));
}

/// Every row on one kind of database; nothing when PostgreSQL is missing.
async fn every_row(proof: &Proof, postgres: bool) -> Option<Found> {
    // Most of a run is waiting for a disk or a process.
    let lanes = (0..LANES).map(|lane| Box::pin(every_row_of(lane, proof, postgres)));
    let mut all = Found::default();
    for found in futures_util::future::join_all(lanes).await {
        all.add(&found?);
    }
    Some(all)
}

/// Rows at once on each kind of database.
const LANES: usize = 3;

async fn every_row_of(lane: usize, proof: &Proof, postgres: bool) -> Option<Found> {
    let mut found = Found::default();
    for (at, row) in MATRIX.iter().enumerate().filter(|(at, _)| at % LANES == lane) {
        let database = if postgres { TestDatabase::postgres()? } else { TestDatabase::sqlite() };
        let mut series = Series::begin(*row, database).await;
        // Issuing and renewing pass the same points: both together as often as the others.
        let full = if matches!(row.act, Act::Issue | Act::Renew) { 50 } else { 100 };
        for number in 0..proof.size(2, full) {
            let mut seed = Seed::of(at as u64 * 1_000_003 + number * 7 + u64::from(postgres));
            series.run(Blow::Kill, &mut seed, &mut found).await;
            let blow = series.failing(&mut seed);
            series.run(blow, &mut seed, &mut found).await;
        }
        for number in 0..proof.size(1, full / 5) {
            let mut seed = Seed::of(at as u64 * 2_000_003 + number);
            process::run(&mut series, &mut seed, &mut found).await;
        }
        series.leave().await;
        proof.progress(at as u64 + 1, MATRIX.len() as u64);
    }
    Some(found)
}
