//! A real PostgreSQL from the installed binaries. One for the whole test process, one fresh database a
//! test; or one of its own for a test that stops it.

use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use super::guarded::{Guarded, Scratch};
use super::{accepts, free_port, peers, wait_for};

/// Whether commits reach the disk before they are acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// As in production.
    Full,
    /// For speed: a crash of the machine loses data, a crash of the server does not.
    None,
}

/// A server. Dropping it stops it and removes its data.
pub struct Server {
    // Ends before the directory goes: fields are dropped in order.
    process: Option<Guarded>,
    port: u16,
    scratch: Scratch,
    durability: Durability,
}

/// A database of a test's own, dropped with this value.
pub struct Database<'a> {
    server: &'a Server,
    name: String,
}

static SHARED: OnceLock<Option<Server>> = OnceLock::new();
static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A fresh, empty database on the server that all tests share; none when PostgreSQL is missing.
pub fn fresh() -> Option<Database<'static>> {
    let server = SHARED.get_or_init(|| Server::start(Durability::None)).as_ref()?;
    Some(server.database())
}

impl Server {
    /// Makes a cluster in a temporary directory and starts it; none when PostgreSQL is missing.
    pub fn start(durability: Durability) -> Option<Self> {
        let initdb = peers::peer_text("initdb")?;
        let scratch = Scratch::new("wicketgate-pg-");
        let mut command = peers::dropping_privileges();
        command.push(initdb);
        let output = Command::new(&command[0])
            .args(&command[1..])
            .args(["--no-sync", "--auth=trust", "--username=wicketgate", "--encoding=UTF8", "--locale=C"])
            .args(["--pgdata", "data"])
            .current_dir(scratch.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "initdb: {}", String::from_utf8_lossy(&output.stderr));
        let mut server = Self { process: None, port: 0, scratch, durability };
        // Between choosing a port and binding it someone else may take it.
        for _ in 0..5 {
            server.port = free_port();
            if server.launch() {
                return Some(server);
            }
        }
        panic!("PostgreSQL does not start")
    }

    /// Whether the server came up on its port.
    fn launch(&mut self) -> bool {
        let program = peers::peer_text("postgres").unwrap();
        let port = format!("--port={}", self.port);
        let durable = if self.durability == Durability::Full { "on" } else { "off" };
        let (fsync, commit) = (format!("--fsync={durable}"), format!("--synchronous_commit={durable}"));
        let command = [
            &*program,
            "-D",
            "data",
            "--listen_addresses=127.0.0.1",
            &port,
            "--unix_socket_directories=",
            "--max_connections=400",
            "--shared_buffers=32MB",
            &fsync,
            &commit,
        ];
        let process = Guarded::start(&self.scratch, "postgres", "QUIT", &command, &[("LC_ALL", "C")]);
        let up = wait_for("PostgreSQL to start", || {
            let ready = process.log().contains("ready to accept connections") && accepts(self.port);
            if ready { Some(true) } else { (!process.is_running()).then_some(false) }
        });
        if !up {
            eprintln!("{}", process.log());
        }
        self.process = up.then_some(process);
        up
    }

    /// A fresh, empty database.
    pub fn database(&self) -> Database<'_> {
        let name = format!("t{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        // Nobody connects to template0, so tests do not lock each other out.
        self.sql("postgres", &format!("CREATE DATABASE {name} TEMPLATE template0"));
        Database { server: self, name }
    }

    /// Runs one statement and returns what it prints, unaligned and without headers.
    pub fn sql(&self, database: &str, statement: &str) -> String {
        let output = Command::new(peers::peer("psql").unwrap())
            .args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1"])
            .args(["--command", statement, &self.url(database)])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(output.status.success(), "{statement}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    /// URL of a database, as the configuration takes it.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://wicketgate@127.0.0.1:{}/{database}", self.port)
    }

    /// Ends the server at once, as a crash would; the data stays for [`Server::restart`].
    pub fn kill(&self) {
        let process = self.process.as_ref().unwrap();
        let killed = Command::new("kill").args(["-KILL", &process.pid.to_string()]).status().unwrap();
        assert!(killed.success());
        wait_for("PostgreSQL to be gone", || (!process.is_running() && !accepts(self.port)).then_some(()));
    }

    /// Starts a killed server again on the same port and data.
    pub fn restart(&mut self) {
        self.process = None;
        // The children of a killed server hold its shared memory until they notice.
        wait_for("PostgreSQL to start again", || self.launch().then_some(()));
    }
}

impl Database<'_> {
    /// A copy of it, as long as nobody is connected to this one.
    pub fn twin(&self) -> Self {
        let name = format!("t{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        self.server.sql("postgres", &format!("CREATE DATABASE {name} TEMPLATE {}", self.name));
        Self { server: self.server, name }
    }

    /// URL of this database, as the configuration takes it.
    pub fn url(&self) -> String {
        self.server.url(&self.name)
    }

    /// Runs one statement in it and returns what it prints.
    pub fn sql(&self, statement: &str) -> String {
        self.server.sql(&self.name, statement)
    }
}

impl Drop for Database<'_> {
    fn drop(&mut self) {
        if self.server.process.as_ref().is_some_and(Guarded::is_running) && !std::thread::panicking() {
            self.server.sql("postgres", &format!("DROP DATABASE {} WITH (FORCE)", self.name));
        }
    }
}

#[test]
fn each_test_has_a_database_of_its_own() {
    let (Some(first), Some(second)) = (fresh(), fresh()) else { return };
    first.sql("CREATE TABLE t (x int)");
    assert_eq!(second.sql("SELECT count(*) FROM pg_tables WHERE tablename = 't'"), "0");
    assert_ne!(first.url(), second.url());
}

#[test]
fn a_killed_server_comes_back_with_its_data() {
    let Some(mut server) = Server::start(Durability::Full) else { return };
    server.sql("postgres", "CREATE TABLE t (x int)");
    server.sql("postgres", "INSERT INTO t VALUES (42)");
    server.kill();
    server.restart();
    assert_eq!(server.sql("postgres", "SELECT x FROM t"), "42");
}
