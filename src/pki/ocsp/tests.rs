use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::domain::{RevocationReason, Secret, Serial, UtcTime};
use crate::pki::fixtures::{self, Authority, END, START, root, serial};
use crate::pki::issuer::PrepareError;
use crate::pki::prepared::AssembleError;
use crate::pki::{AuthorityCertificate, KeyPolicy, PublicKey, encode, extensions as ext, keygen, oid};

const NOW: UtcTime = UtcTime::from_unix(START.as_unix() + 1000);
const HOUR: Duration = Duration::from_secs(3600);

struct Desk {
    issuing: Authority,
    signer: OcspSigner,
    key: Secret<Vec<u8>>,
}

fn desk() -> Desk {
    let issuing = fixtures::issuing_under(&root());
    let (key, spki) = keygen::generate_p256();
    let public_key = PublicKey::from_spki_der(&spki, &KeyPolicy::default()).unwrap();
    let template = signer_template(&public_key);
    let prepared = prepare_signer(&issuing.certificate, &template).unwrap();
    let signature = issuing.sign(prepared.tbs());
    let certificate = prepared.assemble(&signature).unwrap();
    let signer = OcspSigner::from_der(certificate.der(), &issuing.certificate).unwrap();
    Desk { issuing, signer, key }
}

fn signer_template(public_key: &PublicKey) -> SignerTemplate<'_> {
    SignerTemplate {
        serial: serial(77),
        public_key,
        common_name: "Test OCSP",
        not_before: START,
        not_after: START.plus(HOUR * 24 * 14),
    }
}

/// A CertID of this authority, with SHA-1 or SHA-256, and NULL parameters or none.
fn cert_id(authority: &AuthorityCertificate, serial: &[u8], sha1: bool, with_null: bool) -> Vec<u8> {
    use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
    let hash = |octets: &[u8]| {
        let algorithm = if sha1 { &SHA1_FOR_LEGACY_USE_ONLY } else { &SHA256 };
        encode::octets(digest(algorithm, octets).as_ref())
    };
    let algorithm = encode::oid(if sha1 { oid::SHA1 } else { oid::SHA256 });
    let null = if with_null { encode::null() } else { Vec::new() };
    let key = &authority.spki_der()[authority.spki_der().len() - 65..];
    encode::sequence(&[
        &encode::sequence(&[&algorithm, &null]),
        &hash(authority.subject_der()),
        &hash(key),
        &encode::tlv(2, serial),
    ])
}

fn nonce(octets: &[u8]) -> Vec<u8> {
    ext::plain(oid::OCSP_NONCE, &encode::octets(octets))
}

fn request(ids: &[Vec<u8>], extensions: &[Vec<u8>]) -> Vec<u8> {
    let singles: Vec<_> = ids.iter().map(|id| encode::sequence(&[id])).collect();
    let extensions = match extensions {
        [] => Vec::new(),
        all => encode::context_constructed(2, &encode::sequence_of(all)),
    };
    encode::sequence(&[&encode::sequence(&[&encode::sequence_of(&singles), &extensions])])
}

fn one(authority: &AuthorityCertificate) -> Vec<u8> {
    cert_id(authority, serial(9).as_octets(), true, true)
}

#[test]
fn a_certificate_is_known_by_name_and_key_of_its_issuer_in_either_hash() {
    let (desk, other) = (desk(), fixtures::issuing_under(&root()));
    for (sha1, with_null) in [(true, true), (true, false), (false, true), (false, false)] {
        let id = cert_id(&desk.issuing.certificate, serial(9).as_octets(), sha1, with_null);
        let read = OcspRequest::from_der(&request(std::slice::from_ref(&id), &[])).unwrap();
        let found = read.plain().unwrap();
        assert_eq!((found.der(), found.serial()), (&id[..], Some(serial(9))));
        assert!(desk.signer.issuer().issued(found));
        // The same name, another key: a namesake is somebody else.
        assert_eq!(desk.issuing.certificate.subject_der(), other.certificate.subject_der());
        assert!(!IssuerId::of(&other.certificate).issued(found));
    }
}

#[test]
fn a_nonce_of_1_to_128_octets_is_taken_and_no_other() {
    let issuing = fixtures::issuing_under(&root()).certificate;
    let ask = |extension| OcspRequest::from_der(&request(&[one(&issuing)], &[extension]));
    for length in [1, 16, 32, 128] {
        let read = ask(nonce(&vec![7; length])).unwrap();
        assert_eq!(read.nonce().unwrap().len(), length);
        assert!(read.plain().is_none(), "an answer with a nonce is one asker's");
    }
    assert_eq!(ask(nonce(&[])), Err(MalformedRequest::Nonce));
    assert_eq!(ask(nonce(&[7; 129])), Err(MalformedRequest::Nonce));
    // Bare octets instead of an OCTET STRING in the extension's value.
    assert!(matches!(ask(ext::plain(oid::OCSP_NONCE, &[7; 16])), Err(MalformedRequest::Encoding(_))));
}

#[test]
fn a_request_is_bounded_and_strict() {
    let issuing = fixtures::issuing_under(&root()).certificate;
    let id = one(&issuing);
    let read = |der: &[u8]| OcspRequest::from_der(der);
    let good = request(std::slice::from_ref(&id), &[]);
    assert!(read(&good).is_ok());
    assert!(read(&request(&vec![id.clone(); MAX_SINGLE_REQUESTS], &[])).unwrap().plain().is_none());
    assert_eq!(read(&request(&vec![id.clone(); MAX_SINGLE_REQUESTS + 1], &[])), Err(MalformedRequest::Count));
    assert_eq!(read(&request(&[], &[])), Err(MalformedRequest::Count));
    assert_eq!(read(&[0x30; MAX_REQUEST_OCTETS + 1]), Err(MalformedRequest::TooLong));
    let twice = [nonce(&[1]), nonce(&[2])];
    assert_eq!(read(&request(std::slice::from_ref(&id), &twice)), Err(MalformedRequest::Extension));
    let critical = [ext::critical(oid::COMMON_NAME, &encode::null())];
    assert_eq!(read(&request(std::slice::from_ref(&id), &critical)), Err(MalformedRequest::Extension));
    let wish = [ext::plain(oid::COMMON_NAME, &encode::null())];
    assert!(read(&request(std::slice::from_ref(&id), &wish)).is_ok());
    for spoilt in [&good[..good.len() - 1], &[&good[..], &[0]].concat(), &[], b"GET /"] {
        assert!(matches!(read(spoilt), Err(MalformedRequest::Encoding(_))));
    }
    let single = encode::sequence_of(&[encode::sequence(&[&id])]);
    let version = |number| encode::context_constructed(0, &encode::number(number));
    let of_version = |number| encode::sequence(&[&encode::sequence(&[&version(number), &single])]);
    assert!(read(&of_version(0)).is_ok());
    assert_eq!(read(&of_version(1)), Err(MalformedRequest::Version));
}

#[test]
fn a_serial_that_no_certificate_has_is_asked_about_and_unknown() {
    let issuing = fixtures::issuing_under(&root()).certificate;
    for octets in [&[0][..], &[0xff], &[0x7f; 21]] {
        let read = OcspRequest::from_der(&request(&[cert_id(&issuing, octets, false, false)], &[])).unwrap();
        assert_eq!(read.ids()[0].serial(), None);
    }
    let endless = cert_id(&issuing, &[0x7f; 33], false, false);
    assert!(matches!(OcspRequest::from_der(&request(&[endless], &[])), Err(MalformedRequest::Encoding(_))));
}

#[test]
fn a_foreign_hash_is_nobodys() {
    let desk = desk();
    let id = one(&desk.issuing.certificate);
    let sha1 = encode::oid(oid::SHA1);
    let at = id.windows(sha1.len()).position(|window| window == sha1).unwrap();
    let mut other = id;
    other[at + sha1.len() - 1] ^= 1;
    let read = OcspRequest::from_der(&request(&[other], &[])).unwrap();
    assert!(!desk.signer.issuer().issued(&read.ids()[0]));
}

#[test]
fn an_answer_repeats_the_question_and_carries_its_signers_certificate() {
    let desk = desk();
    let ids = [one(&desk.issuing.certificate), cert_id(&desk.issuing.certificate, &[5], false, false)];
    let asked = OcspRequest::from_der(&request(&ids, &[nonce(&[9; 40])])).unwrap();
    let revoked = CertStatus::Revoked { at: START, reason: RevocationReason::KeyCompromise };
    let statuses = [(&asked.ids()[0], CertStatus::Good), (&asked.ids()[1], revoked)];
    let prepared = prepare_response(&desk.signer, &statuses, asked.nonce(), NOW, NOW.plus(HOUR)).unwrap();
    let signature = keygen::sign_p256(desk.key.expose(), prepared.tbs()).unwrap();
    let answer = prepared.assemble(&signature).unwrap();
    let has = |part: &[u8]| answer.der().windows(part.len()).any(|window| window == part);
    assert!(has(&ids[0]) && has(&ids[1]) && has(&[9; 40]) && has(desk.signer.der()));
    assert_eq!(answer.next_update(), NOW.plus(HOUR));
}

#[test]
fn an_answer_is_assembled_only_with_its_signers_signature() {
    let desk = desk();
    let asked = OcspRequest::from_der(&request(&[one(&desk.issuing.certificate)], &[])).unwrap();
    let statuses = [(&asked.ids()[0], CertStatus::Good)];
    let prepared = prepare_response(&desk.signer, &statuses, None, NOW, NOW.plus(HOUR)).unwrap();
    let by_the_authority = desk.issuing.sign(prepared.tbs());
    assert!(matches!(prepared.assemble(&by_the_authority), Err(AssembleError::Signature)));
}

#[test]
fn an_answer_that_breaks_a_rule_is_not_prepared() {
    let desk = desk();
    let of = |id: Vec<u8>| OcspRequest::from_der(&request(&[id], &[])).unwrap().ids()[0].clone();
    let ours = of(one(&desk.issuing.certificate));
    let no_serial = of(cert_id(&desk.issuing.certificate, &[0], true, true));
    let foreign = of(one(&fixtures::issuing_under(&root()).certificate));
    let end = desk.signer.not_after();
    let late = CertStatus::Revoked { at: NOW.plus(HOUR), reason: RevocationReason::Unspecified };
    for (rule, id, status, nonce, now, next) in [
        ("issuer", &foreign, CertStatus::Good, None, NOW, NOW.plus(HOUR)),
        ("status", &no_serial, CertStatus::Good, None, NOW, NOW.plus(HOUR)),
        ("revocation_time", &ours, late, None, NOW, NOW.plus(HOUR)),
        ("outlives_signer", &ours, CertStatus::Good, None, NOW, end.plus(HOUR)),
        ("produced_at", &ours, CertStatus::Good, None, START.minus(HOUR), NOW),
        ("nonce", &ours, CertStatus::Good, Some(&[][..]), NOW, NOW.plus(HOUR)),
        ("nonce", &ours, CertStatus::Good, Some(&[1; 129][..]), NOW, NOW.plus(HOUR)),
    ] {
        match prepare_response(&desk.signer, &[(id, status)], nonce, now, next) {
            Err(PrepareError::Lint(findings)) => {
                assert!(findings.iter().any(|finding| finding.rule == rule), "{rule}: {findings:?}");
            }
            other => panic!("{rule}: {other:?}"),
        }
    }
    let empty = prepare_response(&desk.signer, &[], None, NOW, NOW.plus(HOUR));
    assert!(matches!(empty, Err(PrepareError::Lint(_))));
    let backwards = prepare_response(&desk.signer, &[(&ours, CertStatus::Good)], None, NOW, NOW);
    assert!(matches!(backwards, Err(PrepareError::Validity { .. })));
}

#[test]
fn a_signer_is_its_authoritys_own_and_ends_with_it() {
    let (desk, other) = (desk(), fixtures::issuing_under(&root()));
    let foreign = OcspSigner::from_der(desk.signer.der(), &other.certificate);
    assert!(matches!(foreign, Err(SignerError::Foreign(_))));
    let leaf = fixtures::client(&desk.issuing, &fixtures::public_key());
    let no_signer = OcspSigner::from_der(leaf.der(), &desk.issuing.certificate);
    assert!(matches!(no_signer, Err(SignerError::Lint(_))));
    let key = fixtures::public_key();
    let late = SignerTemplate { not_after: END.plus(HOUR), ..signer_template(&key) };
    let refused = prepare_signer(&desk.issuing.certificate, &late);
    assert!(matches!(refused, Err(PrepareError::OutlivesAuthority { .. })));
    let long = SignerTemplate { not_after: START.plus(HOUR * 24 * 32), ..signer_template(&key) };
    assert!(matches!(prepare_signer(&desk.issuing.certificate, &long), Err(PrepareError::Lint(_))));
}

#[test]
fn errors_are_five_octets_without_a_signature() {
    assert_eq!(error_response(ErrorStatus::MalformedRequest), [0x30, 3, 10, 1, 1]);
    assert_eq!(error_response(ErrorStatus::Unauthorized), [0x30, 3, 10, 1, 6]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn hostile_octets_never_panic_and_what_is_read_keeps_its_bounds(
        at in 0usize..200, octet: u8, cut in 0usize..200, random in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        let issuing = root().certificate;
        let mut der = request(&[one(&issuing), cert_id(&issuing, &[5], false, true)], &[nonce(&[3; 20])]);
        let end = der.len();
        der[at % end] = octet;
        for octets in [&der[..], &der[..end - cut % end], &random] {
            if let Ok(read) = OcspRequest::from_der(octets) {
                prop_assert!((1..=MAX_SINGLE_REQUESTS).contains(&read.ids().len()));
                prop_assert!(read.nonce().is_none_or(|nonce| (1..=MAX_NONCE_OCTETS).contains(&nonce.len())));
            }
        }
    }

    #[test]
    fn any_status_of_any_serial_is_answered_lawfully(
        octets in proptest::collection::vec(any::<u8>(), 1..=20),
        which in 0usize..11,
        age in 0u64..100_000,
        nonce in proptest::option::of(proptest::collection::vec(any::<u8>(), 1..=128)),
    ) {
        let desk = desk();
        let Ok(serial) = Serial::from_der_octets(&octets) else { return Ok(()) };
        let id = encode::serial(serial);
        let id = cert_id(&desk.issuing.certificate, &id[2..], age % 2 == 0, age % 3 == 0);
        let asked = OcspRequest::from_der(&request(&[id], &[])).unwrap();
        let status = match which {
            9 => CertStatus::Good,
            10 => CertStatus::Unknown,
            reason => CertStatus::Revoked {
                at: NOW.minus(Duration::from_secs(age)),
                reason: RevocationReason::ALL[reason],
            },
        };
        let id = &asked.ids()[0];
        let prepared = prepare_response(&desk.signer, &[(id, status)], nonce.as_deref(), NOW, NOW.plus(HOUR));
        prop_assert!(prepared.is_ok(), "{prepared:?}");
    }
}
