//! An offline root, with the program as people use it: plan, root, sign, import, and a leaf that OpenSSL
//! verifies up to the root whose key this system never had.

use std::path::Path;
use std::process::Output;

use serde_json::{Value, json};
use wicketgate::pki::pem;

use super::backend;
use super::house::{House, Plan, wicketgate};
use super::wire::Wire;
use crate::pki::peers::{Peer, openssl};

const PASSPHRASE: &str = "six quiet otters count the loose planks";

/// The offline machine: a folder of its own, and no configuration.
struct Vault<'a> {
    folder: &'a Path,
}

impl Vault<'_> {
    fn run(&self, step: &str, plan_sha256: &str) -> Output {
        std::fs::write(self.folder.join("passphrase"), format!("{PASSPHRASE}\n")).unwrap();
        wicketgate(&["ca", "ceremony", step, "--plan-sha256", plan_sha256, "--passphrase-file", "passphrase"])
            .current_dir(self.folder)
            .output()
            .unwrap()
    }

    #[track_caller]
    fn ok(&self, step: &str, plan_sha256: &str) -> String {
        let output = self.run(step, plan_sha256);
        assert!(output.status.success(), "{step}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    #[track_caller]
    fn refuses(&self, step: &str, plan_sha256: &str) -> String {
        let output = self.run(step, plan_sha256);
        assert!(!output.status.success(), "{step} went on");
        String::from_utf8(output.stderr).unwrap()
    }
}

/// Plans on the running system, and carries the plan over.
fn plan(house: &House, vault: &Vault<'_>, more: &[&str]) -> String {
    let file = vault.folder.join("ceremony.toml");
    let _ = std::fs::remove_file(&file);
    let _ = std::fs::remove_file(vault.folder.join("outcome.pem"));
    let arguments = [&["ca", "ceremony", "plan", "--out", file.to_str().unwrap()], more].concat();
    house.ask(&arguments)["plan_sha256"].as_str().unwrap().to_owned()
}

fn import(house: &House, vault: &Vault<'_>) -> Output {
    let (plan, outcome) = (vault.folder.join("ceremony.toml"), vault.folder.join("outcome.pem"));
    let arguments = ["--output", "json", "ca", "ceremony", "import", "--plan", plan.to_str().unwrap()];
    house.run(&[&arguments[..], &[outcome.to_str().unwrap()]].concat())
}

#[track_caller]
fn imported(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Everything that OpenSSL needs, from where a verifier gets it.
fn openssl_verifies(openssl: &Peer, house: &House, vault: &Vault<'_>, leaf: &str) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("leaf.pem"), leaf).unwrap();
    std::fs::copy(vault.folder.join("root.pem"), folder.path().join("root.pem")).unwrap();
    let mut lists = String::new();
    for name in ["client-root-g1", "client-issuing-g1"] {
        let answer = Wire::plain(house.http, "127.0.0.1").unwrap().get(&format!("/pki/{name}.crl")).unwrap();
        assert_eq!(answer.status, 200, "{name}");
        lists.push_str(&pem::block("X509 CRL", &answer.body));
    }
    std::fs::write(folder.path().join("lists.pem"), lists).unwrap();
    let issuing = Wire::plain(house.http, "127.0.0.1").unwrap().get("/pki/client-issuing-g1.cer").unwrap();
    std::fs::write(folder.path().join("issuing.pem"), pem::block("CERTIFICATE", &issuing.body)).unwrap();
    let arguments = [
        "verify",
        "-x509_strict",
        "-purpose",
        "sslclient",
        "-no-CApath",
        "-CAfile",
        "root.pem",
        "-untrusted",
        "issuing.pem",
        "-crl_check_all",
        "-CRLfile",
        "lists.pem",
        "leaf.pem",
    ];
    openssl.ok(folder.path(), &arguments);
}

#[test]
fn a_root_made_elsewhere_stands_behind_a_leaf_that_openssl_verifies_with_lists() {
    let Some(openssl) = openssl() else { return };
    let folder = tempfile::tempdir().unwrap();
    let vault = Vault { folder: folder.path() };
    let mut house =
        House::build_with(&Plan { database: None, more: "", edge: None }, &["init", "--offline-root"]);

    let sha256 = plan(&house, &vault, &[]);
    let text = std::fs::read_to_string(folder.path().join("ceremony.toml")).unwrap();
    for line in [
        "client-root-g1",
        "client-issuing-g1",
        "public_key_sha256",
        "next_update",
        "EC P-256",
        "path_length = 2",
    ] {
        assert!(text.contains(line), "{line} is not in the plan:\n{text}");
    }
    // Another plan than the reviewed one stops the ceremony.
    assert!(vault.refuses("root", &"0".repeat(64)).contains("stop the ceremony"));
    let said = vault.ok("root", &sha256);
    assert!(said.contains("RECOVERY SHEET") && said.contains(&sha256) && !said.contains(PASSPHRASE));
    assert!(vault.refuses("root", &sha256).contains("overwrites nothing"));
    vault.ok("sign", &sha256);
    let transcript = std::fs::read_to_string(folder.path().join("transcript.txt")).unwrap();
    assert_eq!(transcript.matches("present, signed").count(), 2, "{transcript}");
    assert!(!transcript.contains(PASSPHRASE));
    // The key opens with other tools, and is not readable without its passphrase.
    let pass = format!("pass:{PASSPHRASE}");
    openssl.ok(folder.path(), &["pkey", "-in", "root.key.pem", "-passin", &pass, "-noout"]);
    openssl.fails(folder.path(), &["pkey", "-in", "root.key.pem", "-passin", "pass:wrong", "-noout"]);

    let taken = imported(&import(&house, &vault));
    assert_eq!((&taken["root_state"], &taken["issuing_state"]), (&json!("issuing"), &json!("trusted")));
    let again = import(&house, &vault);
    assert!(String::from_utf8_lossy(&again.stderr).contains("was taken over"), "{again:?}");

    house.move_in(&backend::start());
    let root = house.ask(&["ca", "show", "client-root-g1"]);
    assert_eq!((&root["key_here"], &root["kind"]), (&json!(false), &json!("root")));
    let anna = house.person("Anna Grün", "anna@example.org");
    let activated = house.ask(&["ca", "activate", "client-issuing-g1"]);
    assert_eq!((&activated["state"], &activated["enforced"]["acknowledged"]), (&json!("issuing"), &json!(1)));
    let (certificate, device) = house.enrol(&anna, "Phone");
    assert_eq!(house.visit(Some(&device), "/"), (200, String::new()));
    openssl_verifies(&openssl, &house, &vault, certificate["pem"].as_str().unwrap());

    let shown = house.ask(&["ca", "dependants", "client-issuing-g1"]);
    assert_eq!(shown["certificates"], json!(1));
    let into = house.path("exported");
    std::fs::create_dir(&into).unwrap();
    house.ask(&["ca", "export", "client-root-g1", "--directory", into.to_str().unwrap()]);
    let exported = std::fs::read_to_string(into.join("client-root-g1.pem")).unwrap();
    assert_eq!(exported, std::fs::read_to_string(folder.path().join("root.pem")).unwrap());
    let text = house.run(&["ca", "show", "client-issuing-g1"]);
    assert!(String::from_utf8_lossy(&text.stdout).contains("New certificates come from it"), "{text:?}");

    // The root signs nothing here: a new issuing authority is a ceremony, too.
    let refused = house.run(&["ca", "stage", "issuing"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("ceremony"), "{refused:?}");
    renewed_list(&house, &vault);
}

/// The next ceremony brings a list and an issuing authority; a changed outcome is not taken.
fn renewed_list(house: &House, vault: &Vault<'_>) {
    let before = list_number(house);
    let sha256 = plan(house, vault, &["--issuing", "--list-days", "365"]);
    vault.ok("sign", &sha256);
    let outcome = vault.folder.join("outcome.pem");
    let right = std::fs::read_to_string(&outcome).unwrap();
    // The list of the first ceremony's kind: right key, other plan.
    let certificates = pem::blocks(&right, "CERTIFICATE");
    let swapped = pem::block("CERTIFICATE", &certificates[1]) + &right;
    std::fs::write(&outcome, swapped).unwrap();
    assert!(!import(house, vault).status.success(), "another certificate was taken for the root");
    std::fs::write(&outcome, right.replacen("-----BEGIN X509 CRL-----", "-----BEGIN NOTHING-----", 1))
        .unwrap();
    assert!(!import(house, vault).status.success(), "an outcome without a list was taken");
    std::fs::write(&outcome, &right).unwrap();
    let taken = imported(&import(house, vault));
    assert_eq!(taken["issuing"], json!("client-issuing-g2"));
    assert!(list_number(house) > before);
    assert_eq!(house.ask(&["ca", "activate", "client-issuing-g2"])["state"], json!("issuing"));
    assert_eq!(house.ask(&["ca", "show", "client-issuing-g1"])["state"], json!("retiring"));
}

fn list_number(house: &House) -> u64 {
    house.ask(&["ca", "show", "client-root-g1"])["crl_number"].as_u64().unwrap()
}

#[test]
fn without_an_offline_root_there_are_no_ceremonies_and_an_online_one_does_not_leave() {
    let house = House::build(&Plan { database: None, more: "", edge: None });
    let refused = house.run(&["ca", "ceremony", "plan", "--out", house.path("x.toml").to_str().unwrap()]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("init --offline-root"), "{refused:?}");
    let refused = house.run(&["init", "--offline-root"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("has a root already"), "{refused:?}");
}
