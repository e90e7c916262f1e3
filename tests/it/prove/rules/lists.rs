//! Revocation lists.

use std::time::Duration;

use der::Decode;
use wicketgate::ca::RevokeError;
use wicketgate::domain::{Serial, UtcTime};
use wicketgate::keys::SystemEntropy;
use x509_cert::Certificate;
use x509_cert::certificate::Rfc5280;
use x509_cert::crl::CertificateList;
use x509_cert::ext::pkix::IssuingDistributionPoint;

use crate::ca::fixture::World;
use crate::harness::database::TestDatabase;
use crate::on_both_databases;

const DAY: Duration = Duration::from_secs(86_400);

/// The certificate of the authority that issues.
pub(super) async fn issuing(world: &World) -> Certificate {
    let row = world.store.authority(&"client-issuing-g1".parse().unwrap()).await.unwrap().unwrap();
    Certificate::from_der(&row.certificate.unwrap()).unwrap()
}

/// Its latest list.
pub(super) async fn latest(world: &World) -> CertificateList<Rfc5280> {
    let row = world.store.latest_crl(&"client-issuing-g1".parse().unwrap()).await.unwrap().unwrap();
    CertificateList::from_der(&row.der).unwrap()
}

/// An extension's criticality and value.
fn extension(list: &CertificateList<Rfc5280>, id: &str) -> (bool, Vec<u8>) {
    let all = list.tbs_cert_list.crl_extensions.as_ref().unwrap();
    let found = all.iter().find(|one| one.extn_id.to_string() == id).unwrap();
    (found.critical, found.extn_value.as_bytes().to_vec())
}

fn lists(list: &CertificateList<Rfc5280>, serial: Serial) -> bool {
    let entries = list.tbs_cert_list.revoked_certificates.as_deref().unwrap_or_default();
    entries.iter().any(|entry| entry.serial_number.as_bytes() == serial.as_octets())
}

const CRL_NUMBER: &str = "2.5.29.20";
const ISSUING_DISTRIBUTION_POINT: &str = "2.5.29.28";
const AUTHORITY_KEY_IDENTIFIER: &str = "2.5.29.35";
const REASON: &str = "2.5.29.21";

#[tokio::test]
async fn rule_12_lists_are_version_2_with_key_number_and_end_and_numbers_only_rise() {
    let database = TestDatabase::sqlite();
    let world = World::over(&database).await;
    let mut before = Vec::new();
    for _ in 0..3 {
        world.ca.publish_crls(world.now()).await.unwrap();
        let list = latest(&world).await;
        assert_eq!(list.tbs_cert_list.version, x509_cert::certificate::Version::V2);
        assert!(list.tbs_cert_list.next_update.is_some());
        assert!(list.tbs_cert_list.revoked_certificates.is_none(), "an empty list has no entries at all");
        extension(&list, AUTHORITY_KEY_IDENTIFIER);
        let (critical, number) = extension(&list, CRL_NUMBER);
        assert!(!critical && (number.len(), &number) > (before.len(), &before));
        before = number;
        world.clock.advance(4 * DAY);
    }
}

#[tokio::test]
async fn rule_13_the_next_list_comes_long_before_the_end_of_the_last() {
    let database = TestDatabase::sqlite();
    let world = World::over(&database).await;
    world.ca.publish_crls(world.now()).await.unwrap();
    let ends = latest(&world).await.tbs_cert_list.next_update.unwrap().to_unix_duration();
    let left = ends.as_secs() - u64::try_from(world.now().as_unix()).unwrap();
    assert_eq!(world.ca.publish_crls(world.now()).await.unwrap(), 0);
    world.clock.advance(Duration::from_secs(left * 6 / 10));
    assert!(world.ca.publish_crls(world.now()).await.unwrap() > 0);
    assert!(latest(&world).await.tbs_cert_list.next_update.unwrap().to_unix_duration() > ends);
}

#[tokio::test]
async fn rule_14_a_list_says_critically_what_it_is_for() {
    let database = TestDatabase::sqlite();
    let world = World::over(&database).await;
    world.ca.publish_crls(world.now()).await.unwrap();
    let (critical, point) = extension(&latest(&world).await, ISSUING_DISTRIBUTION_POINT);
    let point = IssuingDistributionPoint::from_der(&point).unwrap();
    assert!(critical && point.distribution_point.is_some());
    assert!(!point.indirect_crl && !point.only_contains_attribute_certs && point.only_some_reasons.is_none());
}

#[tokio::test]
async fn rule_15_an_entry_stays_until_it_was_on_a_list_after_its_end() {
    let database = TestDatabase::sqlite();
    let world = World::over(&database).await;
    let certificate = world.issue("phone").await.certificate;
    world.revoke(certificate.serial, "superseded").await.unwrap();
    world.ca.publish_crls(world.now()).await.unwrap();
    assert!(lists(&latest(&world).await, certificate.serial));
    world.clock.set(certificate.not_after.plus(Duration::from_secs(1)));
    world.ca.publish_crls(world.now()).await.unwrap();
    assert!(lists(&latest(&world).await, certificate.serial), "the first list after its end has it");
    for _ in 0..2 {
        world.clock.advance(4 * DAY);
        world.ca.publish_crls(world.now()).await.unwrap();
    }
    assert!(!lists(&latest(&world).await, certificate.serial));
}

#[tokio::test]
async fn rule_16_reasons_are_never_zero_and_final_but_for_key_compromise() {
    let database = TestDatabase::sqlite();
    let world = World::over(&database).await;
    let (first, second) =
        (world.issue("a").await.certificate.serial, world.issue("b").await.certificate.serial);
    world.revoke(first, "unspecified").await.unwrap();
    world.revoke(second, "superseded").await.unwrap();
    world.ca.publish_crls(world.now()).await.unwrap();
    let list = latest(&world).await;
    for entry in list.tbs_cert_list.revoked_certificates.unwrap() {
        let extensions = entry.crl_entry_extensions.unwrap_or_default();
        let reason = extensions.iter().find(|one| one.extn_id.to_string() == REASON);
        let is_first = entry.serial_number.as_bytes() == first.as_octets();
        assert_eq!(reason.is_none(), is_first, "unspecified is left out");
        let at = entry.revocation_date.to_unix_duration().as_secs();
        assert!(at <= u64::try_from(world.now().as_unix()).unwrap());
    }
    assert!(matches!(
        world.revoke(second, "cessationOfOperation").await,
        Err(RevokeError::AlreadyRevoked(_))
    ));
    world.revoke(second, "keyCompromise").await.unwrap();
    let stranger = Serial::random(&SystemEntropy);
    assert!(matches!(world.revoke(stranger, "superseded").await, Err(RevokeError::Missing(_))));
}

on_both_databases! {
    async fn rule_17_an_authority_that_issues_no_more_goes_on_listing(database) {
        let world = World::over(database).await;
        let serial = world.issue("phone").await.certificate.serial;
        world.revoke(serial, "superseded").await.unwrap();
        // Past the last second in which it could issue anything, and not past its own.
        world.clock.set("2036-11-10T12:00:00Z".parse::<UtcTime>().unwrap());
        assert!(world.try_issue(wicketgate::ca::DeviceChoice::New { name: "late".to_owned() }).await.is_err());
        assert!(world.ca.publish_crls(world.now()).await.unwrap() > 0);
        world.clock.advance(Duration::from_secs(4 * 86_400));
        assert!(world.ca.publish_crls(world.now()).await.unwrap() > 0);
    }
}

#[tokio::test]
async fn rule_26_a_clock_that_was_set_back_makes_no_list_older_than_the_last() {
    let database = TestDatabase::sqlite();
    let world = World::over(&database).await;
    let serial = world.issue("phone").await.certificate.serial;
    world.ca.publish_crls(world.now()).await.unwrap();
    let before = latest(&world).await;
    world.clock.set(world.now().minus(Duration::from_secs(3_600)));
    world.revoke(serial, "superseded").await.unwrap();
    world.ca.publish_crls(world.now()).await.unwrap();
    let after = latest(&world).await;
    assert!(lists(&after, serial));
    let begins = |list: &CertificateList<Rfc5280>| list.tbs_cert_list.this_update.to_unix_duration();
    assert!(begins(&after) >= begins(&before));
    let number = |list| extension(list, CRL_NUMBER).1;
    assert!(number(&after) > number(&before));
}
