//! Certificates against OpenSSL and webpki.

use std::path::Path;
use std::time::Duration;

use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use wicketgate::domain::{Serial, UtcTime};
use wicketgate::pki::keygen::generate_p256;
use wicketgate::pki::server_leaf::local_server_leaf;

use super::house::{DAY, House, NOW, System};
use super::peers::{Peer, openssl};

/// Writes the house's certificates where the commands below expect them.
fn write(folder: &Path, house: &House) {
    for (name, authority) in [("root", &house.root), ("issuing", &house.issuing), ("local", &house.local)] {
        std::fs::write(folder.join(format!("{name}.pem")), authority.certificate.pem()).unwrap();
    }
}

/// `openssl verify -x509_strict` at an instant, under the root and through the issuing authority.
fn strictly<'a>(at: &'a str, purpose: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let path = ["verify", "-x509_strict", "-attime", at, "-purpose", purpose, "-CAfile", "root.pem"];
    [&path[..], &["-untrusted", "issuing.pem"], more].concat()
}

const SECOND: Duration = Duration::from_secs(1);

fn seconds(at: UtcTime) -> String {
    at.as_unix().to_string()
}

#[test]
fn openssl_takes_a_client_certificate_for_a_client_and_nothing_else() {
    let Some(openssl) = openssl() else { return };
    let (folder, house) = (tempfile::tempdir().unwrap(), House::new());
    write(folder.path(), &house);
    let (leaf, _) = house.anna();
    std::fs::write(folder.path().join("leaf.pem"), leaf.pem()).unwrap();
    let now = seconds(NOW);
    openssl.ok(folder.path(), &strictly(&now, "sslclient", &["leaf.pem"]));
    let said = openssl.fails(folder.path(), &strictly(&now, "sslserver", &["leaf.pem"]));
    assert!(said.contains("unsuitable certificate purpose"), "{said}");
    // OpenSSL counts the last second as gone already, against RFC 5280 §4.1.2.5; hence one before it.
    let end = NOW.plus(DAY * 90);
    openssl.ok(folder.path(), &strictly(&seconds(end.minus(SECOND)), "sslclient", &["leaf.pem"]));
    let said =
        openssl.fails(folder.path(), &strictly(&seconds(end.plus(SECOND)), "sslclient", &["leaf.pem"]));
    assert!(said.contains("has expired"), "{said}");
}

#[test]
fn openssl_shows_exactly_the_extensions_that_were_decided() {
    let Some(openssl) = openssl() else { return };
    let (folder, house) = (tempfile::tempdir().unwrap(), House::new());
    write(folder.path(), &house);
    let (leaf, _) = house.anna();
    std::fs::write(folder.path().join("leaf.pem"), leaf.pem()).unwrap();
    let leaf = shown(&openssl, folder.path(), "leaf.pem");
    for line in [
        "X509v3 Key Usage: critical\n                Digital Signature\n",
        "X509v3 Extended Key Usage: \n                TLS Web Client Authentication\n",
        "email:anna@example.com, URI:urn:uuid:01890a5d-ac96-774b-bcce-b302099a8057\n",
        "URI:http://pki.example.com/pki/issuing-g1.crl",
        "OCSP - URI:http://pki.example.com/pki/ocsp",
        "CA Issuers - URI:http://pki.example.com/pki/issuing-g1.cer",
        "Signature Algorithm: ecdsa-with-SHA256",
        "Issuer: O = Example Team, CN = Example Client Issuing G1",
    ] {
        assert!(leaf.contains(line), "{line} is missing in\n{leaf}");
    }
    assert_eq!(leaf.matches("            X509v3 ").count(), 6, "{leaf}");
    assert!(!leaf.contains("Basic Constraints"), "{leaf}");
    let issuing = shown(&openssl, folder.path(), "issuing.pem");
    for line in [
        "X509v3 Basic Constraints: critical\n                CA:TRUE, pathlen:0\n",
        "X509v3 Key Usage: critical\n                Certificate Sign, CRL Sign\n",
        "X509v3 Extended Key Usage: \n                TLS Web Client Authentication\n",
        "X509v3 Authority Key Identifier",
    ] {
        assert!(issuing.contains(line), "{line} is missing in\n{issuing}");
    }
    let root = shown(&openssl, folder.path(), "root.pem");
    assert!(root.contains("CA:TRUE, pathlen:2") && !root.contains("Extended Key Usage"), "{root}");
}

fn shown(openssl: &Peer, folder: &Path, file: &str) -> String {
    openssl.ok(folder, &["x509", "-noout", "-text", "-in", file])
}

#[test]
fn openssl_takes_a_local_server_leaf_for_its_names_only() {
    let Some(openssl) = openssl() else { return };
    let (folder, house) = (tempfile::tempdir().unwrap(), House::new());
    write(folder.path(), &house);
    let names = ["localhost", "door.localhost", "127.0.0.1", "::1"];
    let (leaf, key) = server_leaf(&house, &names);
    std::fs::write(folder.path().join("leaf.der"), &leaf).unwrap();
    std::fs::write(folder.path().join("key.der"), key).unwrap();
    openssl.ok(folder.path(), &["x509", "-inform", "DER", "-in", "leaf.der", "-out", "leaf.pem"]);
    let now = seconds(NOW);
    let base = ["verify", "-x509_strict", "-attime", &now, "-CAfile", "local.pem", "-purpose"];
    let verify = |more: &[&'static str]| [&base[..], more].concat();
    openssl.ok(folder.path(), &verify(&["sslserver", "-verify_hostname", "door.localhost", "leaf.pem"]));
    openssl.ok(folder.path(), &verify(&["sslserver", "-verify_ip", "::1", "leaf.pem"]));
    openssl.fails(folder.path(), &verify(&["sslserver", "-verify_hostname", "example.com", "leaf.pem"]));
    openssl.fails(folder.path(), &verify(&["sslclient", "leaf.pem"]));
    let text = shown(&openssl, folder.path(), "leaf.pem");
    assert!(text.contains("OU = local server authority, CN = localhost"), "{text}");
    // The key that came with it is the leaf's.
    let of_leaf = openssl.ok(folder.path(), &["x509", "-in", "leaf.pem", "-noout", "-pubkey"]);
    let of_key = openssl.ok(folder.path(), &["pkey", "-inform", "DER", "-in", "key.der", "-pubout"]);
    assert_eq!(of_leaf, of_key);
}

fn server_leaf(house: &House, names: &[&str]) -> (Vec<u8>, Vec<u8>) {
    let (authority, serial) = (&house.local, Serial::random(&System));
    let key = authority.key.expose();
    let (leaf, key) = local_server_leaf(
        authority.certificate.der(),
        key,
        names,
        serial,
        NOW.minus(DAY),
        NOW.plus(DAY * 30),
    )
    .unwrap();
    (leaf, key.expose().clone())
}

#[test]
fn a_server_leaf_needs_a_name_a_matching_key_and_an_authority_that_lives_on() {
    let house = House::new();
    let (local, serial) = (&house.local, Serial::random(&System));
    let make = |key: &[u8], names: &[&str], to| {
        local_server_leaf(local.certificate.der(), key, names, serial, NOW, to).map(drop)
    };
    let soon = NOW.plus(DAY);
    assert!(make(local.key.expose(), &["localhost"], soon).is_ok());
    assert!(make(local.key.expose(), &[], soon).is_err());
    assert!(make(local.key.expose(), &["not a host"], soon).is_err());
    assert!(make(house.root.key.expose(), &["localhost"], soon).is_err());
    assert!(make(local.key.expose(), &["localhost"], NOW.plus(DAY * 3651)).is_err());
}

#[test]
fn the_year_2050_changes_the_form_of_time_and_nothing_else() {
    let Some(openssl) = openssl() else { return };
    let end: UtcTime = "2061-01-01T00:00:00Z".parse().unwrap();
    let (folder, house) = (tempfile::tempdir().unwrap(), House::until(end));
    write(folder.path(), &house);
    let (_, spki) = generate_p256();
    for (to, form) in [("2049-12-31T23:59:59Z", "UTCTIME"), ("2050-01-01T00:00:00Z", "GENERALIZEDTIME")] {
        let to: UtcTime = to.parse().unwrap();
        let leaf = house.client(&spki, None, NOW, to);
        std::fs::write(folder.path().join("leaf.pem"), leaf.pem()).unwrap();
        openssl.ok(folder.path(), &strictly(&seconds(to.minus(SECOND)), "sslclient", &["leaf.pem"]));
        let structure = openssl.ok(folder.path(), &["asn1parse", "-in", "leaf.pem"]);
        assert!(structure.contains(form), "{structure}");
    }
}

#[test]
fn webpki_takes_both_kinds_of_leaf_for_their_own_purpose() {
    let house = House::new();
    let (leaf, _) = house.anna();
    let verify = |leaf: &[u8], root: &[u8], between: &[u8], usage: KeyUsage| {
        let (leaf, root) = (CertificateDer::from(leaf), CertificateDer::from(root));
        let (between, anchor) = ([CertificateDer::from(between)], anchor_from_trusted_cert(&root).unwrap());
        let now = UnixTime::since_unix_epoch(Duration::from_secs(NOW.as_unix() as u64));
        EndEntityCert::try_from(&leaf)
            .unwrap()
            .verify_for_usage(webpki::ALL_VERIFICATION_ALGS, &[anchor], &between, now, usage, None, None)
            .map(drop)
    };
    let (root, issuing) = (house.root.certificate.der(), house.issuing.certificate.der());
    verify(leaf.der(), root, issuing, KeyUsage::client_auth()).unwrap();
    verify(leaf.der(), root, issuing, KeyUsage::server_auth()).unwrap_err();
    let (server, _) = server_leaf(&house, &["localhost"]);
    let local = house.local.certificate.der();
    verify(&server, local, issuing, KeyUsage::server_auth()).unwrap();
    verify(&server, local, issuing, KeyUsage::client_auth()).unwrap_err();
    verify(leaf.der(), local, issuing, KeyUsage::client_auth()).unwrap_err();
}
