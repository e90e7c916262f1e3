//! Other people's programs as oracles.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::harness::peers;

/// A program that is on this machine.
pub struct Peer {
    program: PathBuf,
}

/// The program; when it is missing a failure on CI, else `None` and a line that says so.
pub fn peer(name: &str) -> Option<Peer> {
    peers::peer(name).map(|program| Peer { program })
}

/// OpenSSL 3's command line.
pub fn openssl() -> Option<Peer> {
    peer("openssl")
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

#[test]
fn openssl_is_there() {
    let Some(openssl) = openssl() else { return };
    assert!(openssl.ok(Path::new("/"), &["version"]).starts_with("OpenSSL 3"));
}
