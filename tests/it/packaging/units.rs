//! The systemd files, read by systemd; the container file, held against the configuration.

use std::path::Path;
use std::process::Command;

use wicketgate::config::{Config, Environment};

use crate::harness::peers;

fn packaging() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging")
}

#[test]
fn systemd_accepts_the_unit() {
    let Some(analyze) = peers::peer("systemd-analyze") else { return };
    let scratch = tempfile::tempdir().unwrap();
    let unit = std::fs::read_to_string(packaging().join("systemd/wicketgate.service")).unwrap();
    // The program is not installed here; any program will do for this check.
    let unit = unit.replace("/usr/bin/wicketgate", "/bin/true");
    let file = scratch.path().join("wicketgate.service");
    std::fs::write(&file, unit).unwrap();
    let output = Command::new(analyze)
        .args(["verify", "--man=no", "--recursive-errors=no"])
        .arg(&file)
        .output()
        .unwrap();
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    // Other units of the machine are none of ours.
    let ours: Vec<&str> = said.lines().filter(|line| line.contains("wicketgate")).collect();
    assert!(output.status.success() && ours.is_empty(), "{said}");
}

#[test]
fn the_socket_unit_holds_what_the_edge_listens_on_by_default() {
    let unit = std::fs::read_to_string(packaging().join("systemd/wicketgate.socket")).unwrap();
    let mut held: Vec<&str> = unit.lines().filter_map(|line| line.strip_prefix("ListenStream=")).collect();
    let config = Config::parse("", &Environment::new()).unwrap();
    let mut listens: Vec<String> =
        config.edge.https.iter().chain(&config.edge.http).map(ToString::to_string).collect();
    held.sort_unstable();
    listens.sort_unstable();
    assert_eq!(held, listens);
}

#[test]
fn the_unit_gives_nothing_away() {
    let unit = std::fs::read_to_string(packaging().join("systemd/wicketgate.service")).unwrap();
    for line in [
        "Type=notify",
        "NotifyAccess=all",
        "ExecReload=/bin/kill -USR2 $MAINPID",
        "LoadCredential=server-key:/etc/wicketgate/server.key",
        "LoadCredential=authority-key:/etc/wicketgate/authority.key",
        "NoNewPrivileges=yes",
        "ProtectSystem=strict",
        "CapabilityBoundingSet=CAP_NET_BIND_SERVICE",
        "RestartPreventExitStatus=78",
    ] {
        assert!(unit.lines().any(|found| found == line), "{line}");
    }
}

#[test]
fn the_container_sets_only_keys_that_exist() {
    let file = std::fs::read_to_string(packaging().join("container/Containerfile")).unwrap();
    let words = file.split_whitespace().filter_map(|word| word.split_once('='));
    let environment: Environment = words
        .filter(|(name, _)| name.starts_with("WICKETGATE_"))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    assert!(environment.len() > 5);
    let config = Config::parse("", &environment).unwrap();
    assert!(config.edge.https.iter().all(|address| address.port() > 1024), "no privileged port inside");
    assert!(file.contains("\nUSER 65532:65532\n"));
}
