//! The restore drill: backed up while serving, damaged, restored; what was revoked stays out.

use std::path::Path;
use std::process::Command;

use serde_json::json;

use super::backend;
use super::house::{House, Plan, WICKETGATE};
use crate::harness::{postgres, wait_for};

/// Puts `restore` to work, which needs a database that nobody is connected to.
fn restore(house: &House, arguments: &[&str]) {
    let mut all = vec!["restore"];
    all.extend(arguments);
    wait_for("the restore", || {
        let output = house.run(&all);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        // The killed process's connections may outlive it for a moment.
        assert!(output.status.success() || told.contains("in use by"), "{told}");
        output.status.success().then_some(())
    });
}

fn drill(mut house: House, damage: impl FnOnce(&House)) {
    let anna = house.person("Anna Grün", "anna@example.org");
    let (before, revoked) = house.enrol(&anna, "Lost laptop");
    let (late, revoked_later) = house.enrol(&anna, "Lost phone");
    let (_, kept) = house.enrol(&anna, "Desktop");
    house.revoke(&before);
    let link = json!({ "person_id": anna, "send_mail": false });
    let invitation = house.add("/invitations", &link);
    let to = house.path("backup");
    let to = to.to_str().unwrap();
    let taken = house.ask(&["backup", "--to", to]);
    assert!(taken["rows"].as_u64().unwrap() > 30, "{taken}");
    house.revoke(&late);
    let (_, unknown) = house.enrol(&anna, "Tablet");
    let number = |house: &House| {
        let authorities = house.get("/authorities");
        let mut all = authorities["items"].as_array().unwrap().iter();
        all.find(|one| one["kind"] == "issuing").unwrap()["crl_number"].as_u64().unwrap()
    };
    let last =
        wait_for("both revocations to be listed", || Some(number(&house)).filter(|number| *number >= 3));

    let served = house.run(&["restore", to, "--replace"]);
    assert!(!served.status.success());
    assert!(String::from_utf8_lossy(&served.stderr).contains("stop it first"));
    house.kill();
    let refused = house.run(&["restore", to]);
    assert!(!refused.status.success(), "an installation is there");
    damage(&house);
    restore(&house, &[to, "--replace"]);
    house.serve();
    // The edge serves before the rows have told it what happened to them.
    house.get("/people");

    let check = |house: &House, when: &str| {
        for device in [&revoked, &revoked_later] {
            assert_eq!(house.visit(Some(device), "/"), (403, "certificate_revoked".to_owned()), "{when}");
        }
        assert_eq!(house.visit(Some(&kept), "/"), (200, String::new()), "{when}");
        assert_eq!(house.visit(Some(&unknown), "/").0, 403, "{when}: nobody could ever revoke it");
    };
    check(&house, "restored");
    let (_, new) = house.enrol(&anna, "New laptop");
    assert_eq!(house.visit(Some(&new), "/"), (200, String::new()));
    assert!(number(&house) > last, "no number is used twice");
    let serial = late["serial"].as_str().unwrap();
    assert_eq!(house.get(&format!("/certificates/{serial}"))["state"], "revoked", "the rows know it again");
    let old = house.get("/invitations?limit=50");
    let old = old["items"].as_array().unwrap().iter().find(|one| one["id"] == invitation["id"]).unwrap();
    assert_eq!(old["state"], "revoked", "a link that may have been used does not open again");

    // An edge that starts from nothing knows it from the rows.
    house.kill();
    std::fs::remove_dir_all(house.path("data/edge")).unwrap();
    house.serve();
    check_without_journal(&house, &[&revoked, &revoked_later]);
    assert!(house.stop().success());
}

fn check_without_journal(house: &House, devices: &[&super::device::Device]) {
    for device in devices {
        assert_eq!(house.visit(Some(device), "/"), (403, "certificate_revoked".to_owned()));
    }
}

#[test]
fn a_damaged_sqlite_file_is_replaced_by_its_backup_and_revocations_stay() {
    let house = House::open(&Plan { database: None, more: "", edge: None }, &backend::start());
    drill(house, |house| {
        let path = house.path("data/house.db");
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.iter_mut().for_each(|byte| *byte = 0x5a);
        std::fs::write(path, bytes).unwrap();
    });
}

#[test]
fn a_damaged_postgresql_database_is_replaced_by_its_backup_and_revocations_stay() {
    let Some(database) = postgres::fresh() else { return };
    let plan = Plan { database: Some(database.url()), more: "", edge: None };
    let house = House::open(&plan, &backend::start());
    drill(house, |_| {
        database.sql("DROP TABLE certificate CASCADE");
    });
}

#[test]
fn a_full_disk_leaves_no_backup_and_the_old_data() {
    let mut house = House::open(&Plan { database: None, more: "", edge: None }, &backend::start());
    let anna = house.person("Anna Grün", "anna@example.org");
    house.enrol(&anna, "Laptop");
    // Files may not grow beyond this many blocks: writing fails as it does on a full disk, or by a signal.
    let limited = |trap: &str, blocks: u32, arguments: &[&str]| {
        let script = format!("{trap} ulimit -f {blocks}; exec \"$@\"");
        let config = house.path("wicketgate.toml");
        Command::new("sh")
            .args(["-c", &script, "sh", WICKETGATE, "--config", config.to_str().unwrap()])
            .args(arguments)
            .output()
            .unwrap()
    };
    let to = house.path("backup");
    let to = to.to_str().unwrap();
    let full = limited("trap '' XFSZ;", 1, &["backup", "--to", to]);
    assert!(!full.status.success());
    let told = String::from_utf8_lossy(&full.stderr);
    assert!(told.contains("could not be written"), "{told}");
    assert!(!Path::new(to).exists() && !house.path(".backup.partial").exists());
    let killed = limited("", 1, &["backup", "--to", to]);
    assert!(killed.status.code().is_none(), "{killed:?}");
    assert!(!Path::new(to).exists(), "a torn one never has the name of a whole one");
    house.ask(&["backup", "--to", to]);

    assert!(house.stop().success());
    let before = std::fs::read(house.path("data/house.db")).unwrap();
    let restore = ["restore", to, "--replace"];
    for trap in ["trap '' XFSZ;", ""] {
        let script = format!("{trap} ulimit -f 64; exec \"$@\"");
        let config = house.path("wicketgate.toml");
        let full = Command::new("sh")
            .args(["-c", &script, "sh", WICKETGATE, "--config", config.to_str().unwrap()])
            .args(restore)
            .output()
            .unwrap();
        assert!(!full.status.success(), "{full:?}");
        assert_eq!(std::fs::read(house.path("data/house.db")).unwrap(), before);
    }
    let restored = house.ask(&restore);
    assert!(restored["kept"].as_str().unwrap().contains(".replaced-"));
    house.serve();
    assert_eq!(house.get("/people")["items"].as_array().unwrap().len(), 2);
}
