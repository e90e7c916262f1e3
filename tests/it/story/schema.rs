//! The running API against its own document: schemathesis makes requests up, and none may end in a 5xx.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use serde_json::Value;

use super::house::wicketgate;
use crate::harness::peers;

#[test]
fn no_request_that_schemathesis_makes_up_ends_in_a_server_error() {
    let Some(schemathesis) = peers::peer("schemathesis") else { return };
    let mut demo = wicketgate(&["demo", "--output", "json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(demo.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let ready: Value = serde_json::from_str(&line).unwrap();
    let text = |key: &str| ready[key].as_str().unwrap().to_owned();
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(schemathesis)
        .args([
            "run",
            concat!(env!("CARGO_MANIFEST_DIR"), "/openapi/wicketgate.json"),
            "--url",
            &text("admin_url"),
        ])
        .args(["--header", &format!("Authorization: Bearer {}", text("admin_token"))])
        .args(["--tls-verify", &text("ca_file"), "--checks", "not_a_server_error"])
        .args(["--phases", "fuzzing", "--max-examples", "20", "--max-time", "30"])
        // Bad tokens would soon be all that the limits let it try; they have tests of their own.
        .args(["--generation-with-security-parameters", "false"])
        .args(["--exclude-operation-id", "revokeToken", "--seed", "1", "--no-color", "--no-shrink"])
        .args(["--generation-database", "none", "--workers", "1", "--suppress-health-check", "all"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    let _ = Command::new("kill").arg(demo.id().to_string()).status();
    assert!(demo.wait().unwrap().success());
    let said = String::from_utf8_lossy(&output.stdout);
    // Its own generator fails now and then ("ERRORS"); what counts is what the server answered ("FAILURES").
    assert!(!said.contains("FAILURES"), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("Fuzzing") && said.contains(" passed"), "{said}");
}
