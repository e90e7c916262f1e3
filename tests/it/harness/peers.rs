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

/// Every program of others that a test needs. One that is not here cannot be asked for, so that the test
/// below has tried what happens without it.
pub const PEERS: &[&str] = &[
    "initdb",
    "postgres",
    "psql",
    "pg_dump",
    "pebble",
    "pebble-challtestsrv",
    "curl",
    "smtp-sink",
    "python3",
    "node",
    "nginx",
    "haproxy",
    "apache2",
    "chromium",
    "certutil",
    "openssl",
    "pk12util",
    "keytool",
    "java",
    "schemathesis",
    "systemd-analyze",
    "lint_pkix_cert",
    // With gRPC, PyJWT and WebSockets beside it.
    "httpx",
];

/// Names programs, separated by commas, that are to be missing.
const WITHOUT: &str = "WICKETGATE_TEST_WITHOUT";
/// Names the program that [`probe`] asks for.
const PROBE: &str = "WICKETGATE_TEST_PROBE";

/// The program's path, if it is installed.
pub fn find(program: &str) -> Option<PathBuf> {
    if std::env::var(WITHOUT).is_ok_and(|names| names.split(',').any(|name| name == program)) {
        return None;
    }
    folders().into_iter().map(|folder| folder.join(program)).find(|path| path.is_file())
}

/// The program's path. When it is missing: a failure on CI, else none and a line on stderr, upon which
/// the caller's test ends without having tested.
pub fn peer(program: &str) -> Option<PathBuf> {
    assert!(PEERS.contains(&program), "{program} is not among the peers");
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

/// Not a test of its own: asks for one peer, as every test that needs it does.
#[test]
fn probe() {
    if let Ok(program) = std::env::var(PROBE) {
        peer(&program);
    }
}

/// Runs one test of this binary without a program.
fn run_without(program: &str, test: &str, ci: bool) -> (bool, String) {
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--test-threads=1"]).env(WITHOUT, program).env(PROBE, program);
    if ci {
        command.env("CI", "true")
    } else {
        command.env_remove("CI")
    };
    let output = command.output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn a_missing_peer_fails_the_run_on_ci_and_is_skipped_loudly_elsewhere() {
    for program in PEERS {
        let (passed, said) = run_without(program, "harness::peers::probe", true);
        assert!(!passed && said.contains(&format!("{program} is missing")), "{program}: {said}");
        let (passed, said) = run_without(program, "harness::peers::probe", false);
        assert!(
            passed && said.contains(&format!("SKIPPED: {program} is not installed")),
            "{program}: {said}"
        );
    }
}

#[test]
fn tests_of_each_area_fail_on_ci_without_their_peer() {
    for (program, test) in [
        ("initdb", "harness::database::a_fresh_database_takes_the_schema::on_postgresql"),
        ("smtp-sink", "harness::smtp::a_mail_sent_with_lettre_arrives"),
        ("python3", "mail::encrypted::where_tls_is_not_offered_nothing_is_sent_in_the_clear"),
        (
            "pebble",
            "acme::traces::a_renewal_and_its_acme_requests_share_one_trace_and_the_next_run_has_another",
        ),
        ("openssl", "pki::peers::openssl_is_there"),
        ("chromium", "story::whole::the_whole_story_on_sqlite"),
        ("httpx", "prove::edge::interop::interop"),
    ] {
        let (passed, said) = run_without(program, test, true);
        assert!(!passed && said.contains(&format!("{program} is missing")), "{test}: {said}");
    }
}
