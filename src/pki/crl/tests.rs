use proptest::prelude::*;
use x509_cert::crl::CertificateList;

use der::{Decode, Encode};

use super::*;
use crate::pki::fixtures::{self, Authority, END, START, root, serial};

fn entry(last: u8, reason: RevocationReason) -> RevokedEntry {
    RevokedEntry { serial: serial(last), revoked_at: START, reason, invalid_since: None }
}

fn signed(issuer: &Authority, entries: &[RevokedEntry], url: Option<&str>) -> Crl {
    let prepared = prepare_crl(&issuer.certificate, 7, START, END, entries, url).unwrap();
    let signature = issuer.sign(prepared.tbs());
    prepared.assemble(&signature).unwrap()
}

fn read(crl: &Crl) -> CertificateList {
    let list = CertificateList::from_der(crl.der()).unwrap();
    assert_eq!(list.to_der().unwrap(), crl.der(), "canonical");
    list
}

#[test]
fn an_empty_list_has_no_revoked_certificates_at_all() {
    let list = read(&signed(&fixtures::issuing_under(&root()), &[], None));
    assert!(list.tbs_cert_list.revoked_certificates.is_none());
    assert_eq!(list.tbs_cert_list.crl_extensions.unwrap().len(), 2);
}

#[test]
fn the_key_identifier_is_the_issuers_own_and_not_its_parents() {
    let root = root();
    let issuing = fixtures::issuing_under(&root);
    let list = read(&signed(&issuing, &[], None));
    let extensions = list.tbs_cert_list.crl_extensions.unwrap();
    let aki =
        x509_cert::ext::pkix::AuthorityKeyIdentifier::from_der(extensions[0].extn_value.as_bytes()).unwrap();
    assert_eq!(aki.key_identifier.unwrap().as_bytes(), issuing.certificate.key_id());
    assert_ne!(root.certificate.key_id(), issuing.certificate.key_id());
}

#[test]
fn entries_come_out_sorted_with_their_reasons() {
    let issuing = fixtures::issuing_under(&root());
    let entries: Vec<_> = RevocationReason::ALL.iter().rev().map(|r| entry(100 + r.code(), *r)).collect();
    let list = read(&signed(&issuing, &entries, Some("http://localhost/pki/x.crl")));
    let revoked = list.tbs_cert_list.revoked_certificates.unwrap();
    for (found, reason) in revoked.iter().zip(RevocationReason::ALL) {
        assert_eq!(found.serial_number.as_bytes(), serial(100 + reason.code()).as_octets());
        let code = found.crl_entry_extensions.as_ref().map(|all| all[0].extn_value.as_bytes()[2]);
        assert_eq!(code, (reason.code() != 0).then(|| reason.code()));
    }
    let point = &list.tbs_cert_list.crl_extensions.unwrap()[2];
    assert!(point.critical);
    assert_eq!(point.extn_id, oid::ISSUING_DISTRIBUTION_POINT);
}

#[test]
fn long_urls_are_taken() {
    let issuing = fixtures::issuing_under(&root());
    for length in [60, 100, 120, 200, 2000] {
        let url = format!("http://localhost/{}", "x".repeat(length));
        read(&signed(&issuing, &[], Some(&url)));
    }
}

#[test]
fn a_serial_listed_twice_is_refused() {
    let issuing = fixtures::issuing_under(&root());
    let twice = [entry(1, RevocationReason::Superseded), entry(1, RevocationReason::KeyCompromise)];
    let refused = prepare_crl(&issuing.certificate, 1, START, END, &twice, None);
    assert!(matches!(refused, Err(PrepareError::Duplicate(which)) if which == serial(1)));
}

#[test]
fn an_empty_validity_and_a_url_that_is_not_plain_http_are_refused() {
    let issuing = fixtures::issuing_under(&root());
    let empty = prepare_crl(&issuing.certificate, 1, START, START, &[], None);
    assert!(matches!(empty, Err(PrepareError::Validity { .. })));
    let https = prepare_crl(&issuing.certificate, 1, START, END, &[], Some("https://localhost/x.crl"));
    assert!(matches!(https, Err(PrepareError::Name(_))));
}

#[test]
fn a_list_is_assembled_only_with_its_issuers_signature() {
    let root = root();
    let issuing = fixtures::issuing_under(&root);
    let prepared = prepare_crl(&issuing.certificate, 1, START, END, &[], None).unwrap();
    let by_parent = root.sign(prepared.tbs());
    assert!(matches!(prepared.assemble(&by_parent), Err(AssembleError::Signature)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_set_of_entries_gives_a_list_that_reads_back(
        raw in proptest::collection::btree_map(
            proptest::collection::vec(1u8.., 1..=20),
            (0i64..=253_402_300_799, 0usize..9, proptest::option::of(0i64..=253_402_300_799)),
            0..40,
        ),
        number: u64,
    ) {
        let entries: Vec<_> = raw
            .iter()
            .filter_map(|(octets, (at, reason, since))| {
                Some(RevokedEntry {
                    serial: Serial::from_der_octets(octets).ok()?,
                    revoked_at: UtcTime::from_unix(*at),
                    reason: RevocationReason::ALL[*reason],
                    invalid_since: since.map(UtcTime::from_unix),
                })
            })
            .collect();
        let issuing = fixtures::issuing_under(&root());
        let prepared = prepare_crl(&issuing.certificate, number, START, END, &entries, None).unwrap();
        let signature = issuing.sign(prepared.tbs());
        let list = read(&prepared.assemble(&signature).unwrap());
        let revoked = list.tbs_cert_list.revoked_certificates.unwrap_or_default();
        prop_assert_eq!(revoked.len(), entries.len());
        for entry in &entries {
            let found = revoked.iter().find(|r| Serial::from_der_octets(r.serial_number.as_bytes()) == Ok(entry.serial));
            let at = found.unwrap().revocation_date.to_unix_duration().as_secs();
            prop_assert_eq!(at as i64, entry.revoked_at.as_unix());
        }
    }
}
