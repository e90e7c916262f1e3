//! `wicketgate export` and `wicketgate apply` against a running house.

use super::backend;
use super::house::{APP, House, Plan};

fn said(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn a_file_is_exported_edited_looked_at_and_applied() {
    let house = House::open(&Plan { database: None, more: "", edge: None }, &backend::start());
    let file = house.path("house.toml");
    let path = file.to_str().unwrap();
    house.ask(&["export", "--to", path]);
    let first = house.run(&["export"]);
    let text = std::fs::read_to_string(&file).unwrap();
    assert_eq!(String::from_utf8_lossy(&first.stdout).trim_end(), text.trim_end());
    assert!(text.contains("[[routes]]") && text.contains(APP) && !text.contains("door.localhost"), "{text}");
    let same = house.run(&["apply", "-f", path, "--prune"]);
    assert!(same.status.success() && said(&same).contains("Nothing differs."), "{}", said(&same));
    assert!(!house.run(&["export", "--to", path]).status.success(), "an export never overwrites");

    assert_eq!(house.visit(None, "/").0, 403);
    std::fs::write(&file, text.replace("kind = \"known\"", "kind = \"public\"")).unwrap();
    let plan = house.run(&["apply", "-f", path, "--dry-run"]);
    let told = said(&plan);
    assert!(
        told.contains(&format!("~ route {APP}/ (policy)")) && told.contains("nothing was done"),
        "{told}"
    );
    assert_eq!(house.visit(None, "/").0, 403, "a dry run changes nothing");
    // From elsewhere, too: by URL and token.
    let token = house.path("token");
    std::fs::write(&token, &house.token).unwrap();
    let (server, authority) = (format!("https://localhost:{}", house.console), house.path("authority.pem"));
    let far = ["--server", &*server, "--token-file", token.to_str().unwrap(), "--server-ca"];
    let far = [&far[..], &[authority.to_str().unwrap(), "apply", "-f", path]].concat();
    let applied = house.run(&far);
    assert!(applied.status.success() && said(&applied).contains("1 of 1 edges"), "{}", said(&applied));
    assert_eq!(house.visit(None, "/").0, 200);

    std::fs::write(&file, text.replace("http://", "gopher://")).unwrap();
    let refused = house.run(&["apply", "-f", path]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(said(&refused).contains("/upstreams/0/targets/0"), "{}", said(&refused));
    std::fs::write(&file, "[[route]]\nhost = \"x\"\n").unwrap();
    let refused = house.run(&["apply", "-f", path]);
    assert!(said(&refused).contains("there is no section \"route\""), "{}", said(&refused));
    assert_eq!(house.visit(None, "/").0, 200);
    std::fs::write(&file, text).unwrap();
    house.ask(&["apply", "-f", path, "--prune"]);
    assert_eq!(house.visit(None, "/").0, 403);
}
