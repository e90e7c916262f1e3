use super::*;

fn record(n: u8) -> CertificateRecord {
    CertificateRecord {
        fingerprint: Fingerprint([n; 32]),
        serial: Serial::from_der_octets(&[0x10 | (n & 0x0f); 16]).unwrap(),
        authority: "issuing-g1".parse().unwrap(),
        profile: "device".parse().unwrap(),
        person: PersonId::new(),
        device: DeviceId::new(),
        not_before: UtcTime::from_unix(1_000),
        not_after: UtcTime::from_unix(2_000),
        revoked: None,
    }
}

fn change(epoch: u64, delta: Delta) -> Change {
    Change { epoch, delta }
}

#[test]
fn a_certificate_that_was_not_recorded_is_not_found() {
    let register = Register::new();
    register.apply(&[change(1, Delta::Certificate(record(1)))]);
    assert!(register.look_up(&Fingerprint([1; 32])).is_some());
    assert!(register.look_up(&Fingerprint([2; 32])).is_none());
}

#[test]
fn epochs_never_move_backwards_and_old_changes_are_skipped() {
    let register = Register::new();
    register.apply(&[change(1, Delta::Certificate(record(1))), change(2, revoked(1))]);
    // The same certificate again, as an older configuration might bring it: the revocation stands.
    assert!(register.apply(&[change(1, Delta::Certificate(record(1)))]).is_empty());
    register.apply(&[change(3, Delta::Certificate(record(1)))]);
    assert!(register.look_up(&Fingerprint([1; 32])).unwrap().revoked.is_some());
    assert_eq!(register.epoch(), 3);
}

#[test]
fn only_a_hold_can_be_released() {
    let register = Register::new();
    let hold = Delta::Revoked {
        fingerprint: Fingerprint([2; 32]),
        at: UtcTime::from_unix(1_500),
        reason: RevocationReason::CertificateHold,
    };
    register.apply(&[
        change(1, Delta::Certificate(record(1))),
        change(2, Delta::Certificate(record(2))),
        change(3, revoked(1)),
        change(4, hold),
        change(5, Delta::Released { fingerprint: Fingerprint([1; 32]) }),
        change(6, Delta::Released { fingerprint: Fingerprint([2; 32]) }),
    ]);
    assert!(register.look_up(&Fingerprint([1; 32])).unwrap().revoked.is_some());
    assert!(register.look_up(&Fingerprint([2; 32])).unwrap().revoked.is_none());
}

#[test]
fn a_dump_rebuilds_the_same_register() {
    let register = Register::new();
    for n in 1..=100 {
        register.apply(&[change(u64::from(n), Delta::Certificate(record(n)))]);
    }
    register.apply(&[change(101, revoked(7))]);
    let (epoch, deltas) = register.dump();
    let copy = Register::new();
    copy.apply(&deltas.into_iter().map(|delta| change(0, delta)).collect::<Vec<_>>());
    assert_eq!((epoch, copy.len()), (101, 100));
    assert!(copy.look_up(&Fingerprint([7; 32])).unwrap().revoked.is_some());
    assert!(copy.look_up(&Fingerprint([8; 32])).unwrap().revoked.is_none());
}

#[test]
fn freshness_fails_closed_without_confirmation_and_when_the_clock_jumps() {
    let register = Register::new();
    let day = Duration::from_secs(86_400);
    let now = UtcTime::from_unix(1_000_000_000);
    assert!(!register.is_fresh(now, day), "never confirmed");
    register.confirm(now);
    assert!(register.is_fresh(now.plus(day), day));
    assert!(!register.is_fresh(now.plus(day).plus(Duration::from_secs(1)), day));
    assert!(!register.is_fresh(now.minus(day).minus(Duration::from_secs(1)), day));
}

#[test]
fn a_record_is_compact() {
    assert!(size_of::<Record>() <= 104, "{}", size_of::<Record>());
}

fn revoked(n: u8) -> Delta {
    Delta::Revoked {
        fingerprint: Fingerprint([n; 32]),
        at: UtcTime::from_unix(1_500),
        reason: RevocationReason::KeyCompromise,
    }
}
