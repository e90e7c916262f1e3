//! The runner: never twice at once, and it survives what its jobs do.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Semaphore;
use wicketgate::activate::Activation;
use wicketgate::clock::{Clock, ManualClock};
use wicketgate::jobs::{Job, JobContext, JobError, JobReport, Jobs, RunError};
use wicketgate::store::Store;
use wicketgate::store::jobs::RunOutcome;
use wicketgate::store::leases::{Acquired, ReplicaId};
use wicketgate::telemetry::metrics::JobMetrics;

use crate::harness::database::TestDatabase;
use crate::harness::wait_until;
use crate::on_both_databases;

/// Counts its runs and how many there were at once; fails or panics when told to.
#[derive(Default)]
struct Odd {
    runs: AtomicU32,
    inside: AtomicU32,
    most: AtomicU32,
    mood: AtomicU32,
    gate: Option<Arc<Semaphore>>,
}

#[async_trait]
impl Job for Odd {
    fn name(&self) -> &'static str {
        "odd"
    }

    fn schedule(&self) -> &'static str {
        // Every second: the clock must not be able to make it overlap.
        "* * * * * *"
    }

    fn description(&self) -> &'static str {
        "Does odd things"
    }

    async fn run(&self, _: &JobContext) -> Result<JobReport, JobError> {
        let inside = self.inside.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(inside, Ordering::SeqCst);
        if let Some(gate) = &self.gate {
            gate.acquire().await.unwrap().forget();
        }
        self.inside.fetch_sub(1, Ordering::SeqCst);
        let run = self.runs.fetch_add(1, Ordering::SeqCst) + 1;
        match self.mood.load(Ordering::SeqCst) {
            1 => panic!("odd things happen"),
            2 => Err(JobError::plain("it did not feel like it")),
            _ => Ok(JobReport::new(1, format!("run {run}"))),
        }
    }
}

struct World {
    store: Store,
    clock: Arc<ManualClock>,
    metrics: Arc<JobMetrics>,
}

impl World {
    async fn over(database: &TestDatabase) -> Self {
        let store = Store::create(&database.url(), 8).await.unwrap();
        store.migrate(None).await.unwrap();
        let clock = ManualClock::at("2026-11-23T12:00:00Z".parse().unwrap());
        Self { store, clock, metrics: Arc::default() }
    }

    fn jobs(&self, job: &Arc<Odd>) -> Jobs {
        let all = vec![(Activation::new("odd"), job.clone() as Arc<dyn Job>)];
        Jobs::idle(self.store.clone(), self.clock.clone(), ReplicaId::new(), self.metrics.clone(), all)
    }
}

on_both_databases! {
    async fn a_run_is_on_record_whatever_becomes_of_it(database) {
        let world = World::over(database).await;
        let odd = Arc::new(Odd::default());
        let jobs = world.jobs(&odd);
        assert_eq!(jobs.run_now("odd").await.unwrap(), JobReport::new(1, "run 1"));
        odd.mood.store(1, Ordering::SeqCst);
        assert!(matches!(jobs.run_now("odd").await, Err(RunError::Panicked(text)) if text == "odd things happen"));
        odd.mood.store(2, Ordering::SeqCst);
        assert!(matches!(jobs.run_now("odd").await, Err(RunError::Failed(_))));
        assert!(matches!(jobs.run_now("even").await, Err(RunError::Unknown(_))));
        let runs = jobs.runs("odd", 10).await.unwrap().unwrap();
        let outcomes: Vec<_> = runs.iter().map(|run| run.outcome.unwrap()).collect();
        assert_eq!(outcomes, [RunOutcome::Failed, RunOutcome::Panicked, RunOutcome::Succeeded]);
        assert_eq!(runs[0].detail.as_deref(), Some("it did not feel like it"));
        let view = jobs.list().await.unwrap().remove(0);
        assert!(!view.running && view.last_run.unwrap().id == runs[0].id);
        assert_eq!(view.next_run_at.unwrap().to_string(), "2026-11-23T12:00:01Z");
    }

    async fn a_job_overlaps_itself_neither_here_nor_elsewhere(database) {
        let world = World::over(database).await;
        let gate = Arc::new(Semaphore::new(0));
        let odd = Arc::new(Odd { gate: Some(gate.clone()), ..Odd::default() });
        let (here, there) = (world.jobs(&odd), world.jobs(&odd));
        let first = tokio::spawn({ let here = here.clone(); async move { here.run_now("odd").await } });
        wait_until("the job to run", async || (odd.inside.load(Ordering::SeqCst) == 1).then_some(())).await;
        assert!(here.list().await.unwrap()[0].running);
        assert!(matches!(there.run_now("odd").await, Err(RunError::Elsewhere { .. })));
        let second = tokio::spawn({ let here = here.clone(); async move { here.run_now("odd").await } });
        gate.add_permits(2);
        first.await.unwrap().unwrap();
        second.await.unwrap().unwrap();
        assert_eq!((odd.runs.load(Ordering::SeqCst), odd.most.load(Ordering::SeqCst)), (2, 1));
    }

    async fn a_run_that_a_dead_process_left_open_is_closed(database) {
        let world = World::over(database).await;
        let dead = ReplicaId::new();
        let lifetime = Duration::from_secs(30);
        let now = world.clock.now();
        let Acquired::Ours(lease) = world.store.acquire_lease("job:odd", &dead, lifetime, now).await.unwrap()
        else { panic!("nobody else has it") };
        let lost = world.store.begin_run("odd", &dead, &lease, now).await.unwrap();
        let jobs = world.jobs(&Arc::new(Odd::default()));
        assert!(matches!(jobs.run_now("odd").await, Err(RunError::Elsewhere { .. })), "it may live yet");
        world.clock.advance(lifetime);
        jobs.run_now("odd").await.unwrap();
        let runs = jobs.runs("odd", 10).await.unwrap().unwrap();
        let closed = runs.iter().find(|run| run.id == lost).unwrap();
        assert_eq!(closed.outcome, Some(RunOutcome::Lost));
        world.store.finish_run(&lost, RunOutcome::Succeeded, "late", world.clock.now()).await.unwrap();
        assert_eq!(jobs.runs("odd", 10).await.unwrap().unwrap().iter().find(|run| run.id == lost).unwrap().outcome, Some(RunOutcome::Lost));
    }

    async fn boot_and_ticks_and_buttons_wake_it_until_it_drains(database) {
        let world = World::over(database).await;
        let odd = Arc::new(Odd::default());
        let activation = Activation::new("odd");
        let all = vec![(activation.clone(), odd.clone() as Arc<dyn Job>)];
        let jobs = Jobs::start(
            world.store.clone(), world.clock.clone(), ReplicaId::new(), world.metrics.clone(), all,
        ).await.unwrap();
        wait_until("boot", async || (odd.runs.load(Ordering::SeqCst) >= 1).then_some(())).await;
        wait_until("ticks", async || (odd.runs.load(Ordering::SeqCst) >= 3).then_some(())).await;
        assert!(jobs.wake("odd") && !jobs.wake("even"));
        activation.wake();
        jobs.drain(Duration::from_secs(5)).await;
        let after = odd.runs.load(Ordering::SeqCst);
        activation.wake();
        tokio::task::yield_now().await;
        assert_eq!(odd.runs.load(Ordering::SeqCst), after, "nothing runs after the drain");
        assert_eq!(odd.most.load(Ordering::SeqCst), 1);
        assert!(world.store.job_runs("odd", 100).await.unwrap().iter().all(|run| run.finished_at.is_some()));
    }
}
