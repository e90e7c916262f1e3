//! The edge's copy of the snapshot: durable before acknowledged, sealed, never guessed at.

use std::path::Path;
use std::sync::Arc;

use rustls_pki_types::CertificateDer;
use wicketgate::clock::{ManualClock, SharedClock};
use wicketgate::domain::{
    AuthorityKind, AuthorityRecord, AuthorityState, CertificateRecord, Change, Delta, DeviceId, Fingerprint,
    PersonId, PersonRecord, RevocationReason, Seal, Serial, UtcTime,
};
use wicketgate::keys::{Kek, Purpose, SystemEntropy};
use wicketgate::live::journal::{Journal, JournalFault};
use wicketgate::live::{Cause, Classified, EdgeLink, Holder, TlsPolicy, Update, classify};

fn now() -> UtcTime {
    "2026-11-23T12:00:00Z".parse().unwrap()
}

fn clock() -> SharedClock {
    ManualClock::at(now())
}

fn seal() -> Arc<dyn Seal> {
    Arc::new(Kek::from_text(Purpose::Server, &Kek::fresh_text(&SystemEntropy), "test").unwrap())
}

fn edge(directory: &Path, seal: &Arc<dyn Seal>) -> Result<Arc<Holder>, JournalFault> {
    Holder::restore(TlsPolicy::modern(), clock(), Journal::at(directory, "local", seal.clone()))
}

const LEAF: &[u8] = b"any bytes will do: the register knows them by their hash";

fn enrolled() -> Vec<Delta> {
    let person = PersonId::new();
    let name: wicketgate::domain::Slug = "client-issuing-g1".parse().unwrap();
    vec![
        Delta::Authority(AuthorityRecord {
            name: name.clone(),
            kind: AuthorityKind::Issuing,
            state: AuthorityState::Issuing,
            certificate: vec![],
            subject: vec![],
            spki: vec![],
            not_after: UtcTime::MAX,
        }),
        Delta::Person(PersonRecord {
            id: person,
            email: "anna@example.com".to_owned(),
            name: "Anna".to_owned(),
            groups: std::collections::BTreeSet::new(),
            disabled: false,
        }),
        Delta::Certificate(CertificateRecord {
            fingerprint: Fingerprint::of(LEAF),
            serial: Serial::random(&SystemEntropy),
            authority: name,
            profile: "device".parse().unwrap(),
            person,
            device: DeviceId::new(),
            not_before: now(),
            not_after: now().plus(std::time::Duration::from_secs(86_400)),
            revoked: None,
        }),
    ]
}

fn numbered(first: u64, deltas: Vec<Delta>) -> Update {
    let changes: Vec<_> = (first..).zip(deltas).map(|(epoch, delta)| Change { epoch, delta }).collect();
    Update { changes: changes.into(), as_of: Some(now()), ..Update::default() }
}

fn revoked() -> Vec<Delta> {
    vec![Delta::Revoked {
        fingerprint: Fingerprint::of(LEAF),
        at: now(),
        reason: RevocationReason::KeyCompromise,
    }]
}

fn verdict(edge: &Holder) -> Classified {
    classify(&[CertificateDer::from(LEAF)], now(), edge.register())
}

fn log_of(directory: &Path) -> std::path::PathBuf {
    directory.join("snapshot.0.log")
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_restart_without_anyone_to_ask() {
    let directory = tempfile::tempdir().unwrap();
    let seal = seal();
    let first = edge(directory.path(), &seal).unwrap();
    assert_eq!(first.apply(&numbered(1, enrolled())).await.unwrap().epoch, 3);
    let again = edge(directory.path(), &seal).unwrap();
    assert!(matches!(verdict(&again), Classified::Known(_)));
    again.apply(&numbered(4, revoked())).await.unwrap();
    let third = edge(directory.path(), &seal).unwrap();
    let Classified::Refused(refusal) = verdict(&third) else { panic!("a revoked certificate passes") };
    assert_eq!(refusal.cause, Cause::Revoked(RevocationReason::KeyCompromise));
    assert_eq!((third.register().epoch(), third.register().as_of()), (4, now()));
}

#[tokio::test]
async fn an_unfinished_last_frame_is_cut_and_what_was_acknowledged_stays() {
    let directory = tempfile::tempdir().unwrap();
    let seal = seal();
    let first = edge(directory.path(), &seal).unwrap();
    first.apply(&numbered(1, enrolled())).await.unwrap();
    let whole = std::fs::read(log_of(directory.path())).unwrap();
    first.apply(&numbered(4, revoked())).await.unwrap();
    let longer = std::fs::read(log_of(directory.path())).unwrap();
    for cut in [whole.len() + 1, whole.len() + 7, longer.len() - 1] {
        std::fs::write(log_of(directory.path()), &longer[..cut]).unwrap();
        let restored = edge(directory.path(), &seal).unwrap();
        assert_eq!(restored.register().epoch(), 3, "cut at {cut}");
        assert_eq!(std::fs::read(log_of(directory.path())).unwrap(), whole);
    }
}

#[tokio::test]
async fn changed_moved_or_foreign_frames_are_a_fault_and_not_a_guess() {
    let directory = tempfile::tempdir().unwrap();
    let seal = seal();
    let first = edge(directory.path(), &seal).unwrap();
    first.apply(&numbered(1, enrolled())).await.unwrap();
    let one = std::fs::read(log_of(directory.path())).unwrap();
    first.apply(&numbered(4, revoked())).await.unwrap();
    let both = std::fs::read(log_of(directory.path())).unwrap();
    let refused = |bytes: &[u8]| {
        std::fs::write(log_of(directory.path()), bytes).unwrap();
        matches!(edge(directory.path(), &seal), Err(JournalFault::Broken { .. }))
    };
    let mut flipped = both.clone();
    flipped[one.len() / 2] ^= 1;
    assert!(refused(&flipped), "a changed octet");
    assert!(refused(&both[one.len()..]), "the first frame dropped");
    let swapped = [&both[one.len()..], &one].concat();
    assert!(refused(&swapped), "frames in another order");
    std::fs::write(log_of(directory.path()), &both).unwrap();
    let stranger =
        Holder::restore(TlsPolicy::modern(), clock(), Journal::at(directory.path(), "other", seal.clone()));
    assert!(matches!(stranger, Err(JournalFault::Broken { .. })), "another edge's copy");
    assert!(matches!(edge(directory.path(), &self::seal()), Err(JournalFault::Broken { .. })), "another key");
    assert!(edge(directory.path(), &seal).is_ok());
}

#[tokio::test]
async fn nothing_readable_is_on_disk() {
    let directory = tempfile::tempdir().unwrap();
    let first = edge(directory.path(), &seal()).unwrap();
    first.apply(&numbered(1, enrolled())).await.unwrap();
    let bytes = std::fs::read(log_of(directory.path())).unwrap();
    assert!(!String::from_utf8_lossy(&bytes).contains("anna"));
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(std::fs::metadata(log_of(directory.path())).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn every_delta_survives_its_json() {
    let mut deltas = enrolled();
    deltas.extend(revoked());
    deltas.push(Delta::Released { fingerprint: Fingerprint::of(LEAF) });
    for delta in deltas {
        let text = serde_json::to_string(&delta).unwrap();
        assert_eq!(serde_json::from_str::<Delta>(&text).unwrap(), delta, "{text}");
    }
}
