//! `wicketgate audit …` as people use it: against a running server, and then without any.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

use crate::harness::wait_for;
use crate::story::house::wicketgate;

/// A demo and how its API is reached.
struct Demo {
    process: Child,
    told: Value,
}

impl Demo {
    fn start() -> Self {
        let mut process = wicketgate(&["demo", "--output", "json"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        Self { process, told: serde_json::from_str(&line).unwrap() }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let text = |key: &str| self.told[key].as_str().unwrap();
        let mut command = wicketgate(arguments);
        command.args(["--server", text("admin_url"), "--server-ca", text("ca_file")]);
        command.env("WICKETGATE_TOKEN", text("admin_token"));
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}

/// Runs `audit verify`; answers with exit code and output.
fn verify(file: &Path, arguments: &[&str]) -> (i32, String) {
    let mut command = wicketgate(&["audit", "verify", file.to_str().unwrap()]);
    let output = command.args(arguments).current_dir("/").output().unwrap();
    (output.status.code().unwrap(), text(&output))
}

#[test]
fn an_export_is_kept_and_checked_without_a_server_and_tampering_shows() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let name = |name: &str| path(name).to_str().unwrap().to_owned();
    let demo = Demo::start();
    wait_for("a checkpoint", || {
        let kept = demo.run(&["audit", "checkpoint", "--to", &name("checkpoint.json")]);
        kept.status.success().then_some(())
    });
    assert!(demo.run(&["audit", "key", "--to", &name("key.pem")]).status.success());
    // Something happens between the checkpoint and the export.
    let person = demo.run(&["person", "add", "eve@example.com", "Eve"]);
    assert!(person.status.success(), "{}", text(&person));
    let listed = demo.run(&["audit", "list"]);
    assert!(text(&listed).contains("person.add"), "{}", text(&listed));
    wait_for("the event in the chain", || {
        let _ = std::fs::remove_file(path("audit.jsonl"));
        let export = demo.run(&["audit", "export", "--to", &name("audit.jsonl")]);
        assert!(export.status.success(), "{}", text(&export));
        let lines = std::fs::read_to_string(path("audit.jsonl")).unwrap();
        lines.lines().any(|line| line.starts_with("{\"link\"") && line.contains("person.add")).then_some(())
    });
    let again = demo.run(&["audit", "export", "--to", &name("audit.jsonl")]);
    assert_eq!(again.status.code(), Some(1), "a file that is there stays");
    drop(demo);

    let (code, said) =
        verify(&path("audit.jsonl"), &["--checkpoint", &name("checkpoint.json"), "--key", &name("key.pem")]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("nothing is wrong") && !said.contains("trust"), "{said}");
    let (code, said) = verify(&path("audit.jsonl"), &[]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("nothing outside the file vouches for it"), "{said}");
    let (code, said) =
        verify(&path("audit.jsonl"), &["--output", "json", "--checkpoint", &name("checkpoint.json")]);
    let object: Value = serde_json::from_str(said.lines().next().unwrap()).unwrap();
    assert_eq!((code, &object["ok"], &object["key_is_trusted"]), (0, &Value::Bool(true), &Value::Bool(true)));
    let hash = object["head"]["hash"].as_str().unwrap();
    assert_eq!(verify(&path("audit.jsonl"), &["--checkpoint", hash]).0, 0);

    let whole = std::fs::read_to_string(path("audit.jsonl")).unwrap();
    std::fs::write(path("edited.jsonl"), whole.replacen("person.add", "person.say", 1)).unwrap();
    let (code, said) = verify(&path("edited.jsonl"), &[]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("its event was changed") && said.contains("does not verify"), "{said}");
    let zeros = "0".repeat(64);
    let (code, said) = verify(&path("audit.jsonl"), &["--checkpoint", &zeros]);
    assert!(code == 1 && said.contains("no link has the hash"), "{said}");
    assert_eq!(verify(&path("nowhere.jsonl"), &[]).0, 1);
    assert_eq!(verify(&path("audit.jsonl"), &["--checkpoint", &name("nowhere.json")]).0, 2);
    assert_eq!(verify(&path("audit.jsonl"), &["--key", &name("checkpoint.json")]).0, 2);
}
