//! A whole roll-over of root and issuing authority under traffic, on compressed time, with one roll-back:
//! no valid certificate fails, no revoked one passes, and who would break is exact.

mod traffic;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use wicketgate::domain::{AuthorityKind, AuthorityState, AuthorityStep, Serial, Slug};

use self::traffic::Gate;
use crate::ca::fixture::World;
use crate::harness::database::TestDatabase;
use crate::on_both_databases;

const DAY: Duration = Duration::from_secs(86_400);

/// How large the proof is.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// Devices at the start.
    pub devices: usize,
    /// Handshakes a second.
    pub rate: u32,
    /// Real time between two steps of the roll-over.
    pub dwell: Duration,
}

impl Scale {
    /// Small enough for every run; `PROVE_SCALE=n` makes it n times as long with n times the devices.
    pub fn from_environment() -> Self {
        let scale =
            std::env::var("PROVE_SCALE").ok().and_then(|text| text.parse().ok()).unwrap_or(1_u32).max(1);
        Self { devices: 6 * scale as usize, rate: 50, dwell: Duration::from_millis(250) * scale }
    }
}

/// What was seen.
#[derive(Debug)]
pub struct Report {
    /// Visits by certificates that were valid.
    pub visits: u64,
    /// Visits by certificates that were revoked or archived.
    pub refusals: u64,
    /// How long there was traffic.
    pub elapsed: Duration,
    /// Valid ones that failed; must be empty.
    pub failures: Vec<String>,
    /// Others that passed; must be empty.
    pub passes: Vec<String>,
    /// For every archive: who was said to break, and who broke.
    pub broken: Vec<(BTreeSet<Serial>, BTreeSet<Serial>)>,
}

fn slug(name: &str) -> Slug {
    name.parse().unwrap()
}

/// Rolls issuing authority and root over, with traffic all the while.
pub async fn prove(database: &TestDatabase, scale: Scale) -> Report {
    let gate = Gate::before(World::over(database).await).await;
    for _ in 0..scale.devices {
        gate.enrol().await;
    }
    let began = Instant::now();
    let mut traffic = gate.visits(scale.rate);
    let dwell = || tokio::time::sleep(scale.dwell);
    dwell().await;

    // The issuing authority, with one step back before it issues.
    let second = gate.world.stage(AuthorityKind::Issuing).await;
    for step in [AuthorityStep::Trust, AuthorityStep::RollBack, AuthorityStep::Trust, AuthorityStep::Issue] {
        gate.world.step(&second, step).await.unwrap();
        dwell().await;
    }
    for _ in 0..scale.devices {
        assert_eq!(gate.enrol().await.authority, second, "new leaves come from the new authority");
    }
    let (old, new) = {
        let valid = gate.valid.lock();
        (valid.first().cloned().unwrap(), valid.last().cloned().unwrap())
    };
    gate.revoke(&old).await;
    gate.revoke(&new).await;
    dwell().await;

    // The root, and an issuing authority under the new one. Leaves of both roots pass.
    gate.pass(DAY * 30).await;
    let root = gate.world.stage(AuthorityKind::Root).await;
    let third = {
        for step in [AuthorityStep::Trust, AuthorityStep::Issue] {
            gate.world.step(&root, step).await.unwrap();
            dwell().await;
        }
        let third = gate.world.stage(AuthorityKind::Issuing).await;
        for step in [AuthorityStep::Trust, AuthorityStep::Issue] {
            gate.world.step(&third, step).await.unwrap();
            dwell().await;
        }
        third
    };
    let under_new_root = gate.enrol().await;
    assert_eq!(under_new_root.authority, third);
    gate.revoke(&under_new_root).await;

    // Most of the first generation's devices renew in time; whoever did not is said to break, and breaks.
    let mut broken = Vec::new();
    let lazy: BTreeSet<Serial> = {
        let first: Vec<_> = of(&gate, &slug("client-issuing-g1"));
        let (busy, lazy) = first.split_at(first.len() - 2);
        for member in busy {
            gate.renew(member).await;
        }
        let busy: BTreeSet<Serial> = busy.iter().map(|member| member.serial).collect();
        for member in gate.forget(|member| busy.contains(&member.serial)) {
            gate.world.revoke(member.serial, "superseded").await.unwrap();
            gate.shut_out(vec![member]);
        }
        lazy.iter().map(|member| member.serial).collect()
    };
    dwell().await;
    broken.push(archive(&gate, &slug("client-issuing-g1")).await);
    assert_eq!(broken[0].0, lazy);
    dwell().await;

    // Nobody is left under the second generation once its last leaf has ended.
    gate.pass(DAY * 61).await;
    dwell().await;
    assert!(of(&gate, &second).is_empty());
    broken.push(archive(&gate, &second).await);
    broken.push(archive(&gate, &slug("client-root-g1")).await);
    dwell().await;
    assert_eq!(gate.world.state("client-root-g1").await, AuthorityState::Archived);
    gate.enrol().await;
    dwell().await;

    traffic.shutdown().await;
    let elapsed = began.elapsed();
    let tally = &gate.tally;
    Report {
        visits: tally.visits.load(Ordering::Relaxed),
        refusals: tally.refusals.load(Ordering::Relaxed),
        elapsed,
        failures: std::mem::take(&mut *tally.failures.lock()),
        passes: std::mem::take(&mut *tally.passes.lock()),
        broken,
    }
}

/// Valid certificates under this authority.
fn of(gate: &Gate, authority: &Slug) -> Vec<Arc<traffic::Member>> {
    gate.valid.lock().iter().filter(|member| member.authority == *authority).cloned().collect()
}

/// Archives, acknowledging what is said; returns who was said to break and who did, tried one by one.
async fn archive(gate: &Gate, name: &Slug) -> (BTreeSet<Serial>, BTreeSet<Serial>) {
    let now = gate.world.now();
    let (count, authorities) = gate.world.ca.dependants(name, now).await.unwrap();
    let listed = gate.world.store.dependent_certificates(&authorities, None, 10_000, now).await.unwrap();
    let said: BTreeSet<Serial> = listed.iter().map(|certificate| certificate.serial).collect();
    assert_eq!(said.len() as u64, count.certificates);
    let everyone: Vec<_> = gate.valid.lock().clone();
    let gone = gate.forget(|member| said.contains(&member.serial));
    gate.world.archive(name, count.certificates).await.unwrap();
    let mut broken = BTreeSet::new();
    for member in everyone {
        for strict in [false, true] {
            if gate.visit(&member, strict).await.is_some() {
                broken.insert(member.serial);
            }
        }
    }
    gate.shut_out(gone);
    (said, broken)
}

on_both_databases! {
    async fn a_whole_roll_over_under_traffic_breaks_nobody_but_whom_it_said(database) {
        let report = prove(database, Scale::from_environment()).await;
        assert!(report.failures.is_empty(), "valid certificates failed: {:#?}", report.failures);
        assert!(report.passes.is_empty(), "shut out certificates passed: {:#?}", report.passes);
        for (said, broken) in &report.broken {
            assert_eq!(said, broken, "who would break was not who broke");
        }
        assert_eq!(report.broken.iter().map(|(said, _)| said.len()).collect::<Vec<_>>(), [2, 0, 0]);
        assert!(report.visits > 50 && report.refusals > 10, "{report:?}");
        eprintln!(
            "{} handshakes in {:?}, of which {} by certificates that were shut out",
            report.visits + report.refusals, report.elapsed, report.refusals
        );
    }
}
