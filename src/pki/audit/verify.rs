//! Checks an export, line by line, in memory that does not grow with it. Pure: bytes in, verdict out,
//! whatever the bytes are.

use std::collections::HashMap;
use std::time::Duration;

use super::export::{End, Export, FORMAT, Header, Line, Link, MAX_LINE};
use super::verdict::{Fault, Found, Verdict};
use super::{check_signature, key_id};
use crate::domain::audit_chain::{AuditEvent, ChainHead, Checkpoint, LinkHash};

/// Faults that a verdict spells out; the rest is counted.
const MOST_FAULTS: usize = 100;
/// Open acts that a verdict names; the rest is counted.
const MOST_ACTS: usize = 20;
/// Events younger than this may be without a link: the sequencer had no time yet, or its replica died.
const CHAINED_WITHIN: Duration = Duration::from_secs(60);

/// What the reader kept elsewhere, and trusts.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    /// An earlier checkpoint.
    pub checkpoint: Option<Pinned>,
    /// The keys that may sign, SubjectPublicKeyInfo DER. None: those that the checkpoint names, or else
    /// whatever the export says.
    pub keys: Vec<Vec<u8>>,
}

/// An earlier checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pinned {
    /// As it was signed. It names the key, too.
    Signed(Checkpoint),
    /// A place in the chain.
    Place(ChainHead),
    /// The hash of a link, whichever it is.
    Hash(LinkHash),
}

/// Where in an export a line stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Header,
    Links,
    Unchained,
    Behind,
}

/// Reads one export.
pub struct Verifier {
    trust: Trust,
    part: Part,
    line: u64,
    counted: Export,
    keys: HashMap<String, Vec<u8>>,
    head: ChainHead,
    checkpoint_for: u64,
    acts: HashMap<String, i64>,
    verdict: Verdict,
}

/// Checks a whole export.
pub fn verify_export(bytes: &[u8], trust: Trust) -> Verdict {
    let mut verifier = Verifier::new(trust);
    for line in bytes.split_inclusive(|octet| *octet == b'\n') {
        verifier.read(line);
    }
    verifier.finish()
}

impl Verifier {
    /// A verifier that trusts this much.
    pub fn new(trust: Trust) -> Self {
        Self {
            trust,
            part: Part::Header,
            line: 0,
            counted: Export::default(),
            keys: HashMap::new(),
            head: ChainHead::START,
            checkpoint_for: 0,
            acts: HashMap::new(),
            verdict: Verdict::default(),
        }
    }

    /// Takes the next line, its newline included. A line longer than [`MAX_LINE`] may be cut after
    /// one byte more.
    pub fn read(&mut self, bytes: &[u8]) {
        self.line += 1;
        if bytes.len() > MAX_LINE {
            return self.fault(Fault::TooLong);
        }
        let line: Line = match serde_json::from_slice(bytes) {
            Ok(line) => line,
            Err(error) => return self.fault(Fault::Unreadable(error.to_string())),
        };
        // JSON can say the same in many ways; exports say it in one.
        if line.to_text().ok().as_deref().map(str::as_bytes) != Some(bytes) {
            self.fault(Fault::Spelling);
        }
        if self.part == Part::Header && !matches!(line, Line::Header(_)) {
            self.fault(Fault::NoHeader);
            self.begin();
        }
        match &line {
            Line::Header(header) if self.part == Part::Header => self.header(header),
            Line::Link(link) if self.part == Part::Links => self.link(link),
            Line::Checkpoint(checkpoint) if self.part == Part::Links => self.checkpoint(checkpoint),
            Line::Unchained(event) if matches!(self.part, Part::Links | Part::Unchained) => {
                self.part = Part::Unchained;
                self.unchained(event);
            }
            Line::End(end) if matches!(self.part, Part::Links | Part::Unchained) => self.end(end),
            _ => self.fault(Fault::Misplaced(kind(&line))),
        }
        self.counted.count(&line, bytes);
    }

    /// What came out.
    pub fn finish(mut self) -> Verdict {
        self.line += 1;
        if self.part == Part::Header {
            self.fault(Fault::NoHeader);
        } else if self.part != Part::Behind {
            self.fault(Fault::NoEnd);
        }
        let signed = self.verdict.signed.as_ref().map_or(0, |checkpoint| checkpoint.number);
        if self.head.number > signed {
            self.fault(Fault::Unsigned { from: signed + 1, to: self.head.number });
        }
        if self.verdict.pinned_at.is_none() {
            match &self.trust.checkpoint {
                Some(Pinned::Hash(_)) => self.fault(Fault::NoSuchHash),
                Some(Pinned::Signed(Checkpoint { number, .. }) | Pinned::Place(ChainHead { number, .. }))
                    if *number > self.head.number =>
                {
                    let (end, pinned) = (self.head.number, *number);
                    self.fault(Fault::Short { end, pinned });
                }
                Some(_) if self.verdict.is_clean() => self.fault(Fault::Rewritten(0)),
                _ => {}
            }
        }
        let mut open: Vec<String> =
            self.acts.into_iter().filter(|(_, count)| *count > 0).map(|(act, _)| act).collect();
        open.sort_unstable();
        self.verdict.open_acts = open.len() as u64;
        open.truncate(MOST_ACTS);
        self.verdict.first_open_acts = open;
        self.verdict.head = Some(self.head).filter(|head| head.number > 0);
        self.verdict
    }

    fn header(&mut self, header: &Header) {
        if header.format != FORMAT {
            self.fault(Fault::Format(header.format.clone()));
        }
        for key in &header.keys {
            if key.key_id == key_id(&key.spki) {
                self.keys.insert(key.key_id.clone(), key.spki.clone());
            } else {
                self.fault(Fault::Key(key.key_id.clone()));
            }
        }
        self.verdict.installation_id = Some(header.installation_id.clone());
        self.verdict.exported_at = Some(header.exported_at);
        self.begin();
    }

    /// Settles which keys count, and whether the given checkpoint does.
    fn begin(&mut self) {
        self.part = Part::Links;
        if !self.trust.keys.is_empty() {
            self.verdict.key_is_trusted = true;
            self.keys = self.trust.keys.iter().map(|spki| (key_id(spki), spki.clone())).collect();
        }
        let Some(Pinned::Signed(given)) = self.trust.checkpoint.clone() else { return };
        if self.trust.keys.is_empty() {
            self.verdict.key_is_trusted = true;
            self.keys.retain(|id, _| *id == given.key_id);
        }
        let signed = self.keys.get(&given.key_id).is_some_and(|spki| check_signature(&given, spki).is_ok());
        if !signed {
            self.fault(Fault::Given);
        }
        if self.verdict.installation_id.as_ref().is_some_and(|id| *id != given.installation_id) {
            self.fault(Fault::Installation(given.number));
        }
    }

    fn link(&mut self, link: &Link) {
        // Lines say what they like: behind the last number that there is, nothing is in order.
        match self.head.number.checked_add(1) {
            Some(next) if link.number == next => {}
            Some(next) if link.number > next => self.fault(Fault::Gap { from: next, to: link.number - 1 }),
            _ => self.fault(Fault::Order { after: self.head.number, found: link.number }),
        }
        match &link.event {
            None => self.fault(Fault::EventMissing(link.number)),
            Some(event) => {
                if self.head.hash.next(link.number, event) != link.hash {
                    self.fault(Fault::Hash(link.number));
                }
                self.note(event);
            }
        }
        // From here on by what the line says, so that one fault is told once.
        self.head = link.head();
        self.verdict.links += 1;
        let fits = match &self.trust.checkpoint {
            None => return,
            Some(Pinned::Hash(hash)) if *hash != link.hash => return,
            Some(Pinned::Hash(_)) => true,
            Some(Pinned::Place(place)) if place.number == link.number => *place == link.head(),
            Some(Pinned::Signed(given)) if given.number == link.number => given.head() == link.head(),
            Some(_) => return,
        };
        if fits {
            self.verdict.pinned_at = Some(link.number);
        } else {
            self.fault(Fault::Rewritten(link.number));
        }
    }

    fn checkpoint(&mut self, checkpoint: &Checkpoint) {
        let number = checkpoint.number;
        if number != self.head.number || number == 0 || self.checkpoint_for == number {
            return self.fault(Fault::Misplaced("checkpoint"));
        }
        self.checkpoint_for = number;
        if checkpoint.head() != self.head {
            return self.fault(Fault::CheckpointHash(number));
        }
        if self.verdict.installation_id.as_ref().is_some_and(|id| *id != checkpoint.installation_id) {
            return self.fault(Fault::Installation(number));
        }
        match self.keys.get(&checkpoint.key_id) {
            None => {
                let key_id = checkpoint.key_id.clone();
                self.fault(Fault::UntrustedKey { number, key_id });
            }
            Some(spki) if check_signature(checkpoint, spki).is_err() => self.fault(Fault::Signature(number)),
            Some(_) => {
                self.verdict.checkpoints += 1;
                self.verdict.signed = Some(checkpoint.clone());
            }
        }
    }

    fn unchained(&mut self, event: &AuditEvent) {
        self.note(event);
        if self.verdict.exported_at.is_some_and(|now| now.since(event.at) <= CHAINED_WITHIN) {
            self.verdict.unchained += 1;
        } else {
            self.fault(Fault::Unchained { id: event.id.clone(), at: event.at });
        }
    }

    fn end(&mut self, end: &End) {
        self.part = Part::Behind;
        if *end != self.counted.end() {
            self.fault(Fault::End);
        }
    }

    /// Remembers acts between their two events only.
    fn note(&mut self, event: &AuditEvent) {
        let step = if event.phase == "started" { 1 } else { -1 };
        let count = self.acts.entry(event.act.clone()).or_default();
        *count += step;
        if *count == 0 {
            self.acts.remove(&event.act);
        }
    }

    fn fault(&mut self, fault: Fault) {
        self.verdict.fault_count += 1;
        if self.verdict.faults.len() < MOST_FAULTS {
            self.verdict.faults.push(Found { line: self.line, fault });
        }
    }
}

fn kind(line: &Line) -> &'static str {
    match line {
        Line::Header(_) => "header",
        Line::Link(_) => "link",
        Line::Checkpoint(_) => "checkpoint",
        Line::Unchained(_) => "event without a link",
        Line::End(_) => "end",
    }
}
