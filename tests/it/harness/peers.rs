//! Finds the programs of others that tests run against. A missing one fails the run on CI and is
//! skipped loudly elsewhere: `make test` installs them all.

use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Folders beside `$PATH` where Debian and `make test` put programs.
fn folders() -> Vec<PathBuf> {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools");
    let named = std::env::var_os("WICKETGATE_TEST_TOOLS").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut postgres: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .map(|entries| entries.flatten().map(|entry| entry.path().join("bin")).collect())
        .unwrap_or_default();
    postgres.sort();
    named
        .into_iter()
        .flat_map(|named| [named.join("bin"), named.join("venv/bin"), named])
        .chain([tools.join("bin"), tools.join("venv/bin")])
        // The newest server first, and before wrappers in $PATH.
        .chain(postgres.into_iter().rev())
        .chain(std::env::split_paths(&path))
        .chain(["/usr/sbin", "/usr/bin"].map(PathBuf::from))
        .collect()
}

/// The program's path, if it is installed.
pub fn find(program: &str) -> Option<PathBuf> {
    folders().into_iter().map(|folder| folder.join(program)).find(|path| path.is_file())
}

/// The program's path. When it is missing: a failure on CI, else none and a line on stderr, upon which
/// the caller's test ends without having tested.
pub fn peer(program: &str) -> Option<PathBuf> {
    let found = find(program);
    if found.is_none() {
        assert!(
            std::env::var_os("CI").is_none(),
            "{program} is missing: `make test` installs what tests need"
        );
        // Past the capturing of the test runner, so that it is seen even though the test passes.
        let _ = writeln!(std::io::stderr(), "SKIPPED: {program} is not installed (`make test` installs it)");
    }
    found
}

/// The same as text, for command lines.
pub fn peer_text(program: &str) -> Option<String> {
    peer(program).map(|path| path.to_str().unwrap().to_owned())
}

/// Whether this process may do everything.
pub fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|found| found.uid() == 0)
}

/// A user that may do little: id and group. PostgreSQL's own, else nobody.
pub fn unprivileged_user() -> (u32, u32) {
    let users = std::fs::read_to_string("/etc/passwd").unwrap();
    let entry = |name: &str| {
        let fields: Vec<&str> =
            users.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|f| f[0] == name)?;
        Some((fields[2].parse().unwrap(), fields[3].parse().unwrap()))
    };
    entry("postgres").or_else(|| entry("nobody")).unwrap()
}

/// What goes in front of a command so that it runs without privileges: nothing when we have none.
pub fn dropping_privileges() -> Vec<String> {
    if !is_root() {
        return Vec::new();
    }
    let (user, group) = unprivileged_user();
    vec![
        "setpriv".into(),
        format!("--reuid={user}"),
        format!("--regid={group}"),
        "--clear-groups".into(),
        "--".into(),
    ]
}

/// Gives the path to the user that peers run as.
pub fn hand_over(path: &Path) {
    if is_root() {
        let (user, group) = unprivileged_user();
        std::os::unix::fs::chown(path, Some(user), Some(group)).unwrap();
    }
}
