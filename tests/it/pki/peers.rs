//! Other people's programs as oracles.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A program that is on this machine.
pub struct Peer {
    program: PathBuf,
}

/// The program, or `None` after saying loudly that the test is skipped.
///
/// Under `CI=true` a missing program fails the test: a check that never runs is no check.
pub fn peer(name: &str, package: &str) -> Option<Peer> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file());
    if found.is_none() {
        let in_ci = std::env::var("CI").is_ok_and(|value| value == "true");
        assert!(!in_ci, "{name} is missing; install {package}");
        eprintln!("SKIPPED: {name} is not on this machine; install {package}");
    }
    found.map(|program| Peer { program })
}

/// OpenSSL 3's command line.
pub fn openssl() -> Option<Peer> {
    peer("openssl", "openssl")
}

impl Peer {
    /// Runs it in `folder`, whatever comes out.
    pub fn run(&self, folder: &Path, arguments: &[&str]) -> Output {
        self.run_with(folder, arguments.iter())
    }

    fn run_with<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(&self, folder: &Path, arguments: I) -> Output {
        Command::new(&self.program)
            .args(arguments)
            .current_dir(folder)
            .env("LC_ALL", "C")
            .env("HOME", folder)
            .output()
            .unwrap()
    }

    /// Runs it and returns all that it said; fails the test unless it succeeded.
    #[track_caller]
    pub fn ok(&self, folder: &Path, arguments: &[&str]) -> String {
        let output = self.run(folder, arguments);
        let said = said(&output);
        assert!(output.status.success(), "{:?} {arguments:?} failed:\n{said}", self.program);
        said
    }

    /// Runs it and returns all that it said; fails the test if it succeeded.
    #[track_caller]
    pub fn fails(&self, folder: &Path, arguments: &[&str]) -> String {
        let output = self.run(folder, arguments);
        let said = said(&output);
        assert!(!output.status.success(), "{:?} {arguments:?} succeeded:\n{said}", self.program);
        said
    }
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
