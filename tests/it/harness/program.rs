//! Servers of others with a configuration of the test's, each in a folder of its own.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::{accepts, free_port, peers, wait_for};

/// A running server. Dropping it ends it, and so does the end of the test process.
pub struct Program {
    pub port: u16,
    process: Child,
    _folder: TempDir,
}

impl Program {
    /// haproxy with what `configuration` says for a port; none when it is missing.
    pub fn haproxy(configuration: impl Fn(u16) -> String) -> Option<Self> {
        Self::start("haproxy", |port, _| configuration(port), |_, file| vec!["-db".into(), "-f".into(), file])
    }

    /// nginx with what `configuration` says for a port and its folder; none when it is missing.
    pub fn nginx(configuration: impl Fn(u16, &Path) -> String) -> Option<Self> {
        let arguments = |folder: &str, file| vec!["-p".into(), folder.to_owned(), "-c".into(), file];
        Self::start("nginx", configuration, arguments)
    }

    fn start(
        name: &str,
        configuration: impl Fn(u16, &Path) -> String,
        arguments: impl Fn(&str, String) -> Vec<String>,
    ) -> Option<Self> {
        let program = peers::peer_text(name)?;
        let mut said = String::new();
        // Between choosing a port and binding it someone else may take it.
        for _ in 0..5 {
            let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
            peers::hand_over(folder.path());
            let (file, errors) = (folder.path().join("configuration"), folder.path().join("errors"));
            std::fs::write(&file, configuration(port, folder.path())).unwrap();
            let process = Command::new("setpriv")
                .args(["--pdeathsig", "KILL", "--", &program])
                .args(arguments(folder.path().to_str().unwrap(), file.to_str().unwrap().to_owned()))
                .current_dir(folder.path())
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(File::create(&errors).unwrap())
                .spawn()
                .unwrap();
            let mut program = Self { port, process, _folder: folder };
            let is_up = wait_for(name, || match program.process.try_wait().unwrap() {
                Some(_) => Some(false),
                None => accepts(port).then_some(true),
            });
            if is_up {
                return Some(program);
            }
            said = std::fs::read_to_string(&errors).unwrap_or_default();
        }
        panic!("{name} does not start: {said}")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
