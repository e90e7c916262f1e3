//! `wicketgate demo`: what scripts of others rely on.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::house::{quiet_port, wicketgate};
use super::whole::run;

const KEYS: [&str; 12] = [
    "admin_token",
    "admin_url",
    "ca_file",
    "client_cert_file",
    "client_key_file",
    "client_p12_file",
    "client_p12_password",
    "data_dir",
    "door_url",
    "edge_url",
    "health_url",
    "http_url",
];

struct Demo {
    process: Child,
    output: BufReader<std::process::ChildStdout>,
    told: Value,
}

impl Demo {
    fn start(arguments: &[&str]) -> Self {
        let started = Instant::now();
        let all = [&["demo", "--output", "json"], arguments].concat();
        let mut process = wicketgate(&all).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut output = BufReader::new(process.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        assert!(started.elapsed() < Duration::from_secs(30));
        Self { process, output, told: serde_json::from_str(&line).unwrap() }
    }

    fn text(&self, key: &str) -> &str {
        self.told[key].as_str().unwrap()
    }

    fn curl(&self, arguments: &[&str]) -> String {
        let standing = ["--silent", "--show-error", "--include", "--cacert", self.text("ca_file")];
        run("curl", &[&standing, arguments].concat()).unwrap()
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn it_keeps_its_promises() {
    let ports = [quiet_port(), quiet_port(), quiet_port(), quiet_port()];
    let flags = ["--admin-port", "--edge-port", "--http-port", "--health-port"];
    let texts = ports.map(|port| port.to_string());
    let arguments: Vec<&str> = flags.iter().zip(&texts).flat_map(|(flag, port)| [*flag, &**port]).collect();
    let mut demo = Demo::start(&arguments);
    let keys: Vec<&str> = demo.told.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, KEYS);
    let [admin, edge, http, health] = ports;
    for (key, url) in [
        ("admin_url", format!("https://localhost:{admin}")),
        ("edge_url", format!("https://localhost:{edge}")),
        ("door_url", format!("https://door.localhost:{edge}")),
        ("http_url", format!("http://localhost:{http}")),
        ("health_url", format!("http://localhost:{health}")),
    ] {
        assert_eq!(demo.text(key), url);
    }
    check_the_edge(&demo);
    check_the_rest(&demo);
    check_the_files(&demo);

    let pid = demo.process.id().to_string();
    let asked = Instant::now();
    run("kill", &["-TERM", &pid]).unwrap();
    let mut rest = String::new();
    demo.output.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "", "one JSON object and nothing else");
    assert!(demo.process.wait().unwrap().success());
    assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
    assert!(!std::path::Path::new(demo.text("data_dir")).exists());
}

fn check_the_edge(demo: &Demo) {
    let device = ["--cert", demo.text("client_cert_file"), "--key", demo.text("client_key_file")];
    let at = |path: &str| format!("{}{path}", demo.text("edge_url"));
    let answer = demo.curl(&[&device[..], &[&at("/hello")]].concat());
    assert!(answer.contains(" 200 ") && answer.contains("client-cert"), "{answer}");
    let body: Value = serde_json::from_str(answer.split("\r\n\r\n").last().unwrap()).unwrap();
    assert_eq!((&body["method"], &body["path"]), (&"GET".into(), &"/hello".into()));
    assert!(body["headers"].is_object() || body["headers"].is_array(), "{body}");
    let refused = demo.curl(&[&at("/")]);
    assert!(refused.contains(" 403 ") && refused.contains("certificate_required"), "{refused}");
    assert!(demo.curl(&[&at("/public")]).contains(" 200 "));
    let p12 = format!("{}:{}", demo.text("client_p12_file"), demo.text("client_p12_password"));
    let answer = demo.curl(&["--cert-type", "P12", "--cert", &p12, &at("/")]);
    assert!(answer.contains(" 200 "), "{answer}");
}

fn check_the_rest(demo: &Demo) {
    let door = demo.curl(&[demo.text("door_url")]);
    assert!(door.contains(" 200 ") && door.contains("text/html"), "{door}");
    let moved = demo.curl(&[&format!("{}/a?b=c", demo.text("http_url"))]);
    assert!(
        moved.contains(" 308 ") && moved.contains(&format!("{}/a?b=c", demo.text("edge_url"))),
        "{moved}"
    );
    for (path, content) in [("/livez", "ok"), ("/readyz?verbose", "ready"), ("/metrics", "wicketgate_")] {
        let answer = demo.curl(&[&format!("{}{path}", demo.text("health_url"))]);
        assert!(answer.contains(" 200 ") && answer.contains(content), "{answer}");
    }
    assert!(demo.curl(&[demo.text("admin_url")]).contains("text/html"));
    let token = format!("authorization: Bearer {}", demo.text("admin_token"));
    let people = demo.curl(&["--header", &token, &format!("{}/api/v1/people", demo.text("admin_url"))]);
    assert!(people.contains(" 200 ") && people.contains("Demo Person"), "{people}");
}

/// Leaf first, an unencrypted PKCS#8 key, and every URL inside the certificates resolves.
fn check_the_files(demo: &Demo) {
    let key = std::fs::read_to_string(demo.text("client_key_file")).unwrap();
    assert!(key.starts_with("-----BEGIN PRIVATE KEY-----"), "not plain PKCS#8");
    let chain = std::fs::read_to_string(demo.text("client_cert_file")).unwrap();
    let authorities = std::fs::read_to_string(demo.text("ca_file")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut urls = Vec::new();
    let end = "-----END CERTIFICATE-----\n";
    for (number, pem) in chain.split_inclusive(end).chain(authorities.split_inclusive(end)).enumerate() {
        let path = folder.path().join(format!("{number}.pem"));
        std::fs::write(&path, pem).unwrap();
        let text = run("openssl", &["x509", "-in", path.to_str().unwrap(), "-noout", "-text"]).unwrap();
        assert_eq!(number == 0, text.contains("TLS Web Client Authentication") && !text.contains("CA:TRUE"));
        let found = text.split("URI:").skip(1).filter(|rest| rest.starts_with("http"));
        urls.extend(found.map(|rest| rest.split_whitespace().next().unwrap().to_owned()));
    }
    assert!(urls.len() >= 2, "{urls:?}");
    for url in urls {
        let answer = run("curl", &["--silent", "--show-error", "--fail", "--head", &url]).unwrap();
        let kind = if url.ends_with("/ocsp") { "application/ocsp-response" } else { "application/pkix-c" };
        assert!(answer.contains(kind), "{url}: {answer}");
    }
    let mode = run("stat", &["-c", "%a", demo.text("data_dir")]).unwrap();
    assert_eq!(mode.trim(), "700");
}

#[test]
fn it_refuses_to_leave_loopback() {
    let output = wicketgate(&["demo", "--bind", "0.0.0.0"]).output().unwrap();
    assert!(!output.status.success() && output.stdout.is_empty());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("loopback only; 0.0.0.0 is not"), "{said}");
}

#[test]
fn two_can_run_at_once() {
    let [first, second] = [Demo::start(&[]), Demo::start(&[])];
    assert_ne!(first.text("edge_url"), second.text("edge_url"));
    for demo in [first, second] {
        check_the_edge(&demo);
        assert!(
            Command::new("kill").args(["-INT", &demo.process.id().to_string()]).status().unwrap().success()
        );
    }
}
