//! What a crash left open is closed by the run at boot, without waiting for a tick.

use std::sync::Arc;
use std::time::Duration;

use wicketgate::activate::Activation;
use wicketgate::ca::DeviceChoice;
use wicketgate::clock::Clock;
use wicketgate::crash::{Blow, Plan};
use wicketgate::domain::UtcTime;
use wicketgate::jobs::close_orphans::CloseOrphans;
use wicketgate::jobs::{Job, Jobs};
use wicketgate::store::leases::ReplicaId;
use wicketgate::telemetry::metrics::JobMetrics;

use crate::ca::fixture::World;
use crate::harness::wait_until;
use crate::on_both_databases;

on_both_databases! {
    async fn an_intent_of_a_moment_ago_is_closed_within_a_minute_of_the_start(database) {
        let world = World::over(database).await;
        let plan = Plan::new("ca.after_signing", 1, Blow::DatabaseAway);
        plan.run(world.try_issue(DeviceChoice::New { name: "phone".to_owned() })).await.unwrap_err();
        let open = async || world.store.unresolved_intents(UtcTime::MAX).await.unwrap().len();
        assert_eq!(open().await, 1);
        let wait = world.ca.open_intents_belong_to_nobody_in(world.now()).await.unwrap().unwrap();
        assert!(wait < Duration::from_secs(60));

        let job: Arc<dyn Job> = Arc::new(CloseOrphans::new(world.store.clone(), world.ca.clone()));
        let metrics: Arc<JobMetrics> = Arc::default();
        let all = vec![(Activation::new("close_orphans"), job)];
        let jobs = Jobs::idle(world.store.clone(), world.clock.clone(), ReplicaId::new(), metrics, all);
        let run = tokio::spawn({ let jobs = jobs.clone(); async move { jobs.run_now("close_orphans").await } });
        wait_until("the job to run", async || jobs.list().await.unwrap()[0].running.then_some(())).await;
        // The wait is over as soon as somebody says so; what is closed then is what the clock says.
        world.clock.set(world.clock.now().plus(wait));
        jobs.drain(Duration::ZERO).await;
        wait_until("the intent to be closed", async || (open().await == 0).then_some(())).await;
        let _ = run.await;
        world.ca.publish_crls(world.now()).await.unwrap();
        let listed = world.store.revocations(&"client-issuing-g1".parse().unwrap(), UtcTime::EPOCH).await.unwrap();
        assert_eq!(listed.len(), 1);
        assert_eq!(world.ca.open_intents_belong_to_nobody_in(world.now()).await.unwrap(), None);
    }
}
