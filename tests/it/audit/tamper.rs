//! `audit_tamper`: whoever changes an export, knowing everything but the key, is found out by somebody
//! who kept one earlier checkpoint.
//!
//! Half of the tampering is clumsy (bytes, lines). The other half makes good all that can be made good
//! without the key: numbers, hashes, counts, checkpoints signed anew under a key of the intruder's own.
//! What nobody can tell from a single checkpoint is an older export, unchanged: it is what it says it
//! is, and carries its date. An end of the file at a genuine checkpoint is therefore not drawn.

use wicketgate::domain::UtcTime;
use wicketgate::domain::audit_chain::{AuditEvent, ChainHead, Checkpoint};
use wicketgate::pki::audit::{Export, FORMAT, Header, Key, Line, Link, Pinned, Trust, key_id, verify_export};
use wicketgate::pki::keygen;

/// Events of the sample.
const EVENTS: u64 = 40;
/// A checkpoint behind every so many links.
const SIGNED_EVERY: u64 = 8;
/// The link of the checkpoint that the reader kept.
const KEPT: u64 = 16;
/// What the item requires.
const REQUIRED: u64 = 10_000;
/// What every run of the tests tries.
const SMALL: u64 = 400;

/// What came of it.
pub struct Tally {
    /// How often an export was tampered with.
    pub tried: u64,
    /// How often it was noticed.
    pub detected: u64,
    /// What was not, in words.
    pub missed: Vec<String>,
}

/// Numbers that look random and are the same for the same seed (SplitMix64).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }
}

struct Sample {
    lines: Vec<Line>,
    bytes: Vec<u8>,
    kept: Checkpoint,
}

fn event(number: u64) -> AuditEvent {
    AuditEvent {
        id: format!("0192f0c1-0000-7000-8000-{number:012x}"),
        at: UtcTime::from_unix(1_800_000_000 + i64::try_from(number).unwrap()),
        phase: if number % 2 == 1 { "started" } else { "finished" }.to_owned(),
        act: format!("0192f0c1-0000-7000-8000-{:012x}", number - (number + 1) % 2),
        actor: format!("person:0192f0c1-0000-7000-8000-{:012x}", number % 7),
        action: ["certificate.issue", "certificate.revoke", "person.edit"]
            [usize::try_from(number % 3).unwrap()]
        .to_owned(),
        object_kind: (number % 3 == 1).then(|| "certificate".to_owned()),
        object_id: (number % 3 == 1).then(|| format!("{number:032x}")),
        outcome: number.is_multiple_of(2).then(|| "succeeded".to_owned()),
        detail: number.is_multiple_of(4).then(|| format!("serial {number:032x}")),
        request_id: Some(format!("{number:032x}")),
    }
}

fn signed(head: ChainHead, key: &[u8], spki: &[u8]) -> Checkpoint {
    let mut checkpoint = Checkpoint {
        installation_id: "0192f0c1-0000-7000-8000-000000000001".to_owned(),
        number: head.number,
        hash: head.hash,
        at: UtcTime::from_unix(1_800_001_000),
        key_id: key_id(spki),
        signature: Vec::new(),
    };
    checkpoint.signature = keygen::sign_p256(key, &checkpoint.statement()).unwrap();
    checkpoint
}

/// Lines with the end that belongs to them.
fn bytes(lines: &[Line]) -> Vec<u8> {
    let mut export = Export::default();
    let mut text: String = lines.iter().map(|line| export.write(line).unwrap()).collect();
    text.push_str(&Line::End(export.end()).to_text().unwrap());
    text.into_bytes()
}

impl Sample {
    fn new() -> Self {
        let (key, spki) = keygen::generate_p256();
        let mut lines = vec![Line::Header(Header {
            format: FORMAT.to_owned(),
            installation_id: "0192f0c1-0000-7000-8000-000000000001".to_owned(),
            exported_at: UtcTime::from_unix(1_800_000_100),
            keys: vec![Key { key_id: key_id(&spki), spki: spki.clone() }],
        })];
        let (mut head, mut kept) = (ChainHead::START, None);
        for number in 1..=EVENTS {
            let event = event(number);
            head = head.next(&event);
            lines.push(Line::Link(Link { number, hash: head.hash, event: Some(event) }));
            if number.is_multiple_of(SIGNED_EVERY) {
                let checkpoint = signed(head, key.expose(), &spki);
                if number == KEPT {
                    kept = Some(checkpoint.clone());
                }
                lines.push(Line::Checkpoint(checkpoint));
            }
        }
        lines
            .push(Line::Unchained(AuditEvent { at: UtcTime::from_unix(1_800_000_099), ..event(EVENTS + 1) }));
        let bytes = bytes(&lines);
        Self { lines, bytes, kept: kept.unwrap() }
    }

    fn trust(&self) -> Trust {
        Trust { checkpoint: Some(Pinned::Signed(self.kept.clone())), keys: Vec::new() }
    }

    /// Tampers once. Answers with what was done and what came of it.
    fn tamper(&self, chance: &mut Chance) -> (String, Vec<u8>) {
        let kind = chance.below(12);
        let (what, tampered) = match kind {
            0 => self.byte(chance),
            1 => self.cut(chance),
            2 => self.lines_as_text(chance),
            3 => self.field(chance, false),
            4 => self.line(chance),
            5 => self.end_early(chance),
            6 => self.checkpoint(chance),
            _ => self.field(chance, true),
        };
        (format!("{kind}: {what}"), tampered)
    }

    /// One byte becomes another.
    fn byte(&self, chance: &mut Chance) -> (String, Vec<u8>) {
        let mut bytes = self.bytes.clone();
        let at = chance.below(bytes.len());
        let change = u8::try_from(1 + chance.below(255)).unwrap();
        bytes[at] ^= change;
        (format!("byte {at} ^ {change}"), bytes)
    }

    /// The file ends early.
    fn cut(&self, chance: &mut Chance) -> (String, Vec<u8>) {
        let at = chance.below(self.bytes.len());
        (format!("cut at byte {at}"), self.bytes[..at].to_vec())
    }

    /// A line of the file is deleted, doubled, or changes places with another.
    fn lines_as_text(&self, chance: &mut Chance) -> (String, Vec<u8>) {
        let mut lines: Vec<&[u8]> = self.bytes.split_inclusive(|octet| *octet == b'\n').collect();
        let (one, two) = two(chance, lines.len());
        let act = chance.below(3);
        match act {
            0 => drop(lines.remove(one)),
            1 => lines.insert(one, lines[one]),
            _ => lines.swap(one, two),
        }
        (format!("text lines {one}, {two}, act {act}"), lines.concat())
    }

    /// The same, and the end is made to fit again.
    fn line(&self, chance: &mut Chance) -> (String, Vec<u8>) {
        let mut lines = self.lines.clone();
        // The last line alone may go, and an older checkpoint of those behind the kept one, without
        // anything being wrong with the rest: events are what must not get lost.
        let links: Vec<usize> = (0..lines.len()).filter(|at| matches!(lines[*at], Line::Link(_))).collect();
        let (one, two) = two(chance, links.len());
        let (one, two) = (links[one], links[two]);
        let act = chance.below(3);
        match act {
            0 => drop(lines.remove(one)),
            1 => lines.insert(one, lines[one].clone()),
            _ => lines.swap(one, two),
        }
        (format!("lines {one}, {two}, act {act}, end made good"), bytes(&lines))
    }

    /// The rest is gone, and the end is made to fit again.
    fn end_early(&self, chance: &mut Chance) -> (String, Vec<u8>) {
        loop {
            let at = chance.below(self.lines.len());
            let genuine = match self.lines[..at].last() {
                Some(Line::Checkpoint(checkpoint)) => checkpoint.number >= KEPT,
                Some(Line::Unchained(_)) => true,
                _ => false,
            };
            if !genuine {
                return (format!("ends after line {at}, end made good"), bytes(&self.lines[..at]));
            }
        }
    }

    /// A checkpoint says something else, and the end is made to fit again.
    fn checkpoint(&self, chance: &mut Chance) -> (String, Vec<u8>) {
        let mut lines = self.lines.clone();
        let mut all: Vec<&mut Checkpoint> = lines
            .iter_mut()
            .filter_map(|line| if let Line::Checkpoint(checkpoint) = line { Some(checkpoint) } else { None })
            .collect();
        let at = chance.below(all.len());
        let act = chance.below(6);
        let checkpoint = &mut *all[at];
        match act {
            0 => checkpoint.number += 1 + chance.next() % 1000,
            1 => checkpoint.hash.0[chance.below(32)] ^= 1 << chance.below(8),
            2 => {
                checkpoint.at =
                    checkpoint.at.plus(std::time::Duration::from_secs(1 + chance.next() % 100_000))
            }
            3 => checkpoint.key_id.push('0'),
            4 => checkpoint.installation_id.push('0'),
            _ => {
                let place = chance.below(checkpoint.signature.len());
                checkpoint.signature[place] ^= 1 << chance.below(8);
            }
        }
        (format!("checkpoint {at}, act {act}, end made good"), bytes(&lines))
    }

    /// An event is edited, deleted, invented or moved. With `made_good`, everything behind it is numbered
    /// and hashed anew, and the checkpoints are left, moved, dropped or forged.
    fn field(&self, chance: &mut Chance, made_good: bool) -> (String, Vec<u8>) {
        let mut events: Vec<AuditEvent> = self
            .lines
            .iter()
            .filter_map(|line| match line {
                Line::Link(link) => link.event.clone(),
                _ => None,
            })
            .collect();
        let (one, two) = two(chance, events.len());
        let act = if made_good { chance.below(4) } else { 0 };
        let changed = match act {
            0 => {
                edit(&mut events[one], chance);
                one
            }
            1 => {
                events.remove(one);
                one
            }
            2 => {
                events.insert(one, event(1000 + chance.next() % 1000));
                one
            }
            _ => {
                events.swap(one, two);
                one.min(two)
            }
        };
        if !made_good {
            let mut lines = self.lines.clone();
            for line in &mut lines {
                if let Line::Link(link) = line
                    && usize::try_from(link.number).unwrap() == one + 1
                {
                    link.event = Some(events[one].clone());
                }
            }
            return (format!("event {one} edited"), bytes(&lines));
        }
        let ways = chance.below(4);
        let lines = self.chained_anew(&events, changed, ways);
        (format!("event {one}, {two}, act {act}, checkpoints {ways}, chained anew"), bytes(&lines))
    }

    /// The chain of these events, whose first `same` are as they were.
    fn chained_anew(&self, events: &[AuditEvent], same: usize, ways: usize) -> Vec<Line> {
        let (key, spki) = keygen::generate_p256();
        let mut lines = vec![self.lines[0].clone()];
        if ways == 3
            && let Line::Header(header) = &mut lines[0]
        {
            header.keys.push(Key { key_id: key_id(&spki), spki: spki.clone() });
        }
        let genuine = |number: u64| {
            self.lines.iter().find_map(|line| match line {
                Line::Checkpoint(checkpoint) if checkpoint.number == number => Some(checkpoint.clone()),
                _ => None,
            })
        };
        let mut head = ChainHead::START;
        for (at, event) in events.iter().enumerate() {
            head = head.next(event);
            lines.push(Line::Link(Link { number: head.number, hash: head.hash, event: Some(event.clone()) }));
            let Some(genuine) = genuine(head.number) else { continue };
            let checkpoint = match (at < same, ways) {
                (true, _) | (false, 0) => genuine,
                // Its hash fits, its signature cannot.
                (false, 1) => Checkpoint { hash: head.hash, ..genuine },
                (false, 2) => continue,
                (false, _) => signed(head, key.expose(), &spki),
            };
            lines.push(Line::Checkpoint(checkpoint));
        }
        if ways == 3 && !matches!(lines.last(), Some(Line::Checkpoint(_))) {
            lines.push(Line::Checkpoint(signed(head, key.expose(), &spki)));
        }
        lines
    }
}

/// Two different places, or twice the only one.
fn two(chance: &mut Chance, length: usize) -> (usize, usize) {
    let one = chance.below(length);
    let two = chance.below(length - 1);
    (one, if two >= one { two + 1 } else { two })
}

/// One column says something else.
fn edit(event: &mut AuditEvent, chance: &mut Chance) {
    let optional = |text: &mut Option<String>| match text {
        None => *text = Some(String::new()),
        Some(_) => *text = None,
    };
    match chance.below(11) {
        0 => event.id.push('0'),
        1 => event.at = event.at.plus(std::time::Duration::from_secs(1)),
        2 => event.phase.push('x'),
        3 => event.act.push('0'),
        4 => event.actor = "person:somebody-else".to_owned(),
        5 => event.action = "certificate.renew".to_owned(),
        6 => optional(&mut event.object_kind),
        7 => optional(&mut event.object_id),
        8 => optional(&mut event.outcome),
        9 => optional(&mut event.detail),
        _ => optional(&mut event.request_id),
    }
}

/// Tampers `count` times with an export and checks each against one earlier checkpoint.
pub fn audit_tamper(count: u64, seed: u64) -> Tally {
    let sample = Sample::new();
    let clean = verify_export(&sample.bytes, sample.trust());
    assert!(clean.is_clean(), "{:?}", clean.faults);
    let mut chance = Chance(seed);
    let mut tally = Tally { tried: 0, detected: 0, missed: Vec::new() };
    while tally.tried < count {
        let (what, tampered) = sample.tamper(&mut chance);
        assert_ne!(tampered, sample.bytes, "{what}: nothing was changed");
        tally.tried += 1;
        if verify_export(&tampered, sample.trust()).is_clean() {
            tally.missed.push(what);
        } else {
            tally.detected += 1;
        }
        if tally.tried.is_multiple_of(1000) {
            println!("audit_tamper: {} of {count}, {} detected", tally.tried, tally.detected);
        }
    }
    tally
}

/// Full size, times `PROVE_SCALE`, when that is set; small otherwise.
#[test]
fn audit_tamper_is_always_detected() {
    let scale = std::env::var("PROVE_SCALE").ok().map(|scale| scale.parse::<f64>().unwrap());
    let count = scale.map_or(SMALL, |scale| (REQUIRED as f64 * scale).ceil() as u64);
    let tally = audit_tamper(count, 0x5eed);
    println!("audit_tamper: {} tried, {} detected", tally.tried, tally.detected);
    assert_eq!(tally.detected, tally.tried, "not detected: {:?}", tally.missed);
}
