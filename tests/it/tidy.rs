//! Keeps the house in order: who may use whom, what lives in one room only, how long a file may be.
//! The table is that of ARCHITECTURE.md; whoever needs a new row argues for it there.

mod code;
mod crates;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use code::{has_word, only_code, without_tests};

/// A file longer than this has more than one reason to change.
const LONGEST_FILE: usize = 600;

/// `main.rs` and `lib.rs` are a door and a map.
const LONGEST_ROOT: usize = 60;

/// Room, and the rooms it may use.
const MAY_USE: &[(&str, &str)] = &[
    ("domain", ""),
    ("clock", "domain"),
    ("activate", "domain"),
    // Named points at which tests end the process; empty in a release.
    ("crash", ""),
    ("config", "domain"),
    ("telemetry", "domain config"),
    // Pure: not even the clock.
    ("pki", "domain"),
    ("keys", "domain pki config"),
    ("store", "domain pki keys clock activate crash"),
    ("live", "domain pki clock activate crash"),
    ("edge", "domain pki live telemetry clock activate"),
    ("ca", "domain store keys pki clock activate telemetry crash"),
    ("acme", "domain store keys pki live clock activate telemetry crash"),
    ("mail", "domain store config clock activate telemetry"),
    ("jobs", "domain ca acme mail store live keys pki clock activate telemetry crash"),
    ("admin", "domain ca acme jobs mail store live pki config clock activate telemetry"),
];

/// Rooms that may use every other one.
const COMPOSERS: &[&str] = &["boot", "cli", "main", "lib"];

/// A word of code, the folders in which it may stand, and why only there.
const AT_HOME: &[(&str, &[&str], &str)] = &[
    ("sea_orm", &["src/store"], "the store alone speaks to the database"),
    ("sea_orm_migration", &["src/store"], "the store alone speaks to the database"),
    ("sqlx", &["src/store"], "the store alone speaks to the database"),
    ("entity", &["src/store"], "rows do not leave the store"),
    ("poem", &["src/admin"], "HTTP of the control plane is admin's"),
    ("poem_openapi", &["src/admin"], "HTTP of the control plane is admin's"),
    ("tokio_cron_scheduler", &["src/jobs"], "one clock drives the jobs"),
    ("lettre", &["src/mail", "src/config"], "mail leaves through one room"),
    ("instant_acme", &["src/acme"], "one engine, one account"),
];

/// What `src/pki` must do without: it is told the time and given the bytes.
const NOT_IN_PKI: &[&str] = &[
    "tokio",
    "std::fs",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "std::env",
    "SystemTime",
    "Instant",
    "sea_orm",
];

/// One file of the repository.
struct File {
    path: String,
    text: String,
}

#[test]
fn the_house_is_in_order() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in
        ["src", "entity", "migration", "tests", "benches", "packaging", "web/src", "fuzz/fuzz_targets"]
    {
        collect(root, &root.join(folder), &mut files);
    }
    for name in ["Makefile", "README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", ".ci/run"] {
        read(root, &root.join(name), &mut files);
    }
    assert!(files.len() > 20, "the walk found next to nothing");
    let faults: Vec<String> = files.iter().flat_map(faults_of).chain(foreign_folders(root)).collect();
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

/// Everything that is wrong with one file, as `path:line: reason`.
fn faults_of(file: &File) -> Vec<String> {
    let mut faults = Vec::new();
    for (index, line) in file.text.lines().enumerate() {
        faults.extend(text_fault(line).map(|reason| format!("{}:{}: {reason}", file.path, index + 1)));
    }
    if let Some(reason) = length_fault(file) {
        faults.push(format!("{}: {reason}", file.path));
    }
    if file.path.ends_with(".rs") {
        faults.extend(code_faults(file));
    }
    faults
}

/// Faults that any line of text may have, comments included.
fn text_fault(line: &str) -> Option<String> {
    for mark in [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")] {
        let numbered = format!("{mark}(#");
        if has_word(line, mark) && !line.contains(&numbered) {
            return Some(format!("a bare {mark}: write {numbered}123): …, or do it"));
        }
    }
    for home in [concat!("/ho", "me/"), concat!("/Us", "ers/"), concat!("/ro", "ot/"), concat!("/wo", "rk/")]
    {
        let starts_a_path =
            |at: usize| !line[..at].ends_with(|c: char| c.is_alphanumeric() || "._-}>*/".contains(c));
        if line.match_indices(home).any(|(at, _)| starts_a_path(at)) {
            return Some(format!("{home}… is a path of one machine"));
        }
    }
    None
}

fn length_fault(file: &File) -> Option<String> {
    let lines = file.text.lines().count();
    let generated = file.text.lines().take(5).any(|line| line.contains("auto-generated"));
    let source = [".rs", ".ts", ".svelte", ".css", ".js"].iter().any(|ending| file.path.ends_with(ending));
    let most = match file.path.as_str() {
        "src/main.rs" | "src/lib.rs" => LONGEST_ROOT,
        _ => LONGEST_FILE,
    };
    (source && !generated && lines > most).then(|| format!("{lines} lines, at most {most}"))
}

/// Faults that only code can have.
fn code_faults(file: &File) -> Vec<String> {
    let code = only_code(&file.text);
    let mut faults = Vec::new();
    let mut fault =
        |line: usize, reason: String| faults.push(format!("{}:{}: {reason}", file.path, line + 1));
    for (number, line) in code.lines().enumerate() {
        let squeezed: String = line.split_whitespace().collect();
        if squeezed.contains("#[allow(") || squeezed.contains("#![allow(") {
            fault(number, "say #[expect(lint, reason = …)]: it complains when it is no longer needed".into());
        }
        if squeezed.contains("#[ignore") {
            fault(number, "an ignored test tests nothing: mend it or remove it".into());
        }
        if squeezed.contains("SystemTime::now") && file.path != "src/clock.rs" {
            fault(number, "only src/clock.rs reads the wall clock: ask a Clock".into());
        }
    }
    let Some(room) = room_of(&file.path) else { return faults };
    if is_test_file(&file.path) {
        return faults;
    }
    for (number, line) in without_tests(&code).lines().enumerate() {
        for (word, homes, reason) in AT_HOME {
            if has_word(line, word)
                && !homes.iter().any(|home| is_below(&file.path, home))
                && is_crate(line, word)
            {
                fault(number, format!("{word} only in {}: {reason}", homes.join(", ")));
            }
        }
        if room == "pki" {
            for word in NOT_IN_PKI.iter().filter(|word| has_word(line, word)) {
                fault(number, format!("{word} in pki, which is pure"));
            }
        }
    }
    let Some((_, allowed)) = MAY_USE.iter().find(|(name, _)| *name == room) else {
        if !COMPOSERS.contains(&room) {
            fault(0, format!("{room} is not a room of the house"));
        }
        return faults;
    };
    for (number, used) in used_rooms(without_tests(&code), depth_of(&file.path)) {
        if used != room && !allowed.split(' ').any(|name| name == used) {
            fault(number, format!("{room} must not use {used}; it may use {allowed}"));
        }
    }
    faults
}

/// Whether the word is used as a crate: a path or an import, not a field that happens to be called so.
fn is_crate(line: &str, word: &str) -> bool {
    line.contains(&format!("{word}::")) || line.contains(&format!("use {word}"))
}

fn is_below(path: &str, folder: &str) -> bool {
    path == format!("{folder}.rs") || path.starts_with(&format!("{folder}/"))
}

fn is_test_file(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.contains("/tests/")
}

/// The room a file of `src/` belongs to.
fn room_of(path: &str) -> Option<&str> {
    let inside = path.strip_prefix("src/")?;
    inside.split('/').next().map(|first| first.trim_end_matches(".rs"))
}

/// How many `super::` lead from the file's module to the crate's root.
fn depth_of(path: &str) -> usize {
    let steps = path.trim_start_matches("src/").trim_end_matches(".rs").split('/').collect::<Vec<_>>();
    if steps.last() == Some(&"mod") { steps.len() - 1 } else { steps.len() }
}

/// The rooms that the code names, with the line: `crate::x`, `crate::{x, y::z}` and `super::super::x`.
fn used_rooms(code: &str, depth: usize) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let line_of = |at: usize| code[..at].matches('\n').count();
    for (at, _) in code.match_indices("crate::") {
        if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$') {
            continue;
        }
        let rest = &code[at + "crate::".len()..];
        let names = if rest.trim_start().starts_with('{') { group(rest) } else { vec![first_word(rest)] };
        found.extend(names.into_iter().map(|name| (line_of(at), name)));
    }
    for (at, _) in code.match_indices("super::") {
        let before = &code[..at];
        let rest = &code[at + "super::".len()..];
        if before.ends_with("super::") || rest.starts_with("super::") && !ends_chain(rest) {
            continue;
        }
        let mut rest = rest;
        let mut supers = 1;
        while let Some(next) = rest.strip_prefix("super::") {
            (rest, supers) = (next, supers + 1);
        }
        let names = if rest.trim_start().starts_with('{') { group(rest) } else { vec![first_word(rest)] };
        let rooms = names.into_iter().filter(|name| MAY_USE.iter().any(|(room, _)| room == name));
        if supers >= depth {
            found.extend(rooms.map(|name| (line_of(at), name)));
        }
    }
    found
}

/// Whether a chain of `super::` ends in a name at all.
fn ends_chain(rest: &str) -> bool {
    !first_word(rest.trim_start_matches("super::")).is_empty()
        || rest.trim_start_matches("super::").starts_with('{')
}

fn first_word(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// The first words of the entries of a `{…}` group.
fn group(text: &str) -> Vec<String> {
    let (mut depth, mut entry, mut words) = (0, String::new(), Vec::new());
    for c in text.chars() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 || (depth == 1 && c == ',') {
            words.push(first_word(entry.trim_start_matches(['{', ' ', '\n'])));
            entry.clear();
        } else {
            entry.push(c);
        }
        if depth == 0 && !c.is_whitespace() {
            break;
        }
    }
    words.into_iter().filter(|word| !word.is_empty()).collect()
}

/// Folders that no one agreed to.
fn foreign_folders(root: &Path) -> Vec<String> {
    let known: BTreeSet<&str> =
        ["src", "entity", "migration", "openapi", "web", "packaging", "tests", "benches", "fuzz", "target"]
            .into();
    let entries = std::fs::read_dir(root).unwrap().map(Result::unwrap).filter(|entry| entry.path().is_dir());
    let names = entries.map(|entry| entry.file_name().into_string().unwrap());
    let foreign = names.filter(|name| !name.starts_with('.') && !known.contains(name.as_str()));
    foreign.map(|name| format!("{name}/: the top level is fixed")).collect()
}

fn collect(root: &Path, folder: &Path, into: &mut Vec<File>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            collect(root, &path, into);
        } else {
            read(root, &path, into);
        }
    }
}

/// Takes the file in if it is text.
fn read(root: &Path, path: &Path, into: &mut Vec<File>) {
    if let Ok(text) = std::fs::read_to_string(path) {
        into.push(File { path: path.strip_prefix(root).unwrap().to_str().unwrap().to_owned(), text });
    }
}

/// (path, text, part of the fault): every rule catches a seeded fault.
const SEEDED: &[(&str, &str, &str)] = &[
    ("src/pki/a.rs", "use crate::store::Store;", "pki must not use store"),
    ("src/pki/a.rs", "use crate::clock::Clock;", "pki must not use clock"),
    ("src/edge/a.rs", "fn f() { crate::ca::issue(); }", "edge must not use ca"),
    (
        "src/edge/a.rs",
        "use crate::{\n    domain::Serial,\n    ca::{issue, revoke},\n};",
        "edge must not use ca",
    ),
    ("src/edge/a.rs", "use super::super::store::Store;", "edge must not use store"),
    ("src/live/mod.rs", "use super::edge::Edge;", "live must not use edge"),
    ("src/garage/a.rs", "fn f() {}", "garage is not a room"),
    ("src/ca/a.rs", "use sea_orm::Set;", "sea_orm only in src/store"),
    ("src/ca/a.rs", "fn f(row: entity::person::Model) {}", "entity only in src/store"),
    ("src/edge/a.rs", "use poem::Route;", "poem only in src/admin"),
    ("src/ca/a.rs", "use tokio_cron_scheduler::Job;", "tokio_cron_scheduler only in src/jobs"),
    ("src/jobs/a.rs", "use lettre::Message;", "lettre only in src/mail"),
    ("src/pki/a.rs", "async fn f() { tokio::spawn(g()); }", "tokio in pki"),
    ("src/pki/a.rs", "fn f() { std::fs::read(p); }", "std::fs in pki"),
    ("src/ca/a.rs", "let now = SystemTime::now();", "wall clock"),
    ("tests/it/a.rs", "let now = std::time::SystemTime::now();", "wall clock"),
    ("src/ca/a.rs", "#[allow(dead_code)]", "#[expect("),
    ("tests/it/a.rs", "#[ignore]", "ignored test"),
    ("tests/it/a.rs", "#[ignore = \"slow\"]", "ignored test"),
    ("src/ca/a.rs", concat!("// TO", "DO: later"), "a bare"),
    ("web/src/a.ts", concat!("// FIX", "ME"), "a bare"),
    ("packaging/a", concat!("x=/ho", "me/me/wicketgate"), "path of one machine"),
];

#[test]
fn every_rule_catches_a_seeded_fault() {
    for (path, text, expected) in SEEDED {
        let found = faults_of(&File { path: (*path).to_owned(), text: (*text).to_owned() });
        assert!(found.iter().any(|fault| fault.contains(expected)), "{path}: {text}\nfound: {found:?}");
    }
    for (path, lines) in [("src/ca/a.rs", 601), ("web/src/a.svelte", 601), ("src/main.rs", 61)] {
        let found = faults_of(&File { path: path.to_owned(), text: "\n".repeat(lines) });
        assert_eq!(found.len(), 1, "{path}: {found:?}");
    }
}

/// What looks like a fault and is none.
const HARMLESS: &[(&str, &str)] = &[
    ("src/edge/a.rs", "//! Unlike [`crate::ca`], it never signs.\nuse crate::live::Snapshot;"),
    ("src/edge/a.rs", "use super::listener::Listener;\nuse crate::domain::{Serial, UtcTime};"),
    ("src/pki/mod.rs", "#[cfg(test)]\nmod tests {\n    use crate::keys::SystemEntropy;\n}"),
    ("src/pki/a.rs", "const NAME: &str = \"tokio\"; // std::fs"),
    ("src/store/a.rs", "use sea_orm::Set;\nuse entity::person;"),
    ("src/boot.rs", "use crate::edge::Edge;\nuse crate::ca::Gate;"),
    ("src/clock.rs", "let now = SystemTime::now();"),
    ("src/ca/a.rs", concat!("// TO", "DO(#12): when the second authority exists")),
    ("README.md", "GET https://example.com/home/page and ./home/x"),
];

#[test]
fn what_only_looks_like_a_fault_passes() {
    for (path, text) in HARMLESS {
        let found = faults_of(&File { path: (*path).to_owned(), text: (*text).to_owned() });
        assert!(found.is_empty(), "{path}: {found:?}");
    }
}
