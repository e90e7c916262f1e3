//! Certificate revocation lists against OpenSSL and webpki.

use std::path::Path;

use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::{
    BorrowedCertRevocationList, CertRevocationList, EndEntityCert, KeyUsage, RevocationCheckDepth,
    RevocationOptionsBuilder, UnknownStatusPolicy, anchor_from_trusted_cert,
};
use wicketgate::domain::{RevocationReason, Serial};
use wicketgate::pki::Certificate;
use wicketgate::pki::crl::Crl;

use super::house::{self, House, ISSUING_CRL, NOW, System};
use super::peers::openssl;

/// A folder with root, issuing authority, leaf, both lists.
fn written(house: &House, leaf: &Certificate, crl: &Crl) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: String| std::fs::write(folder.path().join(name), text).unwrap();
    write("root.pem", house.root.certificate.pem());
    write("issuing.pem", house.issuing.certificate.pem());
    write("leaf.pem", leaf.pem());
    // Without a URL in it: OpenSSL checks the root against its own list too, and a root names no place.
    let of_root = house::crl(&house.root, &[], None);
    write("crls.pem", of_root.pem() + &crl.pem());
    write("crl.pem", crl.pem());
    folder
}

fn checked(now: &str) -> Vec<&str> {
    let what = ["verify", "-x509_strict", "-crl_check_all", "-CRLfile", "crls.pem", "-attime", now];
    [&what[..], &["-purpose", "sslclient", "-CAfile", "root.pem", "-untrusted", "issuing.pem", "leaf.pem"]]
        .concat()
}

#[test]
fn openssl_lets_a_leaf_pass_until_it_is_listed_with_any_reason() {
    let Some(openssl) = openssl() else { return };
    let house = House::new();
    let (leaf, _) = house.anna();
    let now = NOW.as_unix().to_string();
    for url in [None, Some(ISSUING_CRL)] {
        let strangers: Vec<_> =
            (0..50).map(|_| (Serial::random(&System), RevocationReason::Superseded)).collect();
        for list in [&[][..], &strangers] {
            let folder = written(&house, &leaf, &house::crl(&house.issuing, list, url));
            openssl.ok(folder.path(), &checked(&now));
        }
        for reason in RevocationReason::ALL {
            let list = [&strangers[..], &[(leaf.serial(), reason)]].concat();
            let folder = written(&house, &leaf, &house::crl(&house.issuing, &list, url));
            let said = openssl.fails(folder.path(), &checked(&now));
            assert!(said.contains("error 23") && said.contains("certificate revoked"), "{reason}: {said}");
        }
    }
}

#[test]
fn openssl_notices_that_a_list_is_for_another_place() {
    let Some(openssl) = openssl() else { return };
    let house = House::new();
    let (leaf, _) = house.anna();
    let elsewhere = house::crl(&house.issuing, &[], Some("http://pki.example.com/pki/other.crl"));
    let folder = written(&house, &leaf, &elsewhere);
    let said = openssl.fails(folder.path(), &checked(&NOW.as_unix().to_string()));
    assert!(said.contains("different CRL scope"), "{said}");
}

#[test]
fn openssl_reads_every_field_and_the_signature() {
    let Some(openssl) = openssl() else { return };
    let house = House::new();
    let (leaf, _) = house.anna();
    let all: Vec<_> = RevocationReason::ALL.iter().map(|reason| (Serial::random(&System), *reason)).collect();
    let folder = written(&house, &leaf, &house::crl(&house.issuing, &all, Some(ISSUING_CRL)));
    let text = show(&openssl, folder.path());
    for line in [
        "Version 2 (0x1)",
        "X509v3 CRL Number: \n                42\n",
        "X509v3 Issuing Distribution Point: critical\n                Full Name:\n                  URI:http://pki.example.com/pki/issuing-g1.crl\n",
        "Next Update: Nov 24 18:00:00 2026 GMT",
        "Invalidity Date: \n                Nov 21 18:00:00 2026 GMT",
        "Key Compromise",
        "CA Compromise",
        "Affiliation Changed",
        "Superseded",
        "Cessation Of Operation",
        "Certificate Hold",
        "Privilege Withdrawn",
        "AA Compromise",
    ] {
        assert!(text.contains(line), "{line} is missing in\n{text}");
    }
    assert!(!text.contains("Unspecified"), "{text}");
    assert_eq!(text.matches("Serial Number:").count(), 9);
    let empty = written(&house, &leaf, &house::crl(&house.issuing, &[], None));
    assert!(show(&openssl, empty.path()).contains("No Revoked Certificates."));
}

fn show(openssl: &super::peers::Peer, folder: &Path) -> String {
    let arguments = ["crl", "-in", "crl.pem", "-noout", "-text", "-CAfile", "issuing.pem"];
    let text = openssl.ok(folder, &arguments);
    assert!(text.contains("verify OK"), "{text}");
    text
}

#[test]
fn webpki_refuses_a_listed_leaf_and_passes_another() {
    let house = House::new();
    let ((anna, _), (berta, _)) = (house.anna(), house.anna());
    let list =
        house::crl(&house.issuing, &[(anna.serial(), RevocationReason::KeyCompromise)], Some(ISSUING_CRL));
    let list = BorrowedCertRevocationList::from_der(list.der()).unwrap();
    let list = CertRevocationList::Borrowed(list);
    let lists = [&list];
    let verify = |leaf: &Certificate| {
        let revocation = RevocationOptionsBuilder::new(&lists)
            .unwrap()
            .with_depth(RevocationCheckDepth::EndEntity)
            .with_status_policy(UnknownStatusPolicy::Deny)
            .build();
        let root = CertificateDer::from(house.root.certificate.der());
        let between = [CertificateDer::from(house.issuing.certificate.der())];
        let leaf = CertificateDer::from(leaf.der());
        let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(NOW.as_unix() as u64));
        let usage = KeyUsage::client_auth();
        let anchors = [anchor_from_trusted_cert(&root).unwrap()];
        EndEntityCert::try_from(&leaf)
            .unwrap()
            .verify_for_usage(
                webpki::ALL_VERIFICATION_ALGS,
                &anchors,
                &between,
                now,
                usage,
                Some(revocation),
                None,
            )
            .map(drop)
    };
    assert_eq!(verify(&anna), Err(webpki::Error::CertRevoked));
    assert_eq!(verify(&berta), Ok(()));
}
