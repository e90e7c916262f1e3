//! One process takes over from another, or does not make it: nobody who visits notices, and who is revoked is out.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use super::backend;
use super::device::Device;
use super::house::{House, Plan};
use super::wire::Wire;
use crate::harness::peers::{is_root, peer_text, unprivileged_user};
use crate::harness::{free_port, wait_for};

/// Design, decision 5, with room for a busy machine; below the time that idle connections have before they are
/// asked to go, which is half of the house's 5 seconds.
const SOON: Duration = Duration::from_millis(1500);

fn house() -> (House, Value, Device) {
    let mut house = House::open(&Plan { database: None, more: "", edge: None }, &backend::start());
    let anna = house.person("Anna Grün", "anna@example.org");
    let (certificate, device) = house.enrol(&anna, "Laptop");
    (house, certificate, device)
}

/// Whether the house does everything that it did: passes and refuses, and has a control plane that is heard.
fn is_whole(house: &mut House) {
    let people = house.get("/people");
    let anna = people["items"].as_array().unwrap().iter().find(|one| one["name"] == "Anna Grün").unwrap();
    let id = anna["id"].as_str().unwrap().to_owned();
    let (certificate, device) = house.enrol(&id, "One more");
    assert_eq!(house.visit(Some(&device), "/"), (200, String::new()));
    revoke(house, &certificate);
    assert_eq!(house.visit(Some(&device), "/"), (403, "certificate_revoked".to_owned()));
    assert_eq!(house.visit(None, "/"), (403, "certificate_required".to_owned()));
    assert_eq!(Wire::plain(house.health, "localhost").unwrap().get("/readyz").unwrap().status, 200);
}

/// Revokes at every edge that there is, and says how many there are.
fn revoke(house: &House, certificate: &Value) -> u64 {
    let path = format!("/certificates/{}/revocation", certificate["serial"].as_str().unwrap());
    let answer = house.call("POST", &path, &[], Some(&json!({ "reason": "keyCompromise" })));
    assert_eq!(answer.status, 200, "{}", answer.text());
    let enforced = answer.json()["enforced"].clone();
    assert_eq!(enforced["edges"], enforced["acknowledged"], "{enforced}");
    enforced["edges"].as_u64().unwrap()
}

/// Speaks the words of a hand-over, for either side.
struct Speaker(UnixStream);

impl Speaker {
    /// To the process that serves.
    fn to(house: &House) -> Self {
        Self::over(UnixStream::connect(house.path("data/handover.sock")).unwrap())
    }

    fn over(stream: UnixStream) -> Self {
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Self(stream)
    }

    fn say(&mut self, word: &Value) {
        let text = word.to_string();
        let length = u32::try_from(text.len()).unwrap().to_be_bytes();
        self.0.write_all(&[&length, text.as_bytes()].concat()).unwrap();
    }

    fn hear(&mut self) -> Value {
        let mut length = [0; 4];
        self.0.read_exact(&mut length).unwrap();
        let mut text = vec![0; u32::from_be_bytes(length) as usize];
        self.0.read_exact(&mut text).unwrap();
        serde_json::from_slice(&text).unwrap()
    }

    fn ask(&mut self, word: &Value) -> Value {
        self.say(word);
        self.hear()
    }

    /// Up to the last socket; how many addresses there were. The sockets themselves are lost on the way.
    fn introduce(&mut self) -> usize {
        assert!(self.ask(&json!({ "hello": { "version": 1 } }))["welcome"].is_object());
        let mut addresses = 0;
        while self.ask(&json!("next")) != json!("no_more") {
            addresses += 1;
        }
        addresses
    }
}

#[test]
fn another_process_takes_over_and_a_revocation_reaches_the_connections_of_the_old_one() {
    let (mut house, certificate, device) = house();
    let mut kept = house.app(Some(&device));
    let mut idle = house.app(Some(&device));
    let mut other = house.app(None);
    for wire in [&mut kept, &mut idle] {
        assert_eq!(wire.get("/").unwrap().status, 200);
    }
    let mut before = house.hand_over();
    house.serves_instead(1);
    // They are the old one's, and each may ask for one thing more.
    let last = kept.get("/").unwrap();
    assert_eq!((last.status, last.header("connection")), (200, Some("close")));
    assert_eq!(other.get("/public").unwrap().header("connection"), Some("close"));
    assert_eq!(house.visit(Some(&device), "/"), (200, String::new()));
    assert_eq!(revoke(&house, &certificate), 2);
    assert!(idle.closes_after() < SOON, "the old process has heard of it");
    assert_eq!(house.visit(Some(&device), "/"), (403, "certificate_revoked".to_owned()));
    assert!(House::wait_for(&mut before).success());
    // And once more, from the one that took over.
    let mut before = house.hand_over();
    house.serves_instead(2);
    assert!(House::wait_for(&mut before).success());
    is_whole(&mut house);
    let person = house.person("Ben Braun", "ben@example.org");
    wait_for("the edge that ended to be forgotten", || {
        let (certificate, _) = house.enrol(&person, "Phone");
        (revoke(&house, &certificate) == 1).then_some(())
    });
    assert!(house.stop().success());
    assert!(!house.path("data/handover.sock").exists());
}

#[test]
fn nobody_takes_over_while_connections_of_the_process_before_are_still_leaving() {
    let (mut house, certificate, device) = house();
    let mut idle = house.app(Some(&device));
    assert_eq!(idle.get("/").unwrap().status, 200);
    let mut before = house.hand_over();
    house.serves_instead(1);
    let refused = Speaker::to(&house).ask(&json!({ "hello": { "version": 1 } }));
    let why = refused["refused"]["why"].as_str().unwrap();
    assert!(why.contains("still leaving"), "{why}");
    assert_eq!(revoke(&house, &certificate), 2);
    assert!(idle.closes_after() < SOON, "the old process has heard of it");
    assert!(House::wait_for(&mut before).success());
    let mut before = house.hand_over();
    house.serves_instead(2);
    assert!(House::wait_for(&mut before).success());
    is_whole(&mut house);
    assert!(house.stop().success());
}

#[test]
fn two_processes_do_not_serve_from_one_directory() {
    let (mut house, _, _) = house();
    let mut second = house.second();
    assert_eq!(House::wait_for(&mut second).code(), Some(1));
    assert!(house.log().contains("another wicketgate uses"), "{}", house.log());
    is_whole(&mut house);
    assert!(house.stop().success());
}

#[test]
fn a_signal_has_a_process_replace_itself() {
    let (mut house, _, device) = house();
    let mut before = house.replace_itself();
    assert!(House::wait_for(&mut before).success());
    assert_eq!(house.visit(Some(&device), "/"), (200, String::new()));
    is_whole(&mut house);
    house.stop_stray();
}

#[test]
fn a_process_that_dies_before_it_is_ready_changes_nothing() {
    let (mut house, _, device) = house();
    let mut kept = house.app(Some(&device));
    // One that cannot have what it needs: it has been given way already.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let mut successor = house.successor(&[("WICKETGATE_HEALTH__LISTEN", &taken)]);
    assert_eq!(House::wait_for(&mut successor).code(), Some(1), "{}", house.log());
    assert_eq!(kept.get("/").unwrap().header("connection"), None, "it goes on");
    is_whole(&mut house);
    // One that is killed as soon as nobody else uses the database.
    let mut killed = Speaker::to(&house);
    assert!(killed.introduce() >= 3);
    assert_eq!(killed.ask(&json!("stand_back")), json!("stood_back"));
    assert_eq!(kept.get("/").unwrap().status, 200, "the edge goes on");
    assert_eq!(house.visit(Some(&device), "/"), (200, String::new()));
    let told = json!({ "told": { "changes": [], "configuration": null, "as_of": null } });
    assert!(killed.ask(&told)["took"]["epoch"].is_u64(), "it is an edge of the other one's");
    drop(killed);
    is_whole(&mut house);
    // One that says what nobody understands is waited for: until it ends, it may be writing.
    let mut senseless = Speaker::to(&house);
    senseless.introduce();
    assert_eq!(senseless.ask(&json!("stand_back")), json!("stood_back"));
    assert!(senseless.ask(&json!("jump"))["refused"].is_object());
    assert!(!house.path("data/admin.sock").exists(), "no control plane meanwhile");
    drop(senseless);
    is_whole(&mut house);
    assert_eq!(kept.get("/").unwrap().header("connection"), None);
    assert!(house.stop().success());
}

#[test]
fn whoever_speaks_another_version_or_is_somebody_else_gets_nothing() {
    let (mut house, _, _) = house();
    let refused = Speaker::to(&house).ask(&json!({ "hello": { "version": 99 } }));
    let why = refused["refused"]["why"].as_str().unwrap();
    assert!(why.contains("version 1") && why.contains("99"), "{why}");
    let mode = |path: &str| house.path(path).metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("data/handover.sock"), 0o600);
    if is_root()
        && let Some(curl) = peer_text("curl")
    {
        for (path, mode) in [("", 0o711), ("data", 0o711), ("data/handover.sock", 0o666)] {
            std::fs::set_permissions(house.path(path), PermissionsExt::from_mode(mode)).unwrap();
        }
        let (user, group) = unprivileged_user();
        let status = Command::new("setpriv")
            .args([format!("--reuid={user}"), format!("--regid={group}"), "--clear-groups".to_owned(), curl])
            .args(["--silent", "--max-time", "5", "--unix-socket"])
            .arg(house.path("data/handover.sock"))
            .arg("http://localhost/")
            .stdout(Stdio::null())
            .status();
        assert!(status.is_ok());
        wait_for("the refusal", || house.log().contains("only the user that it runs as").then_some(()));
    }
    is_whole(&mut house);
    assert!(house.stop().success());
}

#[test]
fn a_process_goes_on_alone_when_the_old_one_dies_behind_it_and_not_before_it_stood_back() {
    let (mut house, _, device) = house();
    assert!(house.stop().success());
    let place = house.path("data/handover.sock");
    let old = UnixListener::bind(&place).unwrap();
    // It refuses, it ends before anything was given up.
    for refuses in [true, false] {
        let mut successor = house.successor(&[]);
        let mut speaker = Speaker::over(old.accept().unwrap().0);
        assert_eq!(speaker.hear(), json!({ "hello": { "version": 1 } }));
        if refuses {
            speaker.say(&json!({ "refused": { "why": "not today" } }));
        }
        drop(speaker);
        assert_eq!(House::wait_for(&mut successor).code(), Some(1));
    }
    assert!(house.log().contains("not today"), "{}", house.log());
    // It is killed after it stood back.
    house.launch_to_take_over();
    let mut speaker = Speaker::over(old.accept().unwrap().0);
    speaker.hear();
    assert_eq!(speaker.ask(&json!({ "welcome": { "configuration": 0 } })), json!("next"));
    assert_eq!(speaker.ask(&json!("no_more")), json!("stand_back"));
    speaker.say(&json!("stood_back"));
    drop((speaker, old));
    house.serves_instead(1);
    assert_eq!(house.visit(Some(&device), "/"), (200, String::new()));
    is_whole(&mut house);
    assert!(house.stop().success());
    // And where nobody is, it starts as ever.
    house.launch_to_take_over();
    wait_for("the house to serve", || Wire::plain(house.health, "localhost").ok()?.get("/readyz").ok());
    is_whole(&mut house);
    assert!(house.stop().success());
}

#[test]
fn listeners_change_with_the_process() {
    let (mut house, _, device) = house();
    let (old, new) = (house.https, free_port());
    let kept = std::fs::read_to_string(house.path("wicketgate.toml")).unwrap();
    let both = kept.replace(
        &format!("https = [\"127.0.0.1:{old}\"]"),
        &format!("https = [\"127.0.0.1:{old}\", \"127.0.0.1:{new}\"]"),
    );
    let only =
        kept.replace(&format!("https = [\"127.0.0.1:{old}\"]"), &format!("https = [\"127.0.0.1:{new}\"]"));
    for (count, text) in (1..).zip([both, only]) {
        std::fs::write(house.path("wicketgate.toml"), text).unwrap();
        let mut before = house.hand_over();
        house.serves_instead(count);
        house.https = new;
        assert_eq!(house.visit(Some(&device), "/"), (200, String::new()));
        assert!(House::wait_for(&mut before).success());
        assert_eq!(TcpStream::connect(("127.0.0.1", old)).is_ok(), count == 1, "{count}");
    }
    is_whole(&mut house);
    assert!(house.stop().success());
}

#[test]
fn a_service_manager_holds_the_socket_while_nobody_serves() {
    let (mut house, _, device) = house();
    assert!(house.stop().success());
    let held = TcpListener::bind(("127.0.0.1", house.https)).unwrap();
    for _ in 0..2 {
        // In the queue of a socket that nobody accepts from.
        let waiting = TcpStream::connect(("127.0.0.1", house.https)).unwrap();
        let socket = OwnedFd::from(held.try_clone().unwrap());
        let shell = "exec 3<&0 </dev/null; export LISTEN_PID=$$ LISTEN_FDS=1; exec \"$@\"";
        house.launch_through(&["sh", "-c", shell, "sh"], |command| {
            command.stdin(Stdio::from(socket));
        });
        wait_for("the house to serve", || Wire::plain(house.health, "localhost").ok()?.get("/readyz").ok());
        assert!(is_taken(&waiting), "it is accepted");
        assert_eq!(house.visit(Some(&device), "/"), (200, String::new()));
        assert!(house.stop().success());
        assert!(TcpStream::connect(("127.0.0.1", house.https)).is_ok(), "and is still held");
    }
}

/// Whether somebody answers what is no TLS.
fn is_taken(mut stream: &TcpStream) -> bool {
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    stream.read(&mut [0; 16]).is_ok()
}
