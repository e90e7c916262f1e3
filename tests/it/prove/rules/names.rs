//! Serials, names, dates, extensions and keys.

use std::time::Duration;

use der::asn1::ObjectIdentifier;
use der::{Decode, Encode};
use wicketgate::ca::{DeviceChoice, GateError, IssueError, IssueRequest};
use wicketgate::domain::{Serial, UtcTime};
use wicketgate::pki::{continuity, keygen};
use x509_cert::Certificate;
use x509_cert::certificate::Rfc5280;
use x509_cert::crl::CertificateList;
use x509_cert::ext::pkix::name::{DistributionPointName, GeneralName};
use x509_cert::ext::pkix::{
    AuthorityKeyIdentifier, BasicConstraints, CrlDistributionPoints, ExtendedKeyUsage,
    IssuingDistributionPoint, KeyUsage, KeyUsages, SubjectAltName, SubjectKeyIdentifier,
};

use super::lists::{issuing, latest};
use crate::ca::fixture::{World, csr};
use crate::harness::database::TestDatabase;
use crate::on_both_databases;

const DAY: u64 = 86_400;
const CLIENT_AUTH: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.2");

async fn world() -> (TestDatabase, World) {
    let database = TestDatabase::sqlite();
    let world = World::over(&database).await;
    (database, world)
}

async fn leaf(world: &World) -> Certificate {
    Certificate::from_der(&world.issue("phone").await.certificate.der).unwrap()
}

async fn with_csr(world: &World, csr_pem: String) -> Result<Certificate, IssueError> {
    let request = IssueRequest {
        person: world.anna,
        device: DeviceChoice::New { name: "phone".to_owned() },
        profile: "device".parse().unwrap(),
        csr_pem,
        dns_names: Default::default(),
    };
    let act = world.act("certificate.issue").await;
    let issued = world.ca.issue(&request, &act, world.now()).await?;
    Ok(Certificate::from_der(&issued.certificate.der).unwrap())
}

async fn renew(world: &World, serial: Serial) -> Result<Serial, IssueError> {
    let act = world.act("certificate.renew").await;
    let renewed = world.ca.renew(serial, &csr(), &act, world.now()).await?;
    Ok(renewed.certificate.serial)
}

#[tokio::test]
async fn rule_01_serials_are_positive_short_and_never_used_twice() {
    let (_database, world) = world().await;
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..20 {
        let certificate = leaf(&world).await;
        let serial = certificate.tbs_certificate().serial_number().as_bytes().to_vec();
        assert!((8..=20).contains(&serial.len()) && serial[0] < 0x80, "{serial:02x?}");
        assert!(seen.insert(serial));
    }
    // Once reserved it is used, whatever became of it.
    let serial = world.issue("last").await.certificate.serial;
    assert!(world.store.reserve_serial(serial, "test", world.now()).await.is_err());
}

#[tokio::test]
async fn rule_02_the_issuer_is_the_subject_of_the_authority_octet_by_octet() {
    let (_database, world) = world().await;
    let authority = issuing(&world).await;
    let subject = authority.tbs_certificate().subject().to_der().unwrap();
    assert!(!authority.tbs_certificate().subject().is_empty());
    assert_eq!(leaf(&world).await.tbs_certificate().issuer().to_der().unwrap(), subject);
    world.ca.publish_crls(world.now()).await.unwrap();
    assert_eq!(latest(&world).await.tbs_cert_list.issuer.to_der().unwrap(), subject);
}

on_both_databases! {
    async fn rule_03_every_authority_has_a_name_and_a_key_id_of_its_own(database) {
        let world = World::over(database).await;
        let (mut names, mut ids) = (std::collections::BTreeSet::new(), std::collections::BTreeSet::new());
        let authorities = world.store.authorities().await.unwrap();
        for authority in &authorities {
            let certificate = Certificate::from_der(authority.certificate.as_ref().unwrap()).unwrap();
            names.insert(certificate.tbs_certificate().subject().to_der().unwrap());
            let (_, id) = certificate.tbs_certificate().get_extension::<SubjectKeyIdentifier>().unwrap().unwrap();
            ids.insert(id.0.as_bytes().to_vec());
        }
        assert_eq!((names.len(), ids.len()), (authorities.len(), authorities.len()));
    }
}

#[tokio::test]
async fn rule_04_of_a_request_only_the_key_counts_and_only_once_it_is_proved() {
    let (_database, world) = world().await;
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let mut params = rcgen::CertificateParams::new(["evil.example".to_owned()]).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, "root");
    let wished = params.serialize_request(&key).unwrap();
    let certificate = with_csr(&world, wished.pem().unwrap()).await.unwrap();
    let der = certificate.to_der().unwrap();
    assert!(!der.windows(12).any(|part| part == b"evil.example"));
    assert!(!certificate.tbs_certificate().subject().to_string().contains("root"));
    let mut unproved = wished.der().to_vec();
    *unproved.last_mut().unwrap() ^= 1;
    let unproved = wicketgate::pki::pem::block("CERTIFICATE REQUEST", &unproved);
    assert!(matches!(with_csr(&world, unproved).await, Err(IssueError::Csr(_))));
}

#[tokio::test]
async fn rule_05_dates_are_in_whole_seconds_of_utc_and_hardly_before_now() {
    let (_database, world) = world().await;
    let certificate = leaf(&world).await;
    let validity = certificate.tbs_certificate().validity().to_der().unwrap();
    // RFC 5280 §4.1.2.5.1: UTCTime, YYMMDDHHMMSSZ, through 2049.
    assert_eq!(
        (&validity[2..4], validity[16], &validity[17..19], validity[31]),
        (&[0x17, 13][..], b'Z', &[0x17, 13][..], b'Z')
    );
    let begins = certificate.tbs_certificate().validity().not_before.to_unix_duration().as_secs();
    let now = u64::try_from(world.now().as_unix()).unwrap();
    assert!(begins <= now && now - begins <= 3_600);
}

#[tokio::test]
async fn rule_06_no_leaf_outlives_its_issuer() {
    let (_database, world) = world().await;
    let ends =
        |certificate: &Certificate| certificate.tbs_certificate().validity().not_after.to_unix_duration();
    let authority = issuing(&world).await;
    assert!(ends(&leaf(&world).await) <= ends(&authority));
    world.clock.set(UtcTime::from_unix(ends(&authority).as_secs() as i64).minus(Duration::from_secs(DAY)));
    let refused = world.try_issue(DeviceChoice::New { name: "late".to_owned() }).await;
    assert!(matches!(refused, Err(IssueError::Gate(_))), "{refused:?}");
}

#[tokio::test]
async fn rule_07_a_renewal_is_decided_anew_and_a_revoked_certificate_has_none() {
    let (_database, world) = world().await;
    let first = world.issue("phone").await.certificate.serial;
    let second = renew(&world, first).await.unwrap();
    world.revoke(second, "cessationOfOperation").await.unwrap();
    assert!(matches!(renew(&world, second).await, Err(IssueError::Revoked)));
    let other = world.issue("tablet").await.certificate.serial;
    let mut anna = world.store.person(world.anna).await.unwrap().unwrap();
    anna.disabled = true;
    world.ca.update_person(&anna, &world.act("person.edit").await, world.now()).await.unwrap();
    assert!(renew(&world, other).await.is_err());
}

#[tokio::test]
async fn rule_08_authorities_sign_and_leaves_prove_and_both_say_by_which_key() {
    let (_database, world) = world().await;
    let (authority, leaf) = (issuing(&world).await, leaf(&world).await);
    let (above, below) = (authority.tbs_certificate(), leaf.tbs_certificate());
    let (critical, basic) = above.get_extension::<BasicConstraints>().unwrap().unwrap();
    assert!(critical && basic.ca && basic.path_len_constraint.is_some());
    let (critical, usage) = above.get_extension::<KeyUsage>().unwrap().unwrap();
    assert!(critical && usage.key_cert_sign() && usage.crl_sign());
    let (critical, usage) = below.get_extension::<KeyUsage>().unwrap().unwrap();
    assert_eq!((critical, usage), (true, KeyUsage(KeyUsages::DigitalSignature.into())));
    let (_, own) = above.get_extension::<SubjectKeyIdentifier>().unwrap().unwrap();
    let (_, issuer) = below.get_extension::<AuthorityKeyIdentifier>().unwrap().unwrap();
    assert_eq!(issuer.key_identifier.unwrap(), own.0);
    assert!(below.get_extension::<SubjectKeyIdentifier>().unwrap().is_some());
}

#[tokio::test]
async fn rule_09_leaves_are_for_clients_alone() {
    let (_database, world) = world().await;
    let leaf = leaf(&world).await;
    let (_, usage) = leaf.tbs_certificate().get_extension::<ExtendedKeyUsage>().unwrap().unwrap();
    assert_eq!(usage.0, [CLIENT_AUTH]);
}

on_both_databases! {
    async fn rule_10_a_leaf_bears_no_kind_of_name_but_address_and_uri(database) {
        let world = World::over(database).await;
        let certificate = Certificate::from_der(&world.issue("phone").await.certificate.der).unwrap();
        let (_, names) = certificate.tbs_certificate().get_extension::<SubjectAltName>().unwrap().unwrap();
        assert!(names.0.iter().all(|name| {
            matches!(name, GeneralName::Rfc822Name(_) | GeneralName::UniformResourceIdentifier(_))
        }));
    }

    async fn rule_11_the_place_in_a_leaf_is_the_place_in_its_list(database) {
        let world = World::over(database).await;
        let leaf = world.issue("phone").await.certificate;
        world.ca.publish_crls(world.now()).await.unwrap();
        let certificate = Certificate::from_der(&leaf.der).unwrap();
        let (_, points) = certificate.tbs_certificate().get_extension::<CrlDistributionPoints>().unwrap().unwrap();
        let list = world.store.latest_crl(&leaf.authority).await.unwrap().unwrap();
        let list = CertificateList::<Rfc5280>::from_der(&list.der).unwrap();
        let extensions = list.tbs_cert_list.crl_extensions.unwrap();
        let place = extensions.iter().find(|one| one.extn_id.to_string() == "2.5.29.28").unwrap();
        let place = IssuingDistributionPoint::from_der(place.extn_value.as_bytes()).unwrap();
        assert_eq!(points.0[0].distribution_point, place.distribution_point);
        let Some(DistributionPointName::FullName(names)) = &points.0[0].distribution_point else { panic!() };
        let GeneralName::UniformResourceIdentifier(uri) = &names[0] else { panic!() };
        assert!(uri.as_str().starts_with("http://"));
    }
}

#[tokio::test]
async fn rule_22_an_authority_ends_early_enough_for_its_last_leaf() {
    let (_database, world) = world().await;
    let authority = world.store.authority(&"client-issuing-g1".parse().unwrap()).await.unwrap().unwrap();
    let first = world.issue("phone").await.certificate;
    let lives = first.not_after.since(world.now());
    world.clock.set(authority.not_after.minus(lives + Duration::from_secs(DAY)));
    world.issue("in time").await;
    world.clock.advance(Duration::from_secs(2 * DAY));
    assert!(world.try_issue(DeviceChoice::New { name: "late".to_owned() }).await.is_err());
}

#[tokio::test]
async fn rule_23_what_is_signed_was_on_record_to_the_octet() {
    let (_database, world) = world().await;
    world.ca.witness().watch();
    let certificate = world.issue("phone").await.certificate;
    world.ca.publish_crls(world.now()).await.unwrap();
    let signed = world.ca.witness().signed();
    assert!(signed.len() >= 2 && signed.iter().all(|one| one.on_record));
    assert!(signed.iter().any(|one| certificate.der.windows(one.tbs.len()).any(|part| part == one.tbs)));
}

#[tokio::test]
async fn rule_24_a_re_enrolment_keeps_the_names_of_its_certificate() {
    let (_database, world) = world().await;
    let held = world.issue("phone").await.certificate.der;
    let (key, _) = keygen::generate_p256();
    let same = continuity::renewal_request(key.expose(), &held).unwrap();
    continuity::check(&same, &held).unwrap();
    let other = keygen::client_csr(key.expose(), "somebody else").unwrap();
    assert!(continuity::check(&other, &held).is_err());
}

#[tokio::test]
async fn rule_25_a_key_belongs_to_one_lineage_and_a_compromised_one_to_none() {
    let (_database, world) = world().await;
    let own = csr();
    let first = with_csr(&world, own.clone()).await.unwrap();
    assert!(matches!(with_csr(&world, own.clone()).await, Err(IssueError::Gate(_))));
    let serial = first.tbs_certificate().serial_number().as_bytes();
    let serial: String = serial.iter().map(|octet| format!("{octet:02x}")).collect();
    world.revoke(serial.parse().unwrap(), "keyCompromise").await.unwrap();
    let refused = with_csr(&world, own).await;
    assert!(matches!(refused, Err(IssueError::Gate(GateError::BlockedKey | GateError::Policy { .. }))));
    let weak = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let weak = rcgen::CertificateParams::default().serialize_request(&weak).unwrap().pem().unwrap();
    assert!(with_csr(&world, weak).await.is_err(), "not a kind of key that the profile takes");
}
