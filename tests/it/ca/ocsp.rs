//! OCSP: who is answered for, by whom, and that nothing false is ever said.

use std::time::Duration;

use wicketgate::domain::{RevocationReason, Serial};
use wicketgate::keys::{KeyId, SystemEntropy};
use wicketgate::live::OcspRefusal;
use wicketgate::store::authorities::SigningKey;
use wicketgate::store::certificates::{Intent, IntentOutcome, IntentPurpose};

use super::asking::{Told, question, repeats};
use super::fixture::World;
use crate::on_both_databases;

const DAY: Duration = Duration::from_secs(86_400);

on_both_databases! {
    async fn good_is_said_only_of_what_was_issued_and_not_taken_back(database) {
        let world = World::over(database).await;
        let issuer = world.issuer().await;
        let serial = world.issue("phone").await.certificate.serial;
        assert_eq!(world.ask(&issuer, serial).await, Told::Good);
        assert_eq!(world.ask(&issuer, Serial::random(&SystemEntropy)).await, Told::Unknown);
        // Reserved, and on its way to a signature: nobody outside has it yet.
        let reserved = Serial::random(&SystemEntropy);
        world.store.reserve_serial(reserved, "test", world.now()).await.unwrap();
        let transaction = world.store.begin().await.unwrap();
        transaction.record_intent(&Intent {
            serial: reserved,
            authority: "client-issuing-g1".parse().unwrap(),
            tbs: vec![1],
            purpose: IntentPurpose::OcspSigner,
            not_after: world.now().plus(DAY),
            created_at: world.now(),
        }).await.unwrap();
        transaction.commit().await.unwrap();
        assert_eq!(world.ask(&issuer, reserved).await, Told::Unknown);
        let transaction = world.store.begin().await.unwrap();
        transaction.resolve_intent(reserved, IntentOutcome::Abandoned, world.now()).await.unwrap();
        transaction.commit().await.unwrap();
        let abandoned = Told::Revoked(world.now().as_unix(), RevocationReason::CessationOfOperation);
        assert_eq!(world.ask(&issuer, reserved).await, abandoned);
    }

    async fn a_revocation_is_told_when_its_call_answers_even_by_kept_answers(database) {
        let world = World::over(database).await;
        let issuer = world.issuer().await;
        for reason in ["unspecified", "keyCompromise", "superseded"] {
            let serial = world.issue("phone").await.certificate.serial;
            assert_eq!(world.ask(&issuer, serial).await, Told::Good);
            assert!(!world.holder.ocsp().is_empty(), "it is kept");
            world.revoke(serial, reason).await.unwrap();
            let told = Told::Revoked(world.now().as_unix(), reason.parse().unwrap());
            assert_eq!(world.ask(&issuer, serial).await, told);
        }
    }

    async fn a_nonce_is_repeated_and_strangers_are_not_answered_for(database) {
        let world = World::over(database).await;
        let issuer = world.issuer().await;
        let serial = world.issue("phone").await.certificate.serial;
        let nonce = [0x5a; 32];
        let answer = world.try_ask(&question(&issuer, serial, Some(&nonce))).await.unwrap();
        assert!(repeats(&answer, &nonce));
        // The root answers by its list alone.
        let root = world.store.authority(&"client-root-g1".parse().unwrap()).await.unwrap().unwrap();
        let root = wicketgate::pki::AuthorityCertificate::from_der(&root.certificate.unwrap()).unwrap();
        let refused = world.try_ask(&question(&root, serial, None)).await;
        assert_eq!(refused, Err(OcspRefusal::Unauthorized));
    }

    async fn a_delegate_is_made_when_asked_for_and_renewed_at_half_of_its_life(database) {
        let world = World::over(database).await;
        let issuer = world.issuer().await;
        let delegates = async || {
            world.store.internal_certificates(&IntentPurpose::OcspSigner, None).await.unwrap()
        };
        assert!(delegates().await.is_empty());
        let serial = world.issue("phone").await.certificate.serial;
        assert_eq!(world.ask(&issuer, serial).await, Told::Good);
        let first = delegates().await;
        assert_eq!(first.len(), 1);
        assert_eq!(world.ask(&issuer, first[0].serial).await, Told::Good, "it is of the same authority");
        assert_eq!(world.ca.renew_ocsp_signers(world.now()).await.unwrap(), 0);
        world.clock.advance(DAY * 6);
        assert_eq!(world.ca.renew_ocsp_signers(world.now()).await.unwrap(), 0);
        world.clock.advance(DAY);
        assert_eq!(world.ca.renew_ocsp_signers(world.now()).await.unwrap(), 1);
        let answer = world.try_ask(&question(&issuer, serial, None)).await.unwrap();
        let newest = &delegates().await[0];
        assert!(newest.not_after > first[0].not_after);
        assert!(answer.windows(newest.der.len()).any(|window| window == newest.der), "the newest signs");
        // Nobody renewed for weeks: the next question makes one.
        world.clock.advance(DAY * 30);
        assert_eq!(world.ask(&issuer, serial).await, Told::Good);
        assert_eq!(delegates().await.len(), 3);
    }

    async fn the_key_of_a_delegate_is_removed_when_it_is_over_and_none_that_is_used(database) {
        let world = World::over(database).await;
        let issuer = world.issuer().await;
        let serial = world.issue("phone").await.certificate.serial;
        let delegates = async || {
            world.store.internal_certificates(&IntentPurpose::OcspSigner, None).await.unwrap()
        };
        let is_kept = async |id: &KeyId| world.store.signing_key(id).await.is_ok();
        assert_eq!(world.ask(&issuer, serial).await, Told::Good);
        let first = delegates().await[0].key_id.clone().unwrap();
        // One that was made and never certified: its process ended in between.
        let lost = SigningKey { id: KeyId("client-issuing-g1-ocsp-0".to_owned()), spki: vec![1], sealed: vec![1] };
        let transaction = world.store.begin().await.unwrap();
        transaction.insert_signing_key(&lost, world.now()).await.unwrap();
        transaction.commit().await.unwrap();
        world.ca.renew_ocsp_signers(world.now()).await.unwrap();
        assert!(is_kept(&first).await && is_kept(&lost.id).await, "it may be on its way to a certificate");
        world.clock.advance(DAY * 14);
        world.ca.renew_ocsp_signers(world.now()).await.unwrap();
        assert!(is_kept(&first).await && !is_kept(&lost.id).await, "clocks differ");
        world.clock.advance(DAY + Duration::from_secs(1));
        world.ca.renew_ocsp_signers(world.now()).await.unwrap();
        assert!(!is_kept(&first).await);
        let all = delegates().await;
        assert_eq!((all.len(), all[1].key_id.clone()), (2, None), "the certificate stays on record");
        assert!(is_kept(all[0].key_id.as_ref().unwrap()).await);
        assert_eq!(world.ask(&issuer, serial).await, Told::Good);
        let authorities = world.store.authorities().await.unwrap();
        for authority in authorities {
            assert!(is_kept(&authority.key_id).await, "{}", authority.name);
        }
    }

    async fn after_a_change_of_clocks_nothing_is_revoked_in_the_future(database) {
        let world = World::over(database).await;
        let issuer = world.issuer().await;
        let serial = world.issue("phone").await.certificate.serial;
        world.ask(&issuer, serial).await;
        world.clock.advance(Duration::from_secs(100));
        world.revoke(serial, "superseded").await.unwrap();
        world.clock.set(world.now().minus(Duration::from_secs(100)));
        let told = Told::Revoked(world.now().as_unix(), RevocationReason::Superseded);
        assert_eq!(world.ask(&issuer, serial).await, told);
        world.ca.publish_crls(world.now()).await.unwrap();
    }
}
