//! What must not be found anywhere, and what is refused because it was tampered with.

use std::path::Path;
use std::process::Output;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;

use super::backend;
use super::house::{House, Plan};
use super::whole::{enrol_by_mail, run, smtp};
use crate::harness::smtp::{Manner, Sink};
use crate::harness::{peers, postgres};

/// Every shape in which the secret could lie somewhere.
fn shapes(secret: &str) -> Vec<Vec<u8>> {
    let mut raw = vec![secret.as_bytes().to_vec()];
    if let Ok(key) = PrivateKeyDer::from_pem_slice(secret.as_bytes()) {
        let der = key.secret_der().to_vec();
        // The scalar of a P-256 key in PKCS#8: 32 octets behind the version of the inner key.
        let scalar = der.windows(5).position(|five| five == [0x02, 0x01, 0x01, 0x04, 0x20]).unwrap() + 5;
        let scalar = der[scalar..scalar + 32].to_vec();
        // Its PEM may be wrapped anywhere: the longest line is enough.
        let line = secret.lines().max_by_key(|line| line.len()).unwrap();
        raw = vec![scalar, der, line.as_bytes().to_vec()];
    } else if let Ok(octets) = STANDARD.decode(secret).or_else(|_| URL_SAFE_NO_PAD.decode(secret)) {
        raw.push(octets);
    }
    let hexadecimal =
        |octets: &Vec<u8>| octets.iter().map(|octet| format!("{octet:02x}")).collect::<String>();
    let encoded = raw.iter().flat_map(|octets| {
        // Base64 of a text inside a longer one: what does not depend on its neighbours.
        [
            STANDARD.encode(octets),
            URL_SAFE_NO_PAD.encode(octets),
            hexadecimal(octets),
            hexadecimal(octets).to_uppercase(),
        ]
        .map(|text| text.trim_end_matches('=').as_bytes()[..].to_vec())
    });
    let encoded: Vec<_> = encoded.collect();
    raw.into_iter().chain(encoded).filter(|shape| shape.len() >= 8).collect()
}

fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(&path));
        } else if entry.file_type().unwrap().is_file() {
            found.push((path.display().to_string(), std::fs::read(&path).unwrap()));
        }
    }
    found
}

/// No secret in any of the places; addresses of people not in the log.
fn find_nothing(house: &House, dump: Option<String>) {
    let mut secrets = house.secrets.clone();
    for name in ["server.key", "authority.key"] {
        let text = std::fs::read_to_string(house.path("keys").join(name)).unwrap();
        secrets.push(("key-encryption key", text.trim().rsplit(':').next().unwrap().to_owned()));
    }
    let backup = tempfile::tempdir().unwrap();
    let to = backup.path().join("backup");
    house.ask(&["backup", "--to", to.to_str().unwrap()]);
    let taken = files(&to);
    let holds_people =
        |(_, bytes): &(String, Vec<u8>)| bytes.windows(16).any(|part| part == b"cleo@example.org");
    assert!(taken.iter().any(holds_people), "the scan sees what is in the backup");
    let mut places = files(&house.path("data"));
    places.extend(taken);
    places.push(("the log".to_owned(), house.log().into_bytes()));
    places.extend(dump.map(|dump| ("the dump".to_owned(), dump.into_bytes())));
    let holds = |bytes: &[u8], part: &[u8]| bytes.windows(part.len()).any(|window| window == part);
    for (what, secret) in &secrets {
        for shape in shapes(secret) {
            for (place, bytes) in &places {
                assert!(!holds(bytes, &shape), "{what} lies in {place}");
            }
        }
    }
    for email in ["cleo@example.org", "emil@example.org"] {
        assert!(!house.log().contains(email), "{email} is in the log");
        let found = places.iter().filter(|(_, bytes)| holds(bytes, email.as_bytes())).count();
        assert!(found > 0, "the scan sees what is there");
    }
}

#[test]
fn nothing_secret_is_left_on_sqlite() {
    let Some(sink) = Sink::start(Manner::Accepts) else { return };
    let more = smtp(&sink);
    let mut house = House::open(&Plan { database: None, more: &more, edge: None }, &backend::start());
    let cleo = house.person("Cleo Martín", "cleo@example.org");
    let Some(laptop) = enrol_by_mail(&mut house, &sink, &cleo) else { return };
    assert_eq!(house.visit(Some(&laptop), "/").0, 200);
    house.enrol(&cleo, "Phone");
    let kinds: std::collections::BTreeSet<_> = house.secrets.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(kinds.len(), 8, "{kinds:?}");
    // While it runs, with what lies in the write-ahead log; and when it has ended.
    find_nothing(&house, None);
    assert!(house.stop().success());
    find_nothing(&house, None);
}

#[test]
fn nothing_secret_is_left_on_postgresql() {
    let Some(database) = postgres::fresh() else { return };
    let Some(dump) = peers::peer_text("pg_dump") else { return };
    let plan = Plan { database: Some(database.url()), more: "", edge: None };
    let mut house = House::open(&plan, &backend::start());
    let cleo = house.person("Cleo Martín", "cleo@example.org");
    house.enrol(&cleo, "Phone");
    let body = serde_json::json!({ "person_id": cleo, "send_mail": false });
    let link = house.add("/invitations", &body)["link"].as_str().unwrap().to_owned();
    house.secrets.push(("invitation token", link.rsplit('/').next().unwrap().to_owned()));
    let dumped = run(&dump, &["--inserts", &database.url()]).unwrap();
    find_nothing(&house, Some(dumped));
}

/// `serve` must not start; what it says.
fn refusal(house: &mut House) -> String {
    let before = house.log().len();
    house.launch();
    let status = house.ended();
    assert!(!status.success());
    house.log()[before..].to_owned()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn keys_of_others_and_exposed_keys_are_refused() {
    use std::os::unix::fs::PermissionsExt;
    let mut house = House::build(&Plan { database: None, more: "", edge: None });
    for name in ["server", "authority"] {
        let path = house.path("keys").join(format!("{name}.key"));
        let exposed = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        exposed(0o644);
        let told = refusal(&mut house);
        assert!(told.contains("others may read it; run `chmod 600") && told.contains(name), "{told}");
        exposed(0o600);

        let own = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let told = refusal(&mut house);
        assert!(told.contains(&format!("the {name} key file")) && told.contains("cannot be read"), "{told}");
        let other = House::build(&Plan { database: None, more: "", edge: None });
        std::fs::copy(other.path("keys").join(format!("{name}.key")), &path).unwrap();
        let told = refusal(&mut house);
        assert!(told.contains(&format!("the {name} key is not the one")), "{told}");
        assert!(!told.contains(own.trim().rsplit(':').next().unwrap()));
        std::fs::write(&path, "no key\n").unwrap();
        exposed(0o600);
        let told = refusal(&mut house);
        assert!(told.contains("is not a wicketgate key"), "{told}");
        std::fs::write(&path, own).unwrap();
    }
    house.serve();
}

#[test]
fn a_key_of_another_user_is_refused() {
    let house = House::build(&Plan { database: None, more: "", edge: None });
    let mut words = peers::dropping_privileges();
    if words.is_empty() || house.folder().ancestors().count() == 0 {
        return;
    }
    // The product where the other user may run it, and everything theirs but one key.
    let theirs = tempfile::Builder::new().prefix("wg-theirs-").tempdir().unwrap();
    let open = |path: &Path, mode| {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let program = theirs.path().join("wicketgate");
    std::fs::copy(super::house::WICKETGATE, &program).unwrap();
    open(theirs.path(), 0o755);
    open(house.folder(), 0o755);
    open(&house.path("keys"), 0o755);
    words.push(program.to_str().unwrap().to_owned());
    let config = house.path("wicketgate.toml");
    words.extend(["--config".to_owned(), config.to_str().unwrap().to_owned(), "serve".to_owned()]);
    let output = std::process::Command::new(&words[0]).args(&words[1..]).output().unwrap();
    assert!(!output.status.success());
    let told = said(&output);
    assert!(told.contains("server key file") && told.contains("Permission denied"), "{told}");

    // Their own key, which the group may read: the same refusal as for root.
    let key = house.path("keys/server.key");
    peers::hand_over(&key);
    open(&key, 0o640);
    let output = std::process::Command::new(&words[0]).args(&words[1..]).output().unwrap();
    assert!(!output.status.success());
    assert!(said(&output).contains("has mode 640: others may read it"), "{}", said(&output));
}

/// Runs statements on the house's SQLite file.
fn sqlite(house: &House, script: &str) {
    let program = format!(
        "import sqlite3,sys\nc=sqlite3.connect(sys.argv[1])\nc.executescript({script:?})\nc.commit()\nc.close()"
    );
    run("python3", &["-c", &program, house.path("data/house.db").to_str().unwrap()]).unwrap();
}

#[test]
fn swapped_sealed_columns_are_refused() {
    let mut house = House::build(&Plan { database: None, more: "", edge: None });
    house.serve();
    assert!(house.stop().success());
    sqlite(
        &house,
        "CREATE TABLE swap AS SELECT id, sealed FROM signing_key; \
         UPDATE signing_key SET sealed = (SELECT s.sealed FROM swap s WHERE s.id <> signing_key.id ORDER BY s.id LIMIT 1); \
         DROP TABLE swap;",
    );
    let told = refusal(&mut house);
    assert!(told.contains("signing key") && told.contains("does not open: its row was changed"), "{told}");
}
