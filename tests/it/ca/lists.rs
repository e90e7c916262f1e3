//! Revocation lists: what they name, how they are numbered, when they are made.

use std::time::Duration;

use der::Decode;
use wicketgate::domain::{RevocationReason, Serial};
use x509_cert::crl::CertificateList;

use super::fixture::World;
use crate::harness::database::TestDatabase;
use crate::on_both_databases;

/// What a list names: serial, time, reason.
pub(super) fn listed_in(der: &[u8]) -> Vec<(Serial, i64, RevocationReason)> {
    let list: CertificateList = CertificateList::from_der(der).unwrap();
    let revoked = list.tbs_cert_list.revoked_certificates.unwrap_or_default();
    let reason = |code: u8| RevocationReason::from_code(code).unwrap();
    revoked
        .iter()
        .map(|entry| {
            let extensions = entry.crl_entry_extensions.iter().flatten();
            let code = extensions.clone().find(|it| it.extn_id.to_string() == "2.5.29.21");
            let code = code.map_or(0, |it| it.extn_value.as_bytes()[2]);
            let at = entry.revocation_date.to_unix_duration().as_secs();
            let serial = Serial::from_der_octets(entry.serial_number.as_bytes()).unwrap();
            (serial, i64::try_from(at).unwrap(), reason(code))
        })
        .collect()
}

/// What the list names that the edge serves.
pub(super) async fn listed(world: &World) -> Vec<(Serial, i64, RevocationReason)> {
    listed_in(&world.holder.document("client-issuing-g1.crl").unwrap().body)
}

async fn number(world: &World, authority: &str) -> u64 {
    let name = authority.parse().unwrap();
    world.store.latest_crl(&name).await.unwrap().map_or(0, |list| list.number)
}

async fn world(database: &TestDatabase) -> World {
    World::over(database).await
}

on_both_databases! {
    async fn a_list_is_made_at_first_and_again_only_when_there_is_a_reason(database) {
        let world = world(database).await;
        assert_eq!(world.ca.publish_crls(world.now()).await.unwrap(), 2, "root and issuing authority");
        assert_eq!(world.ca.publish_crls(world.now()).await.unwrap(), 0);
        let serial = world.issue("phone").await.certificate.serial;
        world.clock.advance(Duration::from_secs(5));
        world.revoke(serial, "keyCompromise").await.unwrap();
        assert_eq!(world.ca.publish_crls(world.now()).await.unwrap(), 1);
        assert_eq!(number(&world, "client-issuing-g1").await, 2);
        world.clock.advance(Duration::from_secs(4 * 86_400));
        assert_eq!(world.ca.publish_crls(world.now()).await.unwrap(), 2, "half of their lifetime is over");
        assert_eq!(number(&world, "client-issuing-g1").await, 3);
        let document = world.holder.document("client-issuing-g1.crl").unwrap();
        assert_eq!(document.body, world.store.latest_crl(&"client-issuing-g1".parse().unwrap()).await.unwrap().unwrap().der);
    }

    async fn a_revocation_in_the_second_of_the_last_list_is_on_the_next(database) {
        let world = world(database).await;
        let serial = world.issue("phone").await.certificate.serial;
        world.ca.publish_crls(world.now()).await.unwrap();
        // Same second, and even a clock that runs a little behind the publisher's.
        world.clock.set(world.now().minus(Duration::from_secs(2)));
        world.revoke(serial, "superseded").await.unwrap();
        world.ca.publish_crls(world.now()).await.unwrap();
        let name = "client-issuing-g1".parse().unwrap();
        let list = world.store.latest_crl(&name).await.unwrap().unwrap();
        assert_eq!(list.number, 2);
        assert_eq!(world.ca.publish_crls(world.now()).await.unwrap(), 0, "and not again and again");
    }

    async fn numbers_taken_by_many_at_once_are_never_the_same(database) {
        let world = world(database).await;
        let name: wicketgate::domain::Slug = "client-issuing-g1".parse().unwrap();
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..20 {
            let (store, name) = (world.store.clone(), name.clone());
            tasks.spawn(async move { store.next_crl_number(&name).await.unwrap() });
        }
        let mut numbers = tasks.join_all().await;
        numbers.sort_unstable();
        assert_eq!(numbers, (1..=20).collect::<Vec<_>>());
    }

    async fn an_intent_that_came_to_nothing_is_closed_and_its_serial_listed(database) {
        let world = world(database).await;
        let serial = "11223344556677889900aabbccddeeff".parse().unwrap();
        let transaction = world.store.begin().await.unwrap();
        transaction.reserve_serial(serial, "test", world.now()).await.unwrap();
        transaction.record_intent(&wicketgate::store::certificates::Intent {
            serial,
            authority: "client-issuing-g1".parse().unwrap(),
            tbs: vec![1],
            purpose: wicketgate::store::certificates::IntentPurpose::OcspSigner,
            not_after: world.now().plus(Duration::from_secs(86_400)),
            created_at: world.now(),
        }).await.unwrap();
        transaction.commit().await.unwrap();
        assert_eq!(world.ca.resolve_intents(world.now()).await.unwrap(), 0, "its owner may still be at work");
        world.clock.advance(Duration::from_secs(31));
        assert_eq!(world.ca.resolve_intents(world.now()).await.unwrap(), 1);
        let listed = world.store.revocations(&"client-issuing-g1".parse().unwrap(), wicketgate::domain::UtcTime::EPOCH).await.unwrap();
        assert_eq!(listed.iter().map(|entry| entry.serial).collect::<Vec<_>>(), [serial]);
    }
}
