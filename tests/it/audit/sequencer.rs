//! Every committed event gets one place, whoever chains and in whatever order transactions end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use wicketgate::activate::Activation;
use wicketgate::ca::CheckpointError;
use wicketgate::clock::Clock;
use wicketgate::domain::audit::Outcome;
use wicketgate::jobs::chain_audit::{BROKEN, CHECKPOINT_EVERY, ChainAudit, Sequencer};
use wicketgate::jobs::check_audit::{CheckAudit, UNCHAINED};
use wicketgate::jobs::{Job, Jobs};
use wicketgate::pki::audit::{Fault, Trust, verify_export};
use wicketgate::store::StoreError;
use wicketgate::store::audit_chain::Look;
use wicketgate::store::leases::ReplicaId;
use wicketgate::telemetry::metrics::JobMetrics;

use super::fixture::{LEASE, chain_all, check_chain, export, lease, sequencer, world};
use crate::ca::fixture::World;
use crate::harness::wait_until;
use crate::on_both_databases;

async fn unchained(world: &World) -> usize {
    world.store.unchained_audit_events(Look::Everywhere, None, 10_000).await.unwrap().len()
}

fn jobs(job: Arc<dyn Job>) -> Vec<(Activation, Arc<dyn Job>)> {
    vec![(Activation::new(job.name()), job)]
}

on_both_databases! {
    async fn every_event_gets_one_number_without_gaps(database) {
        let world = world(database).await;
        world.issue("phone").await;
        let waiting = unchained(&world).await;
        assert!(waiting > 4);
        let mut sequencer = sequencer(&world).await;
        assert_eq!(sequencer.chain(Look::Everywhere).await.unwrap(), waiting as u64);
        assert_eq!(check_chain(&world.store).await.number, waiting as u64);
        assert_eq!(sequencer.chain(Look::Everywhere).await.unwrap(), 0, "once");
        world.issue("laptop").await;
        assert_eq!(sequencer.chain(Look::Back(Duration::from_secs(10))).await.unwrap(), 2);
        assert_eq!(unchained(&world).await, 0);
        check_chain(&world.store).await;
    }

    async fn more_events_than_a_batch_are_chained_in_one_look(database) {
        let world = world(database).await;
        let before = unchained(&world).await as u64;
        for _ in 0..1100 {
            let _ = world.act("test.act").await;
        }
        assert_eq!(chain_all(&world).await, before + 1100);
        assert_eq!(check_chain(&world.store).await.number, before + 1100);
        // Past the first links a look back reads its part of the tables only, and finds what is new.
        let act = world.act("test.act").await;
        world.store.finish_act(&act, Outcome::Succeeded, None, world.now()).await.unwrap();
        let found = world.store.unchained_audit_events(Look::Back(Duration::from_secs(10)), None, 10).await.unwrap();
        assert_eq!(found.len(), 2);
    }

    async fn an_event_that_is_committed_late_is_chained_though_its_identity_is_smaller(database) {
        let world = world(database).await;
        if world.store.is_sqlite() {
            return; // One writer: nothing can be committed between.
        }
        let act = world.act("test.late").await;
        chain_all(&world).await;
        let late = world.store.begin().await.unwrap();
        late.finish_act(&act, Outcome::Succeeded, None, world.now()).await.unwrap();
        for _ in 0..300 {
            let _ = world.act("test.early").await;
        }
        assert_eq!(chain_all(&world).await, 300);
        late.commit().await.unwrap();
        let mut sequencer = sequencer(&world).await;
        assert_eq!(sequencer.chain(Look::Back(Duration::from_secs(60))).await.unwrap(), 1);
        let last = world.store.audit_links(0, 10_000).await.unwrap().pop().unwrap().event.unwrap();
        assert_eq!((last.action.as_str(), last.phase.as_str()), ("test.late", "finished"));
        check_chain(&world.store).await;
    }

    async fn a_replica_that_lost_its_lease_gets_nothing_into_the_chain(database) {
        let world = world(database).await;
        let mut late = sequencer(&world).await;
        late.chain(Look::Everywhere).await.unwrap();
        assert!(lease(&world.store, world.now()).await.is_none(), "one at a time");
        world.clock.advance(LEASE);
        let mut current = sequencer(&world).await;
        let _ = world.act("test.act").await;
        let refused = late.chain(Look::Everywhere).await;
        assert!(matches!(refused, Err(StoreError::Conflict { .. })), "{refused:?}");
        assert_eq!(current.chain(Look::Everywhere).await.unwrap(), 1);
        check_chain(&world.store).await;
    }

    async fn replicas_that_race_never_fork_the_chain(database) {
        let world = world(database).await;
        chain_all(&world).await;
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..4 {
            let (store, ca, clock) = (world.store.clone(), world.ca.clone(), world.clock.clone());
            tasks.spawn(async move {
                // Leases that end at once: every replica thinks that it is its turn.
                for _ in 0..15 {
                    let Some(lease) = lease(&store, clock.now()).await else { continue };
                    clock.advance(LEASE);
                    let mut sequencer = Sequencer::new(store.clone(), ca.clone(), lease);
                    match sequencer.chain(Look::Everywhere).await {
                        Ok(_) | Err(StoreError::Conflict { .. } | StoreError::Taken { .. }) => {}
                        Err(other) => panic!("{other}"),
                    }
                }
            });
        }
        for _ in 0..60 {
            let _ = world.act("test.act").await;
        }
        while let Some(ended) = tasks.join_next().await {
            ended.unwrap();
        }
        world.clock.advance(LEASE);
        chain_all(&world).await;
        assert_eq!(unchained(&world).await, 0);
        check_chain(&world.store).await;
    }

    async fn two_that_write_at_once_under_one_lease_do_not_fork_it_either(database) {
        let world = world(database).await;
        chain_all(&world).await;
        let lease = lease(&world.store, world.now()).await.unwrap();
        let _ = world.act("test.act").await;
        let head = world.store.audit_head().await.unwrap();
        let events = world.store.unchained_audit_events(Look::Everywhere, None, 10).await.unwrap();
        let write = || world.store.append_audit_links(&lease, &events, Some(head));
        let (one, two) = tokio::join!(write(), write());
        assert_eq!(u32::from(one.is_ok()) + u32::from(two.is_ok()), 1, "{one:?} {two:?}");
        check_chain(&world.store).await;
    }

    async fn a_checkpoint_is_signed_by_time_or_when_asked_and_verifies(database) {
        let world = world(database).await;
        assert!(matches!(world.ca.checkpoint(world.now()).await, Err(CheckpointError::NothingChained)));
        let mut sequencer = sequencer(&world).await;
        sequencer.chain(Look::Everywhere).await.unwrap();
        sequencer.sign_if_due(world.now()).await.unwrap();
        let first = world.store.latest_audit_checkpoint().await.unwrap().unwrap();
        world.issue("phone").await;
        sequencer.chain(Look::Everywhere).await.unwrap();
        sequencer.sign_if_due(world.now()).await.unwrap();
        assert_eq!(world.store.latest_audit_checkpoint().await.unwrap().unwrap(), first, "not due yet");
        sequencer.sign_if_due(world.now().plus(CHECKPOINT_EVERY)).await.unwrap();
        let second = world.store.latest_audit_checkpoint().await.unwrap().unwrap();
        assert!(second.number > first.number);
        assert_eq!(world.ca.checkpoint(world.now()).await.unwrap(), second, "nothing new to sign");
        let _ = world.act("test.act").await;
        sequencer.chain(Look::Everywhere).await.unwrap();
        let asked = world.ca.checkpoint(world.now()).await.unwrap();
        assert_eq!(asked.number, second.number + 1);
        let verdict = verify_export(&export(&world).await, Trust::default());
        assert!(verdict.is_clean(), "{:?}", verdict.faults);
        assert_eq!(verdict.checkpoints, 3);
    }

    async fn the_key_signs_nothing_that_does_not_follow_from_what_it_signed(database) {
        let world = world(database).await;
        let mut sequencer = sequencer(&world).await;
        sequencer.chain(Look::Everywhere).await.unwrap();
        world.ca.checkpoint(world.now()).await.unwrap();
        for _ in 0..3 {
            let _ = world.act("test.act").await;
        }
        sequencer.chain(Look::Everywhere).await.unwrap();
        assert!(world.store.tamper("UPDATE audit_link SET event_id = 'x'").await.is_err(), "append-only");
        assert!(world.store.tamper("DELETE FROM audit_checkpoint").await.is_err(), "append-only");
        world.store.allow_changes("audit_event").await.unwrap();
        world.store.tamper("UPDATE audit_event SET actor = 'nobody' WHERE action = 'test.act'").await.unwrap();
        let refused = world.ca.checkpoint(world.now()).await;
        assert!(matches!(refused, Err(CheckpointError::Broken { .. })), "{refused:?}");
        sequencer.sign_if_due(world.now().plus(CHECKPOINT_EVERY)).await.unwrap();
        let alerts = world.store.alerts(false, None, 10).await.unwrap();
        assert!(alerts.iter().any(|alert| alert.kind == BROKEN), "{alerts:?}");
        let found = verify_export(&export(&world).await, Trust::default()).faults;
        assert!(found.iter().any(|found| matches!(found.fault, Fault::Hash(_))), "{found:?}");
    }

    async fn a_link_that_was_taken_out_of_the_database_shows(database) {
        let world = world(database).await;
        world.issue("phone").await;
        chain_all(&world).await;
        world.ca.checkpoint(world.now()).await.unwrap();
        world.store.allow_changes("audit_link").await.unwrap();
        world.store.tamper("DELETE FROM audit_link WHERE number = 3").await.unwrap();
        world.clock.advance(Duration::from_secs(120));
        let found = verify_export(&export(&world).await, Trust::default()).faults;
        assert!(found.iter().any(|found| found.fault == Fault::Gap { from: 3, to: 3 }), "{found:?}");
        assert!(found.iter().any(|found| matches!(found.fault, Fault::Unchained { .. })), "{found:?}");
    }

    async fn events_that_nobody_chains_raise_an_alert_until_somebody_does(database) {
        let world = world(database).await;
        let check = || async {
            let job = Arc::new(CheckAudit::new(world.store.clone(), Arc::new(JobMetrics::default())));
            let metrics = Arc::new(JobMetrics::default());
            let jobs = jobs(job);
            let jobs = Jobs::idle(world.store.clone(), world.clock.clone(), ReplicaId::new(), metrics, jobs);
            jobs.run_now("check_audit").await.unwrap();
            let open = world.store.alerts(false, None, 10).await.unwrap();
            open.iter().filter(|alert| alert.kind == UNCHAINED).count()
        };
        assert_eq!(check().await, 0, "they are young");
        world.clock.advance(Duration::from_secs(61));
        assert_eq!(check().await, 1);
        chain_all(&world).await;
        assert_eq!(check().await, 0);
    }

    async fn the_job_chains_within_a_second_of_the_commit(database) {
        let world = world(database).await;
        let metrics = Arc::new(JobMetrics::default());
        let job = Arc::new(ChainAudit::new(world.store.clone(), world.ca.clone(), metrics.clone()));
        let all = jobs(job);
        let jobs = Jobs::start(world.store.clone(), world.clock.clone(), ReplicaId::new(), metrics, all);
        let jobs = jobs.await.unwrap();
        wait_until("the backlog", async || (unchained(&world).await == 0).then_some(())).await;
        // The machine may be busy with other tests; what it can do at its best is what counts.
        let mut best = Duration::MAX;
        for _ in 0..5 {
            let act = world.act("test.act").await;
            world.store.finish_act(&act, Outcome::Succeeded, None, world.now()).await.unwrap();
            let committed = Instant::now();
            wait_until("the chain", async || (unchained(&world).await == 0).then_some(())).await;
            best = best.min(committed.elapsed());
        }
        assert!(best < Duration::from_secs(1), "{best:?}");
        assert!(jobs.list().await.unwrap()[0].running, "an hour a run");
        jobs.drain(Duration::from_secs(5)).await;
        assert!(world.store.latest_audit_checkpoint().await.unwrap().is_some());
        check_chain(&world.store).await;
    }
}
