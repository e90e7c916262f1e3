//! An act that begins with its first commit: its `started` event stands there or nothing of it does.

use rustls_pki_types::CertificateDer;
use wicketgate::ca::{DeviceChoice, IssueError, IssueRequest, Issued, RevokeError};
use wicketgate::crash::{Blow, Killed, Plan};
use wicketgate::domain::audit::{Act, Outcome};
use wicketgate::domain::{Actor, RevocationReason};
use wicketgate::live::{Cause, Classified, classify};
use wicketgate::store::Store;
use wicketgate::store::audit::AuditFilter;

use super::fixture::{World, csr};
use crate::harness::database::TestDatabase;
use crate::on_both_databases;

const ACTION: &str = "certificate.issue";

fn act(world: &World) -> Act {
    Store::act_on_commit(Actor::System("test"), ACTION, None, None, world.now())
}

/// The phases that are on record, oldest first.
async fn phases(world: &World) -> Vec<String> {
    let filter = AuditFilter { action: Some(ACTION.to_owned()), ..AuditFilter::default() };
    let mut events = world.store.audit_events(&filter, 100).await.unwrap();
    events.reverse();
    let phases = events.into_iter();
    phases.map(|event| event.outcome.map_or(event.phase, |end| end)).collect()
}

async fn issue(world: &World, profile: &str, act: &Act) -> Result<Issued, IssueError> {
    world.ca.issue(&request(world, profile), act, world.now()).await
}

fn request(world: &World, profile: &str) -> IssueRequest {
    IssueRequest {
        person: world.anna,
        device: DeviceChoice::New { name: "phone".to_owned() },
        profile: profile.parse().unwrap(),
        csr_pem: csr(),
        dns_names: Default::default(),
    }
}

/// Issues with a blow at a point.
async fn issue_struck(world: &World, point: &'static str, blow: Blow, act: &Act) {
    let plan = Plan::new(point, 1, blow);
    let (ca, act, request, now) = (world.ca.clone(), act.clone(), request(world, "device"), world.now());
    let struck = plan.clone();
    let struck = tokio::spawn(async move { struck.run(ca.issue(&request, &act, now)).await.is_ok() });
    match struck.await {
        Ok(issued) => assert!(!issued, "{point}: nothing happened"),
        Err(ended) => assert!(ended.into_panic().is::<Killed>(), "{point}"),
    }
    assert!(plan.has_struck(), "{point} was not reached");
}

fn verdict(world: &World, der: &[u8]) -> Classified {
    classify(&[CertificateDer::from(der)], world.now(), world.holder.register())
}

async fn world(database: &TestDatabase) -> World {
    World::over(database).await
}

on_both_databases! {
    async fn it_begins_with_its_intent_and_ends_with_its_certificate(database) {
        let world = world(database).await;
        let act = act(&world);
        assert!(phases(&world).await.is_empty());
        issue(&world, "device", &act).await.unwrap();
        assert_eq!(phases(&world).await, ["started", "succeeded"]);
    }

    async fn where_nothing_was_written_it_begins_with_its_end(database) {
        let world = world(database).await;
        let act = act(&world);
        assert!(matches!(issue(&world, "none", &act).await, Err(IssueError::NoProfile(_))));
        assert!(phases(&world).await.is_empty());
        world.store.finish_act(&act, Outcome::Failed, None, world.now()).await.unwrap();
        assert_eq!(phases(&world).await, ["started", "failed"]);
    }

    async fn a_crash_before_the_intent_leaves_nothing_and_one_after_it_leaves_its_start(database) {
        let world = world(database).await;
        issue_struck(&world, "ca.after_serial", Blow::Kill, &act(&world)).await;
        assert!(phases(&world).await.is_empty());
        issue_struck(&world, "ca.after_intent", Blow::Kill, &act(&world)).await;
        assert_eq!(phases(&world).await, ["started"]);
    }

    async fn a_lost_answer_does_not_make_it_begin_twice(database) {
        let world = world(database).await;
        let act = act(&world);
        issue_struck(&world, "ca.after_serial", Blow::AnswerLost, &act).await;
        assert_eq!(phases(&world).await, ["started"]);
        assert!(act.owes_start().is_some(), "nobody said that it is on record");
        world.store.finish_act(&act, Outcome::Failed, None, world.now()).await.unwrap();
        assert_eq!(phases(&world).await, ["started", "failed"]);
    }

    async fn what_succeeded_is_not_called_failed_where_its_answer_was_lost(database) {
        let world = world(database).await;
        let act = act(&world);
        issue_struck(&world, "ca.before_commit", Blow::AnswerLost, &act).await;
        world.store.finish_act(&act, Outcome::Failed, Some("answered 503"), world.now()).await.unwrap();
        let (outcome, detail) = world.store.end_of_act(&act.started.to_string()).await.unwrap().unwrap();
        assert_eq!(outcome, "succeeded");
        assert!(wicketgate::domain::audit::issued_serial(&detail).is_some(), "{detail}");
    }

    async fn a_refused_intent_takes_its_start_along(database) {
        let world = world(database).await;
        let serials = world.store.reserved_serials().await.unwrap();
        world.store.refuse_audit_events("started").await.unwrap();
        assert!(issue(&world, "device", &act(&world)).await.is_err());
        assert_eq!(world.store.reserved_serials().await.unwrap(), serials, "no serial, so no signature");
        world.store.accept_audit_events().await.unwrap();
        assert!(phases(&world).await.is_empty());
    }
}

on_both_databases! {
    async fn revocations_whose_callers_have_gone_end_once(database) {
        let world = world(database).await;
        let mut serials = Vec::new();
        for number in 0..12 {
            serials.push(world.issue(&format!("phone {number}")).await.certificate.serial);
        }
        let now = world.now();
        let tasks: Vec<_> = serials
            .iter()
            .map(|&serial| {
                let ca = world.ca.clone();
                let act = Store::act_on_commit(Actor::System("test"), "certificate.revoke", None, None, now);
                let acted = act.clone();
                let task = async move { ca.revoke(serial, "superseded".parse().unwrap(), &acted, now).await };
                (tokio::spawn(task), act.started.to_string())
            })
            .collect();
        tokio::task::yield_now().await;
        let mut acts = Vec::new();
        for (number, (task, act)) in tasks.into_iter().enumerate() {
            // Every third goes away in the middle, the first one of all of them, too.
            if number % 3 == 0 {
                task.abort();
            }
            if let Ok(answered) = task.await {
                answered.unwrap();
                assert!(world.store.end_of_act(&act).await.unwrap().is_some());
            }
            acts.push(act);
        }
        // What was begun is finished, whoever waits: after one more commit nothing is under way.
        world.issue("laptop").await;
        let filter = AuditFilter { action: Some("certificate.revoke".to_owned()), ..AuditFilter::default() };
        let events = world.store.audit_events(&filter, 1_000).await.unwrap();
        for (act, serial) in acts.iter().zip(&serials) {
            let count = |phase| events.iter().filter(|event| event.act == *act && event.phase == phase).count();
            let revoked = world.store.certificate(*serial).await.unwrap().unwrap().revoked.is_some();
            assert_eq!((count("started"), count("finished")), (usize::from(revoked), usize::from(revoked)));
        }
    }

    async fn revocations_of_one_certificate_at_the_same_moment_follow_each_other(database) {
        let world = world(database).await;
        let certificate = world.issue("phone").await.certificate;
        let act = world.act("certificate.renew").await;
        let serial = certificate.serial;
        let successor = world.ca.renew(serial, &csr(), &act, world.now()).await.unwrap().certificate.serial;
        let reasons = ["certificateHold", "superseded", "superseded", "keyCompromise", "superseded"];
        let asked = reasons.map(async |reason| world.revoke(serial, reason).await);
        let answers = futures_util::future::join_all(asked).await;
        assert!(answers[3].is_ok(), "keyCompromise is always taken");
        let refused = answers.iter().filter_map(|answer| answer.as_ref().err());
        let in_vain = |error: &RevokeError| matches!(error, RevokeError::AlreadyRevoked(_));
        assert!(refused.into_iter().all(in_vain));
        let found = world.store.certificate(serial).await.unwrap().unwrap();
        assert_eq!(found.revoked.map(|(_, reason)| reason), Some(RevocationReason::KeyCompromise));
        assert!(world.store.is_key_compromised(&found.spki_sha256).await.unwrap());
        assert!(world.store.certificate(successor).await.unwrap().unwrap().revoked.is_none(), "another key");
        // The register has every change once, in one row of numbers.
        let changes = world.store.changes_after(0, 1_000).await.unwrap();
        let epochs: Vec<_> = changes.iter().map(|change| change.epoch).collect();
        assert!(epochs.iter().copied().eq(1..=epochs.len() as u64), "{epochs:?}");
        assert_eq!(world.store.heads().await.unwrap().0, epochs.len() as u64);
        let (refused, certificate) = (verdict(&world, &found.der), found);
        let Classified::Refused(refused) = refused else { panic!("{} passes", certificate.serial) };
        assert_eq!(refused.cause, Cause::Revoked(RevocationReason::KeyCompromise));
    }
}
