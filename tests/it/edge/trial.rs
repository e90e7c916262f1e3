//! A configuration that would let strangers in is not published, and what serves is asked ever after.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Notify;
use wicketgate::domain::{AccessPolicy, Hostname};
use wicketgate::live::probe::{Candidate, Probe, ProbeFault, Stranger};
use wicketgate::live::{Configuration, EdgeError, EdgeLink, Route, Site, Update};
use wicketgate::telemetry::metrics::SelfCheck;

use super::client::{Http, connect, until};
use super::fixture::{APP, Parts, STRICT, World};

/// The compiled site, to be spoilt.
fn site<'a>(configuration: &'a mut Configuration, host: &str) -> &'a mut Site {
    Arc::get_mut(configuration.sites.get_mut(&Hostname::normalize(host).unwrap()).unwrap()).unwrap()
}

fn open(configuration: &mut Configuration) {
    for route in &mut site(configuration, APP).routes {
        let policy = AccessPolicy::Public;
        *route = Arc::new(Route { policy, ..Route::clone(route) });
    }
}

/// What became of the fixture's configuration, published once more.
async fn publish(world: &World) -> Result<u64, EdgeError> {
    let mut data = world.data.clone();
    data.version = world.holder.snapshot().unwrap().configuration.version + 1;
    let update = Update { configuration: Some(Arc::new(data)), ..Update::default() };
    world.holder.apply(&update).await.map(|ack| ack.version)
}

#[tokio::test]
async fn a_configuration_that_lets_strangers_in_is_not_published() {
    let world = World::start().await;
    let before = world.holder.snapshot().unwrap().configuration.version;
    world.holder.spoil(open);
    match publish(&world).await {
        Err(EdgeError::Probe(ProbeFault::LetThrough { who: Stranger::Anonymous, host, path })) => {
            assert_eq!((host.as_str(), path.as_str()), (APP, "/"));
        }
        other => panic!("published: {other:?}"),
    }
    assert_eq!(world.holder.snapshot().unwrap().configuration.version, before);
    assert_eq!(connect(&world, APP, None, Http::One).await.get(APP, "/").await.status, 403);
    world.holder.mend();
    assert_eq!(publish(&world).await.unwrap(), before + 1);
}

#[tokio::test]
async fn nor_is_one_that_has_lost_a_protected_route() {
    let world = World::start().await;
    world.holder.spoil(|configuration| site(configuration, STRICT).routes.clear());
    world.holder.mend();
    world.holder.spoil(|configuration| site(configuration, APP).routes.clear());
    let refused = publish(&world).await.unwrap_err();
    assert!(matches!(refused, EdgeError::Probe(ProbeFault::Unclear { .. })), "{refused:?}");
}

/// Tries nothing until it is told to, and then finds nothing.
#[derive(Default)]
struct Stuck(Notify);

#[async_trait]
impl Probe for Stuck {
    async fn probe(&self, _: Candidate) -> Result<(), ProbeFault> {
        self.0.notified().await;
        Ok(())
    }
}

#[tokio::test]
async fn a_revocation_waits_for_no_trial() {
    let (parts, stuck) = (Parts::default(), Arc::new(Stuck::default()));
    parts.holder.try_with(stuck.clone());
    stuck.0.notify_one();
    let world = Arc::new(World::of(parts, |_| {}, |_| {}).await);
    let device = world.enrol().await;
    let mut visitor = connect(&world, APP, Some(&device), Http::One).await;
    assert_eq!(visitor.get(APP, "/").await.status, 200);
    let waiting = tokio::spawn({
        let world = world.clone();
        async move { publish(&world).await.unwrap() }
    });
    tokio::task::yield_now().await;
    world.revoke(&device).await;
    assert_eq!(visitor.get(APP, "/").await.code(), "certificate_revoked");
    assert!(!waiting.is_finished());
    stuck.0.notify_one();
    assert_eq!(waiting.await.unwrap(), 2);
}

/// Finds nothing.
struct Blind;

#[async_trait]
impl Probe for Blind {
    async fn probe(&self, _: Candidate) -> Result<(), ProbeFault> {
        Ok(())
    }
}

#[tokio::test]
async fn an_edge_that_lets_a_stranger_in_closes_its_protected_routes() {
    let parts = Parts::default();
    parts.holder.try_with(Arc::new(Blind));
    let often = Some(Duration::from_millis(20));
    let world = World::of(parts, |settings| settings.self_check_every = often, |_| {}).await;
    let checks = |result| world.metrics.self_checks.value(result);
    until("it asks", || checks(SelfCheck::Refused) > 4).await;
    assert_eq!(checks(SelfCheck::LetThrough), 0);
    world.holder.spoil(open);
    publish(&world).await.unwrap();
    until("it finds", || checks(SelfCheck::LetThrough) > 0).await;
    let device = world.enrol().await;
    let mut visitor = connect(&world, STRICT, Some(&device), Http::Two).await;
    until("it is closed", || world.metrics.sealed.value() == 1).await;
    // Found before the publication was noticed, it is found once more.
    loop {
        let answer = visitor.get(STRICT, "/").await;
        if answer.status == 503 {
            break assert_eq!(answer.code(), "policy_stale");
        }
    }
    world.holder.mend();
    publish(&world).await.unwrap();
    let refused = checks(SelfCheck::Refused);
    until("it asks again", || checks(SelfCheck::Refused) > refused + 20).await;
    assert_eq!(world.metrics.sealed.value(), 0);
    assert_eq!(visitor.get(STRICT, "/").await.status, 200);
}
