use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::pki::fixtures::{self, END, START, leaf, root, serial, template};
use crate::pki::{Certificate, chain, keygen};

#[test]
fn a_client_certificate_carries_exactly_what_was_decided() {
    let issuing = fixtures::issuing_under(&root());
    let key = fixtures::public_key();
    let certificate = fixtures::client(&issuing, &key);
    let view = chain::read_leaf(certificate.der()).unwrap();
    assert_eq!(view.serial, Some(serial(9)));
    assert_eq!(view.issuer_der, issuing.certificate.subject_der());
    assert_eq!(view.authority_key_id.as_deref(), Some(issuing.certificate.key_id()));
    assert_eq!((view.not_before, view.not_after), (START, END));
    assert_eq!(view.spki_der, key.spki_der());
    assert!(view.has_eku && view.client_auth && !view.is_ca);
    assert!(chain::signed_by(certificate.der(), issuing.certificate.spki_der()));
}

#[test]
fn nothing_outlives_its_issuer_by_even_a_second() {
    let issuing = fixtures::issuing_under(&root());
    let key = fixtures::public_key();
    let late = END.plus(Duration::from_secs(1));
    let refused =
        prepare_client(&issuing.certificate, &ClientLeaf { not_after: late, ..leaf(&key, &[], &[]) });
    assert!(matches!(refused, Err(PrepareError::OutlivesAuthority { ends: END, wanted }) if wanted == late));
    let root = root();
    let (_, spki) = keygen::generate_p256();
    let template = AuthorityTemplate { not_after: late, ..template(AuthorityKind::Issuing, &spki, "Late") };
    assert!(matches!(
        prepare_authority(&root.certificate, &template),
        Err(PrepareError::OutlivesAuthority { .. })
    ));
}

#[test]
fn an_authority_of_the_wrong_kind_or_depth_is_refused() {
    let root = root();
    let issuing = fixtures::issuing_under(&root);
    let (_, spki) = keygen::generate_p256();
    let kind = |kind| template(kind, &spki, "Another");
    assert!(matches!(prepare_root(&kind(AuthorityKind::Issuing)), Err(PrepareError::Kind(_))));
    for wrong in [AuthorityKind::Root, AuthorityKind::LocalServer, AuthorityKind::Upstream] {
        assert!(matches!(prepare_authority(&root.certificate, &kind(wrong)), Err(PrepareError::Kind(_))));
    }
    let below_issuing = prepare_authority(&issuing.certificate, &kind(AuthorityKind::Issuing));
    assert!(matches!(below_issuing, Err(PrepareError::Kind(_))));
}

#[test]
fn names_that_cannot_be_written_are_refused() {
    let issuing = fixtures::issuing_under(&root());
    let key = fixtures::public_key();
    let refused = |leaf: ClientLeaf<'_>| {
        assert!(
            matches!(prepare_client(&issuing.certificate, &leaf), Err(PrepareError::Name(_))),
            "{leaf:?}"
        );
    };
    let long = "x".repeat(65);
    for common_name in ["", "  ", "two\nlines", &long] {
        refused(ClientLeaf { common_name, ..leaf(&key, &[], &[]) });
    }
    for email in ["", "anna", "änna@example.com", "anna@", "@example.com", "a b@example.com", "a@b@127.0.0.1"]
    {
        refused(ClientLeaf { email: Some(email), ..leaf(&key, &[], &[]) });
    }
    for url in ["https://localhost/x", "http:x", "http://", "ldap://x/y", "http://x/ä", "http://x/a b", ""] {
        refused(leaf(&key, &[url.to_owned()], &[]));
    }
    for uri in ["", "urn:", "01890a5d", "javascript:x", "urn:ü"] {
        refused(leaf(&key, &[], &[uri.to_owned()]));
    }
}

#[test]
fn an_authority_cannot_certify_its_own_key_as_a_leaf() {
    let issuing = fixtures::issuing_under(&root());
    let own = PublicKey::from_spki_der(issuing.certificate.spki_der(), &KeyPolicy::default()).unwrap();
    let refused = prepare_client(&issuing.certificate, &leaf(&own, &[], &[]));
    assert!(matches!(refused, Err(PrepareError::Lint(findings)) if findings[0].rule == "own_key"));
}

#[test]
fn another_key_or_other_bytes_do_not_assemble() {
    let issuing = fixtures::issuing_under(&root());
    let key = fixtures::public_key();
    let prepare = || prepare_client(&issuing.certificate, &leaf(&key, &[], &[])).unwrap();
    let (stranger, _) = keygen::generate_p256();
    let by_stranger = keygen::sign_p256(stranger.expose(), prepare().tbs()).unwrap();
    let of_others = issuing.sign(b"other bytes");
    for bad in [&by_stranger[..], &of_others, &[], &[0; 64], &[0x30; 200]] {
        assert!(matches!(prepare().assemble(bad), Err(crate::pki::AssembleError::Signature)));
    }
    assert!(prepare().assemble(&issuing.sign(prepare().tbs())).is_ok());
}

#[test]
fn equal_decisions_give_equal_bytes() {
    let issuing = fixtures::issuing_under(&root());
    let key = fixtures::public_key();
    let prepare = || prepare_client(&issuing.certificate, &leaf(&key, &[], &[])).unwrap();
    assert_eq!(prepare().tbs(), prepare().tbs());
    assert_eq!(prepare().tbs_sha256(), prepare().tbs_sha256());
}

#[test]
fn an_authority_reads_back_its_own_certificate() {
    let root = root();
    let issuing = fixtures::issuing_under(&root);
    assert_eq!((root.certificate.path_len(), issuing.certificate.path_len()), (Some(2), Some(0)));
    assert_eq!(issuing.certificate.common_name(), "Test Client Issuing G1");
    assert!(chain::signed_by(issuing.certificate.der(), root.certificate.spki_der()));
    let key = fixtures::public_key();
    let leaf: Certificate = fixtures::client(&issuing, &key);
    assert!(AuthorityCertificate::from_der(leaf.der()).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the decision, the result is either a refusal in words or bytes that every rule
    /// accepts and that say exactly what was decided; the rules never catch the writer out.
    #[test]
    fn every_decision_is_refused_or_obeyed(
        common_name in "\\PC{0,70}",
        email in proptest::option::of("[a-z.+]{0,8}@[a-z.-]{0,12}"),
        from in 0i64..4_000_000_000,
        lasts in 0u64..4_000_000_000,
        octets in proptest::collection::vec(any::<u8>(), 1..=20),
    ) {
        let issuing = fixtures::issuing_under(&root());
        let key = fixtures::public_key();
        let Ok(serial) = Serial::from_der_octets(&octets) else { return Ok(()) };
        let (not_before, uris) = (UtcTime::from_unix(from), ["urn:uuid:x".to_owned()]);
        let leaf = ClientLeaf {
            serial,
            public_key: &key,
            common_name: &common_name,
            email: email.as_deref(),
            uris: &uris,
            dns_names: &Default::default(),
            not_before,
            not_after: not_before.plus(Duration::from_secs(lasts)),
            crl_urls: &[],
            ocsp_urls: &[],
            issuer_urls: &[],
        };
        match prepare_client(&issuing.certificate, &leaf) {
            Ok(prepared) => {
                let signature = issuing.sign(prepared.tbs());
                let view = chain::read_leaf(prepared.assemble(&signature).unwrap().der()).unwrap();
                prop_assert_eq!(view.serial, Some(serial));
                prop_assert_eq!((view.not_before, view.not_after), (leaf.not_before, leaf.not_after));
            }
            Err(PrepareError::Lint(findings)) => prop_assert!(false, "{findings:?}"),
            Err(_) => (),
        }
    }
}
