//! Servers of others, each behind a relay: alone, or before Node, to which they hand on what they read.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::place::key;
use super::relay::Relay;
use crate::harness::{accepts, free_port, peers, wait_for};

/// Refuses to serve as root.
const APACHE: &str = "apache2";
/// A backend's name and public path, the program that answers it, and whether Node is behind that.
const FRONTS: [(&str, &str, bool); 6] = [
    ("nginx", "nginx", false),
    ("nginx-node", "nginx", true),
    ("apache", APACHE, false),
    ("apache-node", APACHE, true),
    ("node", "node", false),
    ("python", "python3", false),
];

/// All of them. They end with this value.
pub(super) struct Backends {
    pub(super) fronts: Vec<Front>,
    _programs: [Program; 4],
    _folder: TempDir,
}

/// One way to be answered.
pub(super) struct Front {
    pub(super) name: &'static str,
    pub(super) relay: Relay,
    /// Where the program writes down what it sees, and where Node does if that is behind it.
    logs: Vec<PathBuf>,
}

/// What a program saw.
#[derive(Debug)]
pub(super) struct Seen {
    /// The target up to its mark; none if it has no mark.
    pub(super) key: Option<String>,
    /// Octets of the body, from who counts them.
    pub(super) body: Option<usize>,
    pub(super) line: String,
}

impl Backends {
    /// Starts them; none when one of the programs is missing.
    pub(super) async fn start() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        peers::hand_over(path);
        let node = Program::start("node", path, |port| vec![write(path, "echo.js", ECHO_JS), port])?;
        let python = Program::start("python3", path, |port| vec![write(path, "echo.py", ECHO_PY), port])?;
        let fill = |template: &str, port: &str| {
            let filled = template.replace("@PORT@", port).replace("@NODE@", &node.port.to_string());
            filled.replace("@FOLDER@", path.to_str().unwrap())
        };
        let nginx = Program::start("nginx", path, |port| {
            let file = write(path, "nginx.conf", &fill(NGINX, &port));
            ["-p", path.to_str().unwrap(), "-c", &file].map(str::to_owned).to_vec()
        })?;
        let apache = Program::start(APACHE, path, |port| {
            let file = write(path, "apache.conf", &fill(APACHE_CONF, &port));
            ["-X", "-f", &file].map(str::to_owned).to_vec()
        })?;
        let programs = [node, python, nginx, apache];
        let mut fronts = Vec::new();
        for (name, program, is_before_node) in FRONTS {
            let found = programs.iter().find(|other| other.name == program).unwrap();
            let names = [program, "node"];
            let logs = names[..1 + usize::from(is_before_node)].iter().map(|name| log(path, name)).collect();
            fronts.push(Front { name, relay: Relay::start(found.port).await, logs });
        }
        Some(Self { fronts, _programs: programs, _folder: folder })
    }
}

impl Front {
    /// What its own program saw, of this front and of others.
    pub(super) fn seen(&self) -> Vec<Seen> {
        seen(&self.logs[0])
    }

    /// What the program behind that saw.
    pub(super) fn seen_behind(&self) -> Vec<Seen> {
        self.logs.get(1).map(|log| seen(log)).unwrap_or_default()
    }
}

/// Reads lines of method, target, whatever else, octets of the body or `-`.
fn seen(log: &Path) -> Vec<Seen> {
    let text = std::fs::read(log).unwrap();
    String::from_utf8_lossy(&text)
        .lines()
        .map(|line| Seen {
            key: line.split(' ').nth(1).and_then(key).map(|(key, _)| key.to_owned()),
            body: line.rsplit(' ').next().and_then(|body| body.parse().ok()),
            line: line.to_owned(),
        })
        .collect()
}

/// A running server. Dropping it ends it, and so does the end of the test process.
struct Program {
    name: &'static str,
    port: u16,
    process: Child,
}

impl Program {
    /// Starts it with what `arguments` says for a port; none when it is missing.
    fn start(name: &'static str, folder: &Path, arguments: impl Fn(String) -> Vec<String>) -> Option<Self> {
        let program = peers::peer_text(name)?;
        // Between choosing a port and binding it someone else may take it.
        for _ in 0..5 {
            let port = free_port();
            let output = |path: PathBuf| {
                let file = File::create(&path).unwrap();
                peers::hand_over(&path);
                file
            };
            let process = Command::new("setpriv")
                .args(["--pdeathsig", "KILL"])
                .args(if name == APACHE { unprivileged() } else { Vec::new() })
                .args(["--", &program])
                .args(arguments(port.to_string()))
                .current_dir(folder)
                .stdin(Stdio::null())
                .stdout(output(log(folder, name)))
                .stderr(output(folder.join(format!("{name}.err"))))
                .spawn()
                .unwrap();
            let mut program = Self { name, port, process };
            let is_up = wait_for(name, || match program.process.try_wait().unwrap() {
                Some(_) => Some(false),
                None => accepts(port).then_some(true),
            });
            if is_up {
                return Some(program);
            }
        }
        let said = std::fs::read_to_string(folder.join(format!("{name}.err"))).unwrap_or_default();
        panic!("{name} does not start: {said}")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn unprivileged() -> Vec<String> {
    if !peers::is_root() {
        return Vec::new();
    }
    let (user, group) = peers::unprivileged_user();
    vec![format!("--reuid={user}"), format!("--regid={group}"), "--clear-groups".into()]
}

fn log(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.seen"))
}

fn write(folder: &Path, name: &str, content: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, content).unwrap();
    peers::hand_over(&path);
    path.to_str().unwrap().to_owned()
}

const ECHO_JS: &str = include_str!("echo.js");
const ECHO_PY: &str = include_str!("echo.py");
const NGINX: &str = include_str!("nginx.conf");
const APACHE_CONF: &str = include_str!("apache.conf");
