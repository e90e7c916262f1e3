use proptest::prelude::*;

use super::*;
use crate::pki::csr::SigningRequest;
use crate::pki::{AuthorityCertificate, KeyPolicy, PublicKey, fixtures, keygen, lint};

/// Everything that reads bytes from outside.
fn read_with_everything(bytes: &[u8]) {
    let _ = read_leaf(bytes);
    let _ = signed_by(bytes, bytes);
    let _ = AuthorityCertificate::from_der(bytes);
    let _ = SigningRequest::from_der(bytes, &KeyPolicy::default());
    let _ = SigningRequest::from_pem(&String::from_utf8_lossy(bytes), &KeyPolicy::default());
    let _ = PublicKey::from_spki_der(bytes, &KeyPolicy::default());
    let _ = lint::lint_client(bytes);
    let _ = lint::lint_authority(bytes);
    let _ = lint::lint_crl(bytes);
}

#[test]
fn a_certificate_with_another_key_under_the_same_names_is_not_signed_by_the_authority() {
    let root = fixtures::root();
    let (one, other) = (fixtures::issuing_under(&root), fixtures::issuing_under(&root));
    let certificate = fixtures::client(&other, &fixtures::public_key());
    assert_eq!(one.certificate.subject_der(), other.certificate.subject_der());
    assert!(!signed_by(certificate.der(), one.certificate.spki_der()));
    assert!(signed_by(certificate.der(), other.certificate.spki_der()));
}

#[test]
fn overlong_certificates_are_refused_unread() {
    let long = vec![0x30; MAX_OCTETS + 1];
    assert!(matches!(read_leaf(&long), Err(ChainError::TooLong)));
    assert!(!signed_by(&long, &[]));
}

#[test]
fn deep_nesting_is_no_danger() {
    let deep = (0..5000).fold(Vec::new(), |inner: Vec<u8>, _| crate::pki::encode::sequence(&[&inner]));
    read_with_everything(&deep);
}

proptest! {
    #[test]
    fn random_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        read_with_everything(&bytes);
    }

    #[test]
    fn changed_certificates_are_read_without_panic_and_lose_their_signature(
        at in any::<prop::sample::Index>(),
        flip in 1u8..,
        cut in proptest::option::of(any::<prop::sample::Index>()),
        grow in proptest::collection::vec(any::<u8>(), 0..4),
    ) {
        let (der, spki) = samples();
        let mut changed = der.clone();
        let at = at.index(changed.len());
        changed[at] ^= flip;
        prop_assert!(!signed_by(&changed, spki), "octet {at} ^ {flip}");
        if let Some(cut) = cut {
            changed.truncate(cut.index(changed.len()));
        }
        changed.extend(grow);
        read_with_everything(&changed);
    }

    #[test]
    fn changed_requests_are_refused(at in any::<prop::sample::Index>(), flip in 1u8..) {
        let (key, _) = keygen::generate_p256();
        let mut request = keygen::client_csr(key.expose(), "Anna").unwrap();
        let at = at.index(request.len());
        request[at] ^= flip;
        prop_assert!(SigningRequest::from_der(&request, &KeyPolicy::default()).is_err(), "octet {at} ^ {flip}");
    }

    #[test]
    fn changed_to_be_signed_bytes_break_a_rule_or_stay_a_lawful_leaf(
        at in any::<prop::sample::Index>(),
        flip in 1u8..,
    ) {
        let body = Signed::from_der(&samples().0).unwrap().body;
        let mut changed = body.to_vec();
        let at = at.index(changed.len());
        changed[at] ^= flip;
        if lint::lint_client(&changed).is_empty() {
            // Only what may differ between leaves may have changed: then it is read as before but for that.
            let tbs = Tbs::from_der(&changed).unwrap();
            prop_assert!(tbs.extension(oid::BASIC_CONSTRAINTS).is_none());
            prop_assert_eq!(purposes(tbs.extension(oid::EXTENDED_KEY_USAGE).unwrap().value).unwrap(), [oid::KP_CLIENT_AUTH]);
        }
    }
}

/// One leaf and its issuer's key, made once.
fn samples() -> &'static (Vec<u8>, Vec<u8>) {
    static SAMPLES: std::sync::OnceLock<(Vec<u8>, Vec<u8>)> = std::sync::OnceLock::new();
    SAMPLES.get_or_init(|| {
        let issuing = fixtures::issuing_under(&fixtures::root());
        let leaf = fixtures::client(&issuing, &fixtures::public_key());
        (leaf.der().to_vec(), issuing.certificate.spki_der().to_vec())
    })
}
