//! What was seen of all of them, and what of it is not as it has to be.

use std::collections::BTreeMap;

use serde_json::Value;

use super::clients::{Told, Visit};
use super::gate::{EMAIL, Gate};

#[derive(Default)]
pub(super) struct Report {
    pub(super) looked_at: u64,
    wrong: Vec<String>,
    notes: Vec<String>,
    visits: BTreeMap<&'static str, usize>,
    sockets: BTreeMap<&'static str, Value>,
    assertions: Vec<String>,
}

impl Report {
    /// Looks at one thing more.
    pub(super) fn see(&mut self, is_right: bool, what: impl FnOnce() -> String) {
        self.looked_at += 1;
        if !is_right {
            self.wrong.push(what());
        }
    }

    /// Says something once, however often it is said.
    pub(super) fn note(&mut self, note: impl Into<String>) {
        let note = note.into();
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// Judges a client: each protocol that it speaks, known and unknown.
    pub(super) fn client(
        &mut self,
        gate: &Gate,
        name: &'static str,
        has_http2: bool,
        told: Result<Told, String>,
    ) {
        let Told { visits, socket } = match told {
            Ok(told) => told,
            Err(error) => return self.see(false, || format!("{name}: {error}")),
        };
        for (is_two, is_known) in [(false, true), (false, false), (true, true), (true, false)] {
            let is_it = |visit: &Visit| is_two == is_http2(visit) && is_known == visit.is_known;
            let expected = has_http2 || !is_two;
            let has_come = visits.iter().any(is_it);
            self.see(has_come == expected, || {
                format!("{name}: HTTP/2 {is_two}, known {is_known}: came {has_come}")
            });
        }
        for visit in &visits {
            self.visit(gate, name, visit);
        }
        *self.visits.entry(name).or_default() += visits.len();
        if let Some(socket) = socket {
            self.sockets.insert(name, socket);
        }
    }

    fn visit(&mut self, gate: &Gate, name: &str, visit: &Visit) {
        let what = || format!("{name}: {visit:?}");
        if visit.is_known {
            let seen = serde_json::from_str::<Value>(&visit.body).unwrap_or_default();
            self.see(visit.status == 200, what);
            self.identity(gate, name, &seen["headers"]);
        } else {
            self.see(visit.status == 403 && visit.body.contains("certificate_required"), what);
        }
    }

    /// Judges what came back over a WebSocket.
    pub(super) fn socket(&mut self, gate: &Gate, name: &str, echoes: u64) {
        let Some(socket) = self.sockets.remove(name) else {
            return self.see(false, || format!("{name}: no WebSocket"));
        };
        self.see(socket["echoed"] == echoes, || {
            format!("{name}: {} of {echoes} came back", socket["echoed"])
        });
        if let Some(refused) = socket.get("refused") {
            self.see(refused == "certificate_required", || format!("{name}: a WebSocket got {refused}"));
        }
        self.identity(gate, name, &socket["seen"]);
        self.note(format!("a WebSocket by {name}"));
    }

    /// Judges what a backend was told about the visitor.
    pub(super) fn identity(&mut self, gate: &Gate, name: &str, seen: &Value) {
        let certificate = values(seen, "client-cert");
        self.see(certificate == [&*gate.client_cert], || format!("{name}: {certificate:?} is whose?"));
        let person = values(seen, "x-webauth-user");
        self.see(person == [EMAIL], || format!("{name}: {person:?} is who?"));
        let chain = values(seen, "client-cert-chain");
        self.see(chain.len() == 1, || format!("{name}: {} chains", chain.len()));
        let assertions = values(seen, "wicketgate-assertion");
        self.see(assertions.len() == 1, || format!("{name}: {} assertions", assertions.len()));
        self.assertions.extend(assertions.into_iter().map(str::to_owned));
    }

    /// The assertions that came to backends since the last time, each once.
    pub(super) fn take_assertions(&mut self) -> Vec<String> {
        let mut assertions = std::mem::take(&mut self.assertions);
        assertions.sort();
        assertions.dedup();
        assertions
    }

    pub(super) fn is_clean(&self) -> bool {
        self.wrong.is_empty()
    }

    /// In words.
    pub(super) fn measured(&self) -> String {
        let visits = self.visits.iter().map(|(name, visits)| format!("{name} {visits}")).collect::<Vec<_>>();
        format!(
            "visits by {}; {}; {} wrong{}",
            visits.join(", "),
            self.notes.join("; "),
            self.wrong.len(),
            self.wrong.iter().take(5).map(|fault| format!("; {fault}")).collect::<String>()
        )
    }
}

/// Each client has its own name for it, with the number at its end.
fn is_http2(visit: &Visit) -> bool {
    visit.http.ends_with('2')
}

/// The values of a field: of a list of pairs, or of an object.
fn values<'v>(seen: &'v Value, name: &str) -> Vec<&'v str> {
    match seen {
        Value::Array(lines) => {
            lines.iter().filter(|line| line[0] == name).filter_map(|line| line[1].as_str()).collect()
        }
        _ => seen[name].as_str().into_iter().collect(),
    }
}
