//! Processes and directories that cannot outlive the test process, not even one that was killed: each
//! has a guard whose pipe from us the kernel closes in every case.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use super::peers;

/// Starts the peer, says its process id, waits for the pipe to close, then ends the peer. Silent from
/// then on: the shell would report each peer that it killed.
const GUARD: &str = r#"
trap '' INT TERM HUP
signal=$1; shift
"$@" >"$WICKETGATE_PEER_LOG" 2>&1 &
echo $!
exec >/dev/null 2>&1
cat >/dev/null
kill -"$signal" $! 2>/dev/null
wait $!
"#;

/// Waits for the pipe to close, then removes the directory; peers may still be writing their last.
const REAPER: &str = r#"
trap '' INT TERM HUP
cat >/dev/null
for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    rm -rf "$1" 2>/dev/null && exit 0
    sleep 0.2
done
"#;

/// A shell that acts when our end of its pipe closes.
struct Sentinel {
    shell: Child,
    alive: Option<ChildStdin>,
}

impl Sentinel {
    fn start(command: &mut Command) -> Self {
        let mut shell = command.stdin(Stdio::piped()).spawn().unwrap();
        Self { alive: shell.stdin.take(), shell }
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        drop(self.alive.take());
        let _ = self.shell.wait();
    }
}

/// A temporary directory of the peers' user, removed in the end.
pub struct Scratch {
    path: PathBuf,
    _reaper: Sentinel,
}

impl Scratch {
    /// A new directory with mode 0700.
    pub fn new(prefix: &str) -> Self {
        let path = tempfile::Builder::new().prefix(prefix).tempdir().unwrap().keep();
        let reaper = Sentinel::start(Command::new("sh").args(["-c", REAPER, "reaper"]).arg(&path));
        peers::hand_over(&path);
        Self { path, _reaper: reaper }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file that peers may read, and returns its path as text.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.path.join(name);
        std::fs::write(&path, content).unwrap();
        peers::hand_over(&path);
        path.to_str().unwrap().to_owned()
    }
}

/// A running peer. Dropping it ends the peer and waits for that.
pub struct Guarded {
    /// Process id of the peer itself.
    pub pid: u32,
    log: PathBuf,
    _guard: Sentinel,
}

impl Guarded {
    /// Starts `command` in `scratch`, as an unprivileged user when we are root. Its output goes to
    /// `<name>.log` there. `signal` ends it, for example `QUIT`. Says nothing of its readiness.
    pub fn start(
        scratch: &Scratch,
        name: &str,
        signal: &str,
        command: &[&str],
        environment: &[(&str, &str)],
    ) -> Self {
        let log = scratch.path().join(format!("{name}.log"));
        File::create(&log).unwrap();
        let mut guard = Sentinel::start(
            Command::new("sh")
                .args(["-c", GUARD, "guard", signal])
                .args(peers::dropping_privileges())
                .args(command)
                .envs(environment.iter().copied())
                .env("WICKETGATE_PEER_LOG", &log)
                .current_dir(scratch.path())
                .stdout(Stdio::piped()),
        );
        let mut line = String::new();
        BufReader::new(guard.shell.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { pid: line.trim().parse().unwrap(), log, _guard: guard }
    }

    /// What the peer printed so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Whether the peer still runs; a zombie does not.
    pub fn is_running(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        stat.rsplit(") ").next().is_some_and(|state| !state.is_empty() && !state.starts_with(['Z', 'X']))
    }
}
