//! An invitation is used up exactly when its certificate is there, whatever ends on the way.

use std::time::Duration;

use futures_util::future::join_all;
use wicketgate::ca::{DeviceChoice, GateError, IssueError, IssueRequest, Issued};
use wicketgate::crash::{Blow, Plan};
use wicketgate::domain::{Fingerprint, InvitationId};
use wicketgate::store::certificates::CertificateFilter;
use wicketgate::store::invitations::{Invitation, InvitationState};

use super::fixture::{World, csr};
use crate::on_both_databases;

async fn invite(world: &World, secret: u8) -> InvitationId {
    let row = Invitation {
        id: InvitationId::new(),
        secret: Fingerprint([secret; 32]),
        person: world.anna,
        device_name: None,
        profile: "device".parse().unwrap(),
        created_at: world.now(),
        expires_at: world.now().plus(Duration::from_secs(3600)),
        accepted_at: None,
        used_at: None,
        revoked_at: None,
    };
    let transaction = world.store.begin().await.unwrap();
    transaction.insert_invitation(&row).await.unwrap();
    transaction.commit().await.unwrap();
    row.id
}

async fn issue(world: &World, invitation: InvitationId) -> Result<Issued, IssueError> {
    let request = IssueRequest {
        person: world.anna,
        device: DeviceChoice::New { name: "phone".to_owned() },
        profile: "device".parse().unwrap(),
        csr_pem: csr(),
        dns_names: Default::default(),
    };
    let act = world.act("certificate.issue").await;
    world.ca.issue_invited(&request, invitation, &act, world.now()).await
}

async fn state(world: &World, invitation: InvitationId) -> InvitationState {
    world.store.invitation(invitation).await.unwrap().unwrap().state(world.now())
}

async fn issued(world: &World) -> usize {
    world.store.certificates(&CertificateFilter::default(), 100, world.now()).await.unwrap().len()
}

on_both_databases! {
    async fn what_ends_before_the_commit_leaves_the_invitation_open(database) {
        let world = World::over(database).await;
        let invitation = invite(&world, 1).await;
        for point in ["ca.after_serial", "ca.after_intent", "ca.after_signing", "ca.before_commit"] {
            let plan = Plan::new(point, 1, Blow::DatabaseAway);
            assert!(plan.run(issue(&world, invitation)).await.is_err(), "{point}");
            assert!(plan.has_struck(), "{point}");
            assert_eq!(state(&world, invitation).await, InvitationState::Open, "{point}");
        }
        assert_eq!(issued(&world).await, 0);
        issue(&world, invitation).await.unwrap();
        assert_eq!((state(&world, invitation).await, issued(&world).await), (InvitationState::Used, 1));
    }

    async fn a_lost_answer_does_not_give_a_second_certificate(database) {
        let world = World::over(database).await;
        let invitation = invite(&world, 1).await;
        let plan = Plan::new("ca.before_commit", 1, Blow::AnswerLost);
        let _ = plan.run(issue(&world, invitation)).await;
        assert_eq!((state(&world, invitation).await, issued(&world).await), (InvitationState::Used, 1));
        let again = issue(&world, invitation).await;
        assert!(matches!(again, Err(IssueError::Gate(GateError::InvitationUsed))), "{again:?}");
        assert_eq!(issued(&world).await, 1);
    }

    async fn of_many_at_once_each_invitation_gives_one(database) {
        let world = World::over(database).await;
        let invitations = [invite(&world, 1).await, invite(&world, 2).await];
        let all = join_all((0..8).map(|at| issue(&world, invitations[at % 2]))).await;
        assert_eq!(all.iter().filter(|one| one.is_ok()).count(), 2);
        let used = |one: &&Result<Issued, IssueError>| {
            matches!(one, Err(IssueError::Gate(GateError::InvitationUsed)))
        };
        assert_eq!(all.iter().filter(used).count(), 6, "and the others hear why");
        assert_eq!(issued(&world).await, 2);
    }

    async fn one_that_was_taken_back_or_has_ended_gives_nothing(database) {
        let world = World::over(database).await;
        let (taken_back, late) = (invite(&world, 1).await, invite(&world, 2).await);
        let transaction = world.store.begin().await.unwrap();
        assert!(transaction.revoke_invitation(taken_back, world.now()).await.unwrap());
        transaction.commit().await.unwrap();
        world.clock.advance(Duration::from_secs(3600));
        for invitation in [taken_back, late, InvitationId::new()] {
            let refused = issue(&world, invitation).await;
            assert!(matches!(refused, Err(IssueError::Gate(GateError::InvitationUsed))), "{refused:?}");
        }
        assert_eq!(issued(&world).await, 0);
    }
}
