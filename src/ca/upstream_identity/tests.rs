use super::*;
use crate::domain::{Fingerprint, RevocationReason};

const DAY: i64 = 86_400;

fn at(seconds: i64) -> UtcTime {
    UtcTime::from_unix(seconds)
}

fn slug(name: &str) -> Slug {
    name.parse().unwrap()
}

/// From second 0 to the end of day 300.
fn authority(name: &str, state: AuthorityState) -> Authority {
    Authority {
        name: slug(name),
        kind: AuthorityKind::Upstream,
        state,
        key_id: KeyId("k".to_owned()),
        issuer: None,
        serial: "0a".parse().unwrap(),
        common_name: name.to_owned(),
        not_before: at(0),
        not_after: at(300 * DAY),
        tbs: Vec::new(),
        certificate: Some(Vec::new()),
        crl_number: 0,
        created_at: UtcTime::EPOCH,
    }
}

/// From second 1000 to second 2000.
fn certificate() -> InternalCertificate {
    InternalCertificate {
        serial: "0b".parse().unwrap(),
        authority: slug("upstream-g1"),
        purpose: IntentPurpose::UpstreamClient,
        subject: slug("upstream-g1"),
        key_id: Some(KeyId("upstream-client-1".to_owned())),
        fingerprint: Fingerprint::of(b"x"),
        not_before: at(1_000),
        not_after: at(2_000),
        issued_at: at(1_000),
        der: Vec::new(),
        revoked: None,
    }
}

#[test]
fn a_certificate_is_due_at_the_second_at_which_half_of_its_life_is_over() {
    let (current, signs) = (certificate(), slug("upstream-g1"));
    let due = |now| why_due(Some(&current), true, &signs, at(now)).is_some();
    assert_eq!(
        (due(1_000), due(1_499), due(1_500), due(2_000), due(9_000)),
        (false, false, true, true, true)
    );
    assert!(due(999), "a clock that went back: nobody would take it");
}

#[test]
fn a_certificate_is_due_when_it_is_of_no_use_however_young_it_is() {
    let (current, signs, now) = (certificate(), slug("upstream-g1"), at(1_100));
    assert_eq!(why_due(Some(&current), true, &signs, now), None);
    assert!(why_due(None, false, &signs, now).is_some());
    assert!(why_due(Some(&current), false, &signs, now).is_some(), "its key does not open");
    assert!(why_due(Some(&current), true, &slug("upstream-g2"), now).is_some(), "its authority was replaced");
    let revoked = Some((now, RevocationReason::KeyCompromise));
    let revoked = InternalCertificate { revoked, ..current };
    assert!(why_due(Some(&revoked), true, &signs, now).is_some());
}

#[test]
fn an_authority_is_announced_with_a_third_left_and_replaced_when_a_whole_life_does_not_fit() {
    let signs = authority("upstream-g1", AuthorityState::Issuing);
    let due = |now| succession(Some(&signs), at(now));
    assert_eq!(due(200 * DAY - 1), Succession::Stays(&signs));
    assert_eq!(due(200 * DAY), Succession::Announce(&signs));
    assert_eq!(due(293 * DAY), Succession::Announce(&signs));
    assert_eq!(due(293 * DAY + 1), Succession::Replace(Some(&signs)));
    assert_eq!(succession(None, at(0)), Succession::Replace(None));
    let late = Authority { not_before: at(10 * DAY), ..signs.clone() };
    assert_eq!(succession(Some(&late), at(DAY)), Succession::Replace(Some(&late)), "made by a clock ahead");
}

#[test]
fn a_successor_is_one_that_waits_and_lives_now_and_long_enough() {
    let all = [
        authority("upstream-g1", AuthorityState::Issuing),
        authority("upstream-g2", AuthorityState::Trusted),
        authority("upstream-g3", AuthorityState::Trusted),
        Authority { not_before: at(200 * DAY), ..authority("upstream-g4", AuthorityState::Trusted) },
        authority("upstream-g5", AuthorityState::Archived),
    ];
    let name = |now| successor(&all, at(now)).map(|next| next.name.as_str());
    assert_eq!(name(100 * DAY), Some("upstream-g3"));
    assert_eq!(name(250 * DAY), Some("upstream-g4"));
    assert_eq!(name(294 * DAY), None);
}
