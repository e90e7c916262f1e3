//! A house with a site that everybody finds, upstreams of others behind it, and one device.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::clients::run;
use crate::harness::peers;
use crate::story::backend;
use crate::story::house::{House, Plan};

/// A name that everybody takes for this host.
const SITE: &str = "localhost";
/// Whose device it is.
pub(super) const EMAIL: &str = "anna@example.org";
/// Of the file that holds key and certificate; letters, so that every program takes it.
const PASSWORD: &str = "nobody-else-reads-this";

/// All of it. It ends with this value.
pub(super) struct Gate {
    pub(super) url: String,
    /// What a client has to know, as its script reads it.
    pub(super) wish: Value,
    pub(super) person: String,
    pub(super) installation: String,
    /// The certificate as RFC 9440 writes it.
    pub(super) client_cert: String,
    /// The certificate as RFC 8705 names it.
    pub(super) thumbprint: String,
    python: PathBuf,
    house: House,
    _servers: Servers,
}

impl Gate {
    pub(super) fn open() -> Self {
        let python = peers::peer("httpx").unwrap().with_file_name("python3");
        let servers = Servers::start(&python);
        let mut house = House::open(&Plan { database: None, more: "", edge: None }, &backend::start());
        furnish(&house, &servers);
        let person = house.person("Anna Grün", EMAIL);
        let (_, device) = house.enrol(&person, "Laptop");
        let [certificate, key] = device.write(house.folder(), "device");
        let file = |name: &str| house.path(name).to_str().unwrap().to_owned();
        let p12 = file("device.p12");
        let password = format!("pass:{PASSWORD}");
        let export =
            ["pkcs12", "-export", "-in", &certificate, "-inkey", &key, "-out", &p12, "-passout", &password];
        run(&peers::peer("openssl").unwrap(), &export, "").unwrap();
        let url = format!("https://{SITE}:{}/", house.https);
        let wish = json!({
            "url": url, "port": house.https, "authority": file("authority.pem"),
            "certificate": certificate, "key": key, "p12": p12, "password": PASSWORD,
        });
        let checkpoint = house.call("POST", "/audit-checkpoints", &[], Some(&json!({}))).json();
        let leaf = device.chain()[0].to_vec();
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &leaf);
        Self {
            url,
            wish,
            person,
            installation: checkpoint["installation_id"].as_str().unwrap().to_owned(),
            client_cert: format!(":{}:", STANDARD.encode(&leaf)),
            thumbprint: URL_SAFE_NO_PAD.encode(digest),
            python,
            house,
            _servers: servers,
        }
    }

    /// One part of the wish, for command lines.
    pub(super) fn said(&self, name: &str) -> &str {
        self.wish[name].as_str().unwrap()
    }

    /// Whom assertions are for.
    pub(super) fn audience(&self) -> String {
        format!("https://{SITE}")
    }

    /// Host and port.
    pub(super) fn authority(&self) -> String {
        format!("{SITE}:{}", self.house.https)
    }

    /// Where the keys of assertions are published.
    pub(super) fn jwks(&self) -> [String; 2] {
        let (health, http) = (self.house.health, self.house.http);
        [format!("http://127.0.0.1:{health}/jwks.json"), format!("http://127.0.0.1:{http}/pki/jwks.json")]
    }

    /// What a script in Python tells.
    pub(super) fn ask_python(&self, name: &str, wish: &Value) -> Result<Value, String> {
        let said = run(&self.python, &[&script(name), &wish.to_string()], "")?;
        serde_json::from_str(&said).map_err(|error| format!("{name} says {said:?}: {error}"))
    }
}

/// The site with its routes, all for those who are known.
fn furnish(house: &House, servers: &Servers) {
    let Servers { grpc, websocket, .. } = servers;
    let options = json!({ "protocol": "http2" });
    let targets = [format!("http://127.0.0.1:{grpc}")];
    house.add("/upstreams", &json!({ "name": "grpc", "targets": targets, "options": options }));
    let targets = [format!("http://127.0.0.1:{websocket}")];
    house.add("/upstreams", &json!({ "name": "websocket", "targets": targets }));
    let site = json!({
        "host": SITE, "client_auth": "request", "hsts_max_age_seconds": 0, "certificate": "local", "enabled": true,
    });
    house.add("/sites", &site);
    for (path, upstream) in [("/", "app"), ("/interop.Echo", "grpc"), ("/socket", "websocket")] {
        let route = json!({
            "host": SITE, "path_prefix": path, "upstream": upstream, "policy": { "kind": "known" },
            "plain_header": "X-WEBAUTH-USER",
        });
        house.add("/routes", &route);
    }
}

/// The place of a script beside this file.
pub(super) fn script(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/prove/edge/interop");
    folder.join(name).to_str().unwrap().to_owned()
}

/// The upstreams in Python, with their ports.
struct Servers {
    grpc: u64,
    websocket: u64,
    process: Child,
}

impl Servers {
    fn start(python: &Path) -> Self {
        let mut process = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(python)
            .arg(script("servers.py"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ports: Value =
            serde_json::from_str(&line).unwrap_or_else(|error| panic!("servers.py says {line:?}: {error}"));
        let port = |name: &str| ports[name].as_u64().unwrap();
        Self { grpc: port("grpc"), websocket: port("websocket"), process }
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
