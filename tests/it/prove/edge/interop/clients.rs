//! Those who visit, each in its own way, with the device's certificate and without.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::gate::{Gate, script};
use crate::harness::peers::peer;

/// Seconds after which a client that does not come to an end is ended.
const PATIENCE: &str = "150";

/// What came back to one visit.
#[derive(Debug)]
pub(super) struct Visit {
    /// As the client names the protocol.
    pub(super) http: String,
    pub(super) is_known: bool,
    pub(super) status: u64,
    pub(super) body: String,
}

/// All that came of a client's visits; a WebSocket's, where it opened one.
pub(super) struct Told {
    pub(super) visits: Vec<Visit>,
    pub(super) socket: Option<Value>,
}

/// One who visits.
pub(super) struct Client {
    pub(super) name: &'static str,
    pub(super) has_http2: bool,
    pub(super) visit: fn(&Gate) -> Result<Told, String>,
}

pub(super) static CLIENTS: &[Client] = &[
    Client { name: "curl", has_http2: true, visit: curl },
    Client { name: "openssl", has_http2: false, visit: openssl },
    Client { name: "Java", has_http2: true, visit: java },
    Client { name: "Node", has_http2: true, visit: node },
    Client { name: "httpx", has_http2: true, visit: httpx },
    Client { name: "Chromium", has_http2: true, visit: chromium },
];

/// Whether there is what Chromium is told with what to do.
pub(super) fn has_playwright() -> bool {
    let is_there = web().join("node_modules/playwright-core").exists();
    if !is_there {
        assert!(std::env::var_os("CI").is_none(), "playwright-core is missing: `make test` installs it");
        eprintln!("SKIPPED: playwright-core is not installed (`make test` installs it)");
    }
    is_there
}

fn web() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("web")
}

/// Runs a program, which is told `input`; what it prints, which is an error when it fails.
pub(super) fn run(program: &Path, arguments: &[&str], input: &str) -> Result<String, String> {
    let mut process = Command::new("timeout")
        .args(["--kill-after", "5", PATIENCE])
        .arg(program)
        .args(arguments)
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Who does not read has ended, and says why.
    let _ = process.stdin.take().unwrap().write_all(input.as_bytes());
    let output = process.wait_with_output().unwrap();
    let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
    if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        Err(format!("{}: {}{}", output.status, text(&output.stdout), text(&output.stderr)))
    }
}

fn curl(gate: &Gate) -> Result<Told, String> {
    let mine = ["--cert", gate.said("certificate"), "--key", gate.said("key")];
    let mut visits = Vec::new();
    for http in ["--http1.1", "--http2"] {
        for is_known in [true, false] {
            for more in [Vec::new(), vec!["--data", "hello"]] {
                let mut arguments =
                    vec!["--silent", "--show-error", http, "--cacert", gate.said("authority")];
                arguments.extend(mine.iter().filter(|_| is_known));
                arguments.extend(more);
                arguments.extend(["--write-out", "\n%{http_version} %{response_code}", &gate.url]);
                let said = run(&peer("curl").unwrap(), &arguments, "")?;
                let (body, last) = said.rsplit_once('\n').ok_or("curl says nothing")?;
                let (http, status) = last.split_once(' ').ok_or("curl says little")?;
                visits.push(visit(http, is_known, status, body)?);
            }
        }
    }
    Ok(Told { visits, socket: None })
}

/// HTTP/1.1 by hand, over both versions of TLS.
fn openssl(gate: &Gate) -> Result<Told, String> {
    let request = format!("GET / HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", gate.authority());
    let mine = ["-cert", gate.said("certificate"), "-key", gate.said("key")];
    let (place, authority) = (gate.authority(), gate.said("authority"));
    let mut visits = Vec::new();
    for version in ["-tls1_2", "-tls1_3"] {
        for is_known in [true, false] {
            let mut arguments = vec!["s_client", "-connect", &place, "-servername", "localhost", version];
            arguments.extend(["-CAfile", authority, "-verify_return_error", "-verify_hostname", "localhost"]);
            arguments.push("-quiet");
            arguments.extend(mine.iter().filter(|_| is_known));
            let said = run(&peer("openssl").unwrap(), &arguments, &request)?;
            let (head, body) = said.split_once("\r\n\r\n").ok_or_else(|| format!("no head: {said:?}"))?;
            let mut line = head.split(' ');
            let (http, status) = (line.next().unwrap_or_default(), line.next().unwrap_or_default());
            visits.push(visit(http, is_known, status, body)?);
        }
    }
    Ok(Told { visits, socket: None })
}

fn java(gate: &Gate) -> Result<Told, String> {
    let program = script("Visit.java");
    let arguments = [&*program, &gate.url, gate.said("authority"), gate.said("p12"), gate.said("password")];
    let said = run(&peer("java").unwrap(), &arguments, "")?;
    let visits = said.lines().map(|line| match line.split('\t').collect::<Vec<_>>()[..] {
        [http, is_known, status, body] => visit(http, is_known == "true", status, body),
        _ => Err(format!("Visit.java says {line:?}")),
    });
    Ok(Told { visits: visits.collect::<Result<_, _>>()?, socket: None })
}

fn node(gate: &Gate) -> Result<Told, String> {
    by_node(gate, &script("visit.mjs"))
}

fn chromium(gate: &Gate) -> Result<Told, String> {
    // Where its packages are.
    by_node(gate, web().join("tests/visit.mjs").to_str().unwrap())
}

fn by_node(gate: &Gate, program: &str) -> Result<Told, String> {
    let said = run(&peer("node").unwrap(), &[program, &gate.wish.to_string()], "")?;
    told(&serde_json::from_str::<Value>(&said).map_err(|error| format!("{program} says {said:?}: {error}"))?)
}

fn httpx(gate: &Gate) -> Result<Told, String> {
    told(&gate.ask_python("visit.py", &gate.wish)?)
}

/// The one that nobody has to have, at this path.
pub(super) fn firefox(gate: &Gate, firefox: &Path) -> Result<Told, String> {
    let mut wish = gate.wish.clone();
    wish["firefox"] = json!(firefox);
    told(&gate.ask_python("firefox.py", &wish)?)
}

fn visit(http: &str, is_known: bool, status: &str, body: &str) -> Result<Visit, String> {
    let status = status.parse().map_err(|_| format!("{status:?} is no status"))?;
    Ok(Visit { http: http.to_owned(), is_known, status, body: body.to_owned() })
}

/// What a script printed.
fn told(said: &Value) -> Result<Told, String> {
    let visits = said["visits"].as_array().ok_or_else(|| format!("no visits: {said}"))?;
    let read = |one: &Value| {
        Some(Visit {
            http: one["http"].as_str()?.to_owned(),
            is_known: one["known"].as_bool()?,
            status: one["status"].as_u64()?,
            body: one["body"].as_str()?.to_owned(),
        })
    };
    let visits = visits.iter().map(|one| read(one).ok_or_else(|| format!("no visit: {one}")));
    Ok(Told { visits: visits.collect::<Result<_, _>>()?, socket: said.get("socket").cloned() })
}
