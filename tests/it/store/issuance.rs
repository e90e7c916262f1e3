//! Issuances of the same moment share their commits, and none of them the fate of another.

use futures_util::future::{join, join_all};
use wicketgate::ca::{DeviceChoice, IssueError, IssueRequest};
use wicketgate::domain::Serial;
use wicketgate::keys::SystemEntropy;
use wicketgate::live::Delta;
use wicketgate::store::StoreError;
use wicketgate::store::certificates::{CertificateFilter, Intent, IntentPurpose};

use crate::ca::fixture::{World, csr};
use crate::on_both_databases;

fn intent(world: &World, serial: Serial) -> Intent {
    Intent {
        serial,
        authority: "client-issuing-g1".parse().unwrap(),
        tbs: vec![1],
        purpose: IntentPurpose::OcspSigner,
        not_after: world.now(),
        created_at: world.now(),
    }
}

on_both_databases! {
    async fn many_at_once_are_each_on_record_and_known_at_the_edge(database) {
        let world = World::over(database).await;
        let issued = join_all((0..40).map(|_| world.issue("laptop"))).await;
        assert!(issued.iter().all(|issued| issued.enforced.acknowledged == 1));
        for one in &issued {
            let standing = world.holder.register().look_up(&one.certificate.fingerprint);
            assert_eq!(standing.map(|standing| standing.serial), Some(one.certificate.serial));
        }
        let changes = world.store.changes_after(0, 1_000).await.unwrap();
        let epochs: Vec<_> = changes.iter().map(|change| change.epoch).collect();
        assert_eq!(epochs, (1..=epochs.len() as u64).collect::<Vec<_>>(), "without gaps");
        let certificates = changes.iter().filter(|change| matches!(change.delta, Delta::Certificate(_)));
        assert_eq!(certificates.count(), 40);
    }

    async fn one_serial_that_is_taken_refuses_only_its_own_intent(database) {
        let world = World::over(database).await;
        let fresh = || Serial::random(&SystemEntropy);
        let taken = fresh();
        world.store.put_on_record(intent(&world, taken)).await.unwrap();
        let held = world.store.begin().await.unwrap();
        let intents = [fresh(), taken, fresh()].map(|serial| world.store.put_on_record(intent(&world, serial)));
        let (answers, ()) = join(join_all(intents), async { drop(held) }).await;
        assert!(answers[0].is_ok() && answers[2].is_ok());
        assert!(matches!(answers[1], Err(StoreError::Taken { .. })));
    }

    async fn a_blocked_key_among_many_is_the_only_one_refused(database) {
        let world = World::over(database).await;
        let request = |csr_pem: String| IssueRequest {
            person: world.anna,
            device: DeviceChoice::New { name: "phone".to_owned() },
            profile: "device".parse().unwrap(),
            csr_pem,
            dns_names: Default::default(),
        };
        let compromised = csr();
        let act = world.act("certificate.issue").await;
        let first = world.ca.issue(&request(compromised.clone()), &act, world.now()).await.unwrap().certificate;
        world.revoke(first.serial, "keyCompromise").await.unwrap();
        let requests = [csr(), compromised, csr()].map(request);
        let answers = join_all(requests.iter().map(async |request| {
            let act = world.act("certificate.issue").await;
            world.ca.issue(request, &act, world.now()).await
        }))
        .await;
        assert!(answers[0].is_ok() && answers[2].is_ok());
        assert!(matches!(answers[1], Err(IssueError::Gate(_))));
        assert_eq!(world.store.certificates(&CertificateFilter::default(), 10, world.now()).await.unwrap().len(), 3);
    }
}
