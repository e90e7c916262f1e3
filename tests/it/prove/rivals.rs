//! What went wrong elsewhere, and was published, tried here: each line names the case.

use std::collections::BTreeSet;
use std::time::Duration;

use der::{Decode, Encode};
use futures_util::future::BoxFuture;
use serde_json::json;
use wicketgate::ca::{DeviceChoice, GateError, IssueError, IssueRequest, RevokeError};
use wicketgate::crash::{Blow, Plan};
use wicketgate::domain::{Role, UtcTime};
use wicketgate::store::StoreError;

use super::Proof;
use crate::admin::fixture::{App, Way};
use crate::ca::fixture::{World, csr};
use crate::harness::database::TestDatabase;

/// Whether it is refused, or does not come true, here.
type Trial = fn(&World) -> BoxFuture<'_, bool>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rival_failures() {
    let proof = Proof::of("rival_failures");
    let (mut tried, mut failed) = (0, Vec::new());
    for database in [Some(TestDatabase::sqlite()), TestDatabase::postgres()].into_iter().flatten() {
        let world = World::over(&database).await;
        for (case, trial) in OF_THE_AUTHORITY {
            tried += 1;
            if !trial(&world).await {
                failed.push(*case);
            }
        }
    }
    for (case, holds) in Box::pin(of_the_api()).await {
        tried += 1;
        if !holds {
            failed.push(case);
        }
    }
    proof.end(tried, failed.is_empty(), &format!("{tried} replayed, these came true here: {failed:?}"));
}

const OF_THE_AUTHORITY: &[(&str, Trial)] = &[
    ("step-ca: renewal skips the policy for keys", |w| Box::pin(renewal_takes_no_weak_key(w))),
    ("step-ca: renewal of whoever was disabled since", |w| Box::pin(renewal_of_the_disabled(w))),
    ("step-ca: a certificate is signed, cannot be stored, and nobody knows it", |w| {
        Box::pin(an_unstored_certificate_is_known(w))
    }),
    ("step-ca, OpenBao: a serial is written over", |w| Box::pin(no_serial_twice(w))),
    ("step-ca, OpenBao: leaves are for servers, too", |w| Box::pin(client_auth_alone(w))),
    ("step-ca: two replicas publish lists of one number", |w| Box::pin(no_list_number_twice(w))),
    ("step-ca: an entry ends before it was on a list", |w| Box::pin(an_ended_entry_is_listed_once(w))),
    ("step-ca: a serial that was never issued is revoked", |w| Box::pin(the_unknown_is_not_revoked(w))),
    ("OpenBao: lists give no reason", |w| Box::pin(lists_give_reasons(w))),
    ("OpenBao GHSA-g892-p242-8g86: addresses in a request skip the checks", |w| {
        Box::pin(nothing_is_taken_from_a_request(w))
    }),
    ("OpenBao GHSA-59w7-v8rr-pr4p: patterns in a name are patterns", |w| Box::pin(patterns_are_letters(w))),
    ("many: a key that was compromised is certified again", |w| Box::pin(a_compromised_key_is_blocked(w))),
    ("OpenBao: a reason changes after the fact", |w| Box::pin(reasons_are_final(w))),
    // Years later: the clock is not set back after it.
    ("step-ca: a leaf outlives its issuer", |w| Box::pin(no_leaf_outlives_its_issuer(w))),
];

async fn issue(world: &World, csr_pem: String) -> Result<wicketgate::ca::Issued, IssueError> {
    let request = IssueRequest {
        person: world.anna,
        device: DeviceChoice::New { name: "phone".to_owned() },
        profile: "device".parse().unwrap(),
        csr_pem,
        dns_names: Default::default(),
    };
    let act = world.act("certificate.issue").await;
    world.ca.issue(&request, &act, world.now()).await
}

async fn renewal_takes_no_weak_key(world: &World) -> bool {
    let first = world.issue("phone").await.certificate;
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let weak = rcgen::CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap();
    let act = world.act("certificate.renew").await;
    let renewed = world.ca.renew(first.serial, &weak, &act, world.now()).await;
    matches!(renewed, Err(IssueError::Csr(_) | IssueError::Gate(GateError::Policy { .. })))
}

async fn renewal_of_the_disabled(world: &World) -> bool {
    let first = world.issue("phone").await.certificate;
    let set = async |disabled| {
        let mut anna = world.store.person(world.anna).await.unwrap().unwrap();
        anna.disabled = disabled;
        let act = world.act("person.edit").await;
        world.ca.update_person(&anna, &act, world.now()).await.unwrap();
    };
    set(true).await;
    let act = world.act("certificate.renew").await;
    let renewed = world.ca.renew(first.serial, &csr(), &act, world.now()).await;
    set(false).await;
    matches!(renewed, Err(IssueError::PersonDisabled))
}

async fn an_unstored_certificate_is_known(world: &World) -> bool {
    let plan = Plan::new("ca.after_signing", 1, Blow::DatabaseAway);
    let lost = plan.run(issue(world, csr())).await;
    let open = world.store.unresolved_intents(UtcTime::MAX).await.unwrap();
    world.clock.advance(Duration::from_secs(60));
    world.ca.resolve_intents(world.now()).await.unwrap();
    world.ca.publish_crls(world.now()).await.unwrap();
    let listed =
        world.store.revocations(&"client-issuing-g1".parse().unwrap(), UtcTime::EPOCH).await.unwrap();
    lost.is_err() && open.len() == 1 && listed.iter().any(|entry| entry.serial == open[0].serial)
}

async fn no_serial_twice(world: &World) -> bool {
    let serial = world.issue("phone").await.certificate.serial;
    matches!(world.store.reserve_serial(serial, "again", world.now()).await, Err(StoreError::Taken { .. }))
}

async fn no_leaf_outlives_its_issuer(world: &World) -> bool {
    world.clock.set("2036-10-20T12:00:00Z".parse().unwrap());
    let refused = issue(world, csr()).await;
    matches!(refused, Err(IssueError::Gate(GateError::OutlivesAuthority { .. })))
}

fn parsed(der: &[u8]) -> x509_cert::Certificate {
    x509_cert::Certificate::from_der(der).unwrap()
}

async fn client_auth_alone(world: &World) -> bool {
    let der = world.issue("phone").await.certificate.der;
    let certificate = parsed(&der);
    let usage = certificate
        .tbs_certificate()
        .get_extension::<x509_cert::ext::pkix::ExtendedKeyUsage>()
        .unwrap()
        .map(|(_, usage)| usage.0);
    usage == Some(vec!["1.3.6.1.5.5.7.3.2".parse().unwrap()])
}

async fn no_list_number_twice(world: &World) -> bool {
    let name = "client-issuing-g1".parse().unwrap();
    let numbers = (0..8).map(|_| world.store.next_crl_number(&name));
    let numbers = futures_util::future::join_all(numbers).await;
    let distinct: BTreeSet<u64> = numbers.into_iter().map(Result::unwrap).collect();
    distinct.len() == 8
}

async fn an_ended_entry_is_listed_once(world: &World) -> bool {
    world.ca.publish_crls(world.now()).await.unwrap();
    let serial = world.issue("phone").await.certificate.serial;
    world.clock.advance(Duration::from_secs(90 * 86_400 - 1));
    world.revoke(serial, "superseded").await.unwrap();
    world.clock.advance(Duration::from_secs(3600));
    world.ca.publish_crls(world.now()).await.unwrap();
    list_names(world, serial).await
}

async fn newest_list(world: &World) -> x509_cert::crl::CertificateList<x509_cert::certificate::Rfc5280> {
    let list = world.store.latest_crl(&"client-issuing-g1".parse().unwrap()).await.unwrap().unwrap();
    x509_cert::crl::CertificateList::from_der(&list.der).unwrap()
}

async fn list_names(world: &World, serial: wicketgate::domain::Serial) -> bool {
    let entries = newest_list(world).await.tbs_cert_list.revoked_certificates.unwrap_or_default();
    entries.iter().any(|entry| entry.serial_number.as_bytes() == serial.as_octets())
}

async fn the_unknown_is_not_revoked(world: &World) -> bool {
    let never = "0123456789abcdef0123456789abcdef".parse().unwrap();
    matches!(world.revoke(never, "superseded").await, Err(RevokeError::Missing(_)))
}

async fn lists_give_reasons(world: &World) -> bool {
    let serial = world.issue("phone").await.certificate.serial;
    world.revoke(serial, "keyCompromise").await.unwrap();
    world.ca.publish_crls(world.now()).await.unwrap();
    let entries = newest_list(world).await.tbs_cert_list.revoked_certificates.unwrap_or_default();
    let entry = entries.iter().find(|entry| entry.serial_number.as_bytes() == serial.as_octets());
    let extensions = entry.and_then(|entry| entry.crl_entry_extensions.clone()).unwrap_or_default();
    extensions
        .iter()
        .any(|one| one.extn_id.to_string() == "2.5.29.21" && one.extn_value.as_bytes() == [10, 1, 1])
}

async fn nothing_is_taken_from_a_request(world: &World) -> bool {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let names = ["evil.example".to_owned(), "10.66.66.66".to_owned()];
    let mut params = rcgen::CertificateParams::new(names).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, "evilroot");
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    let request = params.serialize_request(&key).unwrap().pem().unwrap();
    let der = issue(world, request).await.unwrap().certificate.der;
    let holds = |part: &[u8]| der.windows(part.len()).any(|window| window == part);
    !holds(b"evil") && !holds(&[10, 66, 66, 66])
}

async fn patterns_are_letters(world: &World) -> bool {
    let mut anna = world.store.person(world.anna).await.unwrap().unwrap();
    let before = anna.name.clone();
    anna.name = "{{identity.*}} ${CN} %n *".to_owned();
    let act = world.act("person.edit").await;
    let (mut anna, _) = world.ca.update_person(&anna, &act, world.now()).await.unwrap();
    let certificate = world.issue("phone").await.certificate;
    let subject = parsed(&certificate.der).tbs_certificate().subject().to_der().unwrap();
    let written = subject.windows(anna.name.len()).any(|window| window == anna.name.as_bytes());
    anna.name = before;
    let act = world.act("person.edit").await;
    world.ca.update_person(&anna, &act, world.now()).await.unwrap();
    // Groups, which policies name, cannot hold a pattern at all.
    written && "*".parse::<wicketgate::domain::Slug>().is_err()
}

async fn a_compromised_key_is_blocked(world: &World) -> bool {
    let request = csr();
    let first = issue(world, request.clone()).await.unwrap().certificate;
    world.revoke(first.serial, "keyCompromise").await.unwrap();
    matches!(issue(world, request).await, Err(IssueError::Gate(GateError::BlockedKey)))
}

async fn reasons_are_final(world: &World) -> bool {
    let serial = world.issue("phone").await.certificate.serial;
    world.revoke(serial, "keyCompromise").await.unwrap();
    matches!(world.revoke(serial, "superseded").await, Err(RevokeError::AlreadyRevoked(_)))
}

/// What came in over the network elsewhere.
async fn of_the_api() -> Vec<(&'static str, bool)> {
    let app = App::new().await;
    let (_, administrator) = app.administrator().await;
    let (_, anna) = app.member("Anna Berg").await;
    let (_, ben) = app.member("Ben Weak").await;
    let serial = app.issue(&anna, "phone").await.expect(201).body["serial"].as_str().unwrap().to_owned();
    let path = format!("/api/v1/certificates/{serial}/renewal");
    let body = json!({ "csr": csr() });
    let renew = |way| app.post(&path, &body).through(way);
    let mut held = vec![
        (
            "step-ca CVE-2026-30836: an update without a proof of who asks",
            renew(Way::Door).send().await.status == 401
                && renew(Way::Console).send().await.status == 401
                && renew(Way::Door).token("wkt_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA").send().await.status
                    == 401,
        ),
        ("somebody else's certificate is renewed", renew(Way::Door).token(&ben).send().await.status == 404),
        (
            "step-ca CVE-2026-30836: an update of a kind that nobody expects",
            app.call("PUT", &path).token(&anna).json(&body).send().await.status == 405
                && app
                    .call("PATCH", &format!("/api/v1/certificates/{serial}"))
                    .token(&anna)
                    .json(&body)
                    .send()
                    .await
                    .status
                    == 405,
        ),
    ];
    // Infisical #6924: the policy is not asked where a request takes the way over an approval.
    let carl = app.person("Carl Late", Role::Member).await;
    let (_, link) = app.invite(&administrator, carl).await;
    let accept = app.post("/api/v1/invitations/acceptance", &json!({ "token": link }));
    let cookie = accept.through(Way::Door).send().await.expect(200).cookie();
    let issue = |body: serde_json::Value| {
        app.call("POST", "/api/v1/certificates").through(Way::Door).cookie(&cookie).json(&body).send()
    };
    let other = issue(json!({ "csr": csr(), "device_name": "phone", "profile": "root" })).await;
    let edit = app.call("PATCH", &format!("/api/v1/people/{carl}")).token(&administrator);
    edit.header("if-match", "\"1\"").json(&json!({ "disabled": true })).send().await.expect(200);
    let late = issue(json!({ "csr": csr(), "device_name": "phone" })).await;
    held.push((
        "Infisical #6924: what was approved is not checked again",
        other.pointers() == ["/profile"] && late.status == 401,
    ));
    let revoke = |reason: &str| {
        let path = format!("/api/v1/certificates/{serial}/revocation");
        app.post(&path, &json!({ "reason": reason })).token(&anna).send()
    };
    held.push((
        "removeFromCRL and the reason without a name are taken",
        revoke("removeFromCRL").await.status == 422 && revoke("7").await.status == 422,
    ));
    held
}
