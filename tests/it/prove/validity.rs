//! First and last second of validity, and how they are written on either side of 2050: what the bytes say,
//! what an edge decides, and what OpenSSL thinks of it.

use std::path::Path;
use std::time::Duration;

use rustls_pki_types::CertificateDer;
use wicketgate::domain::{Serial, UtcTime};
use wicketgate::keys::{Kek, SystemEntropy};
use wicketgate::live::{Classified, classify};
use wicketgate::pki::keygen::generate_p256;
use wicketgate::pki::{AuthorityKind, AuthorityTemplate, issuer::prepare_root, pem};
use wicketgate::store::Store;

use super::Proof;
use crate::ca::fixture::World;
use crate::harness::database::TestDatabase;
use crate::pki::peers::{Peer, openssl};

const SECOND: Duration = Duration::from_secs(1);
/// Of the profile `device`: its first and last second count.
const LIFE: Duration = Duration::from_secs(90 * 86_400 - 1);
const BACK_DATE: Duration = Duration::from_secs(300);
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// (when it is issued, tag of notBefore, tag of notAfter)
const TABLE: &[(&str, u8, u8)] = &[
    ("2026-11-23T12:00:00Z", UTC_TIME, UTC_TIME),
    ("2028-02-29T23:59:59Z", UTC_TIME, UTC_TIME),
    // Ends in the last second of 2049.
    ("2049-10-03T00:00:00Z", UTC_TIME, UTC_TIME),
    // Ends in the first second of 2050.
    ("2049-10-03T00:00:01Z", UTC_TIME, GENERALIZED_TIME),
    ("2049-12-31T23:59:59Z", UTC_TIME, GENERALIZED_TIME),
    // Begins in the last second of 2049.
    ("2050-01-01T00:04:59Z", UTC_TIME, GENERALIZED_TIME),
    // Begins in the first second of 2050.
    ("2050-01-01T00:05:00Z", GENERALIZED_TIME, GENERALIZED_TIME),
    ("2052-02-28T12:00:00Z", GENERALIZED_TIME, GENERALIZED_TIME),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn validity_table() {
    let proof = Proof::of("validity_table");
    let openssl = openssl();
    let (mut rows, mut wrong) = (0, Vec::new());
    for (issued_at, begins, ends) in TABLE {
        rows += 1;
        row(issued_at.parse().unwrap(), *begins, *ends, openssl.as_ref(), &mut wrong).await;
    }
    for (end, tag) in [
        ("2049-12-31T23:59:59Z", UTC_TIME),
        ("2050-01-01T00:00:00Z", GENERALIZED_TIME),
        ("9999-12-31T23:59:59Z", GENERALIZED_TIME),
    ] {
        rows += 1;
        root(end.parse().unwrap(), tag, &mut wrong);
    }
    let ok = wrong.is_empty() && (openssl.is_some() || !super::is_full());
    proof.end(rows, ok, &format!("{rows} rows, OpenSSL beside: {}; {wrong:?}", openssl.is_some()));
}

/// The two times of a certificate: tag and text of each.
fn times(der: &[u8]) -> [(u8, String); 2] {
    use der::Decode;
    let certificate = x509_cert::Certificate::from_der(der).unwrap();
    let validity = *certificate.tbs_certificate().validity();
    [validity.not_before, validity.not_after].map(|time| {
        let octets = der::Encode::to_der(&time).unwrap();
        (octets[0], String::from_utf8(octets[2..].to_vec()).unwrap())
    })
}

/// As RFC 5280 §4.1.2.5 writes it.
fn written(at: UtcTime, tag: u8) -> String {
    let digits: String = at.to_string().chars().filter(char::is_ascii_digit).collect();
    if tag == UTC_TIME { format!("{}Z", &digits[2..]) } else { format!("{digits}Z") }
}

async fn row(now: UtcTime, begins: u8, ends: u8, openssl: Option<&Peer>, wrong: &mut Vec<String>) {
    let database = TestDatabase::sqlite();
    let store = Store::create(&database.url(), 5).await.unwrap();
    store.migrate(None).await.unwrap();
    // The authorities are older than the leaf, or their start would be the leaf's.
    let world = World::at(store, &Kek::fresh_text(&SystemEntropy), now.minus(LIFE)).await;
    world.clock.set(now);
    let issued = world.issue("phone").await.certificate;
    let (first, last) = (now.minus(BACK_DATE), now.plus(LIFE));
    let wanted = [(begins, written(first, begins)), (ends, written(last, ends))];
    if times(&issued.der) != wanted {
        wrong.push(format!("{now}: written as {:?}, not {wanted:?}", times(&issued.der)));
    }
    if (issued.not_before, issued.not_after) != (first, last) {
        wrong.push(format!("{now}: the row says {} to {}", issued.not_before, issued.not_after));
    }
    for (at, passes) in
        [(first.minus(SECOND), false), (first, true), (last, true), (last.plus(SECOND), false)]
    {
        let verdict = classify(&[CertificateDer::from(&*issued.der)], at, world.holder.register());
        if matches!(verdict, Classified::Known(_)) != passes {
            wrong.push(format!("{now}: an edge is wrong at {at}"));
        }
    }
    let Some(openssl) = openssl else { return };
    let folder = tempfile::tempdir().unwrap();
    for authority in world.store.authorities().await.unwrap() {
        let text = pem::block("CERTIFICATE", &authority.certificate.unwrap());
        std::fs::write(folder.path().join(format!("{}.pem", authority.name)), text).unwrap();
    }
    std::fs::write(folder.path().join("leaf.pem"), pem::block("CERTIFICATE", &issued.der)).unwrap();
    let said =
        openssl.ok(folder.path(), &["x509", "-in", "leaf.pem", "-noout", "-dates", "-dateopt", "iso_8601"]);
    for (what, at) in [("notBefore", first), ("notAfter", last)] {
        let line = format!("{what}={}", at.to_string().replace('T', " "));
        if !said.contains(&line) {
            wrong.push(format!("{now}: OpenSSL reads {said:?}, not {line:?}"));
        }
    }
    // OpenSSL counts the last second as gone already, against RFC 5280 §4.1.2.5; hence one before it.
    for (at, passes) in
        [(first.minus(SECOND), false), (first, true), (last.minus(SECOND), true), (last.plus(SECOND), false)]
    {
        if verifies(openssl, folder.path(), at) != passes {
            wrong.push(format!("{now}: OpenSSL differs at {at}"));
        }
    }
}

fn verifies(openssl: &Peer, folder: &Path, at: UtcTime) -> bool {
    let at = at.as_unix().to_string();
    let arguments = ["verify", "-x509_strict", "-attime", &at, "-CAfile", "client-root-g1.pem"];
    let more = ["-untrusted", "client-issuing-g1.pem", "leaf.pem"];
    openssl.run(folder, &[&arguments[..], &more].concat()).status.success()
}

/// An authority that ends then; nothing but its bytes is looked at.
fn root(end: UtcTime, tag: u8, wrong: &mut Vec<String>) {
    let (key, spki) = generate_p256();
    let template = AuthorityTemplate {
        kind: AuthorityKind::Root,
        serial: Serial::random(&SystemEntropy),
        spki_der: &spki,
        common_name: "Example Client Root G1",
        organization: None,
        not_before: "2026-11-23T12:00:00Z".parse().unwrap(),
        not_after: end,
        crl_urls: &[],
        issuer_urls: &[],
    };
    let prepared = prepare_root(&template).unwrap();
    let signature = wicketgate::pki::keygen::sign_p256(key.expose(), prepared.tbs()).unwrap();
    let certificate = prepared.assemble(&signature).unwrap();
    let found = times(certificate.der())[1].clone();
    if found != (tag, written(end, tag)) {
        wrong.push(format!("a root that ends {end} is written {found:?}"));
    }
}
