//! What the running system says and does about a root whose key it does not have.

use std::time::Duration;

use wicketgate::ca::health::{Finding, Health, Severity, of_authorities};
use wicketgate::ca::{Brought, Wanted};
use wicketgate::domain::Secret;
use wicketgate::keys::{Kek, SystemEntropy};
use wicketgate::pki::ceremony::Plan;
use wicketgate::pki::{AuthorityCertificate, keygen};
use wicketgate::store::Store;

use super::fixture::World;
use crate::on_both_databases;

const DAY: Duration = Duration::from_secs(86_400);
/// From one list of the root to the end of it.
const LIST_DAYS: u32 = 180;

/// A first ceremony, in one process.
async fn found(world: &World) {
    world.ca.keep_root_offline().await.unwrap();
    let act = world.act("ceremony.plan").await;
    let wanted = Wanted { new_root: true, issuing: true, list_lifetime: DAY * LIST_DAYS };
    let text = world.ca.plan_ceremony(wanted, &act, world.now()).await.unwrap();
    let plan = Plan::from_text(&text).unwrap();
    let (key, spki): (Secret<Vec<u8>>, _) = keygen::generate_p256();
    let sign = |tbs: &[u8]| keygen::sign_p256(key.expose(), tbs).unwrap();
    let prepared = plan.prepare_root(&spki).unwrap();
    let signature = sign(prepared.tbs());
    let root = prepared.assemble(&signature).unwrap();
    let certificate = AuthorityCertificate::from_der(root.der()).unwrap();
    let prepared = plan.prepare_issuing(&certificate).unwrap().unwrap();
    let signature = sign(prepared.tbs());
    let issuing = prepared.assemble(&signature).unwrap();
    let prepared = plan.prepare_list(&certificate).unwrap();
    let signature = sign(prepared.tbs());
    let list = prepared.assemble(&signature).unwrap();
    let brought = Brought {
        root: root.der().to_vec(),
        issuing: Some(issuing.der().to_vec()),
        list: list.der().to_vec(),
    };
    let act = world.act("ceremony.import").await;
    world.ca.import_ceremony(&text, &brought, &act, world.now()).await.unwrap();
}

on_both_databases! {
    async fn the_end_of_its_list_is_told_in_time_and_with_the_ceremony_that_makes_another(database) {
        let store = Store::create(&database.url(), 5).await.unwrap();
        store.migrate(None).await.unwrap();
        let key = Kek::fresh_text(&SystemEntropy);
        let world = World::bare(store, &key, "2026-11-23T12:00:00Z".parse().unwrap()).await;
        found(&world).await;
        let health = Health::new(of_authorities(&world.store, &world.ca));
        let of_root = async || {
            world.ca.publish_crls(world.now()).await.unwrap();
            let all = health.findings(world.now()).await;
            all.into_iter().find(|one| one.object == "client-root-g1")
        };
        let begun = world.now();
        for (day, expected) in [
            (0, None),
            // Half of its life is over: of an online root another list would be due.
            (100, None),
            (121, Some(Severity::Warning)),
            (LIST_DAYS + 1, Some(Severity::Critical)),
        ] {
            world.clock.set(begun.plus(DAY * day));
            let told: Option<Finding> = of_root().await;
            assert_eq!(told.as_ref().map(|one| one.severity), expected, "day {day}: {told:?}");
            let right = |one: &Finding| one.check == "list_stale" && one.advice.contains("ca ceremony plan");
            assert!(told.as_ref().is_none_or(right), "{told:?}");
        }
    }
}
