//! The story: from the setup link to the revoked device.

use std::path::{Path, PathBuf};
use std::process::Command;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::backend;
use super::device::{Device, Key};
use super::house::{APP, House, Plan};
use super::wire::{Reply, Wire};
use crate::harness::smtp::{Manner, Sink};
use crate::harness::{peers, postgres, wait_for};

const CLEO: &str = "cleo@example.org";

/// Configuration for the mail server.
pub fn smtp(sink: &Sink) -> String {
    format!(
        "[smtp]\nhost = \"127.0.0.1\"\nport = {}\nencryption = \"none\"\nfrom = \"Gate <gate@example.org>\"",
        sink.port
    )
}

/// The link in the mail that invites `email`.
pub fn mailed_link(sink: &Sink, email: &str) -> String {
    let mail = wait_for("the invitation by mail", || {
        sink.mails().into_iter().find(|mail| mail.to.iter().any(|to| to == email))
    });
    let text = mail.raw.replace("=\n", "").replace("=3D", "=");
    let from = text.find("https://door.localhost").expect("a link in the mail");
    text[from..].split_whitespace().next().unwrap().to_owned()
}

/// Runs another program; its output, which is an error when it fails.
pub fn run(program: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(program).args(arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        Err(text(&output.stdout) + &text(&output.stderr))
    }
}

/// The folder of the pages, if they are built and everything is there that they are looked at with.
pub fn pages(peers: &[&str]) -> Option<PathBuf> {
    for program in ["node", "chromium", "certutil"].iter().chain(peers) {
        peers::peer(program)?;
    }
    let web = Path::new(env!("CARGO_MANIFEST_DIR")).join("web");
    let built = ["dist/portal/index.html", "dist/console/index.html", "node_modules/playwright-core"];
    if !built.iter().all(|part| web.join(part).exists()) {
        assert!(std::env::var_os("CI").is_none(), "the pages are not built: `make test` builds them");
        eprintln!("SKIPPED: the pages are not built (`make test` builds them)");
        return None;
    }
    Some(web)
}

/// Does in a real browser what `script` does; what it tells. The browser saw no fault.
pub fn browse(web: &Path, script: &str, wish: &Value) -> Value {
    let script = web.join("tests").join(script);
    let told = run("node", &[script.to_str().unwrap(), &wish.to_string()]).unwrap();
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["faults"], json!([]));
    told
}

/// Enrols in a real browser, by the link of a real mail. `None` when a peer is missing.
pub fn enrol_by_mail(house: &mut House, sink: &Sink, person: &str) -> Option<Device> {
    let web = pages(&["openssl", "pk12util", "keytool"])?;
    let body = json!({ "person_id": person, "send_mail": true, "expires_in_hours": 1 });
    let invitation = house.add("/invitations", &body);
    let link = mailed_link(sink, CLEO);
    assert_eq!(invitation["link"], *link, "the mail holds the link of the answer");
    let invitation_token = link.rsplit('/').next().unwrap().to_owned();

    let wish = json!({ "link": link, "authority": house.path("authority.pem"), "folder": house.folder() });
    let told = browse(&web, "enrol.mjs", &wish);
    assert!(!told["addressBar"].as_str().unwrap().contains(&invitation_token), "{told}");
    let password = told["password"].as_str().unwrap().to_owned();
    let cookies = told["cookies"].as_array().unwrap();
    let cookie = cookies.iter().find(|cookie| cookie["name"] == "__Host-session").unwrap();

    let mut device = None;
    for (encoding, legacy) in [("modern", &[][..]), ("compat", &["-legacy"][..])] {
        device = Some(open_with_everyone(told["files"][encoding].as_str().unwrap(), &password, legacy));
    }
    let device = device.unwrap();
    house.secrets.extend([
        ("invitation token", invitation_token),
        ("PKCS#12 password", password),
        ("enrolment cookie", cookie["value"].as_str().unwrap().to_owned()),
        ("private key", device.key_pem.clone()),
    ]);
    Some(device)
}

/// OpenSSL, NSS and Java open the file; what OpenSSL finds in it.
fn open_with_everyone(file: &str, password: &str, legacy: &[&str]) -> Device {
    let pass = format!("pass:{password}");
    let mut arguments = vec!["pkcs12", "-in", file, "-passin", &pass, "-nodes"];
    arguments.extend(legacy);
    let key_pem = run("openssl", &[&arguments[..], &["-nocerts"]].concat()).unwrap();
    let chain_pem = run("openssl", &[&arguments[..], &["-nokeys"]].concat()).unwrap();
    let listed = run("pk12util", &["-l", file, "-W", password]).unwrap();
    assert!(listed.contains("Key"), "{listed}");
    let keystore = ["-list", "-storetype", "PKCS12", "-keystore", file, "-storepass", password];
    let listed = run("keytool", &keystore).unwrap();
    assert!(listed.contains("PrivateKeyEntry"), "{listed}");
    let wrong = run("openssl", &["pkcs12", "-in", file, "-passin", "pass:not-the-password", "-nodes"]);
    assert!(wrong.is_err());
    Device { key_pem, chain_pem }
}

/// The backend saw the person, and the assertion about them holds.
fn check_what_the_backend_saw(house: &House, seen: &Reply, person: &str, device: &Device) {
    assert_eq!(seen.status, 200, "{}", seen.text());
    let leaf = device.chain()[0].to_vec();
    assert_eq!(seen.seen("client-cert").unwrap(), format!(":{}:", STANDARD.encode(&leaf)));
    assert_eq!(seen.seen("x-webauth-user").unwrap(), CLEO);
    let assertion = seen.seen("wicketgate-assertion").unwrap();
    let (signed, signature) = assertion.rsplit_once('.').unwrap();
    let (head, claims) = signed.split_once('.').unwrap();
    let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).unwrap();
    let json = |text: &str| serde_json::from_slice::<Value>(&decode(text)).unwrap();
    let (head, claims) = (json(head), json(claims));
    assert_eq!(head["alg"], "ES256");

    let keys = Wire::plain(house.health, "localhost").unwrap().get("/jwks.json").unwrap().json();
    let key = keys["keys"].as_array().unwrap().iter().find(|key| key["kid"] == head["kid"]).unwrap();
    let coordinate = |name: &str| decode(key[name].as_str().unwrap());
    let point = [vec![4], coordinate("x"), coordinate("y")].concat();
    let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
    key.verify(signed.as_bytes(), &decode(signature)).expect("the assertion verifies under /jwks.json");

    assert_eq!(claims["sub"], *person);
    // The name of the site, whatever port a trial or a forwarder gives it.
    assert_eq!(claims["aud"], format!("https://{APP}"));
    let now = i64::try_from(std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs()).unwrap();
    let (issued, ends) = (claims["iat"].as_i64().unwrap(), claims["exp"].as_i64().unwrap());
    assert!(ends > now && ends - issued <= 60 && issued <= now, "{claims} at {now}");
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &leaf);
    assert_eq!(claims["cnf"]["x5t#S256"], URL_SAFE_NO_PAD.encode(hash));
}

/// Nobody passes without a certificate, and each is told in their own language.
fn check_refusals_without_a_certificate(house: &House) {
    let answer = house.curl(&[&house.url("/")]);
    assert!(answer.contains(" 403 ") && answer.contains("application/problem+json"), "{answer}");
    assert!(answer.contains(r#""code":"certificate_required""#), "{answer}");
    let page = house.curl(&["--header", "accept: text/html", &house.url("/")]);
    let door = format!("https://door.localhost:{}", house.https);
    assert!(page.contains(" 403 ") && page.contains("text/html") && page.contains(&door), "{page}");
    let public = house.curl(&[&house.url("/public/x")]);
    assert!(public.contains(" 200 ") && !public.contains("client-cert"), "{public}");
}

/// The published list names the certificate, and OpenSSL refuses it for that.
fn check_the_crl(house: &House, revoked: &Value, other: &Value) {
    let authorities = house.get("/authorities");
    let of = |kind: &str| {
        let mut all = authorities["items"].as_array().unwrap().iter();
        all.find(|one| one["kind"] == kind).unwrap().clone()
    };
    let (root, issuing) = (of("root"), of("issuing"));
    let write = |name: &str, bytes: &[u8]| {
        let path = house.path(name);
        std::fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let fetch = |url: &Value| {
        let path = url.as_str().unwrap().split_once("/pki/").unwrap().1;
        Wire::plain(house.http, "127.0.0.1").unwrap().get(&format!("/pki/{path}")).unwrap()
    };
    let serial = revoked["serial"].as_str().unwrap().to_uppercase();
    let text = wait_for("the list with the revoked certificate", || {
        let list = fetch(&issuing["crl_url"]);
        assert_eq!(list.status, 200);
        let file = write("issuing.crl", &list.body);
        let text = run("openssl", &["crl", "-inform", "DER", "-in", &file, "-noout", "-text"]).unwrap();
        text.contains(&serial).then_some(text)
    });
    assert!(text.contains("Key Compromise"), "{text}");
    assert!(!text.contains(&other["serial"].as_str().unwrap().to_uppercase()), "{text}");

    let root_file = write("root.pem", root["pem"].as_str().unwrap().as_bytes());
    let issuing_file = write("issuing.pem", issuing["pem"].as_str().unwrap().as_bytes());
    let pem = |file: &str| run("openssl", &["crl", "-inform", "DER", "-in", file]).unwrap();
    let crls = write("crls.pem", pem(house.path("issuing.crl").to_str().unwrap()).as_bytes());
    let verify = |certificate: &Value| {
        let leaf = write("leaf.pem", certificate["pem"].as_str().unwrap().as_bytes());
        let chain =
            ["verify", "-crl_check", "-CAfile", &root_file, "-untrusted", &issuing_file, "-CRLfile", &crls];
        run("openssl", &[&chain[..], &["-purpose", "sslclient", &leaf]].concat())
    };
    verify(other).unwrap();
    assert!(verify(revoked).unwrap_err().contains("certificate revoked"));
}

/// The certificate passes on the very next request after each answer.
fn check_passes_at_once(house: &mut House, person: &str) {
    for number in 0..5 {
        let key = Key::generate();
        let body = json!({ "csr": key.csr(), "device_name": format!("Quick {number}"), "person_id": person });
        let certificate = house.add("/certificates", &body);
        assert_eq!(house.visit(Some(&key.with(&certificate)), "/"), (200, String::new()));
    }
}

#[test]
fn the_whole_story_on_sqlite() {
    let Some(sink) = Sink::start(Manner::Accepts) else { return };
    let plan = Plan { database: None, more: &smtp(&sink), edge: None };
    let mut house = House::open(&plan, &backend::start());
    let cleo = house.person("Cleo Martín", CLEO);
    let Some(laptop) = enrol_by_mail(&mut house, &sink, &cleo) else { return };

    let [certificate, key] = laptop.write(house.folder(), "laptop");
    let answer = house.curl(&["--cert", &certificate, "--key", &key, &house.url("/hello")]);
    assert!(answer.contains(" 200 ") && answer.contains(r#""path":"/hello""#), "{answer}");
    let mut kept = house.app(Some(&laptop));
    check_what_the_backend_saw(&house, &kept.get("/hello").unwrap(), &cleo, &laptop);
    check_refusals_without_a_certificate(&house);
    check_passes_at_once(&mut house, &cleo);
    let (phone_certificate, phone) = house.enrol(&cleo, "Cleo's phone");

    let listed = house.get(&format!("/certificates?person_id={cleo}&limit=200"));
    let listed = listed["items"].as_array().unwrap();
    let first = listed.iter().find(|one| one["device_name"] == "Cleo's laptop").unwrap();
    house.revoke(first);
    let refused = kept.get("/hello");
    assert_eq!(refused.unwrap().outcome(), (403, "certificate_revoked".to_owned()), "on the same connection");
    assert!(kept.get("/hello").is_err(), "the connection is closed after the refusal");
    assert_eq!(house.visit(Some(&laptop), "/"), (403, "certificate_revoked".to_owned()));
    assert_eq!(house.visit(Some(&phone), "/"), (200, String::new()));
    check_the_crl(&house, first, &phone_certificate);
    assert!(house.stop().success());
}

#[test]
fn the_short_story_on_postgresql() {
    let Some(database) = postgres::fresh() else { return };
    let mut house =
        House::open(&Plan { database: Some(database.url()), more: "", edge: None }, &backend::start());
    let cleo = house.person("Cleo Martín", CLEO);
    let (certificate, laptop) = house.enrol(&cleo, "Cleo's laptop");
    let (other, phone) = house.enrol(&cleo, "Cleo's phone");
    let mut kept = house.app(Some(&laptop));
    check_what_the_backend_saw(&house, &kept.get("/").unwrap(), &cleo, &laptop);
    check_refusals_without_a_certificate(&house);
    check_passes_at_once(&mut house, &cleo);
    house.revoke(&certificate);
    assert_eq!(kept.get("/").unwrap().outcome(), (403, "certificate_revoked".to_owned()));
    assert_eq!(house.visit(Some(&laptop), "/"), (403, "certificate_revoked".to_owned()));
    assert_eq!(house.visit(Some(&phone), "/"), (200, String::new()));
    check_the_crl(&house, &certificate, &other);
    assert!(house.stop().success());
}
