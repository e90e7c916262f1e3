//! The keeper of the authority, in a real browser: rolls the issuing authority over by the console, and
//! takes a copy of the audit that `wicketgate audit verify` finds whole.

use serde_json::json;

use super::backend;
use super::house::{ADMINISTRATOR, House, Plan};
use super::whole::{browse, pages};

#[test]
fn an_issuing_authority_is_rolled_over_by_the_console_and_the_copy_of_the_audit_verifies() {
    let Some(web) = pages(&[]) else { return };
    let plan = Plan { database: None, more: "", edge: None };
    let mut house = House::open(&plan, &backend::start());
    let cleo = house.person("Cleo Martín", "cleo@example.org");
    let (certificate, laptop) = house.enrol(&cleo, "Cleo's laptop");
    let (_, _) = house.enrol(&cleo, "=Cleo's phone");
    assert_eq!(house.visit(Some(&laptop), "/"), (200, String::new()));

    let [email, password] = ADMINISTRATOR;
    let told = browse(
        &web,
        "keep.mjs",
        &json!({
            "console": format!("https://localhost:{}", house.console),
            "email": email,
            "password": password,
            "authority": house.path("authority.pem"),
            "folder": house.folder(),
        }),
    );

    let dependants = told["dependants"].as_str().unwrap();
    assert!(
        dependants.contains("2 active certificates of 1 person on 2 devices would stop passing"),
        "{told}"
    );
    let list = std::fs::read_to_string(told["list"].as_str().unwrap()).unwrap();
    assert_eq!(list.lines().count(), 3, "{list}");
    assert!(list.contains(certificate["serial"].as_str().unwrap()), "{list}");
    assert!(list.contains(",'=Cleo's phone,"), "no formula for whoever opens it: {list}");
    // What was said to break is broken, and what the new one signs passes.
    assert_eq!(house.visit(Some(&laptop), "/").0, 403);
    let (renewed, laptop) = house.enrol(&cleo, "Cleo's next laptop");
    assert_eq!(renewed["authority"], "client-issuing-g2");
    assert_eq!(house.visit(Some(&laptop), "/"), (200, String::new()));

    assert_eq!(told["whole"], 1, "{told}");
    let part = |name: &str| told[name].as_str().unwrap().to_owned();
    let (copy, key, checkpoint) = (part("copy"), part("key"), part("checkpoint"));
    let verdict = house.ask(&["audit", "verify", &copy, "--key", &key, "--checkpoint", &checkpoint]);
    assert_eq!(verdict["key_is_trusted"], true, "{verdict}");
    assert!(verdict["links"].as_u64().unwrap() > 20, "{verdict}");
    let text = std::fs::read_to_string(&copy).unwrap();
    for action in ["authority.stage", "authority.trust", "authority.let_issue", "authority.archive"] {
        assert!(text.contains(action), "{action} is in the audit");
    }
    std::fs::write(&copy, text.replacen("authority.archive", "authority.aerchiv", 1)).unwrap();
    assert!(!house.run(&["audit", "verify", &copy, "--key", &key]).status.success());
    assert!(house.stop().success());
}
