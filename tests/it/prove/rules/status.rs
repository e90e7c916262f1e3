//! What is said of a single certificate, by OCSP.

use der::Decode;
use der::asn1::ObjectIdentifier;
use wicketgate::domain::Serial;
use wicketgate::keys::SystemEntropy;
use wicketgate::live::OcspRefusal;
use wicketgate::pki::AuthorityCertificate;
use wicketgate::pki::ocsp::OcspRequest;
use wicketgate::store::certificates::IntentPurpose;
use x509_cert::Certificate;
use x509_cert::ext::pkix::{
    AuthorityKeyIdentifier, CrlDistributionPoints, ExtendedKeyUsage, SubjectKeyIdentifier,
};

use super::lists::issuing;
use crate::ca::asking::{Told, question, repeats};
use crate::ca::fixture::World;
use crate::harness::database::TestDatabase;

const OCSP_SIGNING: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.9");
const OCSP_NOCHECK: &str = "1.3.6.1.5.5.7.48.1.5";
const NO_REV_AVAIL: &str = "2.5.29.56";

#[tokio::test]
async fn rule_18_good_is_said_only_of_what_was_issued_and_stands() {
    let database = TestDatabase::sqlite();
    let world = World::over(&database).await;
    let issuer = world.issuer().await;
    let serial = world.issue("phone").await.certificate.serial;
    assert_eq!(world.ask(&issuer, serial).await, Told::Good);
    for _ in 0..50 {
        assert_eq!(world.ask(&issuer, Serial::random(&SystemEntropy)).await, Told::Unknown);
    }
    world.revoke(serial, "superseded").await.unwrap();
    assert!(matches!(world.ask(&issuer, serial).await, Told::Revoked(..)));
}

#[tokio::test]
async fn rule_19_who_answers_is_certified_by_the_same_key_for_that_alone_and_briefly() {
    let database = TestDatabase::sqlite();
    let world = World::over(&database).await;
    let serial = world.issue("phone").await.certificate.serial;
    world.ask(&world.issuer().await, serial).await;
    let delegates = world.store.internal_certificates(&IntentPurpose::OcspSigner, None).await.unwrap();
    let delegate = Certificate::from_der(&delegates[0].der).unwrap();
    let (above, below) = (issuing(&world).await, delegate.tbs_certificate());
    assert_eq!(below.issuer(), above.tbs_certificate().subject());
    let (_, own) = above.tbs_certificate().get_extension::<SubjectKeyIdentifier>().unwrap().unwrap();
    let (_, signer) = below.get_extension::<AuthorityKeyIdentifier>().unwrap().unwrap();
    assert_eq!(signer.key_identifier.unwrap(), own.0);
    let (_, usage) = below.get_extension::<ExtendedKeyUsage>().unwrap().unwrap();
    assert_eq!(usage.0, [OCSP_SIGNING]);
    assert!(below.extensions().unwrap().iter().any(|one| one.extn_id.to_string() == OCSP_NOCHECK));
    assert!(delegates[0].not_after.since(delegates[0].not_before).as_secs() <= 31 * 86_400);
}

#[tokio::test]
async fn rule_20_an_answer_is_about_one_issuer_and_repeats_a_lawful_nonce() {
    let database = TestDatabase::sqlite();
    let world = World::over(&database).await;
    let issuer = world.issuer().await;
    let serial = world.issue("phone").await.certificate.serial;
    for length in [1, 32, 100] {
        let nonce = vec![0x5a; length];
        let answer = world.try_ask(&question(&issuer, serial, Some(&nonce))).await.unwrap();
        assert!(repeats(&answer, &nonce), "{length}");
    }
    // RFC 9654 §2.1: 1 to 128 octets.
    assert!(OcspRequest::from_der(&question(&issuer, serial, Some(&[]))).is_err());
    let kept = world.try_ask(&question(&issuer, serial, None)).await.unwrap();
    assert!(!repeats(&kept, &[0x5a; 32]), "kept answers have no nonce");
    let root = world.store.authority(&"client-root-g1".parse().unwrap()).await.unwrap().unwrap();
    let root = AuthorityCertificate::from_der(&root.certificate.unwrap()).unwrap();
    assert_eq!(world.try_ask(&question(&root, serial, None)).await, Err(OcspRefusal::Unauthorized));
}

#[tokio::test]
async fn rule_21_no_certificate_says_that_nothing_is_known_of_its_revocation() {
    let database = TestDatabase::sqlite();
    let world = World::over(&database).await;
    let leaf = Certificate::from_der(&world.issue("phone").await.certificate.der).unwrap();
    let leaf = leaf.tbs_certificate();
    assert!(leaf.extensions().unwrap().iter().all(|one| one.extn_id.to_string() != NO_REV_AVAIL));
    assert!(leaf.get_extension::<CrlDistributionPoints>().unwrap().is_some());
}
