//! Nothing is signed that is not on record first, and what is recorded passes at once.

use std::time::Duration;

use rustls_pki_types::CertificateDer;
use wicketgate::ca::{DeviceChoice, GateError, IssueError, IssueRequest, RevokeError};
use wicketgate::domain::{Actor, DeviceId, RevocationReason, UtcTime};
use wicketgate::live::{Cause, Classified, classify};
use wicketgate::pki::profile::Rule;
use wicketgate::store::Store;
use wicketgate::store::audit::AuditFilter;
use wicketgate::store::certificates::CertificateFilter;

use super::fixture::{World, csr};
use crate::harness::database::TestDatabase;
use crate::on_both_databases;

async fn world(database: &TestDatabase) -> World {
    World::over(database).await
}

fn verdict(world: &World, der: &[u8]) -> Classified {
    classify(&[CertificateDer::from(der)], world.now(), world.holder.register())
}

on_both_databases! {
    async fn an_issued_certificate_is_known_at_the_edge_when_the_call_answers(database) {
        let world = world(database).await;
        let issued = world.issue("laptop").await;
        assert_eq!((issued.enforced.edges, issued.enforced.acknowledged), (1, 1));
        let Classified::Known(identity) = verdict(&world, &issued.certificate.der) else { panic!("not known") };
        assert_eq!(identity.person().id, world.anna);
        assert_eq!(identity.person().email, "anna@example.com");
        assert_eq!(issued.chain.len(), 1);
    }

    async fn a_revoked_certificate_is_refused_when_the_call_answers_and_stays_revoked(database) {
        let world = world(database).await;
        let (phone, laptop) = (world.issue("phone").await.certificate, world.issue("laptop").await.certificate);
        world.revoke(phone.serial, "superseded").await.unwrap();
        let Classified::Refused(refusal) = verdict(&world, &phone.der) else { panic!("passes") };
        assert_eq!(refusal.cause, Cause::Revoked(RevocationReason::Superseded));
        assert!(matches!(verdict(&world, &laptop.der), Classified::Known(_)));

        world.revoke(phone.serial, "superseded").await.unwrap();
        let other = world.revoke(phone.serial, "cessationOfOperation").await.unwrap_err();
        assert!(matches!(other, RevokeError::AlreadyRevoked(RevocationReason::Superseded)));
        world.revoke(phone.serial, "keyCompromise").await.unwrap();
        let never = "0123456789abcdef0123456789abcdef".parse().unwrap();
        assert!(matches!(world.revoke(never, "superseded").await, Err(RevokeError::Missing(_))));
    }

    async fn a_disabled_person_is_out_and_gets_nothing(database) {
        let world = world(database).await;
        let issued = world.issue("phone").await.certificate;
        let mut anna = world.store.person(world.anna).await.unwrap().unwrap();
        anna.disabled = true;
        let act = world.act("person.update").await;
        world.ca.update_person(&anna, &act, world.now()).await.unwrap();
        let Classified::Refused(refusal) = verdict(&world, &issued.der) else { panic!("passes") };
        assert_eq!(refusal.cause, Cause::PersonDisabled);
        let refused = world.try_issue(DeviceChoice::New { name: "x".to_owned() }).await;
        assert!(matches!(refused, Err(IssueError::PersonDisabled)));
        let act = world.act("certificate.renew").await;
        let refused = world.ca.renew(issued.serial, &csr(), &act, world.now()).await;
        assert!(matches!(refused, Err(IssueError::PersonDisabled)));
    }

    async fn a_renewal_keeps_device_and_lineage_and_a_revoked_certificate_is_not_renewed(database) {
        let world = world(database).await;
        let first = world.issue("phone").await.certificate;
        let act = world.act("certificate.renew").await;
        let second = world.ca.renew(first.serial, &csr(), &act, world.now()).await.unwrap().certificate;
        assert_eq!((second.lineage, second.device), (first.lineage, first.device));
        assert_eq!(second.replaces, Some(first.serial));
        world.revoke(second.serial, "keyCompromise").await.unwrap();
        let act = world.act("certificate.renew").await;
        assert!(matches!(world.ca.renew(second.serial, &csr(), &act, world.now()).await, Err(IssueError::Revoked)));
        world.clock.advance(Duration::from_secs(91 * 86_400));
        let act = world.act("certificate.renew").await;
        assert!(matches!(world.ca.renew(first.serial, &csr(), &act, world.now()).await, Err(IssueError::Expired)));
    }

    async fn what_is_kept_of_person_and_profile_gives_way_to_what_another_replica_wrote(database) {
        let world = world(database).await;
        world.issue("kept").await;
        let other = Store::open(&database.url(), 2).await.unwrap();
        let mut anna = other.person(world.anna).await.unwrap().unwrap();
        anna.email = "anna.other@example.com".to_owned();
        let transaction = other.begin().await.unwrap();
        transaction.update_person(&anna).await.unwrap();
        transaction.commit().await.unwrap();
        assert_eq!(world.issue("renamed").await.certificate.email.as_deref(), Some("anna.other@example.com"));

        let mut profile = other.profile(&"device".parse().unwrap()).await.unwrap().unwrap();
        profile.rules.groups = ["admins".parse().unwrap()].into();
        profile.version += 1;
        let transaction = other.begin().await.unwrap();
        transaction.update_profile(&profile, &Actor::System("test"), world.now()).await.unwrap();
        transaction.commit().await.unwrap();
        let refused = world.try_issue(DeviceChoice::New { name: "refused".to_owned() }).await;
        let Err(IssueError::Gate(GateError::Policy { ruling, .. })) = refused else { panic!("not refused") };
        assert_eq!(ruling.rule, Rule::Group);

        let mut anna = other.person(world.anna).await.unwrap().unwrap();
        anna.disabled = true;
        let transaction = other.begin().await.unwrap();
        transaction.update_person(&anna).await.unwrap();
        transaction.commit().await.unwrap();
        let refused = world.try_issue(DeviceChoice::New { name: "refused".to_owned() }).await;
        assert!(matches!(refused, Err(IssueError::PersonDisabled)));
        assert!(world.store.unresolved_intents(UtcTime::MAX).await.unwrap().is_empty());
    }

    async fn what_is_kept_does_not_let_another_refusal_come_first(database) {
        let world = world(database).await;
        world.issue("kept").await;
        let other = Store::open(&database.url(), 2).await.unwrap();
        let mut anna = other.person(world.anna).await.unwrap().unwrap();
        anna.disabled = true;
        let transaction = other.begin().await.unwrap();
        transaction.update_person(&anna).await.unwrap();
        transaction.commit().await.unwrap();
        let request = IssueRequest {
            person: world.anna,
            device: DeviceChoice::New { name: "phone".to_owned() },
            profile: "device".parse().unwrap(),
            csr_pem: "nonsense".to_owned(),
            dns_names: Default::default(),
        };
        let act = world.act("certificate.issue").await;
        let refused = world.ca.issue(&request, &act, world.now()).await;
        assert!(matches!(refused, Err(IssueError::PersonDisabled)));
    }

    async fn a_device_of_somebody_else_or_of_nobody_gets_nothing(database) {
        let world = world(database).await;
        let refused = world.try_issue(DeviceChoice::Existing(DeviceId::new())).await;
        assert!(matches!(refused, Err(IssueError::NoDevice)));
        assert!(world.store.certificates(&CertificateFilter::default(), 10, world.now()).await.unwrap().is_empty());
    }

    async fn a_key_that_was_compromised_is_refused_for_good(database) {
        let world = world(database).await;
        let request = IssueRequest {
            person: world.anna,
            device: DeviceChoice::New { name: "phone".to_owned() },
            profile: "device".parse().unwrap(),
            csr_pem: csr(),
            dns_names: Default::default(),
        };
        let act = world.act("certificate.issue").await;
        let first = world.ca.issue(&request, &act, world.now()).await.unwrap().certificate;
        world.revoke(first.serial, "keyCompromise").await.unwrap();
        let act = world.act("certificate.issue").await;
        let again = world.ca.issue(&request, &act, world.now()).await;
        assert!(matches!(again, Err(IssueError::Gate(GateError::BlockedKey))));
        assert!(world.store.unresolved_intents(UtcTime::MAX).await.unwrap().is_empty(), "nothing was signed");
    }

    async fn no_leaf_outlives_its_issuer(database) {
        let world = world(database).await;
        world.clock.advance(Duration::from_secs(86_400 * (10 * 365 - 60)));
        let refused = world.try_issue(DeviceChoice::New { name: "x".to_owned() }).await.unwrap_err();
        assert!(refused.to_string().contains("roll the authority over"), "{refused}");
    }

    async fn every_act_has_two_audit_events_and_none_can_be_changed(database) {
        let world = world(database).await;
        world.issue("phone").await;
        let events = world.store.audit_events(&AuditFilter { action: Some("certificate.issue".to_owned()), ..Default::default() }, 10).await.unwrap();
        let phases: Vec<_> = events.iter().rev().map(|event| (event.phase.as_str(), event.outcome.as_deref())).collect();
        assert_eq!(phases, [("started", None), ("finished", Some("succeeded"))]);
        assert!(events.iter().all(|event| event.actor == Actor::System("test").to_string()));
        let changed = world.store.try_to_change_the_audit().await;
        assert!(changed.is_err());
    }
}
