//! Suspending and releasing, changing a reason, and keys in other hands.

use std::time::Duration;

use wicketgate::ca::{GateError, Grounds, IssueError, IssueRequest, RevokeError, Revoked};
use wicketgate::domain::{RevocationReason, Serial, UtcTime};
use wicketgate::pki::keygen;

use super::asking::Told;
use super::fixture::World;
use super::lists::listed;
use crate::harness::database::TestDatabase;
use crate::on_both_databases;

impl World {
    async fn release(&self, serial: Serial) -> Result<Revoked, RevokeError> {
        let act = self.act("certificate.release").await;
        self.ca.release(serial, &act, self.now()).await
    }

    async fn revoke_since(&self, serial: Serial, since: UtcTime) -> Result<Revoked, RevokeError> {
        let act = self.act("certificate.revoke").await;
        let grounds = Grounds { reason: RevocationReason::KeyCompromise, invalid_since: Some(since) };
        self.ca.revoke_on(serial, grounds, &act, self.now()).await
    }
}

/// Holds a certificate and releases it; list, OCSP and edge say so at either step.
pub(crate) async fn held_and_released(database: &TestDatabase) {
    let world = World::over(database).await;
    let issuer = world.issuer().await;
    let phone = world.issue("phone").await.certificate;
    let edge = || world.holder.register().look_up(&phone.fingerprint).unwrap().revoked;
    assert_eq!(world.ask(&issuer, phone.serial).await, Told::Good);
    world.revoke(phone.serial, "certificateHold").await.unwrap();
    let held = (world.now(), RevocationReason::CertificateHold);
    assert_eq!(edge(), Some(held));
    assert_eq!(world.ask(&issuer, phone.serial).await, Told::Revoked(held.0.as_unix(), held.1));
    world.ca.publish_crls(world.now()).await.unwrap();
    assert_eq!(listed(&world).await, [(phone.serial, held.0.as_unix(), held.1)]);

    let released = world.release(phone.serial).await.unwrap();
    assert_eq!((released.enforced.edges, released.enforced.acknowledged), (1, 1));
    assert!(released.certificate.revoked.is_none());
    assert_eq!(edge(), None);
    assert_eq!(world.ask(&issuer, phone.serial).await, Told::Good);
    assert_eq!(world.ca.publish_crls(world.now()).await.unwrap(), 1);
    assert_eq!(listed(&world).await, [], "a complete list just does not name it any more");
    assert!(matches!(world.release(phone.serial).await, Err(RevokeError::NotOnHold)));
}

on_both_databases! {
    async fn a_held_certificate_is_refused_listed_and_told_and_passes_again_when_released(database) {
        held_and_released(database).await;
    }

    async fn only_a_hold_is_released_and_it_may_become_final(database) {
        let world = World::over(database).await;
        let [a, b] = [world.issue("a").await.certificate.serial, world.issue("b").await.certificate.serial];
        world.revoke(a, "superseded").await.unwrap();
        assert!(matches!(world.release(a).await, Err(RevokeError::NotOnHold)));
        let hold = world.revoke(a, "certificateHold").await;
        assert!(matches!(hold, Err(RevokeError::AlreadyRevoked(RevocationReason::Superseded))));
        world.revoke(b, "certificateHold").await.unwrap();
        let since = world.now();
        world.clock.advance(Duration::from_secs(60));
        let lost = world.revoke(b, "privilegeWithdrawn").await.unwrap();
        // It has not passed since it was held.
        assert_eq!(lost.certificate.revoked, Some((since, RevocationReason::PrivilegeWithdrawn)));
        let edge = world.holder.register().look_up(&lost.certificate.fingerprint).unwrap();
        assert_eq!(edge.revoked, lost.certificate.revoked);
        assert!(matches!(world.release(b).await, Err(RevokeError::NotOnHold)));
        let never = "11223344556677889900aabbccddeeff".parse().unwrap();
        assert!(matches!(world.release(never).await, Err(RevokeError::Missing(_))));
    }

    async fn a_key_in_other_hands_takes_all_its_certificates_along_and_stays_blocked(database) {
        let world = World::over(database).await;
        let issuer = world.issuer().await;
        let (key, _) = keygen::generate_p256();
        let csr_pem = keygen::client_csr_pem(key.expose(), "one key").unwrap();
        let request = |name: &str| IssueRequest {
            person: world.anna,
            device: wicketgate::ca::DeviceChoice::New { name: name.to_owned() },
            profile: "device".parse().unwrap(),
            dns_names: Default::default(),
            csr_pem: csr_pem.clone(),
        };
        let act = world.act("certificate.issue").await;
        let first = world.ca.issue(&request("phone"), &act, world.now()).await.unwrap();
        let mut serials = vec![first.certificate.serial];
        // Renewals with the same key, which the profile allows.
        for _ in 0..3 {
            let act = world.act("certificate.renew").await;
            let next = world.ca.renew(serials[0], &csr_pem, &act, world.now()).await.unwrap();
            serials.push(next.certificate.serial);
        }
        let bystander = world.issue("bystander").await.certificate.serial;
        world.revoke(serials[2], "certificateHold").await.unwrap();
        world.revoke(serials[3], "superseded").await.unwrap();
        world.revoke(serials[0], "keyCompromise").await.unwrap();
        for serial in &serials {
            let told = world.ask(&issuer, *serial).await;
            assert_eq!(told, Told::Revoked(world.now().as_unix(), RevocationReason::KeyCompromise));
        }
        assert_eq!(world.ask(&issuer, bystander).await, Told::Good);
        assert!(matches!(world.release(serials[2]).await, Err(RevokeError::NotOnHold)));
        let act = world.act("certificate.issue").await;
        let again = world.ca.issue(&request("again"), &act, world.now()).await;
        assert!(matches!(again, Err(IssueError::Gate(GateError::BlockedKey))), "{again:?}");
    }

    async fn a_date_of_invalidity_lies_between_the_certificates_start_and_now(database) {
        let world = World::over(database).await;
        let phone = world.issue("phone").await.certificate;
        world.clock.advance(Duration::from_secs(3600));
        let second = Duration::from_secs(1);
        for wrong in [world.now().plus(second), phone.not_before.minus(second)] {
            let refused = world.revoke_since(phone.serial, wrong).await;
            assert!(matches!(refused, Err(RevokeError::InvalidSince { .. })));
        }
        let since = world.now().minus(Duration::from_secs(1800));
        world.revoke_since(phone.serial, since).await.unwrap();
        // Known more exactly now; the revocation itself stays.
        world.clock.advance(second);
        let again = world.revoke_since(phone.serial, phone.not_before).await.unwrap();
        assert_eq!(again.certificate.invalid_since, Some(phone.not_before));
        let name = "client-issuing-g1".parse().unwrap();
        let entry = world.store.revocations(&name, UtcTime::EPOCH).await.unwrap()[0];
        assert_eq!((entry.invalid_since, entry.at), (Some(phone.not_before), world.now().minus(second)));
        assert_eq!(world.ca.publish_crls(world.now()).await.unwrap(), 2);
    }

    async fn a_lost_device_loses_its_held_certificates_too(database) {
        let world = World::over(database).await;
        let phone = world.issue("phone").await.certificate;
        world.revoke(phone.serial, "certificateHold").await.unwrap();
        let act = world.act("device.revoke").await;
        let reason = RevocationReason::CessationOfOperation;
        world.ca.revoke_device(phone.device, reason, &act, world.now()).await.unwrap();
        assert!(matches!(world.release(phone.serial).await, Err(RevokeError::NotOnHold)));
    }
}
