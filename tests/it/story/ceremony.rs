//! An offline root, with the program as people use it: plan, root, sign, import, and a leaf that OpenSSL
//! verifies up to the root whose key this system never had.

use std::cell::Cell;
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
    /// Altered steps that were refused.
    refused: Cell<u64>,
}

impl Vault<'_> {
    fn run(&self, step: &str, plan_sha256: &str) -> Output {
        self.run_with(step, plan_sha256, PASSPHRASE)
    }

    fn run_with(&self, step: &str, plan_sha256: &str, passphrase: &str) -> Output {
        std::fs::write(self.folder.join("passphrase"), format!("{passphrase}\n")).unwrap();
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
        self.refused(step, &self.run(step, plan_sha256))
    }

    /// Counts a step that did not go on, and says why it did not.
    #[track_caller]
    fn refused(&self, step: &str, output: &Output) -> String {
        assert!(!output.status.success(), "{step} went on");
        self.refused.set(self.refused.get() + 1);
        String::from_utf8(output.stderr.clone()).unwrap()
    }

    /// Neither step goes on with a plan that is not the reviewed one, letter by letter.
    #[track_caller]
    fn refuses_other_plans(&self, step: &str, plan_sha256: &str) {
        let file = self.folder.join("ceremony.toml");
        let right = std::fs::read_to_string(&file).unwrap();
        let longer = right.replacen("path_length = 2", "path_length = 3", 1);
        let shorter: Vec<&str> = right.lines().filter(|line| !line.contains("next_update")).collect();
        for altered in [longer, shorter.join("\n"), format!("{right} "), String::new()] {
            assert_ne!(altered, right);
            std::fs::write(&file, altered).unwrap();
            self.refuses(step, plan_sha256);
        }
        std::fs::write(&file, right).unwrap();
        self.refuses(step, &"0".repeat(64));
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

/// The running system takes no outcome of which a part is missing, changed, or twice there.
fn refuses_other_outcomes(house: &House, vault: &Vault<'_>) {
    let file = vault.folder.join("outcome.pem");
    let right = std::fs::read_to_string(&file).unwrap();
    let blocks: Vec<&str> = right.split_inclusive("-----\n").collect();
    // BEGIN line, and the rest with its END line.
    let blocks: Vec<String> = blocks.chunks(2).map(<[&str]>::concat).collect();
    assert_eq!(blocks.len(), 3, "two certificates and a list: {right}");
    let whole = |at: usize, block: String| {
        let mut blocks = blocks.clone();
        blocks[at] = block;
        blocks.concat()
    };
    let mut altered = vec![String::new(), right[..right.len() / 2].to_owned()];
    for (at, block) in blocks.iter().enumerate() {
        altered.push(whole(at, String::new()));
        let label = if block.contains("X509 CRL") { "X509 CRL" } else { "CERTIFICATE" };
        let der = pem::blocks(block, label).remove(0);
        // In what is signed, and in the signature.
        for place in [der.len() / 2, der.len() - 1] {
            let mut der = der.clone();
            der[place] ^= 1;
            altered.push(whole(at, pem::block(label, &der)));
        }
    }
    for altered in altered {
        std::fs::write(&file, &altered).unwrap();
        vault.refused("import", &import(house, vault));
    }
    std::fs::write(&file, right).unwrap();
    let plan = vault.folder.join("ceremony.toml");
    let reviewed = std::fs::read_to_string(&plan).unwrap();
    std::fs::write(&plan, reviewed.replacen("path_length = 2", "path_length = 3", 1)).unwrap();
    vault.refused("import", &import(house, vault));
    std::fs::write(&plan, reviewed).unwrap();
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

/// From the plan to a leaf that OpenSSL verifies, with lists, to a root that was made elsewhere; how many
/// altered steps were refused on the way. Nothing when OpenSSL is missing.
pub(crate) fn from_plan_to_leaf() -> Option<u64> {
    let openssl = openssl()?;
    let folder = tempfile::tempdir().unwrap();
    let vault = Vault { folder: folder.path(), refused: Cell::new(0) };
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
    vault.refuses_other_plans("root", &sha256);
    assert!(vault.refuses("root", &"0".repeat(64)).contains("stop the ceremony"));
    let said = vault.ok("root", &sha256);
    assert!(said.contains("RECOVERY SHEET") && said.contains(&sha256) && !said.contains(PASSPHRASE));
    assert!(vault.refuses("root", &sha256).contains("overwrites nothing"));
    vault.refuses_other_plans("sign", &sha256);
    vault.refused("sign", &vault.run_with("sign", &sha256, "six loud otters"));
    vault.ok("sign", &sha256);
    let transcript = std::fs::read_to_string(folder.path().join("transcript.txt")).unwrap();
    assert_eq!(transcript.matches("present, signed").count(), 2, "{transcript}");
    assert!(!transcript.contains(PASSPHRASE));
    // The key opens with other tools, and is not readable without its passphrase.
    let pass = format!("pass:{PASSPHRASE}");
    openssl.ok(folder.path(), &["pkey", "-in", "root.key.pem", "-passin", &pass, "-noout"]);
    openssl.fails(folder.path(), &["pkey", "-in", "root.key.pem", "-passin", "pass:wrong", "-noout"]);

    refuses_other_outcomes(&house, &vault);
    let taken = imported(&import(&house, &vault));
    assert_eq!((&taken["root_state"], &taken["issuing_state"]), (&json!("issuing"), &json!("trusted")));
    let again = import(&house, &vault);
    assert!(vault.refused("import", &again).contains("was taken over"), "{again:?}");

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
    Some(vault.refused.get())
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
    vault.refused("import of another certificate for the root", &import(house, vault));
    std::fs::write(&outcome, right.replacen("-----BEGIN X509 CRL-----", "-----BEGIN NOTHING-----", 1))
        .unwrap();
    vault.refused("import without a list", &import(house, vault));
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
