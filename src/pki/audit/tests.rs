use proptest::prelude::*;

use super::*;
use crate::domain::UtcTime;
use crate::domain::audit_chain::{AuditEvent, ChainHead, Checkpoint, LinkHash};
use crate::pki::keygen;

const INSTALLATION: &str = "0192f0c1-0000-7000-8000-000000000001";

fn at(seconds: i64) -> UtcTime {
    UtcTime::from_unix(1_800_000_000 + seconds)
}

fn event(number: u64) -> AuditEvent {
    let act = (number - 1) / 2;
    AuditEvent {
        id: format!("event-{number}"),
        at: at(i64::try_from(number).unwrap()),
        phase: if number % 2 == 1 { "started" } else { "finished" }.to_owned(),
        act: format!("act-{act}"),
        actor: "system:test".to_owned(),
        action: "certificate.issue".to_owned(),
        object_kind: None,
        object_id: None,
        outcome: number.is_multiple_of(2).then(|| "succeeded".to_owned()),
        detail: None,
        request_id: None,
    }
}

/// Keys and the lines of an export of `count` links, a checkpoint behind every third and the last.
struct Sample {
    spki: Vec<u8>,
    lines: Vec<Line>,
}

fn sample(count: u64) -> Sample {
    let (key, spki) = keygen::generate_p256();
    let keys = vec![Key { key_id: key_id(&spki), spki: spki.clone() }];
    let header = Header {
        format: FORMAT.to_owned(),
        installation_id: INSTALLATION.to_owned(),
        exported_at: at(1000),
        keys,
    };
    let mut lines = vec![Line::Header(header)];
    let mut head = ChainHead::START;
    for number in 1..=count {
        let event = event(number);
        head = head.next(&event);
        lines.push(Line::Link(Link { number, hash: head.hash, event: Some(event) }));
        if number.is_multiple_of(3) || number == count {
            let mut checkpoint = Checkpoint {
                installation_id: INSTALLATION.to_owned(),
                number,
                hash: head.hash,
                at: at(2000),
                key_id: key_id(&spki),
                signature: Vec::new(),
            };
            checkpoint.signature = keygen::sign_p256(key.expose(), &checkpoint.statement()).unwrap();
            lines.push(Line::Checkpoint(checkpoint));
        }
    }
    Sample { spki, lines }
}

impl Sample {
    /// The bytes of these lines with the end that belongs to them.
    fn bytes(&self) -> Vec<u8> {
        let mut export = Export::default();
        let mut text: String = self.lines.iter().map(|line| export.write(line).unwrap()).collect();
        text.push_str(&Line::End(export.end()).to_text().unwrap());
        text.into_bytes()
    }

    fn checkpoint(&self, number: u64) -> Checkpoint {
        let found = self.lines.iter().find_map(|line| match line {
            Line::Checkpoint(checkpoint) if checkpoint.number == number => Some(checkpoint.clone()),
            _ => None,
        });
        found.unwrap()
    }

    fn link(&mut self, number: u64) -> &mut Link {
        let found = self.lines.iter_mut().find_map(|line| match line {
            Line::Link(link) if link.number == number => Some(link),
            _ => None,
        });
        found.unwrap()
    }

    fn signed_mut(&mut self, number: u64) -> &mut Checkpoint {
        let found = self.lines.iter_mut().find_map(|line| match line {
            Line::Checkpoint(checkpoint) if checkpoint.number == number => Some(checkpoint),
            _ => None,
        });
        found.unwrap()
    }

    fn faults(&self, trust: Trust) -> Vec<Fault> {
        faults(verify_export(&self.bytes(), trust))
    }
}

fn faults(verdict: Verdict) -> Vec<Fault> {
    verdict.faults.into_iter().map(|found| found.fault).collect()
}

fn nothing() -> Trust {
    Trust::default()
}

#[test]
fn a_whole_export_verifies_and_says_who_vouches_for_it() {
    let sample = sample(10);
    let alone = verify_export(&sample.bytes(), nothing());
    assert!(alone.is_clean() && !alone.is_vouched_for(), "{:?}", alone.faults);
    assert_eq!((alone.links, alone.checkpoints, alone.open_acts), (10, 4, 0));
    assert_eq!(alone.signed.unwrap().number, 10);
    let given = sample.checkpoint(3);
    for (pinned, key_is_trusted) in [
        (Pinned::Signed(given.clone()), true),
        (Pinned::Place(given.head()), false),
        (Pinned::Hash(given.hash), false),
    ] {
        let trust = Trust { checkpoint: Some(pinned), keys: Vec::new() };
        let verdict = verify_export(&sample.bytes(), trust);
        assert!(verdict.is_clean(), "{:?}", verdict.faults);
        assert_eq!((verdict.pinned_at, verdict.key_is_trusted), (Some(3), key_is_trusted));
    }
    let trust = Trust { checkpoint: None, keys: vec![sample.spki.clone()] };
    assert!(verify_export(&sample.bytes(), trust).key_is_trusted);
}

#[test]
fn every_kind_of_tampering_has_its_fault() {
    type Tamper = fn(&mut Sample);
    let table: &[(Tamper, Fault)] = &[
        (|s| s.link(4).event.as_mut().unwrap().actor = "system:other".to_owned(), Fault::Hash(4)),
        (|s| s.link(4).event = None, Fault::EventMissing(4)),
        (
            |s| s.lines.retain(|line| !matches!(line, Line::Link(link) if (4..=5).contains(&link.number))),
            Fault::Gap { from: 4, to: 5 },
        ),
        (|s| s.lines.swap(1, 2), Fault::Order { after: 2, found: 1 }),
        (|s| s.signed_mut(6).at = at(1), Fault::Signature(6)),
        (|s| s.signed_mut(6).hash = LinkHash([7; 32]), Fault::CheckpointHash(6)),
        (|s| s.signed_mut(6).number = 5, Fault::Misplaced("checkpoint")),
        (|s| s.signed_mut(6).installation_id = "other".to_owned(), Fault::Installation(6)),
        (|s| drop(s.lines.pop()), Fault::Unsigned { from: 10, to: 10 }),
        (
            |s| s.lines.push(Line::Unchained(event(11))),
            Fault::Unchained { id: "event-11".to_owned(), at: at(11) },
        ),
        (|s| drop(s.lines.remove(0)), Fault::NoHeader),
        (
            |s| {
                let header = s.lines[0].clone();
                s.lines.push(header)
            },
            Fault::Misplaced("header"),
        ),
    ];
    for (tamper, expected) in table {
        let mut sample = sample(10);
        tamper(&mut sample);
        let found = sample.faults(nothing());
        assert!(found.contains(expected), "{expected:?} is not among {found:?}");
    }
}

#[test]
fn the_last_number_there_is_does_not_begin_anew() {
    let mut sample = sample(2);
    sample.link(2).number = u64::MAX;
    for number in [u64::MAX, 0] {
        let again = Link { number, ..sample.link(1).clone() };
        sample.lines.push(Line::Link(again));
    }
    let found = sample.faults(nothing());
    assert!(found.contains(&Fault::Gap { from: 2, to: u64::MAX - 1 }), "{found:?}");
    for number in [u64::MAX, 0] {
        assert!(found.contains(&Fault::Order { after: u64::MAX, found: number }), "{found:?}");
    }
}

#[test]
fn a_chain_made_anew_is_not_the_one_that_was_signed() {
    let (ours, theirs) = (sample(10), sample(10));
    let trust = || Trust { checkpoint: Some(Pinned::Signed(ours.checkpoint(3))), keys: Vec::new() };
    // The same events under another key: only the signatures differ.
    let found = theirs.faults(trust());
    assert!(found.contains(&Fault::Given), "{found:?}");
    let keyed = Trust { checkpoint: None, keys: vec![ours.spki.clone()] };
    let found = theirs.faults(keyed);
    assert!(found.iter().any(|fault| matches!(fault, Fault::UntrustedKey { number: 3, .. })), "{found:?}");

    let other = Pinned::Hash(LinkHash([1; 32]));
    let found = ours.faults(Trust { checkpoint: Some(other), keys: Vec::new() });
    assert_eq!(found, [Fault::NoSuchHash]);
    let short = sample(2).faults(trust());
    assert!(short.contains(&Fault::Short { end: 2, pinned: 3 }), "{short:?}");
}

#[test]
fn a_young_event_without_a_link_is_no_fault_and_an_open_act_is_named() {
    let mut sample = sample(9);
    let young = AuditEvent { at: at(990), act: "act-x".to_owned(), ..event(11) };
    sample.lines.push(Line::Unchained(young));
    let verdict = verify_export(&sample.bytes(), nothing());
    assert!(verdict.is_clean(), "{:?}", verdict.faults);
    assert_eq!(verdict.unchained, 1);
    assert_eq!(verdict.first_open_acts, ["act-4", "act-x"]);
}

#[test]
fn what_is_cut_off_anywhere_is_noticed() {
    let bytes = sample(4).bytes();
    for length in 0..bytes.len() {
        assert!(!verify_export(&bytes[..length], nothing()).is_clean(), "{length} bytes");
    }
}

#[test]
fn another_spelling_of_the_same_line_is_noticed() {
    let text = String::from_utf8(sample(2).bytes()).unwrap();
    for (from, to) in [("{\"link\":", "{ \"link\":"), ("system:test", "system:t\\u0065st"), ("\n", "\r\n")] {
        let edited = text.replacen(from, to, 1);
        assert!(faults(verify_export(edited.as_bytes(), nothing())).contains(&Fault::Spelling), "{to}");
    }
}

#[test]
fn a_long_line_is_refused_unread() {
    let mut bytes = vec![b' '; MAX_LINE + 1];
    bytes.push(b'\n');
    assert_eq!(faults(verify_export(&bytes, nothing()))[0], Fault::TooLong);
}

proptest! {
    #[test]
    fn any_bytes_have_a_verdict(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(!verify_export(&bytes, nothing()).is_clean());
    }

    #[test]
    fn no_byte_can_be_changed(place in any::<prop::sample::Index>(), change in 1_u8..=255) {
        let mut bytes = sample(3).bytes();
        let place = place.index(bytes.len());
        bytes[place] ^= change;
        prop_assert!(!verify_export(&bytes, nothing()).is_clean());
    }
}
