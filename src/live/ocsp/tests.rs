use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::domain::{CertificateRecord, DeviceId, PersonId, RevocationReason};

const NOW: UtcTime = UtcTime::from_unix(1_800_000_000);
const HOUR: Duration = Duration::from_secs(3600);
const VISITOR: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

/// Signs numbers, and says when it was asked.
#[derive(Default)]
struct Signing {
    asked: AtomicU64,
    away: std::sync::atomic::AtomicBool,
    fleeting: bool,
    /// Happens while the answer is on its way.
    meanwhile: Option<Box<dyn Fn() + Send + Sync>>,
}

#[async_trait]
impl OcspResponder for Signing {
    async fn answer(&self, _: &OcspRequest, _: IpAddr) -> Result<OcspAnswer, OcspRefusal> {
        if self.away.load(Ordering::SeqCst) {
            return Err(OcspRefusal::Unavailable { wait: HOUR });
        }
        let number = self.asked.fetch_add(1, Ordering::SeqCst);
        if let Some(meanwhile) = &self.meanwhile {
            meanwhile();
        }
        let der = Bytes::from(number.to_be_bytes().to_vec());
        Ok(OcspAnswer::new(der, NOW, NOW.plus(HOUR), !self.fleeting))
    }
}

fn answers(signing: Signing) -> (Arc<OcspAnswers>, Arc<Signing>) {
    let (answers, signing) = (Arc::new(OcspAnswers::with_capacity(3)), Arc::new(signing));
    answers.connect(signing.clone());
    (answers, signing)
}

fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    [&[tag, u8::try_from(content.len()).unwrap()], content].concat()
}

/// A question about serial `n`.
fn question(n: u8, nonce: bool) -> OcspRequest {
    let sha1 = tlv(0x30, &tlv(6, &[0x2b, 0x0e, 3, 2, 0x1a]));
    let id = [sha1, tlv(4, &[1; 20]), tlv(4, &[2; 20]), tlv(2, &[0x11, n])].concat();
    let list = tlv(0x30, &tlv(0x30, &tlv(0x30, &id)));
    let value = tlv(4, &tlv(4, &[7; 16]));
    let extension = [tlv(6, &[0x2b, 6, 1, 5, 5, 7, 0x30, 1, 2]), value].concat();
    let extensions = if nonce { tlv(0xa2, &tlv(0x30, &tlv(0x30, &extension))) } else { Vec::new() };
    OcspRequest::from_der(&tlv(0x30, &tlv(0x30, &[list, extensions].concat()))).unwrap()
}

fn record(n: u8) -> CertificateRecord {
    CertificateRecord {
        fingerprint: Fingerprint([n; 32]),
        serial: Serial::from_der_octets(&[0x11, n]).unwrap(),
        authority: "issuing-g1".parse().unwrap(),
        profile: "device".parse().unwrap(),
        person: PersonId::new(),
        device: DeviceId::new(),
        not_before: UtcTime::from_unix(1_000),
        not_after: UtcTime::MAX,
        revoked: None,
    }
}

fn revoked(n: u8) -> Change {
    let delta = Delta::Revoked {
        fingerprint: Fingerprint([n; 32]),
        at: NOW,
        reason: RevocationReason::CertificateHold,
    };
    Change { epoch: 100, delta }
}

async fn ask(answers: &OcspAnswers, n: u8, now: UtcTime) -> Result<u8, OcspRefusal> {
    answers.answer(&question(n, false), VISITOR, now).await.map(|answer| answer.der[7])
}

#[tokio::test]
async fn an_answer_is_signed_once_and_served_to_everyone_until_half_of_its_life() {
    let (answers, signing) = answers(Signing::default());
    for _ in 0..3 {
        assert_eq!(ask(&answers, 1, NOW).await, Ok(0));
    }
    assert_eq!(ask(&answers, 2, NOW).await, Ok(1));
    assert_eq!(ask(&answers, 1, NOW.plus(HOUR / 2)).await, Ok(2));
    assert_eq!(signing.asked.load(Ordering::SeqCst), 3);
    // A clock before thisUpdate: no reader would take it.
    assert_eq!(ask(&answers, 1, NOW.minus(HOUR)).await, Ok(3));
}

#[tokio::test]
async fn what_the_register_changes_is_forgotten_before_anyone_is_told() {
    let (answers, _) = answers(Signing::default());
    let register = Register::new();
    register.apply(&[
        Change { epoch: 1, delta: Delta::Certificate(record(1)) },
        Change { epoch: 2, delta: Delta::Certificate(record(2)) },
    ]);
    assert_eq!((ask(&answers, 1, NOW).await, ask(&answers, 2, NOW).await), (Ok(0), Ok(1)));
    answers.forget(&[&revoked(1)], &register);
    assert_eq!((ask(&answers, 1, NOW).await, ask(&answers, 2, NOW).await), (Ok(2), Ok(1)));
    let released = Change { epoch: 101, delta: Delta::Released { fingerprint: Fingerprint([1; 32]) } };
    answers.forget(&[&released], &register);
    assert_eq!(ask(&answers, 1, NOW).await, Ok(3));
    // Whose serial nobody knows: everything goes.
    answers.forget(&[&revoked(9)], &register);
    assert!(answers.is_empty());
}

#[tokio::test]
async fn an_answer_from_before_a_revocation_is_not_kept_after_it() {
    let kept = Arc::new(OcspAnswers::default());
    let forgetful = kept.clone();
    let meanwhile = move || forgetful.forget(&[&revoked(1)], &Register::new());
    kept.connect(Arc::new(Signing { meanwhile: Some(Box::new(meanwhile)), ..Signing::default() }));
    assert_eq!(ask(&kept, 1, NOW).await, Ok(0));
    assert!(kept.is_empty());
    assert_eq!(ask(&kept, 1, NOW).await, Ok(1));
}

#[tokio::test]
async fn while_nobody_signs_a_kept_answer_serves_until_its_end() {
    let (answers, signing) = answers(Signing::default());
    assert_eq!(ask(&answers, 1, NOW).await, Ok(0));
    signing.away.store(true, Ordering::SeqCst);
    assert_eq!(ask(&answers, 1, NOW.plus(HOUR - Duration::from_secs(1))).await, Ok(0));
    let away = Err(OcspRefusal::Unavailable { wait: HOUR });
    assert_eq!(ask(&answers, 1, NOW.plus(HOUR)).await, away);
    assert_eq!(ask(&answers, 2, NOW).await, away);
    let nobody = OcspAnswers::default();
    assert!(matches!(ask(&nobody, 1, NOW).await, Err(OcspRefusal::Unavailable { .. })));
}

#[tokio::test]
async fn answers_with_a_nonce_or_about_strangers_are_never_kept() {
    let (kept, _) = answers(Signing::default());
    kept.answer(&question(1, true), VISITOR, NOW).await.unwrap();
    assert!(kept.is_empty());
    let (kept, _) = answers(Signing { fleeting: true, ..Signing::default() });
    ask(&kept, 1, NOW).await.unwrap();
    assert!(kept.is_empty());
}

#[tokio::test]
async fn no_more_is_kept_than_there_is_room_for() {
    let (answers, _) = answers(Signing::default());
    for n in 0..50 {
        ask(&answers, n, NOW).await.unwrap();
        assert!(answers.len() <= 3);
    }
    assert_eq!(ask(&answers, 49, NOW).await, Ok(49), "the newest stays");
    assert_eq!(ask(&answers, 46, NOW).await, Ok(50), "the oldest went");
}
