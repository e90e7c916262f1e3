//! An installation of the product's own binary: configuration file, keys, database, process.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::device::{Device, Key};
use super::wire::{Reply, Wire};
use crate::harness::wait_for;

/// The binary under test.
pub const WICKETGATE: &str = env!("CARGO_BIN_EXE_wicketgate");
/// The site with the app behind it.
pub const APP: &str = "app.localhost";
/// The portal.
pub const DOOR: &str = "door.localhost";
/// The first administrator's.
pub const ADMINISTRATOR: [&str; 2] = ["emil@example.org", "nine small words in a row"];

/// What a house is to be like.
pub struct Plan<'a> {
    /// The URL of its database; SQLite in the data directory if absent.
    pub database: Option<String>,
    /// Further lines of the configuration file.
    pub more: &'a str,
    /// Ports for https and http; any if absent.
    pub edge: Option<[u16; 2]>,
}

/// The installation, and its process while it runs.
pub struct House {
    pub https: u16,
    pub http: u16,
    pub health: u16,
    pub console: u16,
    pub token: String,
    /// The local server authority, DER.
    pub authority: Vec<u8>,
    /// Every secret that came out of it or went into it so far.
    pub secrets: Vec<(&'static str, String)>,
    process: Option<Child>,
    /// One that another process started.
    stray: Option<u64>,
    folder: TempDir,
}

/// A port below those that outgoing connections take, so that a restarted house finds it free; no other
/// test process gets it while this one lives.
pub fn quiet_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let from = u16::try_from(std::process::id() % 11_000).unwrap();
    loop {
        let port = 20_000 + (from + NEXT.fetch_add(1, Ordering::Relaxed)) % 12_000;
        // A UDP socket is the claim: it is in no listener's way, and the kernel drops it with the process.
        let Ok(claim) = UdpSocket::bind((Ipv4Addr::LOCALHOST, port)) else { continue };
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            std::mem::forget(claim);
            return port;
        }
    }
}

/// The product, to be started so that it ends with the test, however that ends.
pub fn wicketgate(arguments: &[impl AsRef<OsStr>]) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--", WICKETGATE]).args(arguments).stdin(Stdio::null());
    forget_machine(&mut command);
    command
}

/// Nothing of the machine's own configuration.
fn forget_machine(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("WICKETGATE_") {
            command.env_remove(name);
        }
    }
    command.env_remove("CREDENTIALS_DIRECTORY");
}

impl House {
    /// Writes the configuration and runs `wicketgate init`.
    pub fn build(plan: &Plan<'_>) -> Self {
        Self::build_with(plan, &["init"])
    }

    /// The same with another way of making the installation.
    pub fn build_with(plan: &Plan<'_>, init: &[&str]) -> Self {
        Self::build_after(plan, init, |_| {})
    }

    /// The same over what `before` did to the folder with the configuration in it.
    fn build_after(plan: &Plan<'_>, init: &[&str], before: impl FnOnce(&Self)) -> Self {
        let folder = tempfile::Builder::new().prefix("wg-").tempdir().unwrap();
        let [https, http] = plan.edge.unwrap_or_else(|| [quiet_port(), quiet_port()]);
        let [console, health] = [quiet_port(), quiet_port()];
        let path = folder.path().display();
        let database = plan.database.clone().unwrap_or_else(|| format!("sqlite:{path}/data/house.db"));
        let text = format!(
            r#"
[server]
data_dir = "{path}/data"
name = "House"
[database]
url = "{database}"
[keys]
server_key_file = "{path}/keys/server.key"
authority_key_file = "{path}/keys/authority.key"
[edge]
https = ["127.0.0.1:{https}"]
http = ["127.0.0.1:{http}"]
threads = 2
drain_timeout_ms = 5000
[admin]
listen = "127.0.0.1:{console}"
[health]
listen = "127.0.0.1:{health}"
[pki]
base_url = "http://127.0.0.1:{http}"
[door]
host = "{DOOR}"
[telemetry]
format = "json"
filter = "info,wicketgate=debug"
{}
"#,
            plan.more
        );
        std::fs::write(folder.path().join("wicketgate.toml"), text).unwrap();
        let house = Self {
            https,
            http,
            health,
            console,
            token: String::new(),
            authority: Vec::new(),
            secrets: Vec::new(),
            process: None,
            stray: None,
            folder,
        };
        before(&house);
        let made = house.run(init);
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        house
    }

    /// A house that serves, with an administrator, a token and the app behind `/`, `/public` open.
    pub fn open(plan: &Plan<'_>, upstream: &str) -> Self {
        Self::open_after(plan, upstream, |_| {})
    }

    /// The same in an installation that began with `before`.
    pub fn open_after(plan: &Plan<'_>, upstream: &str, before: impl FnOnce(&Self)) -> Self {
        let mut house = Self::build_after(plan, &["init"], before);
        house.move_in(upstream);
        house
    }

    /// Serves, with an administrator, a token and the app.
    pub fn move_in(&mut self, upstream: &str) {
        self.serve();
        self.set_up();
        self.furnish(upstream);
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Everything that its processes logged and printed.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Runs one command of the product on this installation.
    pub fn run(&self, arguments: &[&str]) -> Output {
        let config = self.path("wicketgate.toml");
        let mut all = vec!["--config", config.to_str().unwrap()];
        all.extend(arguments);
        wicketgate(&all).output().unwrap()
    }

    /// The JSON that one command prints.
    pub fn ask(&self, arguments: &[&str]) -> Value {
        let mut all = vec!["--output", "json"];
        all.extend(arguments);
        let output = self.run(&all);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Starts `wicketgate serve` and waits until it says that it is ready.
    pub fn serve(&mut self) {
        self.launch();
        wait_for("the house to serve", || {
            let ended = self.process.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "{ended:?}: {}", self.log());
            let answer = Wire::plain(self.health, "localhost").ok()?.get("/readyz?verbose").ok()?;
            // An edge is ready with its snapshot, which may be before the last listener is there.
            (answer.status == 200 && self.path("data/admin.sock").exists()).then_some(())
        });
    }

    /// Starts `wicketgate serve` without waiting for anything.
    pub fn launch(&mut self) {
        let command = wicketgate(&self.serving(&[]));
        self.process = Some(self.logged(command).spawn().unwrap());
    }

    /// The same behind whatever `through` does first.
    pub fn launch_through(&mut self, through: &[&str], adjust: impl FnOnce(&mut Command)) {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).args(through).arg(WICKETGATE).args(self.serving(&[]));
        forget_machine(&mut command);
        adjust(&mut command);
        self.process = Some(self.logged(command).spawn().unwrap());
    }

    /// Starts another process that is to take over. Returns the one that serves until then.
    pub fn hand_over(&mut self) -> Child {
        let before = self.process.take().unwrap();
        self.process = Some(self.successor(&[]));
        before
    }

    /// Starts a process that takes over from whoever serves.
    pub fn launch_to_take_over(&mut self) {
        self.process = Some(self.successor(&[]));
    }

    /// Has the process start the one that takes over, which is nobody's child then. Returns the old one.
    pub fn replace_itself(&mut self) -> Child {
        let before = self.process.take().unwrap();
        let pid = before.id().to_string();
        assert!(Command::new("kill").args(["-USR2", &pid]).status().unwrap().success());
        self.stray = Some(wait_for("the new process to serve", || {
            let log = self.log();
            let line = log.lines().rfind(|line| line.contains("\"took_over\":true"))?;
            serde_json::from_str::<Value>(line).ok()?["pid"].as_u64()
        }));
        before
    }

    /// Asks the process that is nobody's child to stop, and waits until it has.
    pub fn stop_stray(&mut self) {
        let pid = self.stray.take().unwrap().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        wait_for("its end", || Wire::plain(self.health, "localhost").is_err().then_some(()));
    }

    /// A process that is to take over, with these variables.
    pub fn successor(&self, variables: &[(&str, &str)]) -> Child {
        let mut command = wicketgate(&self.serving(&["--take-over"]));
        command.envs(variables.iter().copied());
        self.logged(command).spawn().unwrap()
    }

    /// A process that knows of nobody else.
    pub fn second(&self) -> Child {
        let command = wicketgate(&self.serving(&[]));
        self.logged(command).spawn().unwrap()
    }

    /// Waits until so many processes in all have taken over.
    pub fn serves_instead(&mut self, count: u64) {
        wait_for("the new process to serve", || {
            let ended = self.process.as_mut().and_then(|process| process.try_wait().unwrap());
            assert!(ended.is_none(), "{ended:?}: {}", self.log());
            (self.log().matches("\"took_over\":true").count() as u64 >= count).then_some(())
        });
    }

    /// Waits until `process` has ended by itself.
    pub fn wait_for(process: &mut Child) -> ExitStatus {
        wait_for("the process to end", || process.try_wait().unwrap())
    }

    fn serving(&self, more: &[&str]) -> Vec<String> {
        let config = self.path("wicketgate.toml");
        let words = ["--config", config.to_str().unwrap(), "serve"];
        words.iter().chain(more).map(|word| (*word).to_owned()).collect()
    }

    fn logged(&self, mut command: Command) -> Command {
        let log: File = OpenOptions::new().create(true).append(true).open(self.path("log")).unwrap();
        command.stdout(log.try_clone().unwrap()).stderr(log);
        command
    }

    /// Ends the process as a crash would.
    pub fn kill(&mut self) {
        let mut process = self.process.take().unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
    }

    /// Waits until the process has ended by itself.
    pub fn ended(&mut self) -> ExitStatus {
        let process = self.process.as_mut().unwrap();
        let status = wait_for("the process to end", || process.try_wait().unwrap());
        self.process = None;
        status
    }

    /// Asks the process to stop, and waits for it.
    pub fn stop(&mut self) -> ExitStatus {
        let pid = self.process.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        self.ended()
    }

    /// The first administrator comes by the setup link, and makes a token.
    fn set_up(&mut self) {
        let link = self.ask(&["setup-link"])["setup_link"].as_str().unwrap().to_owned();
        let authorities = self.ask(&["ca", "list"]);
        let local = authorities["items"].as_array().unwrap().iter().find(|one| one["kind"] == "local_server");
        let pem = local.unwrap()["pem"].as_str().unwrap();
        std::fs::write(self.path("authority.pem"), pem).unwrap();
        self.authority = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap().to_vec();

        let setup_token = link.rsplit('/').next().unwrap();
        let [email, password] = ADMINISTRATOR;
        let body = json!({ "token": setup_token, "email": email, "name": "Emil Neu", "password": password });
        let origin = format!("https://localhost:{}", self.console);
        let mut console = self.console();
        let answer = console.send("POST", "/api/v1/setup", &[("origin", &origin)], Some(&body)).unwrap();
        assert_eq!(answer.status, 201, "{}", answer.text());
        let cookie = answer.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
        let headers = [("origin", &*origin), ("cookie", &*cookie)];
        let body = json!({ "name": "story", "role": "administrator", "expires_in_days": 1 });
        let answer = console.send("POST", "/api/v1/tokens", &headers, Some(&body)).unwrap();
        assert_eq!(answer.status, 201, "{}", answer.text());
        self.token = answer.json()["token"].as_str().unwrap().to_owned();
        self.secrets.extend([
            ("setup token", setup_token.to_owned()),
            ("password", password.to_owned()),
            ("session cookie", cookie.split_once('=').unwrap().1.to_owned()),
            ("API token", self.token.clone()),
        ]);
    }

    /// Upstream, site and routes.
    fn furnish(&self, upstream: &str) {
        self.add("/upstreams", &json!({ "name": "app", "targets": [upstream] }));
        let site = json!({
            "host": APP, "client_auth": "request", "hsts_max_age_seconds": 600, "certificate": "local", "enabled": true,
        });
        self.add("/sites", &site);
        for (path, kind) in [("/", "known"), ("/public", "public")] {
            let policy = json!({ "kind": kind });
            let mut route = json!({ "host": APP, "path_prefix": path, "upstream": "app", "policy": policy });
            if kind == "known" {
                route["plain_header"] = "X-WEBAUTH-USER".into();
            }
            self.add("/routes", &route);
        }
    }

    /// A connection to the console, which comes up after the edge.
    pub fn console(&self) -> Wire {
        wait_for("the console", || {
            Wire::tls(self.console, "localhost", std::slice::from_ref(&self.authority), None).ok()
        })
    }

    /// A connection to the app's site.
    pub fn app(&self, device: Option<&Device>) -> Wire {
        Wire::tls(self.https, APP, std::slice::from_ref(&self.authority), device).unwrap()
    }

    /// What a new connection gets at `path`: status and code.
    pub fn visit(&self, device: Option<&Device>, path: &str) -> (u16, String) {
        self.app(device).get(path).unwrap().outcome()
    }

    /// One call of the API with the administrator's token.
    pub fn call(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Option<&Value>) -> Reply {
        let bearer = format!("Bearer {}", self.token);
        let mut all = vec![("authorization", &*bearer)];
        all.extend(headers);
        self.console().send(method, &format!("/api/v1{path}"), &all, body).unwrap()
    }

    pub fn get(&self, path: &str) -> Value {
        let answer = self.call("GET", path, &[], None);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.json()
    }

    /// POST that makes something.
    pub fn add(&self, path: &str, body: &Value) -> Value {
        let answer = self.call("POST", path, &[], Some(body));
        assert_eq!(answer.status, 201, "{path}: {}", answer.text());
        answer.json()
    }

    /// Changes what is at `path`, as it stands now.
    pub fn edit(&self, path: &str, body: &Value) -> Value {
        let tag = self.call("GET", path, &[], None).header("etag").unwrap().to_owned();
        let answer = self.call("PATCH", path, &[("if-match", &tag)], Some(body));
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.json()
    }

    /// A person.
    pub fn person(&self, name: &str, email: &str) -> String {
        let person = json!({ "name": name, "email": email, "role": "member", "groups": [] });
        self.add("/people", &person)["id"].as_str().unwrap().to_owned()
    }

    /// Enrols a new device for the person through the API.
    pub fn enrol(&mut self, person: &str, name: &str) -> (Value, Device) {
        let key = Key::generate();
        let body = json!({ "csr": key.csr(), "device_name": name, "person_id": person });
        let certificate = self.add("/certificates", &body);
        let device = key.with(&certificate);
        self.secrets.push(("private key", device.key_pem.clone()));
        (certificate, device)
    }

    /// Invites the person to enrol one device by its own name; the token of the link.
    pub fn invite(&mut self, person: &str) -> String {
        let body = json!({ "person_id": person, "send_mail": false, "expires_in_hours": 1 });
        let link = self.add("/invitations", &body)["link"].as_str().unwrap().to_owned();
        let token = link.rsplit('/').next().unwrap().to_owned();
        self.secrets.push(("invitation token", token.clone()));
        token
    }

    /// Revokes a certificate; every edge knows when this returns.
    pub fn revoke(&self, certificate: &Value) {
        let path = format!("/certificates/{}/revocation", certificate["serial"].as_str().unwrap());
        let answer = self.call("POST", &path, &[], Some(&json!({ "reason": "keyCompromise" })));
        assert_eq!(answer.status, 200, "{}", answer.text());
        let enforced = answer.json()["enforced"].clone();
        assert_eq!(enforced, json!({ "edges": 1, "acknowledged": 1 }));
    }

    /// Runs curl against the app's site; its status line, headers and body.
    pub fn curl(&self, arguments: &[&str]) -> String {
        let output = Command::new("curl")
            .args(["--silent", "--show-error", "--include", "--cacert"])
            .arg(self.path("authority.pem"))
            .args(["--resolve", &format!("{APP}:{}:127.0.0.1", self.https)])
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// A URL of the app's site.
    pub fn url(&self, path: &str) -> String {
        format!("https://{APP}:{}{path}", self.https)
    }

    /// The folder with everything of this house.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for House {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
        if let Some(stray) = self.stray.take() {
            let _ = Command::new("kill").args(["-KILL", &stray.to_string()]).status();
        }
        if std::thread::panicking() {
            let log = self.log();
            // Not the requests: under load there would be nothing else.
            let lines: Vec<&str> =
                log.lines().filter(|line| !line.contains(r#""target":"access""#)).collect();
            eprintln!("{}", lines[lines.len().saturating_sub(40)..].join("\n"));
        }
    }
}
