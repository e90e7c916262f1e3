//! What came of it: every octet that the edge sent to a backend, everything that programs behind say they
//! saw, and what visitors were answered.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::backends::{Front, Seen};
use super::place::{key, marks};
use super::relay::Line;
use super::strict::{Message, Rest, find, read};
use super::visitor::Heard;

/// How long what was begun may take to be over.
const PATIENCE: Duration = Duration::from_secs(5);
/// Methods that shapes use; anything else is a piece of something.
const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "OPTIONS", "DELETE", "PUT", "PATCH", "PURGE", "post"];

/// A shape that was put before a backend.
pub(super) struct Try {
    pub(super) name: String,
    pub(super) heard: Heard,
    /// What came of an innocent request after it.
    pub(super) after: Result<(), String>,
}

/// Everything that is wrong, and how much there was to see.
#[derive(Default)]
pub(super) struct Verdict {
    /// Somebody read other requests than were sent, or was given another's answer.
    pub(super) desyncs: Vec<String>,
    /// Something was sent that could be read in two ways.
    pub(super) unsafe_forwards: Vec<String>,
    /// Whole requests that were sent on.
    pub(super) forwarded: usize,
    /// Those of shapes themselves.
    pub(super) shapes: usize,
    pub(super) connections: usize,
}

/// What was sent on under one key.
#[derive(Default)]
struct Sent {
    begun: usize,
    /// Octets of the body, for each that was sent to its end.
    whole: Vec<usize>,
    /// Whether it may have been sent in what cannot be read.
    is_in_doubt: bool,
}

/// Judges what was tried in front of one backend.
pub(super) async fn judge(front: &Front, tries: &[Try]) -> Verdict {
    // What visitors gave up is still being given up behind.
    soon(|| front.relay.lines().iter().all(|line| line.is_closed || read(judged(line)).1 == Rest::Nothing))
        .await;
    let mut verdict = Verdict::default();
    let mut sent = BTreeMap::new();
    let lines = front.relay.lines();
    verdict.connections = lines.len();
    for line in &lines {
        verdict.weigh_line(front, tries, line, &mut sent);
    }
    let lost = || -> Vec<String> {
        let seen: BTreeSet<String> = front.seen().into_iter().filter_map(|seen| seen.key).collect();
        let is_due = |sent: &Sent| !sent.whole.is_empty() && !sent.is_in_doubt;
        let keys = sent.iter().filter(|(_, sent)| is_due(sent)).map(|(key, _)| key);
        keys.filter(|key| !seen.contains(*key)).cloned().collect()
    };
    soon(|| lost().is_empty()).await;
    for key in lost() {
        verdict.desyncs.push(format!("{}: {key} was not seen", name_of(tries, &key)));
    }
    verdict.weigh_seen(front, tries, &front.seen(), &sent);
    verdict.weigh_seen(front, tries, &front.seen_behind(), &sent);
    for (number, tried) in tries.iter().enumerate() {
        verdict.desyncs.extend(fault_of(number, tried).map(|fault| format!("{}: {fault}", tried.name)));
    }
    verdict
}

impl Verdict {
    pub(super) fn add(&mut self, other: Self) {
        self.desyncs.extend(other.desyncs);
        self.unsafe_forwards.extend(other.unsafe_forwards);
        self.forwarded += other.forwarded;
        self.shapes += other.shapes;
        self.connections += other.connections;
    }

    /// Reads what the edge sent over one connection.
    fn weigh_line(&mut self, front: &Front, tries: &[Try], line: &Line, sent: &mut BTreeMap<String, Sent>) {
        let octets = judged(line);
        let (messages, rest) = read(octets);
        self.forwarded += messages.len();
        for message in &messages {
            let Some((key, number)) = key(&message.target).filter(|(key, _)| is_of(front, key)) else {
                self.unsafe_forwards.push(format!("a request for {:?} on {}", message.target, front.name));
                continue;
            };
            self.shapes += usize::from(key.contains("/shape-"));
            let entry = sent.entry(key.to_owned()).or_default();
            entry.begun += 1;
            entry.whole.push(message.body);
            let fault = tries.get(number).and_then(|tried| fault_in(front, key, message, tried));
            self.unsafe_forwards.extend(fault.map(|fault| format!("{}: {fault}", name_of(tries, key))));
        }
        let end = messages.last().map_or(0, |message| message.end);
        let is_tunnel = messages.last().is_some_and(|message| message.is_upgrade) && rest == Rest::Nothing;
        if line.tunnel.is_some() && !is_tunnel {
            self.unsafe_forwards.push(format!("octets before a 101: {}", excerpt(&octets[end..])));
        }
        let fault = match rest {
            Rest::Nothing => return,
            Rest::Body(target) => {
                let key = key(&target).map(|(key, _)| key.to_owned()).unwrap_or(target);
                sent.entry(key).or_default().begun += 1;
                if line.is_closed {
                    return;
                }
                "a body that does not end".to_owned()
            }
            Rest::Head => "a head that does not end".to_owned(),
            Rest::Fault(fault) => fault,
        };
        let behind = &octets[end..];
        for key in keys_in(front, behind) {
            let entry = sent.entry(key).or_default();
            entry.begun += 1;
            entry.is_in_doubt = true;
        }
        let number = marks(behind).next().map(|(number, _)| number);
        let name = number.and_then(|number| tries.get(number)).map_or("?", |tried| tried.name.as_str());
        self.unsafe_forwards.push(format!("{name}: {fault}: {}", excerpt(behind)));
    }

    /// Compares what a program saw with what was sent.
    fn weigh_seen(&mut self, front: &Front, tries: &[Try], seen: &[Seen], sent: &BTreeMap<String, Sent>) {
        let mut times = BTreeMap::<&str, usize>::new();
        for Seen { key, body, line } in seen {
            let Some(key) = key else {
                self.desyncs.push(format!("{} saw {line:?}", front.name));
                continue;
            };
            // Programs serve more than one.
            if !is_of(front, key) {
                continue;
            }
            let times = times.entry(key).or_default();
            *times += 1;
            let fault = match sent.get(key) {
                Some(sent) if sent.is_in_doubt => None,
                Some(sent) if *times > sent.begun => Some("more often than it was sent"),
                Some(sent) if body.is_some_and(|body| !sent.whole.contains(&body)) => {
                    Some("with another body")
                }
                Some(_) => None,
                None => Some("though it was never sent"),
            };
            self.desyncs.extend(fault.map(|fault| format!("{}: saw {line:?} {fault}", name_of(tries, key))));
        }
    }
}

/// What is wrong with a request that can be read.
fn fault_in(front: &Front, key: &str, message: &Message, tried: &Try) -> Option<String> {
    let Message { method, target, .. } = message;
    if !METHODS.contains(&method.as_str()) {
        return Some(format!("the method {method:?}"));
    }
    if key.starts_with(&format!("/{}-private/", front.name)) {
        return Some(format!("{target} is not for everybody"));
    }
    let asked = tried.heard.asked.as_ref().filter(|_| !key.contains("/after-"))?;
    (!asked.iter().any(|asked| asked.contains(key))).then(|| format!("nobody asked for {target}"))
}

/// What is wrong with the answers.
fn fault_of(number: usize, tried: &Try) -> Option<String> {
    if !tried.heard.has_ended {
        return Some("the edge does not close the connection".to_owned());
    }
    if let Some((other, _)) = marks(&tried.heard.octets).find(|(other, _)| *other != number) {
        return Some(format!("an answer of number {other}'s, this is {number}"));
    }
    tried.after.as_ref().err().map(|fault| format!("an innocent request after it: {fault}"))
}

/// What was sent as HTTP/1.1.
fn judged(line: &Line) -> &[u8] {
    &line.sent[..line.tunnel.unwrap_or(line.sent.len())]
}

fn is_of(front: &Front, key: &str) -> bool {
    let rest = key.strip_prefix('/').and_then(|key| key.strip_prefix(front.name));
    rest.is_some_and(|rest| rest.starts_with('/') || rest.starts_with("-private/"))
}

fn name_of<'t>(tries: &'t [Try], text: &str) -> &'t str {
    key(text).and_then(|(_, number)| tries.get(number)).map_or("?", |tried| tried.name.as_str())
}

/// Everything that looks like a target of this backend's.
fn keys_in(front: &Front, octets: &[u8]) -> Vec<String> {
    let ours = format!("/{}", front.name);
    let key_before = |end: usize| {
        let begin = (0..end).rev().find(|at| octets[*at] == b' ').map_or(0, |at| at + 1);
        let at = begin + find(&octets[begin..end], ours.as_bytes())?;
        Some(String::from_utf8_lossy(&octets[at..end]).into_owned())
    };
    marks(octets).filter_map(|(_, end)| key_before(end)).collect()
}

fn excerpt(octets: &[u8]) -> String {
    format!("{:?}", String::from_utf8_lossy(&octets[..octets.len().min(160)]))
}

/// Waits for the condition, but not for long.
async fn soon(condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let _ = tokio::time::timeout(PATIENCE, waiting).await;
}
