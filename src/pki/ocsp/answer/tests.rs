use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::domain::Secret;
use crate::pki::authority::AuthorityCertificate;
use crate::pki::fixtures::{self, Authority, END, START, root, serial};
use crate::pki::issuer::Fields;
use crate::pki::ocsp::{
    MAX_SIGNER_LIFETIME, OcspRequest, OcspSigner, SignerTemplate, prepare_response, prepare_signer,
};
use crate::pki::{KeyPolicy, PublicKey, encode, extensions as ext, keygen, names};

const NOW: UtcTime = UtcTime::from_unix(START.as_unix() + 1000);
const HOUR: Duration = Duration::from_secs(3600);
const GOOD: [u8; 2] = [0x80, 0];

/// A certificate of somebody else's authority, and the question about it.
struct Scene {
    issuing: Authority,
    question: StapleQuestion,
}

fn scene() -> Scene {
    let issuing = fixtures::issuing_under(&root());
    let leaf = fixtures::client(&issuing, &fixtures::public_key());
    let chain = [leaf.der().to_vec(), issuing.certificate.der().to_vec()];
    let question = StapleQuestion::about(&chain).unwrap();
    Scene { issuing, question }
}

/// An answer in parts, each of which a test may falsify.
struct Forge {
    id: Vec<u8>,
    status: Vec<u8>,
    this_update: UtcTime,
    next_update: Option<UtcTime>,
    single_extensions: Vec<u8>,
    responder: Vec<u8>,
    extensions: Vec<u8>,
    key: Secret<Vec<u8>>,
    certificates: Vec<Vec<u8>>,
}

/// A true answer, signed by the issuer itself.
fn by_issuer(scene: &Scene) -> Forge {
    Forge {
        id: cert_id(&scene.issuing.certificate, serial(9).as_octets()),
        status: GOOD.to_vec(),
        this_update: NOW.minus(HOUR),
        next_update: Some(NOW.plus(HOUR)),
        single_extensions: Vec::new(),
        responder: by_key(scene.issuing.certificate.spki_der()),
        extensions: Vec::new(),
        key: Secret::new(scene.issuing.key.expose().clone()),
        certificates: Vec::new(),
    }
}

/// The same by a delegate with this purpose, issued by `issuer`.
fn by_delegate(scene: &Scene, issuer: &Authority, purpose: ObjectIdentifier, ends: UtcTime) -> Forge {
    let (key, spki) = keygen::generate_p256();
    let extensions = [ext::extended_key_usage(purpose)];
    let certificate = certificate(issuer, &spki, ends, &extensions);
    let responder = encode::context_constructed(1, &name());
    Forge { responder, key, certificates: vec![certificate], ..by_issuer(scene) }
}

fn name() -> Vec<u8> {
    names::distinguished(&[(oid::COMMON_NAME, "the common name", Some("Somebody"))]).unwrap()
}

/// A certificate with these extensions and no others.
fn certificate(issuer: &Authority, spki: &[u8], ends: UtcTime, extensions: &[Vec<u8>]) -> Vec<u8> {
    let fields = Fields {
        serial: serial(78),
        issuer: issuer.certificate.subject_der(),
        not_before: START,
        not_after: ends,
        subject: &name(),
        spki,
        extensions,
    };
    let prepared = fields.prepare(issuer.certificate.spki_der(), |_| Vec::new()).unwrap();
    let signature = issuer.sign(prepared.tbs());
    prepared.assemble(&signature).unwrap().der().to_vec()
}

fn leaf_with(issuer: &Authority, extensions: &[Vec<u8>]) -> Vec<u8> {
    certificate(issuer, &keygen::generate_p256().1, END, extensions)
}

/// An authorityInfoAccess that names one responder.
fn access(url: &str) -> Vec<u8> {
    let one = encode::sequence(&[&encode::oid(oid::AD_OCSP), &encode::context(6, url.as_bytes())]);
    ext::plain(oid::AUTHORITY_INFO_ACCESS, &encode::sequence(&[&one]))
}

fn by_key(spki: &[u8]) -> Vec<u8> {
    encode::context_constructed(2, &encode::octets(&sha1(&key_octets(spki))))
}

fn cert_id(issuer: &AuthorityCertificate, serial: &[u8]) -> Vec<u8> {
    encode::sequence(&[
        &encode::sequence(&[&encode::oid(oid::SHA1)]),
        &encode::octets(&sha1(issuer.subject_der())),
        &encode::octets(&sha1(&key_octets(issuer.spki_der()))),
        &encode::tlv(2, serial),
    ])
}

impl Forge {
    fn single(&self) -> Vec<u8> {
        let next = self.next_update.map(|at| encode::context_constructed(0, &encode::generalized_time(at)));
        encode::sequence(&[
            &self.id,
            &self.status,
            &encode::generalized_time(self.this_update),
            &next.unwrap_or_default(),
            &self.single_extensions,
        ])
    }

    fn of(&self, singles: &[Vec<u8>]) -> Vec<u8> {
        let data = encode::sequence(&[
            &self.responder,
            &encode::generalized_time(self.this_update),
            &encode::sequence_of(singles),
            &self.extensions,
        ]);
        let signature = keygen::sign_p256(self.key.expose(), &data).unwrap();
        let certificates = match self.certificates.as_slice() {
            [] => Vec::new(),
            all => encode::context_constructed(0, &encode::sequence_of(all)),
        };
        let algorithm = encode::sequence(&[&encode::oid(oid::ECDSA_WITH_SHA256)]);
        let basic = encode::sequence(&[&data, &algorithm, &encode::bits(&signature), &certificates]);
        let bytes = encode::sequence(&[&encode::oid(oid::OCSP_BASIC), &encode::octets(&basic)]);
        encode::sequence(&[&encode::enumerated(0), &encode::context_constructed(0, &bytes)])
    }

    fn der(&self) -> Vec<u8> {
        self.of(&[self.single()])
    }
}

#[test]
fn the_question_is_one_that_a_strict_responder_takes() {
    let Scene { question, .. } = scene();
    assert_eq!(question.responder(), "http://localhost/pki/x.crl");
    assert!(!question.must_staple());
    let asked = OcspRequest::from_der(question.request()).unwrap();
    let id = asked.plain().unwrap();
    assert_eq!(id.serial(), Some(serial(9)));
    assert!(question.issuer.issued(id));
    // NULL parameters, as everybody writes them.
    let written = encode::sequence(&[&encode::oid(oid::SHA1), &encode::null()]);
    assert!(id.der().windows(written.len()).any(|window| window == written));
}

#[test]
fn nothing_is_asked_without_the_issuer_or_a_plain_http_responder() {
    let (issuing, other) = (fixtures::issuing_under(&root()), fixtures::issuing_under(&root()));
    let leaf = fixtures::client(&issuing, &fixtures::public_key()).der().to_vec();
    let right = issuing.certificate.der().to_vec();
    assert!(StapleQuestion::about(&[]).is_none());
    assert!(StapleQuestion::about(std::slice::from_ref(&leaf)).is_none());
    // The same name, another key.
    assert!(StapleQuestion::about(&[leaf.clone(), other.certificate.der().to_vec()]).is_none());
    assert!(StapleQuestion::about(&[leaf[..40].to_vec(), right.clone()]).is_none());
    for (url, is_asked) in
        [("HTTP://ocsp.test/", true), ("https://ocsp.test/", false), ("http://a b/", false)]
    {
        let leaf = leaf_with(&issuing, &[access(url)]);
        assert_eq!(StapleQuestion::about(&[leaf, right.clone()]).is_some(), is_asked, "{url}");
    }
}

#[test]
fn a_certificate_that_demands_a_staple_is_told_apart() {
    let issuing = fixtures::issuing_under(&root());
    for (feature, must_staple) in [(5, true), (17, false)] {
        let features = ext::plain(oid::TLS_FEATURE, &encode::sequence(&[&encode::number(feature)]));
        let leaf = leaf_with(&issuing, &[access("http://ocsp.test/"), features]);
        let question = StapleQuestion::about(&[leaf, issuing.certificate.der().to_vec()]).unwrap();
        assert_eq!(question.must_staple(), must_staple);
    }
}

#[test]
fn the_issuer_and_its_delegates_are_believed_in_time() {
    let scene = scene();
    let read = |forge: &Forge| scene.question.read(&forge.der(), NOW);
    let good = |until| StapleAnswer { status: CertStatus::Good, this_update: NOW.minus(HOUR), until };
    assert_eq!(read(&by_issuer(&scene)), Ok(good(NOW.plus(HOUR))));
    let by_name = encode::context_constructed(1, scene.issuing.certificate.subject_der());
    assert_eq!(read(&Forge { responder: by_name, ..by_issuer(&scene) }), Ok(good(NOW.plus(HOUR))));
    let delegate = by_delegate(&scene, &scene.issuing, oid::KP_OCSP_SIGNING, END);
    assert_eq!(read(&delegate), Ok(good(NOW.plus(HOUR))));
    // An answer does not count longer than the certificate of whoever signed it.
    let short = by_delegate(&scene, &scene.issuing, oid::KP_OCSP_SIGNING, NOW.plus(HOUR / 2));
    assert_eq!(read(&short), Ok(good(NOW.plus(HOUR / 2 + SECOND))));
}

#[test]
fn an_answer_of_our_own_responder_is_read() {
    let scene = scene();
    let (key, spki) = keygen::generate_p256();
    let public_key = PublicKey::from_spki_der(&spki, &KeyPolicy::default()).unwrap();
    let template = SignerTemplate {
        serial: serial(77),
        public_key: &public_key,
        common_name: "Test OCSP",
        not_before: START,
        not_after: START.plus(MAX_SIGNER_LIFETIME),
    };
    let prepared = prepare_signer(&scene.issuing.certificate, &template).unwrap();
    let signature = scene.issuing.sign(prepared.tbs());
    let signer = prepared.assemble(&signature).unwrap();
    let signer = OcspSigner::from_der(signer.der(), &scene.issuing.certificate).unwrap();
    let asked = OcspRequest::from_der(scene.question.request()).unwrap();
    let id = asked.plain().unwrap();
    let (at, reason) = (NOW.minus(HOUR), RevocationReason::KeyCompromise);
    for status in [CertStatus::Good, CertStatus::Revoked { at, reason }, CertStatus::Unknown] {
        let until = NOW.plus(HOUR);
        let answer = prepare_response(&signer, &[(id, status)], None, NOW, until).unwrap();
        let signature = keygen::sign_p256(key.expose(), answer.tbs()).unwrap();
        let answer = answer.assemble(&signature).unwrap();
        let read = scene.question.read(answer.der(), NOW);
        assert_eq!(read, Ok(StapleAnswer { status, this_update: NOW, until }));
    }
}

#[test]
fn lies_are_not_believed() {
    let (scene, other) = (scene(), fixtures::issuing_under(&root()));
    let read = |forge: &Forge| scene.question.read(&forge.der(), NOW).unwrap_err();
    let issuer = &scene.issuing.certificate;
    let honest = || by_issuer(&scene);
    // About another certificate, or one of a namesake of the issuer.
    let id = cert_id(issuer, serial(8).as_octets());
    assert_eq!(read(&Forge { id, ..honest() }), AnswerFault::OtherCertificate);
    let id = cert_id(&other.certificate, serial(9).as_octets());
    assert_eq!(read(&Forge { id, ..honest() }), AnswerFault::OtherCertificate);
    // Twice, which clients would read as they like; or not at all.
    let forge = honest();
    let twice = forge.of(&[forge.single(), forge.single()]);
    assert_eq!(scene.question.read(&twice, NOW), Err(AnswerFault::OtherCertificate));
    assert_eq!(scene.question.read(&forge.of(&[]), NOW), Err(AnswerFault::OtherCertificate));
    // Too old, too young, without an end.
    let late = Forge { next_update: Some(NOW), ..honest() };
    assert_eq!(read(&late), AnswerFault::Late(NOW));
    let soon = NOW.plus(Duration::from_secs(1));
    assert_eq!(read(&Forge { this_update: soon, ..honest() }), AnswerFault::Early(soon));
    assert_eq!(read(&Forge { next_update: None, ..honest() }), AnswerFault::Endless);
    // Signed by somebody else in the issuer's name.
    let key = Secret::new(other.key.expose().clone());
    assert_eq!(read(&Forge { key, ..honest() }), AnswerFault::Signature);
    // A stranger under their own name.
    let responder = by_key(other.certificate.spki_der());
    assert_eq!(read(&Forge { responder, ..honest() }), AnswerFault::Stranger);
    // A critical extension, on the statement and on the whole.
    let critical =
        encode::sequence(&[&encode::oid(oid::TLS_FEATURE), &encode::yes(), &encode::octets(&[5, 0])]);
    let critical = encode::context_constructed(1, &encode::sequence(&[&critical]));
    assert_eq!(read(&Forge { single_extensions: critical.clone(), ..honest() }), AnswerFault::Extension);
    assert_eq!(read(&Forge { extensions: critical, ..honest() }), AnswerFault::Extension);
}

#[test]
fn who_may_not_speak_for_the_issuer_is_a_stranger() {
    let (scene, other) = (scene(), fixtures::issuing_under(&root()));
    let read = |forge: &Forge| scene.question.read(&forge.der(), NOW).unwrap_err();
    let delegate = |issuer, purpose, ends| by_delegate(&scene, issuer, purpose, ends);
    let issuer = &scene.issuing;
    assert_eq!(read(&delegate(issuer, oid::KP_SERVER_AUTH, END)), AnswerFault::Stranger);
    // Of a namesake of the issuer, with another key.
    assert_eq!(read(&delegate(&other, oid::KP_OCSP_SIGNING, END)), AnswerFault::Stranger);
    let over = NOW.minus(Duration::from_secs(1));
    assert_eq!(read(&delegate(issuer, oid::KP_OCSP_SIGNING, over)), AnswerFault::Stranger);
    let right = || delegate(issuer, oid::KP_OCSP_SIGNING, END);
    assert_eq!(read(&Forge { certificates: Vec::new(), ..right() }), AnswerFault::Stranger);
    let key = Secret::new(other.key.expose().clone());
    assert_eq!(read(&Forge { key, ..right() }), AnswerFault::Signature);
    let many = vec![right().certificates.remove(0); MAX_CERTIFICATES + 1];
    assert!(matches!(read(&Forge { certificates: many, ..right() }), AnswerFault::Encoding(_)));
}

#[test]
fn errors_and_other_kinds_of_answers_are_told_apart() {
    let scene = scene();
    let read = |der: &[u8]| scene.question.read(der, NOW).unwrap_err();
    assert_eq!(read(&[0x30, 3, 0x0a, 1, 3]), AnswerFault::Refused(3));
    assert_eq!(read(&[0x30, 3, 0x0a, 1, 0]), AnswerFault::NotBasic);
    let bytes = encode::sequence(&[&encode::oid(oid::OCSP_NONCE), &encode::octets(&[])]);
    let other = encode::sequence(&[&encode::enumerated(0), &encode::context_constructed(0, &bytes)]);
    assert_eq!(read(&other), AnswerFault::NotBasic);
    assert_eq!(read(&vec![0x30; MAX_ANSWER_OCTETS + 1]), AnswerFault::TooLong);
    assert!(matches!(read(b"<html>"), AnswerFault::Encoding(_)));
    assert!(matches!(read(&[]), AnswerFault::Encoding(_)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_changed_octet_makes_another_answer(at in any::<prop::sample::Index>(), flip in 1u8..) {
        let scene = scene();
        let forge = by_delegate(&scene, &scene.issuing, oid::KP_OCSP_SIGNING, END);
        let mut der = forge.der();
        let at = at.index(der.len());
        der[at] ^= flip;
        let before = scene.question.read(&forge.der(), NOW);
        let after = scene.question.read(&der, NOW);
        prop_assert!(after.is_err() || after == before);
    }
}
