//! The configuration as the program reads it: every kind of fault with key, value and reason, all at
//! once, and the promised exit code.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};

/// Exit code for a configuration that cannot be used.
const EXIT_CONFIGURATION: i32 = 78;

/// Runs the program with a configuration of this text, and nothing of our own environment.
fn wicketgate(arguments: &[&str], text: &str, environment: &[(&str, &str)]) -> Output {
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("wicketgate.toml");
    std::fs::write(&file, text).unwrap();
    Command::new(env!("CARGO_BIN_EXE_wicketgate"))
        .args(arguments)
        .arg("--config")
        .arg(&file)
        .env_clear()
        .envs(environment.iter().copied())
        .current_dir(scratch.path())
        .output()
        .unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A configuration that can be served from `data`, with free ports.
fn sound(data: &Path) -> String {
    let data = data.display();
    format!(
        "[server]\ndata_dir = \"{data}\"\n\
         [keys]\nserver_key_file = \"{data}/server.key\"\nauthority_key_file = \"{data}/authority.key\"\n\
         [edge]\nhttps = [\"127.0.0.1:0\"]\nhttp = []\n[admin]\nlisten = \"127.0.0.1:0\"\n\
         [health]\nlisten = \"127.0.0.1:0\"\n"
    )
}

#[test]
fn every_fault_of_the_file_is_listed_at_once() {
    let text = "[edge]\nthread = 2\nhandshake_timeout_ms = 0\nhttps = [\"nowhere\"]\n\
                [acme]\ncontact = \"ops\"\n[smtp]\npassword = 5\n";
    for command in ["check", "serve", "init"] {
        let output = wicketgate(&[command], text, &[("WICKETGATE_EDGE__IDLE_TIMEOUT_MS", "soon")]);
        assert_eq!(output.status.code(), Some(EXIT_CONFIGURATION), "{command}");
        let said = said(&output);
        for line in [
            "edge.thread: unknown key (did you mean edge.threads?)",
            "edge.handshake_timeout_ms = \"0\": must be 100..=60000",
            "edge.https[0] = \"nowhere\": must be an IP address and a port",
            "acme.contact = \"ops\": must be a mail address",
            "smtp.password: must be text in quotes",
            "edge.idle_timeout_ms = \"soon\": must be a whole number",
            "(from WICKETGATE_EDGE__IDLE_TIMEOUT_MS)",
        ] {
            assert!(said.contains(line), "{command} does not say {line:?}:\n{said}");
        }
    }
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let output = Command::new(env!("CARGO_BIN_EXE_wicketgate"))
        .args(["check", "--config", "/nonexistent/wicketgate.toml"])
        .env_clear()
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(EXIT_CONFIGURATION));
    assert!(said(&output).contains("/nonexistent/wicketgate.toml"), "{}", said(&output));
}

#[test]
fn what_is_wrong_with_the_world_is_listed_at_once() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let text = format!(
        "[server]\ndata_dir = \"/nonexistent/data\"\n\
         [keys]\nserver_key_file = \"/nonexistent/server.key\"\nauthority_key_file = \"/nonexistent/authority.key\"\n\
         [database]\nurl = \"postgres://gate:hunter2@127.0.0.1:1/gate\"\n\
         [edge]\nhttps = [\"127.0.0.1:{port}\"]\nhttp = []\n\
         [admin]\nlisten = \"127.0.0.1:0\"\n[health]\nlisten = \"127.0.0.1:0\"\n\
         [acme]\nroot_ca_file = \"/nonexistent/root.pem\"\n"
    );
    let output = wicketgate(&["check"], &text, &[]);
    assert_eq!(output.status.code(), Some(EXIT_CONFIGURATION));
    let said = said(&output);
    for line in [
        "server.data_dir = \"/nonexistent/data\": does not exist",
        "keys.server_key_file = \"/nonexistent/server.key\": does not exist",
        "keys.authority_key_file = \"/nonexistent/authority.key\": does not exist",
        "acme.root_ca_file = \"/nonexistent/root.pem\": cannot be read",
        &format!("edge.https[0] = \"127.0.0.1:{port}\": "),
        "database.url = \"postgres://gate:[redacted]@127.0.0.1:1/gate\": ",
    ] {
        assert!(said.contains(line), "not said: {line:?}\n{said}");
    }
    assert!(!said.contains("hunter2"), "{said}");
}

#[test]
fn an_installation_made_by_init_passes_the_check_until_its_key_is_open_to_others() {
    use std::os::unix::fs::PermissionsExt;
    let data = tempfile::tempdir().unwrap();
    let text = sound(data.path());
    let init = wicketgate(&["init"], &text, &[]);
    assert!(init.status.success(), "{}", said(&init));
    let check = wicketgate(&["check"], &text, &[]);
    assert!(check.status.success(), "{}", said(&check));
    let key = data.path().join("server.key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    for command in ["check", "serve"] {
        let output = wicketgate(&[command], &text, &[]);
        assert!(matches!(output.status.code(), Some(1 | EXIT_CONFIGURATION)), "{command}: {output:?}");
        assert!(said(&output).contains("server.key"), "{command}: {}", said(&output));
    }
}

#[test]
fn a_taken_port_ends_serve_with_the_address() {
    let data = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let text = sound(data.path()).replacen("127.0.0.1:0", &address, 1);
    assert!(wicketgate(&["init"], &text, &[]).status.success());
    let output = wicketgate(&["serve"], &text, &[]);
    assert!(matches!(output.status.code(), Some(1 | EXIT_CONFIGURATION)), "{output:?}");
    assert!(said(&output).contains(&address), "{}", said(&output));
}

#[test]
fn the_schema_is_json_and_what_is_in_force_holds_no_secret() {
    let schema = wicketgate(&["config", "schema"], "", &[]);
    let schema: serde_json::Value = serde_json::from_slice(&schema.stdout).unwrap();
    assert!(schema["properties"]["edge"]["properties"]["threads"].is_object());
    let text = "[database]\nurl = \"postgres://gate:hunter2@db.example/gate\"\n";
    let output = wicketgate(&["config", "show"], text, &[("WICKETGATE_KEYS__SERVER_KEY", "hunter2")]);
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(
        shown.contains("postgres://gate:[redacted]@db.example/gate") && !shown.contains("hunter2"),
        "{shown}"
    );
}
